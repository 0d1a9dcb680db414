"""What a training says about each sample while it runs, for next to nothing: one row per sample and epoch.

`Recorder.log` takes the logits that the training computes anyway (augmented view, batch statistics, before the
update: on human label noise they rank wrong labels better than an extra evaluation pass) and keeps six numbers of
them. It serves the reference training and any training loop of one's own:

    with Recorder(project) as recorder:                  # or Recorder(sample_ids), kept in memory
        for epoch in range(epochs):
            for ids, images, labels in loader:
                logits = model(images)
                recorder.log(ids, logits, labels, epoch)
            model.eval()
            with torch.no_grad():                        # held-out images: logged too, never trained on
                for ids, images, labels in held_out:
                    recorder.log(ids, model(images), labels, epoch)

What held-out images say weighs the record against other evidence, and shows whether labels were memorised.
With a project, epochs are written into its folder as they are finished (`core.models.record`), and
`gradsift sift --model recorded` ranks by them. With ids alone `recorder.history()` is all there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core.axes import Array, Bool, Float, Float32, Integer
from core.errors import InputError, ProjectError
from core.models.record import SAID, EpochFile, Record, finished, read_rows, stamp

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


ALIKE = 3  # as many rows one after another that look like probabilities are: one of logits does once in 1,000


class Recorder:
    """Collect a `History` from the logits of a running training.

    Args:
        samples: the sample ids in the order wanted in the history, or a project: then its manifest's order, and its
            folder keeps every finished epoch, the latest logits and, where they are logged, the latest inputs.

    A finished epoch is one in which every training row was logged, or after which another one was; the rest is written
    by `save`, or at the end of a `with` block. A loop that goes on from epoch k keeps the k epochs before it; one that
    begins at 0 replaces what was there.
    """

    def __init__(self, samples: Project | Iterable[str]) -> None:
        opened = getattr(samples, "manifest", None)
        manifest = opened() if opened is not None else None
        self.sample_ids = [str(sample) for sample in (samples if manifest is None else manifest.ids)]  # type: ignore[union-attr]
        self._given: Array = np.full(len(self.sample_ids), -1, np.int64)  # -1: not known yet
        self._classes: tuple[str, ...] = ()
        self._width = 0  # classes of the logits; 0: not known yet
        self._alike = 0  # rows logged last that look like probabilities
        self._record: Record | None = None
        if manifest is not None:
            self._given, self._classes = np.array(manifest.labels), tuple(manifest.classes)
            self._width = len(self._classes)
            self._record = Record(samples.recorded, self.sample_ids, manifest.train)  # type: ignore[union-attr]
        self._row_of = {sample: row for row, sample in enumerate(self.sample_ids)}
        if len(self._row_of) != len(self.sample_ids):
            raise InputError("A recorder needs ids that occur once; some occur twice. Give each sample its own id.")
        self._history = History.empty(0, len(self.sample_ids))

    def log(
        self,
        ids: Sequence[str] | Array,
        logits: Any,
        labels: Any,
        epoch: int,
        *,
        inputs: Any = None,
        rate: float | None = None,
    ) -> None:
        """Record one batch.

        Args:
            ids: the batch's sample ids, `n`.
            logits: `n x c`, a tensor on any device or an array, as the training computed them; no probabilities.
            labels: `n` integers, the given labels, the same of a sample each time.
            epoch: counted from 0; a sample logged twice in an epoch keeps the later pass.
            inputs: `n x d` inputs of the last layer, where gradient norms are wanted.
            rate: the learning rate of this epoch, where self-influence is wanted.

        Raises:
            InputError: an id is unknown, a label is no column of the logits or another than the project's or than
                before, the number of classes changes, lengths differ, a value is not finite, or the logits are
                probabilities.
            ProjectError: the project's folder has no room for the logits.
        """
        unknown = [sample for sample in ids if sample not in self._row_of]
        if unknown:
            raise InputError(f"Sample {unknown[0]!r} is not among the {len(self.sample_ids):,} ids of this recorder.")
        if epoch < 0:
            raise InputError(f"Epoch {epoch} was logged; epochs are counted from 0.")
        rows = np.fromiter((self._row_of[sample] for sample in ids), np.int64, len(ids))
        said, last = (_matrix(what, values) for what, values in (("Logits", logits), ("Inputs", inputs)))
        assert said is not None
        self._alike = self._alike + len(said) if are_probabilities(said) else 0
        if self._alike >= ALIKE:
            raise InputError(
                "The logits that were logged are probabilities: none is below 0, and those of each image sum to 1. "
                "Log what goes into the softmax, not what comes out of it."
            )
        self.log_rows(rows, said, _codes(labels), epoch, last, rate)

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
        if inputs is not None and len(inputs) != len(rows):
            raise InputError(f"{len(rows)} ids, {len(inputs)} rows of inputs: give one of each.")
        outside = labels[(labels < 0) | (labels >= logits.shape[1])]
        if len(outside):
            raise InputError(f"Label {outside[0]} is not among the {logits.shape[1]} classes; count them from 0.")
        self._check(rows, logits, labels)
        self._check_finite(rows, epoch, logits, inputs)
        self._width, self._given[rows] = logits.shape[1], labels
        if self._record:
            self._enter(self._record, epoch)
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
        if self._record and self._record.note(rows, logits, inputs):
            self._record.write_or_warn(self._row)

    def history(self) -> History:
        """Return what has been logged so far (not a copy)."""
        return self._history

    def save(self) -> None:
        """Write what is not written yet, the epoch that is being logged too. For a recorder of a project.

        Raises:
            ProjectError: the folder cannot be written; what was written before is whole.
        """
        self._save(None)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._record and self._record.current is not None:
            half = kind is not None and not self._record.whole
            self._save(self._record.current if half else None)

    def _save(self, leave: int | None) -> None:
        if self._record is None:
            raise InputError(
                "This recorder was made of ids, so there is nowhere to write. Make it with Recorder(project)."
            )
        try:
            self._record.write(self._row, leave)
        except OSError as error:
            raise ProjectError(
                f"{self._record.folder} cannot be written ({error}). Free some space and call save() again."
            ) from error

    def _row(self, epoch: int) -> dict[str, Array]:
        return {name: array[epoch] for name, array in self._history.arrays().items()}

    def _check(self, rows: Array, logits: Array, labels: Array) -> None:
        """Refuse other classes and labels than the project's; without a project, than those logged before."""
        width = logits.shape[1]
        if self._width not in (0, width):
            raise InputError(
                f"Logits of {width} classes were logged, and the project has {self._width}: {_some(self._classes)}. "
                "Train on these, or make a project of the labels that you train on." if self._record else
                f"Logits of {width} classes were logged, and of {self._width} before. Log the same classes each time."
            )  # fmt: skip
        before = self._given[rows]
        if len(other := np.flatnonzero((before >= 0) & (before != labels))):
            name, old, new = self.sample_ids[rows[other[0]]], before[other[0]], labels[other[0]]
            raise InputError(
                f"Sample {name!r} has label {old} in the project and {new} was logged. "
                f"Log the given labels as positions in the project's classes: {_some(self._classes)}." if self._record
                else f"Sample {name!r} was logged with label {old} before and with {new} now. "
                "Log the given label of a sample each time."
            )  # fmt: skip

    def _check_finite(self, rows: Array, epoch: int, logits: Array, inputs: Array | None) -> None:
        for what, values in (("logits", logits), ("inputs", inputs)):
            good = np.ones(1, bool) if values is None else np.isfinite(values).all(1)
            if not good.all():
                raise InputError(
                    f"The {what} of sample {self.sample_ids[rows[int(np.argmin(good))]]!r} in epoch {epoch} are not "
                    "finite: the training has diverged. Lower its learning rate, and record one that has not."
                )

    def _enter(self, record: Record, epoch: int) -> None:
        """Begin the session or the epoch where this batch is the first of it."""
        if record.current is None:
            earlier = record.begin(epoch)
            if earlier:
                self.resume(_stacked(earlier, read_rows(record.folder, earlier, self.sample_ids), self.sample_ids))
        record.enter(epoch, self._row)

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


