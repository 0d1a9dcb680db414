"""What a report and a slide show tell of a project, as plain numbers and ids: no markup, no image.

`tell` reads a project once and gives a `Story`. Its figures are those of the screens, from `core.review`: who is
flagged, the class pairs and the progress from `gallery`, overlaps and maps from `points`, what the decisions change
from `changes`, examples from `detail`. What is drawn of it is `core.export.slides` and `core.export.report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

import core
from core.review.changes import LOSS_SHARE, Changes, changes
from core.review.decisions import ACTIONS, snapshot
from core.review.detail import detail
from core.review.flags import SUSPICION
from core.review.gallery import WRONG, Filters, gallery, pairs, progress
from core.review.log import DecisionLog
from core.review.points import RANKINGS, map_data, overlap
from core.review.present import plain
from core.verify.arms import decisions_mark
from core.verify.record import FULL, QUICK, Verification, latest
from core.verify.shown import Shown, pick, show, stale

if TYPE_CHECKING:
    from core.findings import Findings
    from core.project import Project
else:
    Findings: TypeAlias = Any  # only its type is used here
    Project: TypeAlias = Any

RIVAL_TITLES = {"oga_forest": "isolation forest", "oga_l1": "L1 norm", "oga_l2": "L2 norm"}
CLASSES_SHOWN = 12  # classes that an image is shown of
CASES = 3  # images for a closer look
SPACE_TITLES = {"gradients": "Gradient space", "features": "Feature space"}


@dataclass(frozen=True)
class Pair:
    """Flagged images of one given and one suggested class, most suspicious first."""

    given: str
    suggested: str
    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """How far the flags of another ranking, at the same budget, are those of suspicion."""

    name: str
    flagged: int
    both: int
    jaccard: float  # both / either, 0-1


@dataclass(frozen=True)
class MapPoints:
    """One map: where each training image lies, its class code, and which of them are flagged or settled as wrong."""

    space: str
    xy: np.ndarray
    codes: np.ndarray
    suspicion: np.ndarray
    flagged: np.ndarray
    wrong: np.ndarray
    note: str  # what is drawn and what is not


@dataclass(frozen=True)
class Proof:
    """The verification that is told, and one arm of it.

    Attributes:
        verification: all of it.
        shown: what the screen says of the arm.
        stale: what to say where decisions have changed since; "" where they have not.
    """

    verification: Verification
    shown: Shown
    stale: str


@dataclass(frozen=True)
class Story:
    """What is told.

    Attributes:
        ranked: the training rows as `gallery` gives them.
        decisions: the decisions in effect on samples of the manifest, newest first, with `given_label`.
        changes: what the decisions do, over all splits; `per_class` and `warnings` of the training images.
        progress: how far the review of the flagged images is, as `gallery.progress` gives it.
        pairs: flagged images by given and suggested class, where those differ, the most frequent first.
        examples: of the first `CLASSES_SHOWN` classes that have one, the image that the large view shows as an example.
        cases: up to `CASES` flagged images: the most suspicious of different given classes. Each with the examples of
            its "given" and its "suggested" class that the large view shows beside it, or None.
        planted: the planted errors among all training rows and among the flagged ones; None where no truth is known.
        proof: whether the decisions help, where that was measured.
    """

    name: str
    version: str
    made_at: datetime
    source: str
    labels: str
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    set_aside: Mapping[str, int]
    run: Mapping[str, Any]
    budget: str
    ranked: pd.DataFrame
    decisions: pd.DataFrame
    events: int
    changes: Changes
    progress: Mapping[str, Any]
    pairs: tuple[Pair, ...]
    examples: Mapping[str, str]
    cases: Mapping[str, Mapping[str, str | None]]
    overlaps: tuple[Overlap, ...]
    maps: tuple[MapPoints, ...] = ()
    planted: tuple[int, int] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    proof: Proof | None = None

    @property
    def images(self) -> int:
        """Images of all splits."""
        return sum(self.splits.values())

    @property
    def held_out(self) -> int:
        """Images that are not training images."""
        return self.images - len(self.ranked)

    @property
    def flagged(self) -> pd.DataFrame:
        """The flagged rows, most suspicious first."""
        return self.ranked[self.ranked["flagged"].to_numpy(bool)]

    def row(self, sample: str) -> dict[str, Any]:
        """A ranked row as plain values; what is missing is None."""
        return plain(self.ranked.loc[[sample]])[0]

    @property
    def reviewed(self) -> tuple[int, int]:
        """Of the flagged images: how many a person decided on, and how many of those were relabelled or excluded."""
        return self.progress["reviewed"], int(self.flagged["action"].isin(WRONG).sum())

    @property
    def reviewers(self) -> pd.DataFrame:
        """One row per reviewer: a column for each action, `first` and `last` as text."""
        rows = self.decisions
        counts = pd.crosstab(rows["reviewer"], rows["action"]).reindex(columns=list(ACTIONS)[1:], fill_value=0)
        times = rows.groupby("reviewer")["decided_at"].agg(first="min", last="max")
        return counts.join(times)

    def losers(self) -> dict[str, float]:
        """The classes that lose more than `LOSS_SHARE` of their training images, each with that share (0-1)."""
        return {row["name"]: row["lost"] for row in self.changes.per_class if row["lost"] > LOSS_SHARE}


def tell(project: Project, *, now: datetime | None = None) -> Story:
    """Read everything that is told of a project.

    Raises:
        ProjectError: it has no scores yet, or is damaged.
    """
    findings = project.findings()
    manifest = project.manifest()
    current, events = snapshot(DecisionLog(project.review_path, read_only=True))
    rows = manifest.rows.set_index("sample_id")
    filters = Filters(budget=project.config.budget, flagged=False)
    ranked = gallery(findings.samples, current, filters)
    flagged = ranked[ranked["flagged"].to_numpy(bool)]
    found = class_pairs(flagged)
    classes = tuple(str(name) for name in manifest.classes)
    decisions = current[current.index.isin(rows.index)].join(rows["given_label"])[::-1]
    labels = str(getattr(project.config, "labels", ""))
    return Story(
        name=project.folder.name,
        version=core.__version__,
        made_at=now or datetime.now(UTC),
        source=homeless(project.config.source_spec),
        labels=homeless(labels),
        classes=classes,
        splits={str(name): int(count) for name, count in rows["split"].value_counts().items()},
        set_aside={homeless(str(k)): int(v) for k, v in manifest.problems["reason"].value_counts().items()},
        run=findings.run,
        budget=project.config.budget,
        ranked=ranked,
        decisions=decisions,
        events=len(events),
        changes=changes(manifest.rows, current),
        progress=progress(findings.samples, current, filters),
        pairs=found,
        examples=examples(findings, manifest.rows, current, ranked, classes),
        cases={sample: detail(findings, manifest.rows, current, sample)["examples"]
               for sample in cases(flagged, found)},
        overlaps=overlaps(findings.samples, project.config.budget),
        maps=tuple(points(findings, current, space, project.config.budget, classes)
                   for space in ("gradients", "features") if space in findings.maps),
        planted=planted(rows, ranked),
        options=dict(project.config.source_options),
        proof=proof(
            project.verify, current, rows.index[(rows["split"] == "train").to_numpy(bool)],
            str(findings.run.get("stages", {}).get("scores", "")),
        ),
    )  # fmt: skip


def homeless(text: str) -> str:
    """`text` with the person's home folder written as `~`: a report is handed to others."""
    home = str(Path.home())
    return text if home in ("/", "") else text.replace(home, "~")


