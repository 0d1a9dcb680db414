"""What a recorder keeps in a project's folder: whole epochs, written whole.

    recorded/epoch-0004-2-0.npz     one row of the history: epoch 4, logged by session 2, whose first epoch was 0
    recorded/logits-2.npy           the latest logits of every sample in that session; inputs-2.npy likewise

An epoch counts from the moment its `epoch-` file has its name; a loop that was killed keeps those before it. Each
`Recorder` is a session. Its epochs follow those that earlier sessions logged before its first one, and replace the
others: a training that goes on from a checkpoint goes on here, and one that starts anew starts anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from core.axes import Array, Bool, Float, Integer
from core.errors import InputError, ProjectError

NAME = re.compile(r"epoch-(\d+)-(\d+)-(\d+)\.npz")
SAID = ("logits", "inputs")  # what is kept of the last epoch besides its row of the history
RowOf = Callable[[int], Mapping[str, Array]]  # epoch to its row of the history


class EpochFile(NamedTuple):
    """One finished epoch on disk: its number, the session that logged it, and that session's first epoch."""

    number: int
    session: int
    first: int

    def row(self, folder: Path) -> Path:
        """Where its row of the history lies."""
        return folder / f"epoch-{self.number:04d}-{self.session}-{self.first}.npz"

    def said(self, folder: Path, what: str) -> Path:
        """Where the latest `logits` or `inputs` of every sample lie."""
        return folder / f"{what}-{self.session}.npy"


def finished(folder: Path) -> list[EpochFile]:
    """Return the epochs that count, in order: those that no later session has replaced."""
    found = _epochs(folder)
    return sorted(
        epoch for epoch in found
        if not any(other.session > epoch.session and other.first <= epoch.number for other in found)
    )  # fmt: skip


def read_rows(folder: Path, epochs: Iterable[EpochFile], ids: Iterable[str]) -> list[dict[str, Array]]:
    """Return the rows of the history.

    Raises:
        ProjectError: a file cannot be read.
        InputError: the rows are of other samples.
    """
    rows, expected = [read_row(epoch.row(folder)) for epoch in epochs], digest_of(ids)
    if any(str(row.pop("samples", "")) != expected for row in rows):
        raise InputError(f"{folder} was recorded for other samples. Delete it and record this project's training.")
    return rows


def read_row(path: Path) -> dict[str, Array]:
    """Return the arrays of one epoch's file.

    Raises:
        ProjectError: it cannot be read.
    """
    try:
        with path.open("rb") as handle:  # numpy leaves the file of a damaged archive open
            return dict(np.load(handle, allow_pickle=False))
    except (OSError, ValueError, LookupError, EOFError, BadZipFile) as error:
        raise ProjectError(f"{path} cannot be read ({error}). Delete {path.parent} and begin anew.") from error


def digest_of(ids: Iterable[str]) -> str:
    """Return the SHA-256 (hex) of ids in their order."""
    state = hashlib.sha256()
    for sample in ids:
        state.update(str(sample).encode("utf-8", "surrogatepass") + b"\0")
    return state.hexdigest()


def stamp(folder: Path) -> str:
    """Return a digest that changes whenever an epoch is written (of names, sizes and times); "" where there is none."""
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in _files(folder)]
    return hashlib.sha256(repr(sorted(files)).encode()).hexdigest() if finished(folder) else ""


