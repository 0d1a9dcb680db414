"""Thumbnails in a few packed files: made once, read a few at a time.

- `make_thumbs`: write the packs that are not there yet.
- `Thumbs`: read the thumbnails of the ids asked for, from any of the packs.

A pack holds 512 consecutive rows of a manifest in `<digest>.pack`; the digest is that of their ids and image digests,
so that a pack of other data is never read. It is written aside and renamed, and holds

    8 bytes   GSTHUMB1
    4 bytes   the number of rows n, little-endian
    8 (n+1)   where each image begins in the file, and where the last one ends, little-endian
    …         the images, WebP; an image that could not be read has no bytes

A pack is input like any other file: what it says of itself is compared with its size before anything is read by it,
and only WebP leaves it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from core.axes import Array
from core.data.images import read_decoded, shrink
from core.data.manifest import Manifest
from core.errors import InputError, ProjectError
from core.progress import Progress

THUMB_SIDE = 96  # pixels, the longer side
PACK_ROWS = 512
MAX_THUMB_BYTES = 2**18  # 96 x 96 x 3 bytes are a tenth of it
MAGIC = b"GSTHUMB1"
HEAD = struct.Struct("<8sI")
SUFFIX = ".pack"
ABANDONED_SECONDS = 3600.0  # a file written aside this long ago has lost its writer

Stamp: TypeAlias = tuple[int, int, int]
OpenFolder: TypeAlias = Callable[[Path], int]


def thumb(data: bytes) -> bytes:
    """Return an encoded image as a WebP of at most 96 pixels; up to 32 pixels nothing is lost.

    Raises:
        InputError: the bytes are no image that can be read.
    """
    return shrink(data, THUMB_SIDE)


def make_thumbs(manifest: Manifest, folder: Path, progress: Progress | None = None) -> int:
    """Write the packs of a manifest that are missing or damaged; return how many thumbnails were made.

    The images are read once, in the source's order. Two writers do not disturb each other: a pack is renamed into
    place when it is whole, and both write the same. A stop or a kill leaves the finished packs. A pack of which no
    image could be read is not written, so that a drive that is away now is looked at again later.

    Args:
        manifest: rows and source.
        folder: the folder of the packs, made if need be.
        progress: where to report to.

    Raises:
        InputError: the source cannot be opened.
        ProjectError: the folder cannot be written.
    """
    thumbs = Thumbs(folder, manifest.rows)
    missing = thumbs.missing
    if not missing:
        return 0
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder)
    made = 0
    for pack, images in _packs(manifest, thumbs, missing, progress or Progress()):
        found = sum(image != b"" for image in images)
        if found:
            with _writing(folder):
                _write(folder, thumbs.name(pack), images)
        made += found
    return made


class Thumbs:
    """The thumbnails of a manifest's rows. Nothing is read until it is asked for.

    Args:
        folder: the folder of the packs.
        rows: `Manifest.rows`; its `sample_id` and `sha256` are used.
        open_folder: gives a descriptor of the folder; by default it is opened by its path.
    """

    def __init__(self, folder: Path, rows: pd.DataFrame, open_folder: OpenFolder | None = None) -> None:
        self.folder = folder
        self._ids: Array = rows["sample_id"].to_numpy(dtype=object)
        self._digests: Array = rows["sha256"].to_numpy(dtype=object)
        self._open_folder = open_folder or _open_folder
        self._names: dict[int, str] = {}
        self._starts: dict[int, tuple[Stamp, Array]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def packs(self) -> int:
        """How many packs there are when all are made."""
        return -(-len(self) // PACK_ROWS)

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers of the packs that are not there, or damaged."""
        with self._inside() as inside:
            if inside is None:
                return tuple(range(self.packs))
            return tuple(pack for pack in range(self.packs) if not self._is_whole(pack, inside))

    def get(self, ids: Sequence[str]) -> dict[str, bytes | None]:
        """Return the WebP of each id; None where there is none (yet), or no such id."""
        found: dict[str, bytes | None] = dict.fromkeys(ids)
        wanted: dict[int, list[int]] = {}
        for sample_id in found:
            if (row := self.row(sample_id)) is not None:
                wanted.setdefault(row // PACK_ROWS, []).append(row)
        with self._inside() as inside:
            if inside is None:
                return found
            for pack, rows in wanted.items():
                for row, image in self._read(pack, rows, inside):
                    found[str(self._ids[row])] = image
        return found

    def row(self, sample_id: str) -> int | None:
        """Return the position of an id in the manifest, or None."""
        return self._positions.get(sample_id)

    def name(self, pack: int) -> str:
        """Return the file name of a pack."""
        if pack not in self._names:
            rows = slice(pack * PACK_ROWS, (pack + 1) * PACK_ROWS)
            text = json.dumps([THUMB_SIDE, self._ids[rows].tolist(), self._digests[rows].tolist()])
            self._names[pack] = hashlib.sha256(text.encode()).hexdigest()[:16] + SUFFIX
        return self._names[pack]

    def size(self, pack: int) -> int:
        """Return the number of rows of a pack."""
        return min(PACK_ROWS, len(self) - pack * PACK_ROWS)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {sample_id: row for row, sample_id in enumerate(self._ids.tolist())}

    @contextmanager
    def _inside(self) -> Iterator[int | None]:
        try:
            inside = self._open_folder(self.folder)
        except (OSError, ValueError):
            yield None
            return
        try:
            yield inside
        finally:
            os.close(inside)

    def _read(self, pack: int, rows: list[int], inside: int) -> Iterator[tuple[int, bytes | None]]:
        with _opened(self.name(pack), inside) as file:
            starts = None if file is None else self._table(pack, file)
            if file is None or starts is None:
                return
            for row in rows:
                start, stop = starts[row - pack * PACK_ROWS : row - pack * PACK_ROWS + 2].tolist()
                yield row, _image(file, start, stop - start)

    def _is_whole(self, pack: int, inside: int) -> bool:
        with _opened(self.name(pack), inside) as file:
            return file is not None and self._table(pack, file) is not None

    def _table(self, pack: int, file: int) -> Array | None:
        """Return where the images of an open pack begin, or None where the pack is damaged."""
        status = os.fstat(file)
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._starts.get(pack)
        if known is not None and known[0] == stamp:
            return known[1]
        starts = _starts(file, status, self.size(pack))
        if starts is not None:
            self._starts[pack] = (stamp, starts)
        return starts


def _packs(
    manifest: Manifest, thumbs: Thumbs, packs: Sequence[int], progress: Progress
) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the images of each pack when its last one is made (no bytes: it could not be read)."""
    digests = thumbs._digests
    ids = [name for pack in packs for name in thumbs._ids[pack * PACK_ROWS : (pack + 1) * PACK_ROWS].tolist()]
    images = {pack: [b""] * thumbs.size(pack) for pack in packs}
    left = {pack: thumbs.size(pack) for pack in packs}

    def work(data: bytes) -> tuple[str, bytes]:
        return hashlib.sha256(data).hexdigest(), thumb(data)

    for sample_id, result in read_decoded(manifest.source, ids, work, "making thumbnails", progress):
        row = thumbs.row(sample_id)
        if row is None:
            continue
        pack = row // PACK_ROWS
        if not isinstance(result, InputError) and result[0] == digests[row] and len(result[1]) <= MAX_THUMB_BYTES:
            images[pack][row - pack * PACK_ROWS] = result[1]
        left[pack] -= 1
        if left[pack] == 0:
            yield pack, images.pop(pack)
    yield from images.items()  # the source left some of their images out


def _write(folder: Path, name: str, images: Sequence[bytes]) -> None:
    """Write a pack aside and rename it."""
    head = HEAD.size + 8 * (len(images) + 1)
    starts = head + np.cumsum([0, *map(len, images)], dtype=np.int64)
    handle, aside = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(HEAD.pack(MAGIC, len(images)) + starts.astype("<u8").tobytes())
            file.writelines(images)
        Path(aside).chmod(0o644)
        Path(aside).replace(folder / name)
    finally:
        Path(aside).unlink(missing_ok=True)


def _clear_abandoned(folder: Path) -> None:
    for path in folder.glob(f".*{SUFFIX}.*.part"):
        if time.time() - path.lstat().st_mtime > ABANDONED_SECONDS:
            path.unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ProjectError(
            f"The thumbnails in {folder} cannot be written: {error.strerror or error}. Check the disk and permissions."
        ) from error


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


@contextmanager
def _opened(name: str, inside: int) -> Iterator[int | None]:
    """Open a file of a folder for reading; None where there is none. A link is not followed, a pipe not waited for."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=inside)
    except OSError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


def _starts(file: int, status: os.stat_result, rows: int) -> Array | None:
    """Return the table of an open pack where it fits the rows and the file's size, else None."""
    length = 8 * (rows + 1)
    head = HEAD.size + length
    if not stat.S_ISREG(status.st_mode) or status.st_size < head:
        return None
    start = os.pread(file, head, 0)
    if len(start) != head or HEAD.unpack_from(start) != (MAGIC, rows):
        return None
    starts = np.frombuffer(start, dtype="<u8", offset=HEAD.size)
    # As unsigned numbers a step back would look huge: compare, never subtract first.
    ordered = bool((starts[1:] >= starts[:-1]).all()) and starts[0] == head and starts[-1] == status.st_size
    return starts.astype(np.int64) if ordered and int(np.diff(starts).max()) <= MAX_THUMB_BYTES else None


def _image(file: int, start: int, length: int) -> bytes | None:
    data = os.pread(file, length, start) if length else b""
    return data if len(data) == length and data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
