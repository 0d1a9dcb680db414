"""What was seen of the samples, from whichever network saw it: the one input of `core.scores.table.evidence_table`.

A `Witness` is put together from roles: a training that was recorded, a finished network, features of one network or
several. None of them has to be there: what is not known is None or missing, and scores that rest on it are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.axes import Array, Bool, Float, Integer
from core.errors import InputError
from core.gradients.last_layer import LastLayerGradients
from core.models.recorder import History

ORIGINS = {
    "backbone": "the backbone",
    "model": "your model",
    "reference": "the reference network",
}  # how each origin of features is called in a sentence; the first that is there gives neighbours and map


RECORDED = "the recorded training"  # what the model is called where it is a training that was recorded elsewhere


@dataclass(frozen=True)
class Witness:
    """Everything that was seen of the samples.

    Attributes:
        labels: given labels, as positions in `classes`.
        train: which rows were trained on; the others are held out.
        validation: the held-out rows whose labels choices are made by; None: all of them.
        history: the record of a training, the reference network's or the person's own.
        gradients: factors of the finished network: the person's own, else the reference network's.
        logits: of that network, or of the left-out head that stands in for it (then not `in_sample_logits`).
        features: by origin, a key of `ORIGINS`; neighbours are those of the first.
        extra: further raw values, by the name of their score.
        notes: what a person must know, shown with the result.
        in_sample_logits: the logits come from a network that was trained on these labels.
        recorded: history, logits and the model's features are those of a training recorded elsewhere.
        logged: of which rows it said something, the others hold averages; None: of all.
        beside: the record of the reference network that was trained beside it.

    Raises:
        InputError: an array has another number of rows than `labels`, or features come from an unknown origin.
    """

    labels: Integer[Array, " n"]
    train: Bool[Array, " n"]
    classes: tuple[str, ...]
    history: History | None = None
    gradients: LastLayerGradients | None = None
    logits: Float[Any, "n c"] | None = None
    features: Mapping[str, Float[Array, "_ _"]] = field(default_factory=dict)
    extra: Mapping[str, Float[Array, " n"]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    in_sample_logits: bool = True
    recorded: bool = False
    logged: Bool[Array, " n"] | None = None
    beside: History | None = None
    validation: Bool[Array, " n"] | None = None

    def __post_init__(self) -> None:
        """Check that all speak of the same rows."""
        rows = {f"features of {origin!r}": len(array) for origin, array in self.features.items()}
        if self.history is not None:
            rows["history"] = self.history.given_logit.shape[1]
        if self.gradients is not None:
            rows["gradients"] = len(self.gradients)
        for what, count in rows.items():
            if count != len(self.labels):
                raise InputError(f"The {what} have {count:,} rows and there are {len(self.labels):,} labels.")
        if unknown := set(self.features) - set(ORIGINS):
            raise InputError(f"Features come from {', '.join(ORIGINS)}, not from {sorted(unknown)[0]!r}.")

    @property
    def owner(self) -> str:
        """Where the logits come from: the person's own network or record where there is one."""
        return "model" if "model" in self.features or self.recorded else "reference"

    @property
    def held_out(self) -> Bool[Array, " n"]:
        """The held-out rows of which the network of the logits said something."""
        return ~self.train if self.logged is None else ~self.train & self.logged

    @property
    def judging(self) -> Bool[Array, " n"]:
        """The held-out rows whose labels choices are made by."""
        return ~self.train if self.validation is None else self.validation

    def called(self, origin: str) -> str:
        """How the network of some features, or of the logits, is called in a sentence."""
        return RECORDED if self.recorded and origin == "model" else ORIGINS[origin]
