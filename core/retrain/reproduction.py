"""What `reproduce` answers: its arms, its lines beside the published table, and what to know when reading them.

`RECIPES` are the arms, `DIFFERENCES` where the paper's script and this part and which of that matters, `Line` one arm's
figures, `Reproduction` all of it as rows, sentences and a file.
Source: Chhabra et al., "Outlier Gradient Analysis", ICML 2025, arXiv 2405.03869, section 5, tables 2 and 5, and its
published scripts.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.models.train import replace as write_whole
from core.retrain.chain import SCRIPT
from core.scores.labels import BASELINES
from core.verify.compare import ONE_SEED, points
from core.verify.intervals import Difference
from core.verify.published import UNTOUCHED, Figure, published
from core.verify.record import Verification

GIVEN, RANDOM, SUSPICION = "given", "random", "suspicion"
SAME_FOR_ALL = "Self-DataInf"  # a row of the published table whose score tells no image from another


@dataclass(frozen=True)
class Recipe:
    """One arm: its name, what a person reads, and the row of the published table that it stands beside."""

    name: str
    title: str
    row: str = ""


RECIPES: tuple[Recipe, ...] = (
    Recipe(GIVEN, "nothing removed", UNTOUCHED),
    Recipe(RANDOM, "at random"),
    Recipe("oga_forest", "forest on last-layer gradients", "OGA forest"),
    Recipe("oga_l1", "L1 norm of last-layer gradients", "OGA L1"),
    Recipe("oga_l2", "L2 norm of last-layer gradients", "OGA L2"),
    Recipe(SUSPICION, "suspicion (the default ranking)"),
    *(Recipe(name, f"{each.title}, given labels, images unseen") for name, each in BASELINES.items()),
    *(Recipe(name + SCRIPT, f"{each.title}, as the script ran it", each.title) for name, each in BASELINES.items()),
)

# What differs, there, here, and what it does to the comparison.
DIFFERENCES: tuple[tuple[str, str, str, str], ...] = (
    ("loader", "the untouched set was trained in one fixed order, the trimmed ones in a new order each epoch",
     "a new order each epoch in every arm", "matters: there, a gain over the untouched set is partly the loader's"),
    ("epoch", "the best of 100 epochs, chosen on the test images", "the last epoch",
     "matters: the best of many looks higher than the network that one would have"),
    ("random control", "none", "as many removed at random",
     "matters: without it a gain may come from anything that all removals share"),
    ("label baselines", "the network's own predictions as labels, probabilities of images it was trained on",
     "that, and given labels with probabilities of networks that never saw the image",
     "matters: run as there, they cannot see a label that is confidently contradicted"),
    ("steps", "100 epochs of whatever is left", "as many steps as the untouched set takes, in every arm",
     "there, a trimmed set is also trained less"),
    ("network", "ResNet-34, in the text pretrained, in the script from scratch", "the one named, from scratch",
     "sets the level of every row; only differences within one network say something"),
    ("images", "50,000 to train on", "the number asked for, equally of each class, at most 49,000; 1,000 held out",
     "fewer images lower the level of every row, and a right label that is removed is missed more"),
    ("gradients", "of the weights alone, of one augmented view", "of weights and bias, of the image as it is",
     "the view adds chance to the ranking there"),
    ("forest", "100 trees, no seed", "1,000 trees unless set otherwise, seeded",
     "two forests of 100 trees share about half of their worst 5 %"),
    ("schedule", "SGD, rate 0.1 for 60 epochs and 0.01 for 40, batch 128", "one cycle of SGD, as the settings say",
     "sets the level of every row"),
)  # fmt: skip

COLUMNS: Mapping[str, str] = {
    "labels": "labels", "arm": "removed by", "wrong": "wrong of them", "accuracy": "accuracy",
    "gain": "gain", "between": "95 % between", "over_random": "over random", "over_random_between": "95 % between",
    "published": "published", "published_gain": "gain there",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What one arm came to; accuracies in per cent, gains in points.

    Attributes:
        removed: rows that were left out.
        wrong: share (0-1) of them whose given label is not the true one, mean over the seeds; None: none removed.
        accuracy: mean over the seeds; `deviation` their standard deviation, None for one seed.
        gain: against nothing removed, `over_random` against as many removed at random: shares of 1, 95 % intervals.
        published: what the paper printed for it.
    """

    labels: str
    arm: str
    title: str
    removed: int
    wrong: float | None
    accuracy: float
    deviation: float | None
    gain: Difference | None
    over_random: Difference | None
    published: Figure | None
    published_gain: float | None

    def as_row(self) -> dict[str, object]:
        """Return it as plain values for a table or a file; differences in points."""
        return {
            "labels": self.labels, "arm": self.title, "name": self.arm, "removed": self.removed,
            "wrong": "" if self.wrong is None else f"{self.wrong:.0%}",
            "accuracy": _spread(self.accuracy, self.deviation),
            **_told("gain", "between", self.gain), **_told("over_random", "over_random_between", self.over_random),
            "published": "" if self.published is None else _spread(self.published.accuracy, self.published.deviation),
            "published_gain": "" if self.published_gain is None else f"{self.published_gain:+.2f}",
        }  # fmt: skip