class Recorded(NamedTuple):
    """What a project's recorder kept.

    Attributes:
        history: the epochs in which something was logged.
        logits: `n c`, the latest of every sample, as its training saw it; NaN where it was never logged.
        inputs: `n d`, the last layer's inputs likewise; None where they were not logged.
    """

    history: History
    logits: Float32[Array, "n c"]
    inputs: Float32[Array, "n d"] | None

    @property
    def logged(self) -> Bool[Array, " n"]:
        """Which samples were logged in some epoch."""
        return np.asarray((self.history.other_class >= 0).any(0))


def recorded(project: Project) -> Recorded:
    """Read what `Recorder(project)` kept.

    Raises:
        InputError: nothing was recorded, a training row was never logged, or logits are not finite.
        ProjectError: a file is damaged.
    """
    manifest = project.manifest()
    return recorded_in(project.recorded, manifest.ids, manifest.train)


def recorded_in(folder: Path, ids: Sequence[str] | Array, train: Bool[Array, " n"]) -> Recorded:
    """Read a folder of a recorder (see `recorded`); `ids` and `train` are the manifest's."""
    epochs = finished(folder)
    if not epochs:
        raise InputError("Nothing was recorded in this project. Log a training with core.Recorder(project) first.")
    rows = [row for row in read_rows(folder, epochs, ids) if (row["other_class"] >= 0).any()]
    history = History(**{name: np.stack([row[name] for row in rows]) for name in History.__dataclass_fields__})
    said = {what: _said(epochs[-1].said(folder, what)) for what in SAID}
    if said["logits"] is None:
        raise ProjectError(f"The logits of the last epoch are gone from {folder}. Delete it and record anew.")
    found = Recorded(history, said["logits"], said["inputs"])
    if len(unseen := np.flatnonzero(train & ~found.logged)):
        raise InputError(
            f"{len(unseen):,} of {int(train.sum()):,} training rows were never logged (the first: {ids[unseen[0]]!r}). "
            "Log every batch of the training."
        )
    if len(broken := np.flatnonzero(found.logged & ~np.isfinite(found.logits).all(1))):
        raise InputError(f"The logits of {len(broken):,} samples are not finite (the first: {ids[broken[0]]!r}). "
                         "The training has diverged; record one that has not.")  # fmt: skip
    return found


