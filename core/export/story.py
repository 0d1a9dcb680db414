"""What a report and a slide show tell of a project, as plain numbers and ids: no markup, no image.

`tell` reads a project once and gives a `Story`. What is drawn of it is `core.export.slides` and `core.export.report`.
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
from core.review.changes import LOSS_SHARE
from core.review.decisions import ACTIONS, EXCLUDE, RELABEL, UNDECIDED, snapshot
from core.review.flags import SUSPICION, Budget, flag
from core.review.log import DecisionLog
from core.review.present import plain, with_decisions

if TYPE_CHECKING:
    from core.findings import Findings
    from core.project import Project
else:
    Findings: TypeAlias = Any  # whatever has the attributes used here: importing the class costs more than it gives
    Project: TypeAlias = Any

RIVALS = ("oga_forest", "oga_l1", "oga_l2")  # the rankings of outlier gradients, compared with suspicion
RIVAL_TITLES = {"oga_forest": "isolation forest", "oga_l1": "L1 norm", "oga_l2": "L2 norm"}
CALM = 0.1  # an example of a class is looked for among this share of it, the least suspicious
SPACE_TITLES = {"gradients": "Gradient space", "features": "Feature space"}


@dataclass(frozen=True)
class Pair:
    """Flagged images of one given and one suggested class, most suspicious first."""

    given: str
    suggested: str
    ids: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.ids)


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
    hidden: int  # rows that are held out and not drawn


@dataclass(frozen=True)
class Story:
    """What is told.

    Attributes:
        ranked: the training rows as `flag` gives them, with the columns of `Review.current()`.
        decisions: the decisions in effect on samples of the manifest, newest first, with `given_label`.
        examples: for each class the training image that least speaks against it.
        per_class: for each class: before, excluded, moved_out, moved_in, after, lost (share, 0-1).
        planted: the planted errors among all training rows and among the flagged ones; None where no truth is known.
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
    per_class: pd.DataFrame
    examples: Mapping[str, str]
    overlaps: tuple[Overlap, ...]
    maps: tuple[MapPoints, ...] = ()
    planted: tuple[int, int] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

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

    @property
    def pairs(self) -> list[Pair]:
        """Flagged images by given and suggested class, where those differ: by count, then by rank."""
        rows = self.flagged
        rows = rows[_differ(rows)]
        groups: dict[tuple[str, str], list[str]] = {}
        for sample, given, suggested in zip(rows.index, rows["given_label"], rows["suggested_label"], strict=True):
            groups.setdefault((str(given), str(suggested)), []).append(str(sample))
        found = [Pair(given, suggested, tuple(ids)) for (given, suggested), ids in groups.items()]
        return sorted(found, key=lambda pair: -pair.count)  # stable: of equal counts the more suspicious comes first

    @property
    def cases(self) -> list[str]:
        """Up to three flagged images for a closer look: the most suspicious of three different given classes."""
        rows = self.flagged
        return [str(sample) for sample in rows[_differ(rows)].drop_duplicates("given_label").index[:3]]

    def row(self, sample: str) -> dict[str, Any]:
        """A ranked row as plain values; what is missing is None."""
        return plain(self.ranked.loc[[sample]])[0]

    @property
    def actions(self) -> dict[str, int]:
        """Training images under each action, `undecided` included."""
        counts = self.ranked["action"].value_counts()
        return {name: int(counts.get(name, 0)) for name in ACTIONS}

    @property
    def reviewed(self) -> tuple[int, int]:
        """Of the flagged images: how many a person decided on, and how many of those were relabelled or excluded."""
        decided = self.flagged[self.flagged["action"] != UNDECIDED]
        return len(decided), int(decided["action"].isin([RELABEL, EXCLUDE]).sum())

    @property
    def reviewers(self) -> pd.DataFrame:
        """One row per reviewer: a column for each action, `first` and `last` as text."""
        rows = self.decisions
        counts = pd.crosstab(rows["reviewer"], rows["action"]).reindex(columns=list(ACTIONS)[1:], fill_value=0)
        times = rows.groupby("reviewer")["decided_at"].agg(first="min", last="max")
        return counts.join(times)

    def lost(self, label: str) -> float:
        """The share (0-1) of its images that a class loses."""
        return float(self.per_class["lost"].to_numpy()[self.per_class.index.get_loc(label)])

    def losers(self) -> list[str]:
        """Classes that lose more than `LOSS_SHARE` of their images, or all of them."""
        table = self.per_class
        return [str(name) for name in table.index[(table["lost"] > LOSS_SHARE).to_numpy(bool)]]


