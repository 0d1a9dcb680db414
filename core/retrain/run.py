"""`verify(project, options) -> Verification`: make the arms, run them, keep what came of them.

    verify(project)                                            # the quick form: seconds
    verify(project, VerifyOptions("full", seeds=3))            # retraining: goes on where it was stopped
    verify(project, VerifyOptions(arms=("remove:oga_l2:5%",)))

Arms: the data as given; with the decisions, where one changes the training set; those that were asked for; and to each
its control, which removes as many at random. Reading the result needs nothing of this room: see `core.verify`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from core import __version__
from core.axes import Array
from core.errors import SettingsError
from core.models.specs import TRAINED_HERE, ModelSpec, Permissions, parse_model
from core.progress import Progress
from core.project import Project
from core.retrain.ground import Ground, VerifyOptions, lay
from core.retrain.groups import groupings
from core.retrain.recorded import stages_of
from core.verify.arms import RELABEL_ARM, REMOVE, UPWEIGHT, Arm
from core.verify.losses import CLUSTER
from core.verify.record import FULL, QUICK, Outcome, Verification, place

if TYPE_CHECKING:
    from core.retrain.full import Course, Unit
    from core.retrain.quick import Heads
else:  # importing them loads torch, and scipy's solvers
    Course: TypeAlias = Any
    Heads: TypeAlias = Any
    Unit: TypeAlias = Any

__all__ = ["Planned", "ToDo", "VerifyOptions", "planned", "to_do", "verify"]

CLUSTERS = (
    "Clusters are proposed from the recorded features within each class; nobody named them. A small one may be made of "
    "wrong labels rather than of a rare kind."
)
SEEN = (
    "The ranking was weighed, and the epoch of the recorded features chosen, by the labels of held-out images, these "
    "test images among them: an arm that takes the top of a ranking may look a little better than it is. What a person "
    "sees in an image is not touched by that."
)


class Planned(NamedTuple):
    """What a verification would do: the trainings (or heads) to come, how many are there, and about how long."""

    form: str
    arms: tuple[str, ...]
    units: int
    there: int
    seconds: float
    test: str


class ToDo(NamedTuple):
    """The trainings of the full form: title to key, in order; those that are there; and where it computes."""

    keys: Mapping[str, str]
    there: tuple[str, ...]
    device: Mapping[str, object]


def verify(
    project: Project,
    options: VerifyOptions = VerifyOptions(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
    permissions: Permissions | None = None,
) -> Verification:
    """Compare the arms and keep the result below `project.verify`.

    Args:
        project: scored already, for the quick form and for arms that a score makes.
        options: which form and which arms.
        progress: who is told, and who may ask for a stop.
        permissions: of the full form: whether weights may be fetched; None: as the environment says.

    Raises:
        InputError: nothing is there to compare, an arm or a column is not understood, or nothing to compare on.
        SettingsError: an option does not go with the others.
        ProjectError: the project was not scored, another run works on it, or the disk refuses.
        ModelError: a training diverges, or the network cannot be made.
        Stopped: the person asked for it; the full form goes on where it was.
    """
    progress = progress or Progress()
    with project.lock():
        ground = lay(project, options)
        for note in ground.notes:
            progress.note(note)
        values = _groups(ground)
        if options.form == QUICK:
            outcomes, facts = _quick(ground, values, progress)
        else:
            outcomes, facts = _full(ground, values, progress, permissions or Permissions.from_environment())
        found = _verification(ground, values, outcomes, facts)
        found.save(place(project.verify, found))
        return found


def to_do(project: Project, options: VerifyOptions, permissions: Permissions | None = None) -> ToDo | None:
    """What the full form would train; None for the quick form, which trains nothing.

    Raises:
        InputError, SettingsError, ProjectError, ModelError: as `verify`, before anything is computed.
    """
    if options.form == QUICK:
        return None
    ground = lay(project, options)
    course = _course(ground, permissions or Permissions.from_environment())
    units = _units(ground, course)
    there = tuple(unit.title for unit in units if course.there(unit))
    return ToDo({unit.title: unit.key for unit in units}, there, course.compute.describe())


def planned(
    project: Project,
    options: VerifyOptions = VerifyOptions(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
    permissions: Permissions | None = None,
) -> Planned:
    """Say what a verification would do and how long it would take, from a probe of a few seconds; nothing is kept.

    Raises:
        InputError, SettingsError, ProjectError, ModelError: as `verify`, before anything is computed.
    """
    ground = lay(project, options)
    arms, test = tuple(arm.title for arm in ground.arms), ground.held.test.name
    if options.form == QUICK:
        count = 1 + (len(arms) - 1) * (1 + options.draws * options.controls)
        heads, begin = _heads(ground), time.perf_counter()
        heads.say(ground.arms[0])
        once, begin = time.perf_counter() - begin, time.perf_counter()
        heads.say(ground.arms[-1])
        return Planned(QUICK, arms, count, 0, round(once + count * (time.perf_counter() - begin), 2), test)
    course = _course(ground, permissions or Permissions.from_environment())
    wanted = _units(ground, course)
    missing = [unit for unit in wanted if not course.there(unit)]
    each = course.seconds_per_unit(progress or Progress()) if missing else 0.0
    return Planned(FULL, arms, len(wanted), len(wanted) - len(missing), round(len(missing) * each, 1), test)


def _groups(ground: Ground) -> dict[str, Array]:
    features = ground.recorded.rows if ground.recorded else None
    return groupings(ground.manifest, features, ground.options.groups)


def _heads(ground: Ground) -> Heads:
    from core.retrain.quick import Heads

    assert ground.recorded is not None
    manifest, chosen = ground.manifest, ground.held
    return Heads(
        ground.recorded.rows, ground.train, ground.labels, len(manifest.classes), chosen.rows, chosen.test.labels,
        ground.recorded.strength,
    )  # fmt: skip


def _quick(ground: Ground, values: Mapping[str, Array], progress: Progress) -> tuple[list[Outcome], Mapping[str, Any]]:
    """Fit a head for every arm, and one for every draw of its control."""
    heads, seeds = _heads(ground), tuple(range(ground.options.draws))
    rounds = [each for arm in ground.arms for each in ((arm,), ground.controls(arm, seeds)) if each]
    total, done, outcomes = sum(map(len, rounds)), 0, []
    for arms in rounds:
        begin, said = time.perf_counter(), []
        for arm in arms:
            said.append(heads.say(arm))
            done += 1
            progress.report("quick", done, total, "heads")
        predicted, prob = (np.stack(parts) for parts in zip(*said, strict=True))
        outcomes.append(_outcome(ground, values, arms[0], predicted, prob, {}, time.perf_counter() - begin))
    assert ground.recorded is not None
    return outcomes, {
        "network": f"a linear head on recorded features ({ground.recorded.origin})",
        "settings": {
            "features": ground.recorded.origin, "columns": int(ground.recorded.rows.shape[1]),
            "strength": heads.strength, "draws": ground.options.draws,
        },
        "seeds": seeds,
    }  # fmt: skip


def _full(
    ground: Ground, values: Mapping[str, Array], progress: Progress, permissions: Permissions
) -> tuple[list[Outcome], Mapping[str, Any]]:
    """Train every unit that is not there, and gather what all say."""
    course = _course(ground, permissions)
    wanted = _units(ground, course)
    if not all(course.there(unit) for unit in wanted):
        course.prepare(progress)
    found = [(unit, course.result(unit, progress)) for unit in wanted]
    outcomes = []
    for name in dict.fromkeys(unit.arm.name for unit in wanted):
        ours = [(unit, result) for unit, result in found if unit.arm.name == name]
        results = [result for _, result in ours]
        curves = {each: np.stack([result.curves[each] for result in results]) for each in results[0].curves}
        predicted, prob = (
            np.stack([getattr(result, part) for result in results]) for part in ("predicted", "given_prob")
        )
        seconds = sum(result.seconds for result in results)
        outcomes.append(_outcome(ground, values, ours[0][0].arm, predicted, prob, curves, seconds))
    kept = course.settings.as_dict()
    told = ("batch_size", "learning_rate", "weight_decay", "augment", "device", "precision")
    return outcomes, {
        "network": str(course.network),
        "settings": {**{name: kept[name] for name in told}, "epochs": course.planned.epochs,
                     "image_size": course.planned.side, **course.compute.describe()},
        "seeds": tuple(dict.fromkeys(unit.seed for unit in wanted)),
    }  # fmt: skip


def _course(ground: Ground, permissions: Permissions) -> Course:
    from core.retrain.full import Course, check_images  # loads torch

    check_images(ground.manifest)
    settings, asked = ground.project.config.settings, ground.options.network
    network = _network(ground.project, asked)
    permissions.check(network)
    if asked is not None and asked != ground.project.config.model:  # those are the project's own network's
        settings = replace(settings, transform=None, layer=None)
    return Course(ground.manifest, settings, network, ground.held.rows, ground.project.stages, permissions)


def _network(project: Project, asked: str | None) -> ModelSpec:
    """The network that is trained: the one asked for, else the project's where it is trained here, else reference."""
    spec = parse_model(asked or project.config.model)
    if spec.kind in TRAINED_HERE:
        return spec
    if asked is None:
        return parse_model("reference")
    raise SettingsError(f"{asked} is not trained here. Name reference, train:ARCH or train:ARCH@WEIGHTS.")