def kept(project: Project) -> tuple[str, bool]:
    """Return a digest of what the recorder kept ("" where that is nothing), and whether inputs are there.

    The digest is of names, sizes and times of the files; no array is read.
    """
    epochs = finished(project.recorded)
    return stamp(project.recorded), bool(epochs) and epochs[-1].said(project.recorded, "inputs").exists()


def _said(path: Path) -> Array | None:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) if path.exists() else None
    except (OSError, ValueError, EOFError) as error:
        raise ProjectError(f"{path} cannot be read ({error}). Delete {path.parent} and record anew.") from error


def _stacked(epochs: Sequence[EpochFile], rows: Sequence[Mapping[str, Array]], samples: Sequence[str]) -> History:
    """The history of epochs on disk, each at its number."""
    history = History.empty(epochs[-1].number + 1, len(samples))
    for epoch, row in zip(epochs, rows, strict=True):
        for name, array in history.arrays().items():
            array[epoch.number] = row[name]
    return history


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:12]) + (" …" if len(classes) > 12 else "")


def are_probabilities(values: Array) -> bool:
    """Whether no value is below 0 and every row sums to 1, as what comes out of a softmax does (half precision too)."""
    if not len(values) or values.shape[1] < 2 or (values < 0).any():
        return False
    return bool((np.abs(values.sum(1, dtype=np.float64) - 1) < 5e-3).all())


def _matrix(what: str, values: Any) -> Array | None:
    found: Array | None = _array(values)
    if found is not None and (found.ndim != 2 or found.dtype.kind not in "fiub"):
        raise InputError(f"{what} of shape {found.shape} were logged. Log a row of numbers for each image.")
    return found


def _codes(labels: Any) -> Integer[Array, " n"]:
    """Labels as integers, or what is wrong with them."""
    found = _array(labels)
    if found.ndim != 1:
        instead = "labels.argmax(1) gives them of one-hot rows" if found.ndim == 2 else "in a row"
        raise InputError(f"Labels of shape {found.shape} were logged. Log one integer per image: {instead}.")
    if found.dtype.kind not in "fiub" or len(other := found[found != np.floor(found)]):
        first = found[0] if found.dtype.kind not in "fiub" else other[0]
        raise InputError(f"Label {str(first)!r} is no integer. Log labels as positions in the classes, from 0.")
    codes: Array = found.astype(np.int64)
    return codes


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
