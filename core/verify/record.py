"""What came of the arms: the record of one verification, and where it lies on disk.

    verification.save(place(project.verify, verification))
    latest(project.verify)            # the newest, or None

A verification is a folder of two files: `verification.json` says what was compared, `outcomes.npz` holds what each
training said of each test row. It is written under a temporary name and renamed when whole; nothing is unpickled.

Letters of the axes here: `m` test rows, `k` trainings of an arm (seeds, or draws of a control), `t` epochs.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.axes import Array, Float, Integer
from core.errors import InputError, ProjectError
from core.verify.arms import GIVEN

FORMAT = 1
QUICK, FULL = "quick", "full"
FORMS = (QUICK, FULL)
SPLITS = ("test", "val")  # held-out splits in the order in which they are taken for a test set
TRAINING, UNCHANGED = "training", "training rows that no arm changes"  # as asked for, and as named
_NAME = re.compile(rf"\d{{8}}T\d{{6}}(-\d+)?-({'|'.join(FORMS)})")


@dataclass(frozen=True, eq=False)
class TestSet:
    """The rows on which arms are compared; no arm trains on them or changes them.

    Attributes:
        name: "test", "val", or "training rows that no arm changes".
        ids: of the rows, `m`.
        labels: class codes, `m`.
        noise: the estimated share of wrong labels among them (0-1), None where it was not estimated.
        known_noise: that share where the true labels are known.
        note: one sentence for a person.
    """

    __test__ = False  # no class of tests, whatever pytest makes of its name

    name: str
    ids: tuple[str, ...]
    labels: Integer[Array, " m"]
    noise: float | None = None
    known_noise: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one arm.

    Attributes:
        name: the arm's name; title: the arm's title; control_of: the arm that it controls, or "".
        counts: training rows "kept", "removed", "relabelled", "weighted".
        changed_per: grouping to value to training rows left out or relabelled.
        predicted: class codes, one row per training, `k m`.
        given_prob: probability of the test row's label (0-1), `k m`.
        curves: per epoch, `k t`: "accuracy" and "log_loss" on the test set, "train_loss"; empty in the quick form.
        seconds: what all its trainings took.
    """

    name: str
    title: str
    counts: Mapping[str, int]
    changed_per: Mapping[str, Mapping[str, int]]
    predicted: Integer[Array, "k m"]
    given_prob: Float[Array, "k m"]
    curves: Mapping[str, Float[Array, "k t"]] = field(default_factory=dict)
    seconds: float = 0.0
    control_of: str = ""

    @property
    def changes(self) -> int:
        """Training rows left out or relabelled."""
        return self.counts["removed"] + self.counts["relabelled"]