@dataclass(frozen=True)
class Reproduction:
    """Measured beside published.

    Attributes:
        lines: one per kind of labels and arm.
        settings: what was trained, on how many rows, with which seeds.
        differences: what differs, there, here, why it matters (`DIFFERENCES`).
        seconds: that this call took; trainings that were there already took none.
        verifications: per kind of labels, the record that the differences come from.
    """

    lines: tuple[Line, ...]
    settings: Mapping[str, Any]
    seconds: float
    differences: tuple[tuple[str, str, str, str], ...] = DIFFERENCES
    verifications: Mapping[str, Verification] = field(default_factory=dict)

    def rows(self) -> list[dict[str, object]]:
        """The lines as plain values; `COLUMNS` says which of them a table shows."""
        return [line.as_row() for line in self.lines]

    def sentences(self) -> list[str]:
        """What was found, what there is to know of it, in sentences."""
        return [text for kind in self.verifications for text in _found(kind, self.lines)] + [
            f"{what}: there {there}; here {here}; {why}." for what, there, here, why in self.differences
        ]

    def as_data(self) -> dict[str, object]:
        """Return everything as plain values, for JSON."""
        return {
            "settings": dict(self.settings), "seconds": round(self.seconds, 1), "lines": self.rows(),
            "sentences": self.sentences(),
        }  # fmt: skip

    def write(self, file: Path) -> None:
        """Write the lines as CSV, whole or not at all."""

        def written(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, list(self.rows()[0]))
                writer.writeheader()
                writer.writerows(self.rows())

        write_whole(file, written)


def _found(kind: str, lines: Sequence[Line]) -> Iterator[str]:
    """What the lines of one kind of labels say, in sentences."""
    some = {line.arm: line for line in lines if line.labels == kind}
    ranked = [line for line in some.values() if line.arm not in (GIVEN, RANDOM)]
    chance, more = some[RANDOM], [line for line in ranked if line.gain and line.gain.above]
    if some[GIVEN].deviation is None:
        yield f"Labels {kind}: {ONE_SEED}; intervals hold the chance of the test images only, so no gain is counted."
    else:
        sure = [line for line in more if line.over_random and line.over_random.above]
        yield (
            f"Labels {kind}: {len(more)} of {len(ranked)} rankings gain over nothing removed{_names(more)}, "
            f"{len(sure)} of them over random removal too."
        )
    if chance.gain is not None:
        yield f"Labels {kind}: as many removed at random change accuracy by {points(chance.gain)}."
    untouched, stand_in = published(UNTOUCHED, kind, 0.05), published(SAME_FOR_ALL, kind, 0.05)
    gains = [line.published_gain for line in ranked if line.published_gain is not None]
    if stand_in and untouched and gains:
        yield (
            f"Labels {kind}: the paper has no such control. Its {SAME_FOR_ALL}, by its public code the same for every "
            f"image, gains {stand_in.accuracy - untouched.accuracy:+.2f}; the best of its rows here {max(gains):+.2f}."
        )


def _names(lines: Sequence[Line]) -> str:
    return f" ({', '.join(line.title for line in lines)})" if lines else ""


def _told(value: str, between: str, difference: Difference | None) -> dict[str, object]:
    if difference is None:
        return {value: "", between: ""}
    ends = (100 * difference.low, 100 * difference.high)
    return {value: f"{100 * difference.value:+.2f}", between: f"{ends[0]:+.2f} and {ends[1]:+.2f}"}


def _spread(mean: float, deviation: float | None) -> str:
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"
