"""What a training says about each sample while it runs, for next to nothing: one row per sample and epoch.

`Recorder.log` takes the logits that the training computes anyway (augmented view, batch statistics, before the
update: on human label noise they rank wrong labels better than an extra evaluation pass) and keeps six numbers of
them. It serves the reference training and any training loop of one's own:

    recorder = Recorder(sample_ids)                      # or Recorder(project)
    for epoch in range(epochs):
        for ids, images, labels in loader:
            logits = model(images)
            recorder.log(ids, logits, labels, epoch)
    history = recorder.history()
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from core.axes import Array, Bool, Float, Float32, Integer
from core.errors import InputError

if TYPE_CHECKING:
    from core.project import Project


@dataclass(frozen=True)
class History:
    """The record of one training: one row per epoch, one column per sample, NaN (or -1) where nothing was logged.

    Attributes:
        given_logit: logit of the given label.
        other_logit: the largest logit among the other labels, and `other_class` its label.
        given_prob: softmax probability of the given label.
        error_norm: L2 norm of softmax minus one-hot (EL2N of that pass).
        input_norm: L2 norm of the last layer's input with the bias's 1 appended.
        learning_rate: the optimiser's rate, averaged over each epoch.
    """

    given_logit: Float32[Array, "t n"]
    other_logit: Float32[Array, "t n"]
    other_class: Integer[Array, "t n"]
    given_prob: Float32[Array, "t n"]
    error_norm: Float32[Array, "t n"]
    input_norm: Float32[Array, "t n"]
    learning_rate: Float32[Array, " t"]

    @classmethod
    def empty(cls, epochs: int, samples: int) -> History:
        """Return a record in which nothing is logged yet."""
        arrays: dict[str, Array] = {
            field.name: np.full((epochs, samples), np.nan, np.float32) for field in fields(cls)[:-1]
        }
        arrays["other_class"] = np.full((epochs, samples), -1, np.int32)
        return cls(**arrays, learning_rate=np.full(epochs, np.nan, np.float32))

    @property
    def correct(self) -> Bool[Array, "t n"]:
        """Whether the given label had the largest logit."""
        return np.asarray(self.given_logit > self.other_logit)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name, as they are written to disk."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def first(self, epochs: int) -> History:
        """Return the record of the first `epochs` epochs."""
        return History(**{name: array[:epochs] for name, array in self.arrays().items()})

    def columns(self, samples: Bool[Array, " n"]) -> History:
        """Return the record of some samples."""
        return History(
            **{name: array[:, samples] if array.ndim == 2 else array for name, array in self.arrays().items()}
        )


class Recorder:
    """Collect a `History` from the logits of a running training.

    Args:
        samples: the sample ids in the order wanted in the history, or a project (then its manifest's order).
    """

    def __init__(self, samples: Project | Iterable[str]) -> None:
        manifest = getattr(samples, "manifest", None)
        ids = manifest().ids if manifest is not None else samples
        self.sample_ids = [str(sample) for sample in ids]  # type: ignore[union-attr]
        self._row_of = {sample: row for row, sample in enumerate(self.sample_ids)}
        if len(self._row_of) != len(self.sample_ids):
            raise InputError("A recorder needs ids that occur once; some occur twice. Give each sample its own id.")
        self._history = History.empty(0, len(self.sample_ids))

    def log(
        self, ids: Sequence[str], logits: Any, labels: Any, epoch: int, *, inputs: Any = None, rate: float | None = None
    ) -> None:
        """Record one batch.

        Args:
            ids: the batch's sample ids, `n`.
            logits: `n x c`, a tensor on any device or an array, as the training computed them.
            labels: `n` integers, the given labels.
            epoch: counted from 0; a sample logged twice in an epoch keeps the later pass.
            inputs: `n x d` inputs of the last layer, where gradient norms are wanted.
            rate: the learning rate of this epoch, where self-influence is wanted.

        Raises:
            InputError: an id is unknown, a label is no column of the logits, or the lengths differ.
        """
        unknown = [sample for sample in ids if sample not in self._row_of]
        if unknown:
            raise InputError(f"Sample {unknown[0]!r} is not among the {len(self.sample_ids):,} ids of this recorder.")
        if epoch < 0:
            raise InputError(f"Epoch {epoch} was logged; epochs are counted from 0.")
        rows = np.fromiter((self._row_of[sample] for sample in ids), np.int64, len(ids))
        self.log_rows(rows, _array(logits), _array(labels).astype(np.int64), epoch, _array(inputs), rate)

    def log_rows(
        self,
        rows: Integer[Array, " n"],
        logits: Float[Array, "n c"],
        labels: Integer[Array, " n"],
        epoch: int,
        inputs: Float[Array, "n d"] | None = None,
        rate: float | None = None,
    ) -> None:
        """Record one batch by row positions instead of ids (`log` says what the arguments are)."""
        if not len(rows) == len(logits) == len(labels):
            raise InputError(f"{len(rows)} ids, {len(logits)} rows of logits, {len(labels)} labels: give one of each.")
        outside = labels[(labels < 0) | (labels >= logits.shape[1])]
        if len(outside):
            raise InputError(f"Label {outside[0]} is not among the {logits.shape[1]} classes; count them from 0.")
        self._grow(epoch + 1)
        history, entries = self._history, np.arange(len(rows))
        shifted = logits.astype(np.float32) - logits.max(1, keepdims=True)
        errors = np.exp(shifted)
        errors /= errors.sum(1, keepdims=True)
        history.given_prob[epoch, rows] = errors[entries, labels]
        errors[entries, labels] -= 1
        history.error_norm[epoch, rows] = np.sqrt((errors * errors).sum(1))
        history.given_logit[epoch, rows] = logits[entries, labels]
        others = logits.astype(np.float32)
        others[entries, labels] = -np.inf
        other_class = others.argmax(1)
        history.other_class[epoch, rows] = other_class
        history.other_logit[epoch, rows] = others[entries, other_class]
        if inputs is not None:
            history.input_norm[epoch, rows] = np.sqrt((inputs.astype(np.float32) ** 2).sum(1) + 1)
        if rate is not None:
            history.learning_rate[epoch] = rate

    def history(self) -> History:
        """Return what has been logged so far (not a copy)."""
        return self._history

    def resume(self, history: History) -> None:
        """Go on from a history written earlier."""
        self._history = History(**{name: np.array(array) for name, array in history.arrays().items()})

    def _grow(self, epochs: int) -> None:
        have = len(self._history.learning_rate)
        if epochs > have:
            more = History.empty(epochs - have, len(self.sample_ids)).arrays()
            self._history = History(
                **{name: np.concatenate([a, more[name]]) for name, a in self._history.arrays().items()}
            )


def _array(values: Any) -> Any:
    """Bring a tensor of any device, or anything array-like, to numpy; None stays None."""
    if values is None or isinstance(values, np.ndarray):
        return values
    detach = getattr(values, "detach", None)
    return np.asarray(
        detach().float().cpu()
        if detach is not None and values.is_floating_point()
        else values.cpu()
        if detach is not None
        else values
    )