def class_pairs(flagged: pd.DataFrame) -> tuple[Pair, ...]:
    """The pairs of `gallery.pairs`, each with its images in the order of the ranking."""
    ids: dict[tuple[str, str], list[str]] = {}
    for sample, given, suggested in zip(flagged.index, flagged["given_label"], flagged["suggested_label"], strict=True):
        ids.setdefault((str(given), str(suggested)), []).append(str(sample))
    return tuple(
        Pair(each["given"], each["suggested"], each["count"], tuple(ids[each["given"], each["suggested"]]))
        for each in pairs(flagged)
    )


def cases(flagged: pd.DataFrame, found: Sequence[Pair]) -> list[str]:
    """The most suspicious image of each given class in `found`, at most `CASES`, in the order of the ranking."""
    doubted = flagged[flagged.index.isin([sample for pair in found for sample in pair.ids])]
    return [str(sample) for sample in doubted.drop_duplicates("given_label").index[:CASES]]


def examples(
    findings: Findings, rows: pd.DataFrame, decisions: pd.DataFrame, ranked: pd.DataFrame, classes: Sequence[str]
) -> dict[str, str]:
    """One image of each of the first classes: what the large view of the class's most suspicious image shows beside it.

    Args:
        findings: of the run.
        rows: `Manifest.rows`.
        decisions: `Review.current()`.
        ranked: the training rows, most suspicious first.
        classes: the class names, the order of the result; the first `CLASSES_SHOWN` that have an example are in it.
    """
    first = {str(row): str(sample) for sample, row in ranked["given_label"].drop_duplicates().items()}
    found: dict[str, str] = {}
    for name in classes:
        if len(found) < CLASSES_SHOWN and name in first:
            example = detail(findings, rows, decisions, first[name])["examples"]["given"]
            found |= {name: example} if example else {}
    return found