def _units(ground: Ground, course: Course) -> list[Unit]:
    """Every arm and its control with the first seed, then with the next: a stopped run has whole comparisons."""
    first = course.settings.seed
    return [
        course.unit(each, seed)
        for seed in range(first, first + ground.options.seeds)
        for arm in ground.arms
        for each in (arm, *ground.controls(arm, (seed,)))
    ]


def _outcome(
    ground: Ground, values: Mapping[str, Array], arm: Arm, predicted: Array, prob: Array,
    curves: Mapping[str, Array], seconds: float,
) -> Outcome:  # fmt: skip
    own = {name: [str(value) for value in found[ground.train]] for name, found in values.items()}
    return Outcome(
        arm.name, arm.title, arm.counts(ground.labels), arm.changed_per(ground.labels, own), predicted, prob, curves,
        round(seconds, 3), arm.control_of,
    )  # fmt: skip


def _verification(
    ground: Ground, values: Mapping[str, Array], outcomes: Sequence[Outcome], facts: Mapping[str, Any]
) -> Verification:
    groups = {name: tuple(str(value) for value in found[ground.held.rows]) for name, found in values.items()}
    sizes = {name: _sizes(found[ground.train]) for name, found in values.items()}
    notes = [*ground.notes, *([CLUSTERS] if CLUSTER in groups else []), *([SEEN] if _seen(ground) else [])]
    return Verification(
        form=ground.options.form, made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tool=f"gradsift {__version__}", project=ground.project.folder.name, classes=tuple(ground.manifest.classes),
        test=ground.held.test, outcomes=tuple(outcomes), groups=groups, group_sizes=sizes, network=facts["network"],
        settings={**facts["settings"], "scores": _scores_of(ground)}, seeds=facts["seeds"], decisions=ground.mark,
        notes=tuple(notes),
    )  # fmt: skip


def _scores_of(ground: Ground) -> str:
    """The key of the scores of the last run, "" where there was none: tells a later run from this one."""
    return str(stages_of(ground.findings.run).get("scores", "")) if ground.findings else ""


def _seen(ground: Ground) -> bool:
    """Whether the test rows' labels had a say in what is compared: in a ranking, or in the features' epoch.

    A test set beside a split `val` had none.
    """
    ranked = any(arm.name.split(":")[0] in (REMOVE, RELABEL_ARM, UPWEIGHT) for arm in ground.arms)
    features = ground.recorded is not None and ground.recorded.trained
    judged = bool(ground.manifest.judging[ground.held.rows].any())
    return judged and (ranked or (ground.options.form == QUICK and features))


def _sizes(values: Array) -> dict[str, int]:
    names, counts = np.unique(values.astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