def write_whole(path: Path, content: Array | Mapping[str, Array]) -> None:
    """Write a file whole or not at all: under a temporary name, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as handle:
            if isinstance(content, Mapping):
                np.savez(handle, allow_pickle=False, **content)
            else:
                np.save(handle, content, allow_pickle=False)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class Record:
    """The writing side of one session.

    Args:
        folder: where the files lie; made when the first batch is noted.
        ids: all sample ids, in order.
        train: which rows a training goes through: when all were noted, the epoch is whole.
    """

    def __init__(self, folder: Path, ids: Iterable[str], train: Bool[Array, " n"]) -> None:
        self.folder, self.samples, self.train = folder, digest_of(ids), train
        self.current: int | None = None
        self.session = self.first = 0
        self._unwritten: set[int] = set()
        self._latest: dict[str, Array] = {}
        self._noted = np.zeros(len(train), bool)
        self._missing = 0

    def begin(self, epoch: int) -> list[EpochFile]:
        """Start the session with its first epoch; return the finished epochs that it follows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.session, self.first = 1 + max((each.session for each in _epochs(self.folder)), default=0), epoch
        earlier = [each for each in finished(self.folder) if each.number < epoch]
        for what in SAID if earlier else ():
            if (path := earlier[-1].said(self.folder, what)).exists():
                before = np.load(path, mmap_mode="r")
                self._scratch(what, before.shape[1])[:] = before
        return earlier

    def enter(self, epoch: int, row_of: RowOf) -> None:
        """Note which epoch is being logged; when it is another than before, the one before is written."""
        if epoch == self.current:
            return
        self.write_or_warn(row_of)
        self.current = epoch
        self._noted[:] = False
        self._missing = int(self.train.sum())

    def note(self, rows: Integer[Array, " b"], logits: Float[Array, "b c"], inputs: Float[Array, "b d"] | None) -> bool:
        """Take what a batch of the current epoch said; return whether the epoch is whole now."""
        assert self.current is not None
        for what, values in zip(SAID, (logits, inputs), strict=True):
            if values is not None:
                self._scratch(what, values.shape[1])[rows] = values
        new = np.unique(rows[~self._noted[rows]])
        self._noted[new] = True
        before, self._missing = self._missing, self._missing - int(self.train[new].sum())
        self._unwritten.add(self.current)
        every_training_row, every_row = before > 0 and self._missing == 0, len(new) > 0 and bool(self._noted.all())
        return every_training_row or every_row

    @property
    def whole(self) -> bool:
        """Whether every training row of the current epoch was noted."""
        return self._missing == 0

    def write_or_warn(self, row_of: RowOf) -> None:
        """Write what is not written yet. A full disk does not end somebody's training: the next epoch tries again."""
        try:
            self.write(row_of)
        except OSError as error:
            warnings.warn(
                f"{self.folder} cannot be written ({error}). The record is kept in memory and written with the next "
                "epoch; free some space.", RuntimeWarning, stacklevel=4,
            )  # fmt: skip

    def write(self, row_of: RowOf, leave: int | None = None) -> None:
        """Write the epochs that are not written yet, but for `leave`.

        Args:
            row_of: epoch to its row of the history.
            leave: an epoch that is not whole.
        """
        to_write = sorted(self._unwritten - {leave})
        if not to_write:
            return
        for what, values in self._latest.items():
            write_whole(EpochFile(to_write[-1], self.session, self.first).said(self.folder, what), values)
        for number in to_write:
            epoch = EpochFile(number, self.session, self.first)
            write_whole(epoch.row(self.folder), {**row_of(number), "samples": np.array(self.samples)})
            self._unwritten.discard(number)
        self._clear()

    def _clear(self) -> None:
        """Delete what no longer counts: replaced epochs, and what samples said in earlier ones."""
        counts = finished(self.folder)
        kept = {epoch.row(self.folder) for epoch in counts} | {counts[-1].said(self.folder, w) for w in SAID if counts}
        for path in _files(self.folder):
            if path not in kept and path.suffix in (".npz", ".npy", ".part"):
                path.unlink(missing_ok=True)

    def _scratch(self, what: str, width: int) -> Array:
        """The latest values of every sample, in a file without a name: it is gone with the process."""
        if what not in self._latest or self._latest[what].shape[1] != width:
            self._latest[what] = _nameless(self.folder, (len(self.train), width))
        return self._latest[what]


def _epochs(folder: Path) -> list[EpochFile]:
    matches = (NAME.fullmatch(path.name) for path in _files(folder))
    return [EpochFile(*map(int, match.groups())) for match in matches if match]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _nameless(folder: Path, shape: tuple[int, int]) -> Array:
    size = 4 * shape[0] * shape[1]
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a signal at some later write
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            array = np.memmap(file, np.float32, "r+", shape=shape)
    except OSError as error:
        raise ProjectError(f"{folder} has no room for {size / 1e6:,.0f} MB of logits ({error}). Free some.") from error
    array[:] = np.nan
    return array
