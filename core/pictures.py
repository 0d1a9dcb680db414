"""Pictures of a project's samples for a screen: thumbnails from packs, originals one at a time, inside the roots only.

    pictures = Pictures(project, roots)
    pictures.ensure()                      # makes missing packs in the background
    pictures.thumbs(["cats/7.png"])        # {"cats/7.png": WebP bytes, or None}
    pictures.original("cats/7.png")        # WebP bytes, up to 1,024 pixels

`Guarded` is a source that reads nothing outside the roots, whatever a table, a Parquet file, an export or a manifest
names. A browser names ids, never paths.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.axes import Array
from core.data.images import shrink
from core.data.manifest import Manifest
from core.data.sources import Contained, MissingSource, Source, SourceOptions, SourceRows, open_source, split_spec
from core.data.sources.base import OUTSIDE, expanded, file_error
from core.data.sources.table import TableSource, place
from core.data.sources.tabular import BATCH_ROWS, ParquetTable
from core.data.thumbs import Thumbs, make_thumbs
from core.errors import GradSiftError, InputError
from core.project import Project
from core.roots import Roots

ORIGINAL_SIDE = 1024  # pixels, the longer side of what the large view shows
LOSSLESS_SIDE = 256  # a small original is shown enlarged, where every pixel is seen
RETRY_SECONDS = 60.0  # a source that could not be read is tried again after this long
MAX_DEPTH = 8  # exports that name exports as their source
SIGNS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def data_url(data: bytes) -> str:
    """Return an image as a data URL; its type is told by its first bytes.

    Raises:
        InputError: the bytes are no PNG, JPEG or WebP.
    """
    kind = next((kind for sign, kind in SIGNS.items() if data.startswith(sign)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise InputError("The bytes are no PNG, JPEG or WebP, so no screen is shown them.")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


@dataclass(frozen=True)
class Guarded:
    """A source of which only what lies inside the roots is read.

    Attributes:
        source: the source; its own file or folder must lie inside the roots.
        roots: what may be read.
        files: the file of each id, "" where the image is no file of its own.
    """

    source: Source
    roots: Roots
    files: Mapping[str, str] = field(repr=False)
    depth: int = 0

    @property
    def spec(self) -> str:
        """The spec of the source."""
        return self.source.spec

    @property
    def options(self) -> SourceOptions:
        """The options of the source."""
        return self.source.options

    @property
    def flip(self) -> bool:
        """Whether a mirror leaves the label true; False where it is not known."""
        return not isinstance(self.source, TableSource) and self.source.flip

    def rows(self) -> SourceRows:
        """Read the rows of the source.

        Raises:
            InputError: the source lies outside the roots, or cannot be read.
        """
        if refusal := self.refusal():
            raise refusal
        return self.source.rows()

    def refusal(self) -> InputError | None:
        """Say why nothing of this source may be read, or None: it or a source it leads to lies outside the roots."""
        found = self._outside(self.source.spec)
        if found is None and isinstance(self.source, TableSource):
            run = self.source.path.parent / "run.json"
            if os.path.lexists(run) and (not self.roots.holds(run) or file_error(run)):
                return InputError(f"{run} is no file inside the folders this app may read. Take it away.")
            original = _original(self.source)
            found = None if original is None else self._outside(original[0])
        return found

    def _outside(self, spec: str) -> InputError | None:
        _, path = split_spec(spec)
        if not path or self.roots.holds(expanded(path)):
            return None
        return InputError(f"The source {spec} is {OUTSIDE}. The folders: {self.roots.text}.")

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield the encoded image of each id, or why not, in the order of storage."""
        refusal = self.refusal()
        inside: list[str] = []
        for sample_id in dict.fromkeys(ids):
            path = self.files.get(sample_id)
            if path:
                yield sample_id, self.roots.read(path)
            elif path is None or refusal:
                yield sample_id, refusal or InputError("no such sample")
            else:
                inside.append(sample_id)
        if inside:
            yield from self._embedded(inside)

    def _embedded(self, ids: list[str]) -> Iterator[tuple[str, bytes | InputError]]:
        source = self.source
        if isinstance(source, MissingSource):
            yield from ((sample_id, source.error) for sample_id in ids)
        elif isinstance(source, TableSource):
            yield from self._of_table(source, ids)
        elif isinstance(source, Contained):
            yield from self._contained(ids)
        elif ":" in source.spec:
            yield from ((sample_id, InputError("the sample has no file")) for sample_id in ids)
        else:  # built in: its images are made by code, no file is read
            yield from source.read(ids)

    def _contained(self, ids: list[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Read images out of larger files, each opened through the roots."""
        try:
            yield from self._through_roots.read(ids)
        except InputError as error:
            yield from ((sample_id, error) for sample_id in ids)

    @cached_property
    def _through_roots(self) -> Source:
        assert isinstance(self.source, Contained)
        return self.source.opened_with(lambda path: os.fdopen(self.roots.open(path), "rb"))

    def _of_table(self, source: TableSource, ids: list[str]) -> Iterator[tuple[str, bytes | InputError]]:
        left = dict.fromkeys(ids)
        reason = InputError("the source has no image of this id")
        try:
            for sample_id, data in self._found(source, ids):
                left.pop(sample_id, None)
                yield sample_id, data
        except InputError as error:
            reason = error
        except (GradSiftError, pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError):
            reason = InputError("the table cannot be read; it is damaged")
        yield from ((sample_id, reason) for sample_id in left)

    def _found(self, source: TableSource, ids: list[str]) -> Iterator[tuple[str, bytes | InputError]]:
        frame = source.rows().frame
        known = frame.loc[frame["sample_id"].isin(set(ids)), ["row", "sample_id"]]
        names = dict(zip(known["row"].tolist(), known["sample_id"].tolist(), strict=True))
        column = source.image_column
        if isinstance(source.table, ParquetTable) and source.table.holds_images(column):
            return self._cells(source, column, names)
        return self._of_original(source, list(names.values()))

    def _cells(
        self, source: TableSource, column: str, names: dict[int, str]
    ) -> Iterator[tuple[str, bytes | InputError]]:
        with self.roots.opened(source.path) as handle, os.fdopen(handle, "rb", closefd=False) as file:
            for row, data, path in _column_cells(pq.ParquetFile(file, pre_buffer=False), column, sorted(names)):
                yield names[row], data if data is not None else self._beside(source, path)

    def _beside(self, source: TableSource, path: str | None) -> bytes | InputError:
        """Read the file that a cell of a table names."""
        if path is None:
            return InputError("the row holds no image")
        filepath, error = place(path, source.path.parent)
        if not self.roots.holds(filepath):  # before any word on whether there is such a file
            return InputError(OUTSIDE)
        return InputError(error) if error else self.roots.read(filepath)

    def _of_original(self, source: TableSource, ids: list[str]) -> Iterator[tuple[str, bytes | InputError]]:
        specs = _original(source)
        if specs is None or self.depth >= MAX_DEPTH:
            raise InputError("the row holds no image")
        original = open_source(self.roots.resolve_spec(specs[0]), specs[1])
        guarded = Guarded(original, self.roots, {}, self.depth + 1)
        if refusal := guarded.refusal():
            raise refusal
        frame = original.rows().frame
        files = dict(zip(frame["sample_id"].tolist(), frame["filepath"].tolist(), strict=True))
        yield from replace(guarded, files=files).read(ids)


def _original(source: TableSource) -> tuple[str, SourceOptions] | None:
    """Return the spec and options of the source that an export came from, without opening it."""
    run = source.run.get("source")
    if not isinstance(run, dict) or not isinstance(run.get("spec"), str):
        return None
    values = run.get("options")
    return run["spec"], SourceOptions.from_dict(values if isinstance(values, dict) else {})


def _column_cells(file: pq.ParquetFile, column: str, rows: list[int]) -> Iterator[tuple[int, bytes | None, str | None]]:
    """Yield (row, bytes, path) of some rows of an image column, in order; other row groups are not read."""
    left, start = rows[::-1], 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        if left and left[-1] < stop:
            at = start
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[column]):
                while left and left[-1] < at + batch.num_rows:
                    row = left.pop()
                    cell = batch.column(0)[row - at].as_py()
                    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
                    yield row, data, path if isinstance(path, str) else None
                at += batch.num_rows
                if not left or left[-1] >= stop:
                    break
        start = stop


@dataclass
class _Work:
    """What the background thread of one folder is doing."""

    thread: threading.Thread
    ended_at: float | None = None
    problem: str | None = None


_works: dict[Path, _Work] = {}
_works_lock = threading.Lock()


class Pictures:
    """Thumbnails and originals of a project's samples.

    Args:
        project: the project; its folder must lie inside the roots.
        roots: what may be read.
        folder: where the packs lie; by default `thumbs` in the project. Only code names another.
        manifest: the project's manifest, where it is at hand already.

    Raises:
        InputError: the project lies outside the roots.
    """

    def __init__(
        self, project: Project, roots: Roots, folder: Path | None = None, manifest: Manifest | None = None
    ) -> None:
        if not roots.holds(project.folder):
            raise InputError(f"The project {project.folder} is {OUTSIDE}. The folders: {roots.text}.")
        self.roots = roots
        self.folder = folder or project.folder / "thumbs"
        self._in_project = folder is None
        self.manifest = project.manifest() if manifest is None else manifest
        rows = self.manifest.rows
        self._thumbs = Thumbs(self.folder, rows, None if folder else self._open_folder)
        ids, files, digests = (rows[name].to_numpy(dtype=object) for name in ("sample_id", "filepath", "sha256"))
        self._files, self._digests = _Column(self._thumbs, ids, files), _Column(self._thumbs, ids, digests)
        self._source = Guarded(self.manifest.source, roots, self._files)

    @property
    def refusal(self) -> str | None:
        """Why no picture of this project's source may be shown, in plain words, or None."""
        refusal = self._source.refusal()
        return None if refusal is None else str(refusal)

    @property
    def ready(self) -> float:
        """The share of the packs that are there, 0 to 1."""
        return 1.0 if not self._thumbs.packs else 1.0 - len(self._thumbs.missing) / self._thumbs.packs

    @property
    def working(self) -> bool:
        """Whether a thread of this process is making packs now."""
        work = _works.get(self._key)
        return work is not None and work.thread.is_alive()

    @property
    def problem(self) -> str | None:
        """What kept the last background work from making packs, in plain words, or None."""
        work = _works.get(self._key)
        return None if work is None else work.problem

    def thumbs(self, ids: Sequence[str]) -> dict[str, bytes | None]:
        """Return the thumbnail of each id; None where there is none yet, no such id, or its image lies outside."""
        found: dict[str, bytes | None] = dict.fromkeys(ids)
        files = {sample_id: path for sample_id in found if (path := self._files.get(sample_id)) is not None}
        named = [sample_id for sample_id, path in files.items() if path]
        outside = self.roots.outside([files[sample_id] for sample_id in named])
        allowed = [sample_id for sample_id, refused in zip(named, outside, strict=True) if not refused]
        if len(named) < len(files) and self._source.refusal() is None:
            allowed += [sample_id for sample_id, path in files.items() if not path]
        return found | self._thumbs.get(allowed)

    def original(self, sample_id: str, longest: int = ORIGINAL_SIDE) -> bytes:
        """Return the image itself as WebP, at most `longest` pixels on its longer side.

        Raises:
            InputError: there is no such sample, its image is gone, has changed or lies outside the roots.
        """
        expected = self._digests.get(sample_id)
        if expected is None:
            raise InputError(f"There is no sample {sample_id!r} in this project.")
        data = dict(self._source.read([sample_id])).get(sample_id, InputError("the source has no image of this id"))
        if isinstance(data, InputError):
            raise InputError(f"The image {sample_id} cannot be shown: {data}")
        if hashlib.sha256(data).hexdigest() != expected:
            raise InputError(f"The image {sample_id} is not the image it was when the project was made.")
        try:
            return shrink(data, longest, quality=90, lossless=LOSSLESS_SIDE)
        except InputError as error:
            raise InputError(f"The image {sample_id} cannot be shown: {error}.") from error

    def ensure(self, background: bool = True) -> None:
        """Make the packs that are missing: in a thread of which a folder has one at most, or at once.

        Without `background` it raises what `make_thumbs` raises; with it, `problem` says what went wrong.
        """
        if not background:
            self._make()
            return
        with _works_lock:
            before = _works.get(self._key)
            resting = before is not None and time.monotonic() - (before.ended_at or 0.0) < RETRY_SECONDS
            if before is not None and (before.thread.is_alive() or (resting and before.problem)):
                return
            if not self._thumbs.missing:
                return
            work = _works[self._key] = _Work(threading.Thread(target=self._quietly, name="thumbnails", daemon=True))
            work.thread.start()

    def wait(self, seconds: float | int) -> bool:
        """Wait for the background work to end; whether it has."""
        work = _works.get(self._key)
        if work is not None:
            work.thread.join(seconds)
        return not self.working

    @property
    def _key(self) -> Path:
        return self.folder.absolute()

    def _open_folder(self, folder: Path) -> int:
        return self.roots.open(folder, folder=True)

    def _make(self) -> int:
        if refusal := self._source.refusal():
            raise refusal
        if self._in_project and not self.roots.holds(self.folder):
            raise InputError(f"The folder {self.folder} is {OUTSIDE}.")
        return make_thumbs(replace(self.manifest, source=self._source), self.folder)

    def _quietly(self) -> None:
        """Make packs in a thread: whatever goes wrong is told by `problem`, and tried again later."""
        work, problem = _works[self._key], None
        try:
            if not self._make() and self._thumbs.missing:
                problem = "No image could be read: they are gone, changed, or outside the folders this app may read."
        except Exception as error:
            known = isinstance(error, GradSiftError)
            problem = str(error) if known else f"The thumbnails could not be made ({type(error).__name__})."
        work.ended_at, work.problem = time.monotonic(), problem


class _Column(Mapping[str, str]):
    """One column of a manifest by sample id, without a table of its own."""

    def __init__(self, thumbs: Thumbs, ids: Array, values: Array) -> None:
        self._row, self._ids, self._values = thumbs.row, ids, values

    def __getitem__(self, sample_id: str) -> str:
        if (row := self._row(sample_id)) is None:
            raise KeyError(sample_id)
        value = self._values[row]
        return value if isinstance(value, str) else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids.tolist())

    def __len__(self) -> int:
        return len(self._values)
