"""`zip:FILE`: a folder of images in one .zip file, read without being unpacked; labelled as `folder` is (`layout.py`).

Nothing is written anywhere but a metadata file, into a temporary folder of its own, so an entry that climbs out of the
archive could do no harm; it is set aside all the same, as are links, encrypted entries, names that come twice and
entries that unpack to far more than they take. A single folder around everything (`pets.zip` holding only `pets/`) is
no class: ids begin below it. What macOS puts into archives is no part of the source.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory

from core.data.sources.base import (
    MAX_FILE_BYTES,
    Opener,
    SourceOptions,
    SourceRows,
    expanded,
    open_file,
    require_file,
    text_error,
)
from core.data.sources.layout import METADATA, SPLIT_FOLDERS, Layout, is_image_name, split_folders
from core.data.sources.tabular import Tabular, open_tabular
from core.errors import InputError

BOMB_BYTES, BOMB_RATIO = 16 * 2**20, 200  # an image is packed already; what grows like this is no image
ENCRYPTED = 0x1
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the unpackers of others may hand out far more than was asked for
# What zipfile and the codecs below it raise where an archive is damaged, or packed in a way that they do not know.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class ZipSource:
    """A zip file of images as a source. `path` is absolute."""

    path: Path
    options: SourceOptions
    opener: Opener = open_file
    flip: bool = True

    @property
    def spec(self) -> str:
        """`zip:` and the absolute path."""
        return f"zip:{self.path}"

    def opened_with(self, opener: Opener) -> ZipSource:
        """Return the source with another way to open the archive."""
        return replace(self, opener=opener)

    def rows(self) -> SourceRows:
        """List the images with the labels and splits that folders or metadata give them.

        Raises:
            InputError: the archive or its metadata cannot be read, or a named column is not there.
        """
        return self._rows

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield the encoded image of each id in the archive's order; only listed images are read."""
        listed = set(self._rows.frame["sample_id"])
        known = {sample_id: self._entries[sample_id] for sample_id in set(ids) & listed}
        yield from ((each, InputError("no such image in the archive")) for each in ids if each not in known)
        with self._open() as archive:
            for sample_id, entry in sorted(known.items(), key=lambda item: item[1].header_offset):
                yield sample_id, _unpacked(archive, entry)

    @contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        try:
            file = self.opener(str(self.path))
        except InputError as error:
            raise InputError(f"The archive {self.path} cannot be read: {error}.") from error
        with file:
            try:
                archive = zipfile.ZipFile(file)
            except (*DAMAGED, OSError) as error:
                raise InputError(f"{self.path} is no whole zip file (cut short or damaged). Copy it again.") from error
            with archive:
                yield archive

    @cached_property
    def _listing(self) -> tuple[dict[str, zipfile.ZipInfo], tuple[tuple[str, str], ...]]:
        """Return the entries that may be read by their id, and why others may not."""
        entries: dict[str, zipfile.ZipInfo] = {}
        problems: list[tuple[str, str]] = []
        with self._open() as archive:
            infos = [info for info in archive.infolist() if not info.is_dir() and not _hidden(info.filename)]
        around = _around([info.filename for info in infos])
        for info in infos:
            name = info.filename.removeprefix(around)
            if reason := _refused(info) or ("a name that comes twice; the first is kept" if name in entries else None):
                problems.append((name, reason))
            else:
                entries[name] = info
        return entries, tuple(problems)

    @property
    def _entries(self) -> Mapping[str, zipfile.ZipInfo]:
        return self._listing[0]

    @cached_property
    def _rows(self) -> SourceRows:
        entries, problems = self._listing
        metadata = [name for name in entries if name.split("/")[-1] in METADATA and name.count("/") < 2]
        images = sorted(name for name in entries if is_image_name(name))
        others = [name for name in entries if name not in metadata and not is_image_name(name)]
        splits = split_folders(images, metadata)
        aside = [*problems, *((name, "not an image file") for name in others)]
        with TemporaryDirectory(prefix="gradsift-") as folder:
            try:
                tables = self._tables([name for name in metadata if _speaks(name, splits)], Path(folder))
                layout = Layout(
                    str(self.path), images, aside, splits, tables, self.options, lambda name: "",
                    lambda name: "no such entry" if name not in entries else "not an image file",
                )  # fmt: skip
                return layout.rows()
            except InputError as error:  # the metadata is named where it lies, not where it was put to be read
                raise InputError(str(error).replace(folder, str(self.path))) from error

    def _tables(self, metadata: Sequence[str], folder: Path) -> dict[str, Tabular]:
        """Return the metadata by the folder it speaks for: the root's for all, else each split's for its own."""
        chosen: dict[str, str] = {}
        for name in metadata:
            prefix = name.removesuffix(name.split("/")[-1])
            if prefix in chosen:
                raise InputError(f"{self.path} holds both {chosen[prefix]} and {name}. Keep one.")
            chosen[prefix] = name
        chosen = {"": chosen[""]} if "" in chosen else chosen
        tables: dict[str, Tabular] = {}
        with self._open() as archive:
            for prefix, name in chosen.items():
                data = _unpacked(archive, self._entries[name])
                if isinstance(data, InputError):
                    raise InputError(f"{name} in {self.path} cannot be read: {data}. Pack the archive anew.")
                (folder / prefix).mkdir(exist_ok=True)
                (folder / name).write_bytes(data)
                tables[prefix] = open_tabular(folder / name)
        return tables