@dataclass(frozen=True, eq=False)
class Verification:
    """One verification; equal to itself alone, as its arrays are not compared.

    Attributes:
        form: "quick" (a ridge head on recorded features) or "full" (retraining).
        made_at: ISO time; tool: what made it, with its version; project: its name.
        classes: class names.
        test: the rows on which the arms are compared.
        outcomes: one per arm; the first is that of the data as given.
        groups: grouping to the value of each test row, `m`; "class" is always there.
        group_sizes: grouping to value to training rows.
        network: what was trained, in words or as a spec.
        settings: of the trainings.
        seeds: of the full form; of the control's draws in the quick form.
        decisions: "changed" and "digest", as `core.verify.arms.decisions_mark` gives them.
        notes: sentences that belong to it.
    """

    form: str
    made_at: str
    tool: str
    project: str
    classes: tuple[str, ...]
    test: TestSet
    outcomes: tuple[Outcome, ...]
    groups: Mapping[str, tuple[str, ...]]
    group_sizes: Mapping[str, Mapping[str, int]]
    network: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    decisions: Mapping[str, int | str] = field(default_factory=lambda: {"changed": 0, "digest": ""})
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts belong together; an InputError says which do not."""
        if problem := _problem(self):
            raise InputError(f"This is no verification: {problem}.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arms, in order."""
        return tuple(each.name for each in self.outcomes)

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms that are neither the data as given nor a control."""
        return tuple(each.name for each in self.outcomes[1:] if not each.control_of)

    def outcome(self, name: str) -> Outcome:
        """What came of one arm.

        Raises:
            InputError: there is no such arm; the message lists those there are.
        """
        found = next((each for each in self.outcomes if each.name == name), None)
        if found is None:
            raise InputError(f"There is no arm {name!r} in this verification. Choose from {', '.join(self.names)}.")
        return found

    def control(self, name: str) -> Outcome | None:
        """The control of an arm, where there is one."""
        return next((each for each in self.outcomes if each.control_of == name), None)

    def save(self, folder: Path) -> None:
        """Write it into the new folder `folder`, whole or not at all.

        Raises:
            ProjectError: the folder exists, or the disk refuses.
        """
        if folder.exists():
            raise ProjectError(f"{folder} exists already. A verification goes into a folder of its own.")
        work = folder.with_name(f".{folder.name}.part")
        try:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            (work / "verification.json").write_text(json.dumps(_facts(self), indent=1), "utf-8")
            arrays: Any = dict(_arrays(self))
            np.savez_compressed(work / "outcomes.npz", **arrays)
            work.rename(folder)
        except OSError as error:
            raise ProjectError(
                f"The verification {folder} cannot be written ({error}); nothing was left there. Free some space."
            ) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> Verification:
        """Read one back.

        Raises:
            ProjectError: it is missing, damaged or of another version.
        """
        try:
            facts = json.loads((folder / "verification.json").read_text("utf-8"))
            if facts["format"] != FORMAT:
                raise ValueError(f"it is of format {facts['format']!r}, this version reads {FORMAT}")
            with (folder / "outcomes.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return _read(facts, {name: arrays[name] for name in arrays.files})
        except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
            raise ProjectError(
                f"The verification in {folder} cannot be read ({error}). Delete that folder and verify again."
            ) from error


def place(folder: Path, verification: Verification) -> Path:
    """Where a verification goes below `folder`: its time and form, with a number where two share both."""
    time = re.sub(r"[-:]", "", verification.made_at)[:15]
    ends = ("", *(f"-{number}" for number in range(2, 1000)))
    return next(path for end in ends if not (path := folder / f"{time}{end}-{verification.form}").exists())


def stored(folder: Path) -> list[Path]:
    """The folders of the verifications below `folder`, newest first."""
    found = folder.iterdir() if folder.is_dir() else iter(())
    return sorted((path for path in found if _NAME.fullmatch(path.name) and path.is_dir()), key=_age, reverse=True)


def latest(folder: Path, form: str | None = None) -> Verification | None:
    """The newest verification below `folder`, of one form where it is named; None where there is none.

    Raises:
        ProjectError: it is damaged; the message says which folder to delete.
    """
    found = [path for path in stored(folder) if form is None or path.name.endswith(f"-{form}")]
    return Verification.load(found[0]) if found else None


def _age(path: Path) -> tuple[str, int, str]:
    time, *number, form = path.name.split("-")
    return time, int(number[0]) if number else 1, form


def _problem(v: Verification) -> str | None:
    rows = len(v.test.ids)
    if v.form not in FORMS:
        return f"its form is {v.form!r}, not one of {', '.join(FORMS)}"
    if not v.outcomes or v.outcomes[0].name != GIVEN:
        return f"its first arm is not {GIVEN!r}"
    if len(set(v.names)) < len(v.names):
        return f"two of its arms have one name: {', '.join(v.names)}"
    widths = {len(v.test.labels), *(each.predicted.shape[1] for each in v.outcomes)}
    widths |= {each.given_prob.shape[1] for each in v.outcomes} | {len(values) for values in v.groups.values()}
    if not rows or widths != {rows}:
        return f"{rows} test rows were named, and its parts have {', '.join(map(str, sorted(widths)))}"
    trainings = sorted({len(each.predicted) for each in v.outcomes})
    if v.form == FULL and len(trainings) > 1:
        return f"its arms differ in their number of trainings: {', '.join(map(str, trainings))}"
    return None if "class" in v.groups else "its groups lack the grouping 'class'"


def _facts(v: Verification) -> dict[str, Any]:
    """Everything but the arrays; groups as their values, the rows' codes are an array."""
    plain = {name: getattr(v, name) for name in (
        "form", "made_at", "tool", "project", "classes", "group_sizes", "network", "settings", "seeds", "decisions",
        "notes",
    )}  # fmt: skip
    test = {name: value for name, value in asdict(v.test).items() if name != "labels"}
    outcomes = [
        {
            "name": each.name, "title": each.title, "control_of": each.control_of, "counts": dict(each.counts),
            "changed_per": {name: dict(values) for name, values in each.changed_per.items()},
            "seconds": each.seconds, "curves": list(each.curves),
        }
        for each in v.outcomes
    ]  # fmt: skip
    groups = {name: sorted(set(values)) for name, values in v.groups.items()}
    return {"format": FORMAT, **plain, "test": test, "outcomes": outcomes, "groups": groups}


def _arrays(v: Verification) -> Iterator[tuple[str, Array]]:
    """The arrays by name: a position, never the name of an arm, which may hold anything."""
    yield "labels", v.test.labels
    for number, values in enumerate(v.groups.values()):
        yield f"group{number}", np.unique(np.array(values, dtype=object), return_inverse=True)[1].astype(np.int32)
    for number, each in enumerate(v.outcomes):
        yield f"{number}_predicted", each.predicted.astype(np.int32)
        yield f"{number}_given_prob", each.given_prob.astype(np.float32)
        for at, curve in enumerate(each.curves.values()):
            yield f"{number}_curve{at}", curve.astype(np.float32)


def _read(facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> Verification:
    outcomes = tuple(_outcome(number, each, arrays) for number, each in enumerate(facts["outcomes"]))
    groups = {
        name: tuple(values[code] for code in arrays[f"group{number}"])
        for number, (name, values) in enumerate(facts["groups"].items())
    }
    test = TestSet(**{**facts["test"], "ids": tuple(facts["test"]["ids"]), "labels": _whole(arrays["labels"])})
    rest = {name: facts[name] for name in ("form", "made_at", "tool", "project", "network", "settings", "decisions")}
    return Verification(
        **rest, classes=tuple(facts["classes"]), test=test, outcomes=outcomes, groups=groups,
        group_sizes=facts["group_sizes"], seeds=tuple(facts["seeds"]), notes=tuple(facts["notes"]),
    )  # fmt: skip


def _outcome(number: int, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> Outcome:
    curves = {name: arrays[f"{number}_curve{at}"].astype(float) for at, name in enumerate(facts["curves"])}
    predicted = _whole(arrays[f"{number}_predicted"])
    given_prob = arrays[f"{number}_given_prob"].astype(float)
    return Outcome(**{**facts, "curves": curves, "predicted": predicted, "given_prob": given_prob})


def _whole(codes: Array) -> Array:
    return np.asarray(codes, dtype=np.int64)
