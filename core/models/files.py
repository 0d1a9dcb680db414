"""What was computed elsewhere: features from an .npz, training dynamics from JSON Lines, joined to the rows by id."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.axes import Array, Float, Integer
from core.data.sources.base import require_file
from core.errors import InputError
from core.models.recorder import ALIKE, History, Recorder, are_probabilities

EPOCH = re.compile(r"logits_epoch_(\d+)")
LINES = 4096  # read before they are recorded: 16 MB of logits at 1,000 classes
TEXT = "np.savez(path, sample_id=np.array(ids, dtype=str), features=features)"


def read_features(path: Path, ids: Sequence[str]) -> tuple[Float[Array, "n d"], Float[Array, "n c"] | None]:
    """Read `sample_id`, `features` and, where they are there, `logits`, in the order of `ids`.

    Float16 stays float16, all else becomes float32. Further ids in the file are left out.

    Raises:
        InputError: the file is no such archive, holds objects (which would be unpickled), lacks an id or has it twice,
            or a value is not finite.
    """
    require_file(path, "The features")
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            names = _text(_array(archive, "sample_id", path), path)
            rows = _rows(names, ids, path)
            arrays = [_matrix(archive, name, path, len(names), rows, ids) for name in ("features", "logits")]
    except MemoryError as error:
        raise InputError(f"The arrays in {path} do not fit into memory. Write them in float16.") from error
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is no archive of numpy arrays that can be read ({error}). Write it with {TEXT}"
        ) from error
    features, logits = arrays
    if features is None:
        raise InputError(f"{path} has no array 'features'. Write it with {TEXT}")
    return features, logits


def _array(archive: Any, name: str, path: Path) -> Array:
    """Return one array of an archive; an array of objects is refused, not unpickled."""
    if name not in archive:
        raise InputError(f"{path} has no array {name!r}, but {', '.join(archive.files[:6])}. Write it with {TEXT}")
    try:
        found: Array = archive[name]
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise
        raise InputError(
            f"{name!r} in {path} is an array of Python objects, which only unpickling reads, and that can run code. "
            f"Write plain text and numbers: {TEXT}"
        ) from error
    return found


def _text(values: Array, path: Path) -> list[str]:
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise InputError(f"'sample_id' in {path} is {values.dtype} of shape {values.shape}; give a row of text.")
    if values.dtype.kind == "S":
        return [value.decode("utf-8", "surrogateescape") for value in values.tolist()]
    return [str(value) for value in values.tolist()]


def _rows(names: Sequence[str], ids: Sequence[str], path: Path) -> Integer[Array, " n"]:
    """Return where in the file each id stands."""
    row_of = {name: row for row, name in enumerate(names)}
    if len(row_of) != len(names):
        twice = next(name for row, name in enumerate(names) if row_of[name] != row)
        raise InputError(f"{path} holds the id {twice!r} twice. Give each sample one row.")
    missing = [sample for sample in ids if sample not in row_of]
    if missing:
        first = f"{missing[0]!r}" + (f"; its own first id is {names[0]!r}" if names else "")
        raise InputError(f"{path} lacks {len(missing):,} of the {len(ids):,} sample ids, the first {first}.")
    return np.array([row_of[sample] for sample in ids], dtype=np.int64)


def _matrix(
    archive: Any, name: str, path: Path, count: int, rows: Integer[Array, " n"], ids: Sequence[str]
) -> Array | None:
    """Return one array of numbers in the rows' order, or None where the archive has none of that name."""
    if name not in archive:
        return None
    values = _array(archive, name, path)
    if values.ndim != 2 or len(values) != count or not values.shape[1] or values.dtype.kind not in "fiu":
        raise InputError(
            f"{name!r} in {path} is {values.dtype} of shape {values.shape}; give a row of numbers for each of the "
            f"{count:,} ids."
        )
    if values.dtype != np.float16:
        values = values.astype(np.float32, copy=False)
    if not np.array_equal(rows, np.arange(count)):
        values = values[rows]
    for begin in range(0, len(values), 65536):
        good = np.isfinite(values[begin : begin + 65536]).all(1)
        if not good.all():
            raise InputError(f"{name!r} of sample {ids[begin + int(np.argmin(good))]!r} in {path} is not finite.")
    return values


def read_dynamics(path: Path, ids: Sequence[str], labels: Integer[Array, " n"]) -> tuple[History, Float[Array, "n c"]]:
    """Read the logits of every epoch (dataset cartography: `guid`, `logits_epoch_X`, `gold`).

    Args:
        path: one file with all epochs, or a folder of `dynamics_epoch_X.jsonl`.
        ids: the sample ids, in order; one that is in no file stays NaN.
        labels: the given labels, as codes in the order of the logits.

    Returns:
        The history (learning rate and input norms unknown: NaN), and the logits of the last epoch.

    Raises:
        InputError: a line is not of that form, no id is known, the labels are others than in the file, or the logits
            are probabilities.
    """
    files = _dynamics_files(path)
    epochs = {number: place for place, number in enumerate(sorted(_epochs(files)))}
    if not epochs:
        raise InputError(
            f"{path} holds no logits_epoch_0 or the like. Write a line per sample: guid, logits_epoch_X, gold."
        )
    return _Dynamics(path, ids, labels, epochs).read(files)