def tell(project: Project, *, now: datetime | None = None) -> Story:
    """Read everything that is told of a project.

    Raises:
        ProjectError: it has no scores yet, or is damaged.
    """
    findings = project.findings()
    manifest = project.manifest()
    current, events = snapshot(DecisionLog(project.review_path, read_only=True))
    rows = manifest.rows.set_index("sample_id")
    table = findings.table()
    ranked = with_decisions(flag(table, SUSPICION, Budget.parse(project.config.budget)), current)
    decisions = current[current.index.isin(rows.index)].join(rows["given_label"])[::-1]
    labels = str(getattr(project.config, "labels", ""))
    return Story(
        name=project.folder.name,
        version=core.__version__,
        made_at=now or datetime.now(UTC),
        source=homeless(project.config.source_spec),
        labels=homeless(labels),
        classes=tuple(str(name) for name in manifest.classes),
        splits={str(name): int(count) for name, count in rows["split"].value_counts().items()},
        set_aside={homeless(str(k)): int(v) for k, v in manifest.problems["reason"].value_counts().items()},
        run=findings.run,
        budget=project.config.budget,
        ranked=ranked,
        decisions=decisions,
        events=len(events),
        per_class=per_class(rows, decisions, manifest.classes),
        examples=examples(findings, ranked),
        overlaps=overlaps(table, project.config.budget),
        maps=tuple(points(findings, ranked, space, manifest.classes) for space in ("gradients", "features")
                   if space in findings.maps),
        planted=planted(rows, ranked),
        options=dict(project.config.source_options),
    )  # fmt: skip


def homeless(text: str) -> str:
    """`text` with the person's home folder written as `~`: a report is handed to others."""
    home = str(Path.home())
    return text if home in ("/", "") else text.replace(home, "~")


def per_class(rows: pd.DataFrame, decisions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """What the decisions do to each class, over all splits: before, excluded, moved_out, moved_in, after, lost.

    Args:
        rows: `Manifest.rows`, indexed by sample_id.
        decisions: with the columns action, final_label and given_label.
        classes: the class names, the order of the result.
    """
    names = pd.Index([str(name) for name in classes])
    moved = decisions[decisions["action"] == RELABEL]

    def counted(labels: pd.Series) -> pd.Series:
        return labels.astype("str").value_counts().reindex(names, fill_value=0).astype(int)

    table = pd.DataFrame({
        "before": counted(rows["given_label"]),
        "excluded": counted(decisions.loc[decisions["action"] == EXCLUDE, "given_label"]),
        "moved_out": counted(moved["given_label"]),
        "moved_in": counted(moved["final_label"]),
    }, index=names)  # fmt: skip
    after = table["before"] - table["excluded"] - table["moved_out"] + table["moved_in"]
    lost = (table["before"] - after).clip(lower=0) / table["before"].clip(lower=1)
    return table.assign(after=after, lost=lost)


def examples(findings: Findings, ranked: pd.DataFrame) -> dict[str, str]:
    """For each class that has one: of its calmest training images the one the out-of-sample head is surest of.

    Images on which somebody decided other than to keep them are no examples.
    """
    head = getattr(findings, "head_probabilities", None)
    calm = ranked[ranked["action"].isin([UNDECIDED, "keep"]) & ~ranked["flagged"]]
    found: dict[str, str] = {}
    for code, name in enumerate(getattr(findings, "classes", ())):
        own = calm[(calm["given_label"] == name).to_numpy(bool)].sort_values(SUSPICION, kind="stable")
        own = own.head(max(int(len(own) * CALM), 1))
        if own.empty or head is None:
            continue
        places = findings.samples.index.get_indexer(own.index)
        found[str(name)] = str(own.index[int(np.argmax(np.asarray(head[places, code])))])
    return found


def overlaps(table: pd.DataFrame, budget: str) -> tuple[Overlap, ...]:
    """The flags of each ranking of outlier gradients beside those of suspicion, at the same budget."""
    ours = _flagged_ids(table, SUSPICION, budget)
    found = []
    for name in RIVALS:
        if f"score_{name}" in table:
            theirs = _flagged_ids(table, name, budget)
            both = len(ours & theirs)
            found.append(Overlap(name, len(theirs), both, both / max(len(ours | theirs), 1)))
    return tuple(found)


def points(findings: Findings, ranked: pd.DataFrame, space: str, classes: Sequence[str]) -> MapPoints:
    """The training rows of one map, in the order of the findings; points without a place are left out."""
    xy = np.asarray(findings.maps[space], dtype=np.float32)
    index = findings.samples.index
    drawn = index.isin(ranked.index) & np.isfinite(xy).all(1)
    rows = ranked.loc[index[drawn]]
    codes = pd.Index([str(name) for name in classes]).get_indexer(pd.Index(rows["given_label"].astype("str")))
    return MapPoints(
        space, xy[drawn], codes, rows[SUSPICION].to_numpy(float), rows["flagged"].to_numpy(bool),
        rows["action"].isin([RELABEL, EXCLUDE]).to_numpy(bool), int((~drawn).sum()),
    )  # fmt: skip


def planted(rows: pd.DataFrame, ranked: pd.DataFrame) -> tuple[int, int] | None:
    """Training rows whose given label is not the known true one: in all, and among the flagged."""
    if "true_label" not in rows:
        return None
    truth = rows["true_label"].reindex(ranked.index)
    wrong = (truth.notna() & (truth.astype("str") != ranked["given_label"].astype("str"))).to_numpy(bool)
    return int(wrong.sum()), int((wrong & ranked["flagged"].to_numpy(bool)).sum())


def _differ(rows: pd.DataFrame) -> np.ndarray:
    suggested = rows["suggested_label"]
    return (suggested.notna() & (suggested != rows["given_label"])).to_numpy(bool)


def _flagged_ids(table: pd.DataFrame, score: str, budget: str) -> set[str]:
    rows = flag(table, score, Budget.parse(budget))
    return set(rows.index[rows["flagged"].to_numpy(bool)])
