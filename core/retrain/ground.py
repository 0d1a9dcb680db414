"""What a verification compares: its options, the arms they make, and the rows on which the arms are compared.

Nothing is fitted or trained here, and nothing loads torch, so that a mistake is told at once and before any lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.axes import Array, Int
from core.data.manifest import Manifest
from core.errors import InputError, SettingsError
from core.findings import Findings
from core.project import Project
from core.retrain.recorded import Recorded, recorded_features
from core.retrain.tables import FILE, decisions_from
from core.retrain.test_set import Held, held, split_for_tests
from core.review.decisions import Review
from core.verify.arms import DECIDED, Arm, control, decided, decisions_mark, given, requested
from core.verify.record import FORMS, FULL, QUICK, TRAINING

DRAWS = 20  # of a control in the quick form: how much the luck of the draw is worth
MOST_SEEDS = 100
NOTHING = (
    "Nothing to compare: no decision changes the training set yet. Decide in the review, or name an arm: "
    "--arm remove:suspicion:5%."
)


@dataclass(frozen=True)
class VerifyOptions:
    """What a verification may be told, checked when it is made.

    Attributes:
        form: "quick" (a head on recorded features) or "full" (retraining).
        arms: beside the decisions: `remove:SCORE:K` and the like (`core.verify.arms.requested`), or `file:PATH`, a
            table of decisions.
        seeds: trainings of each arm in the full form. One says nothing of how much a training varies.
        test: the split to compare on, or "training"; None: test, else val, else training rows.
        network: of the full form: `reference` or `train:ARCH[@WEIGHTS]`; None: the project's, where it is trained here.
        groups: columns, "cluster", or "none" for classes alone; None: what there is.
        controls: whether each arm gets one that removes as many at random.
        draws: of a control in the quick form.

    Raises:
        SettingsError: a value is outside its range.
    """

    form: str = QUICK
    arms: tuple[str, ...] = ()
    seeds: int = 3
    test: str | None = None
    network: str | None = None
    groups: tuple[str, ...] | None = None
    controls: bool = True
    draws: int = DRAWS

    def __post_init__(self) -> None:
        """Check every value."""
        if self.form not in FORMS:
            raise SettingsError(f"The form is {self.form!r}; choose one of {', '.join(FORMS)}.")
        for name in ("seeds", "draws"):
            if not 1 <= getattr(self, name) <= MOST_SEEDS:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; give a number from 1 to {MOST_SEEDS}.")


@dataclass(frozen=True)
class Ground:
    """What both forms stand on.

    Attributes:
        findings, recorded: of the last run; None where there was none.
        arms: without controls, the data as given first.
        held: the rows on which they are compared.
        notes: what a person should know of the arms.
        mark: of the decisions (`core.verify.arms.decisions_mark`).
    """

    project: Project
    options: VerifyOptions
    manifest: Manifest
    findings: Findings | None
    recorded: Recorded | None
    arms: tuple[Arm, ...]
    held: Held
    notes: tuple[str, ...] = ()
    mark: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def train(self) -> Int[Array, " r"]:
        """Positions of the training rows."""
        return np.flatnonzero(self.manifest.train)

    @property
    def labels(self) -> Int[Array, " r"]:
        """Class codes as given, of the training rows."""
        return self.manifest.labels[self.train]

    def controls(self, arm: Arm, seeds: Sequence[int]) -> tuple[Arm, ...]:
        """The control of an arm, drawn with each seed; none for the data as given."""
        if not self.options.controls or arm is self.arms[0]:
            return ()
        return tuple(control(arm, self.labels, seed) for seed in seeds)


def lay(project: Project, options: VerifyOptions) -> Ground:
    """Make the arms and choose the test rows; nothing is computed.

    Raises:
        InputError: nothing is there to compare, an arm is not understood, or nothing is left to compare on.
        SettingsError: the full form was asked to compare on training rows.
        ProjectError: the project was not scored, and the form or an arm needs scores.
    """
    manifest = project.manifest()
    findings = project.findings() if project.sifted or options.form == QUICK else None
    decisions = Review(project, read_only=True).current()
    arms = tuple(_arms(project, manifest, findings, decisions, options.arms))
    if len(arms) == 1:
        raise InputError(NOTHING)
    if options.form == FULL and split_for_tests(manifest, options.test) == TRAINING:
        raise SettingsError(
            "The full form compares on held-out images, and training images cannot be held out of themselves. Name a "
            "split with --test, hold images out when the project is made, or use the quick form."
        )
    probabilities = findings.head_probabilities if findings else None
    chosen = held(manifest, arms[1:], options.test, probabilities)
    recorded = recorded_features(project) if findings else None
    mark = decisions_mark(decisions, manifest.ids[manifest.train].tolist())
    notes = tuple(_emptied(manifest, arms))
    return Ground(project, options, manifest, findings, recorded, arms, chosen, notes, mark)


def _arms(
    project: Project, manifest: Manifest, findings: Findings | None, decisions: Any, asked: Sequence[str]
) -> Iterator[Arm]:
    """The data as given, the decisions where one changes a training row, and what was asked for, each once."""
    ids, labels = manifest.ids[manifest.train].tolist(), manifest.labels[manifest.train]
    yield given(labels)
    by_person = decided(ids, labels, manifest.classes, decisions)
    if by_person.changed(labels).any():
        yield by_person
    elif DECIDED in asked:
        raise InputError("No decision changes the training set yet. Decide in the review first.")
    names: dict[str, str] = {}
    for text in dict.fromkeys(asked):
        if text == DECIDED:
            continue
        if text.startswith(FILE):
            arm = _of_file(text, manifest, ids, labels, names)
        else:
            arm = requested(text, (findings or project.findings()).table(), labels, manifest.classes)
        if arm.name not in names:
            names[arm.name] = text
            yield arm


def _of_file(text: str, manifest: Manifest, ids: list[str], labels: Int[Array, " r"], names: Mapping[str, str]) -> Arm:
    """The arm of a table, called by the file's name alone: where it lies is nobody's business who reads a report."""
    path = Path(text.removeprefix(FILE))
    numbers = ("", *(f" ({number})" for number in range(2, len(names) + 3)))
    called = next(f"{path.name}{number}" for number in numbers if f"{FILE}{path.name}{number}" not in names)
    arm = decided(
        ids,
        labels,
        manifest.classes,
        decisions_from(path, manifest),
        f"{FILE}{called}",
        f"with the decisions of {called}",
    )
    if not arm.changed(labels).any():
        raise InputError(f"{path} changes no training row. Give a table with relabel or exclude.")
    return arm


def _emptied(manifest: Manifest, arms: Sequence[Arm]) -> Iterator[str]:
    """Say which classes an arm leaves nothing of."""
    labels, classes = arms[0].labels, len(manifest.classes)
    before = np.bincount(labels, minlength=classes) > 0
    for arm in arms[1:]:
        gone = before & (np.bincount(arm.labels[arm.kept], minlength=classes) == 0)
        if gone.any():
            names = ", ".join(repr(manifest.classes[code]) for code in np.flatnonzero(gone))
            yield f"The arm {arm.title!r} leaves no training image of {names}: no test image of it can come out right."