def _speaks(name: str, splits: Sequence[str]) -> bool:
    return "/" not in name or name.split("/")[0] in splits


def _hidden(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "__MACOSX" or any(part.startswith(".") and part != ".." for part in parts)


def _around(names: Sequence[str]) -> str:
    """Return the folder (with its slash) that holds folders and everything else, or "" where there is none such."""
    first = {name.split("/")[0] for name in names if "/" in name}
    folder = next(iter(first), "")
    alone = len(first) == 1 and all("/" in name for name in names) and folder not in (*SPLIT_FOLDERS, "..", "")
    return f"{folder}/" if alone and any(_deep(name) for name in names) else ""


def _deep(name: str) -> bool:
    return is_image_name(name) and name.count("/") > 1


def _refused(info: zipfile.ZipInfo) -> str | None:
    """Say why an entry is not read, or None."""
    name = info.orig_filename.replace("\\", "/")
    if name.startswith("/") or PureWindowsPath(name).drive or ".." in name.split("/"):
        return "an entry that climbs out of the archive"
    if error := text_error(name):
        return error
    kind = stat.S_IFMT(info.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return "a link; put the image itself into the archive"
    if kind and not stat.S_ISREG(kind):
        return "not a regular file (a pipe, socket or device)"
    if info.flag_bits & ENCRYPTED:
        return "encrypted; pack it without a password"
    if info.compress_type not in PACKED:
        return "packed in another way than deflate; pack the archive anew"
    if info.file_size > MAX_FILE_BYTES:
        return f"the entry holds {info.file_size / 2**20:,.0f} MiB; {MAX_FILE_BYTES // 2**20} is the limit"
    if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * info.compress_size:
        return f"the entry unpacks to {info.file_size // max(info.compress_size, 1):,} times its size; no image does"
    return None


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | InputError:
    """Return an entry's bytes, never more than its stated size (which has a limit), or why not."""
    try:
        with archive.open(entry) as file:
            return file.read(MAX_FILE_BYTES)
    except (*DAMAGED, OSError):
        return InputError("the entry is cut short or damaged")


def open_zip(rest: str, options: SourceOptions) -> ZipSource:
    """Open `zip:FILE`; the path becomes absolute, so that the spec means the same from any folder."""
    if not rest:
        raise InputError("The source zip needs a file. Write, for example, zip:pets.zip.")
    path = Path(os.path.abspath(expanded(rest)))  # noqa: PTH100 -- links stay as they were named
    require_file(path, "The archive")
    source = ZipSource(path, options)
    _ = source._listing
    return source