def overlaps(table: pd.DataFrame, budget: str) -> tuple[Overlap, ...]:
    """The flags of each ranking of outlier gradients that the run has beside those of suspicion, at the same budget."""
    known = tuple(name for name in RANKINGS if name == SUSPICION or f"score_{name}" in table)
    shared = overlap(table, known, budget)
    return tuple(
        Overlap(each["b"], shared["sets"][each["b"]], each["both"], each["jaccard"])
        for each in shared["pairs"] if each["a"] == SUSPICION
    )  # fmt: skip


def points(findings: Findings, decisions: pd.DataFrame, space: str, budget: str, classes: Sequence[str]) -> MapPoints:
    """The training images of one map as `map_data` gives them, with their class codes."""
    data = map_data(findings, decisions, space, SUSPICION, budget=budget)
    given = findings.samples["given_label"].loc[list(data.ids)].astype("str")
    codes = pd.Index(list(classes)).get_indexer(pd.Index(given))
    wrong = pd.Series(data.action).isin(WRONG).to_numpy(bool)
    return MapPoints(space, data.xy, codes, data.value, data.flagged, wrong, data.note)


def planted(rows: pd.DataFrame, ranked: pd.DataFrame) -> tuple[int, int] | None:
    """Training rows whose given label is not the known true one: in all, and among the flagged."""
    if "true_label" not in rows:
        return None
    truth = rows["true_label"].reindex(ranked.index)
    wrong = (truth.notna() & (truth.astype("str") != ranked["given_label"].astype("str"))).to_numpy(bool)
    return int(wrong.sum()), int((wrong & ranked["flagged"].to_numpy(bool)).sum())


def proof(folder: Path, decisions: pd.DataFrame, train: pd.Index[str], run: str = "") -> Proof | None:
    """The verification to tell: a full one before a quick one, and one of the present decisions before any other.

    Args:
        folder: `Project.verify`.
        decisions: those in effect.
        train: the ids of the training rows.
        run: the key of the scores that the project has now.

    Raises:
        ProjectError: one is damaged; the message says which folder to delete.
    """
    now = decisions_mark(decisions, train)
    found = [each for form in (FULL, QUICK) if (each := latest(folder, form)) and each.arms]
    told = next((each for each in found if not stale(each, now, run)), found[0] if found else None)
    return Proof(told, show(told, pick(told)), stale(told, now, run)) if told else None