def _dynamics_files(path: Path) -> list[Path]:
    if not path.is_dir():
        require_file(path, "The training dynamics")
        return [path]
    files = sorted(each for each in path.glob("*.jsonl") if each.is_file())
    if not files:
        raise InputError(f"The folder {path} holds no .jsonl file. Name the one with dynamics_epoch_0.jsonl in it.")
    return files


def _records(files: Sequence[Path]) -> Iterator[tuple[Path, int, Mapping[str, Any]]]:
    """Yield (file, line number from 1, record)."""
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(
                        f"Line {number} of {file} is no JSON ({str(error)[:80]}). Write it anew."
                    ) from error
                if not isinstance(record, dict) or "guid" not in record:
                    raise InputError(f"Line {number} of {file} has no guid. Write guid, logits_epoch_X and gold.")
                yield file, number, record


def _epochs(files: Sequence[Path]) -> set[int]:
    """Return the epochs that are in the files; lines of one file may be of different ones."""
    found: set[int] = set()
    for file in files:
        with file.open("rb") as lines:
            for line in lines:
                found.update(int(match) for match in re.findall(rb'"logits_epoch_(\d{1,9})"', line))
    return found


class _Dynamics:
    """Collects the record of a training from lines."""

    def __init__(self, path: Path, ids: Sequence[str], labels: Integer[Array, " n"], epochs: Mapping[int, int]) -> None:
        self.path, self.ids, self.labels, self.epochs = path, ids, labels, epochs
        self.row_of = {sample: row for row, sample in enumerate(ids)}
        self.recorder = Recorder(ids)
        self.last = np.empty((len(ids), 0), np.float32)  # gets its width from the first line
        self.first_guid = ""
        self.golds, self.other_golds = 0, 0
        self.lines, self.alike = 0, 0  # rows of logits, and those that look like probabilities
        self.waiting: dict[int, tuple[list[int], list[Array]]] = {place: ([], []) for place in epochs.values()}

    def read(self, files: Sequence[Path]) -> tuple[History, Float[Array, "n c"]]:
        """Read every line; return the history and the logits of the last epoch."""
        for file, number, record in _records(files):
            self.first_guid = self.first_guid or str(record["guid"])
            row = self.row_of.get(str(record["guid"]))
            if row is not None:
                self._take(row, record, f"Line {number} of {file}")
        for place in self.waiting:
            self._record(place)
        self._check()
        return self.recorder.history(), self.last

    def _take(self, row: int, record: Mapping[str, Any], where: str) -> None:
        gold = record.get("gold")
        if isinstance(gold, int):
            self.golds, self.other_golds = self.golds + 1, self.other_golds + (gold != self.labels[row])
        for name, values in record.items():
            if match := EPOCH.fullmatch(name):
                place = self.epochs[int(match[1])]
                rows, logits = self.waiting[place]
                rows.append(row)
                logits.append(self._logits(values, where))
                if len(rows) >= LINES:
                    self._record(place)

    def _logits(self, values: object, where: str) -> Array:
        try:
            logits = np.asarray(values, dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise InputError(f"{where} has logits that are no numbers. Write a list of one per class.") from error
        if not self.last.shape[1] and logits.ndim == 1:
            self.last = np.full((len(self.ids), len(logits)), np.nan, np.float32)
        if logits.shape != self.last.shape[1:] or not np.isfinite(logits).all():
            raise InputError(
                f"{where} has logits that are not {self.last.shape[1]} finite numbers. Write one per class."
            )
        if len(logits) <= self.labels.max(initial=1):
            raise InputError(f"{where} has {len(logits)} logits, the data {self.labels.max() + 1} classes or more.")
        return logits

    def _record(self, place: int) -> None:
        rows, logits = self.waiting[place]
        if not rows:
            return
        places, stacked = np.array(rows), np.stack(logits)
        self.lines, self.alike = self.lines + len(rows), self.alike + len(rows) * are_probabilities(stacked)
        self.recorder.log_rows(places, stacked, self.labels[places], place)
        if place == len(self.epochs) - 1:
            self.last[places] = stacked
        self.waiting[place] = ([], [])

    def _check(self) -> None:
        if not self.last.shape[1]:
            raise InputError(
                f"None of the guids in {self.path} is a sample id: its first is {self.first_guid!r}, the first sample "
                f"is {self.ids[0]!r}. Write the sample ids as guid."
            )
        if self.alike == self.lines >= ALIKE:
            raise InputError(
                f"The logits in {self.path} are probabilities: none is below 0, and those of each line sum to 1. Write "
                "what goes into the softmax: where a network is sure, probabilities are rounded and margins lost."
            )
        if self.other_golds > self.golds / 2:
            raise InputError(
                f"The labels in {self.path} (gold) are others than the given ones on {self.other_golds:,} of "
                f"{self.golds:,} lines: its classes are in another order. Make the project with its order: "
                "gradsift new … --classes FILE."
            )
