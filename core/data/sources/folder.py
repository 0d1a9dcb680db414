"""`folder:PATH`: images on disk, labelled by the folder they lie in or by a metadata file.

Three layouts are told apart by what is there:
- `cat/1.png`: the first folder is the class.
- `train/cat/1.png` beside `val` (`valid`, `validation`) or `test`: the first folder is the split, the second the class.
- `metadata.csv`, `.jsonl` or `.parquet` in either place (Hugging Face's ImageFolder): its rows are the samples, keyed
  by `file_name`; a column `label` goes before the folder's name.

Ids are the relative paths with forward slashes. Hidden files are no part of a source. Links that leave the folder are
refused and links to folders are not followed, so a loop of links ends.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from core.data.sources.base import (
    SourceOptions,
    SourceRows,
    expanded,
    file_error,
    problems_frame,
    read_file,
    shown,
    text_error,
)
from core.data.sources.tabular import choose_column, open_tabular
from core.errors import InputError

IMAGE_ENDINGS = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".ico"}
)
SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

Row = tuple[str, str | None, str | None, str | None]  # id, label, split, group


@dataclass
class Found:
    """What a walk through a folder found: images as relative paths, in order, and what was set aside."""

    images: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class FolderSource:
    """A folder of images as a source. `root` is absolute."""

    root: Path
    options: SourceOptions
    flip: bool = True

    @property
    def spec(self) -> str:
        """`folder:` and the absolute path."""
        return f"folder:{self.root}"

    def rows(self) -> SourceRows:
        """List the images with the labels and splits that folders or metadata give them.

        Raises:
            InputError: the metadata file cannot be read, or a named column is not there.
        """
        return self._rows

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield the encoded image of each id, in the order of the names; only listed images are read."""
        listed = set(self._rows.frame["sample_id"])
        for sample_id in sorted(set(ids)):
            known = sample_id in listed
            yield sample_id, read_file(self._path(sample_id)) if known else InputError("no such image in the folder")

    def _path(self, relative: str) -> str:
        return str(self.root / relative)

    @cached_property
    def _found(self) -> Found:
        return find_images(self.root)

    @cached_property
    def _split_folders(self) -> tuple[str, ...]:
        """Return the split folders that are there, or nothing: a folder `train` full of trains is a class."""
        folders = {image.split("/")[0] for image in self._found.images if "/" in image}
        here = tuple(name for name in SPLIT_FOLDERS if name in folders)
        nested = any(image.startswith("train/") and image.count("/") > 1 for image in self._found.images)
        listed = any((self.root / name / file).is_file() for name in here for file in METADATA)
        return here if "train" in here and (nested or listed) and (len(here) > 1 or folders == {"train"}) else ()

    @cached_property
    def _rows(self) -> SourceRows:
        problems = list(self._found.problems)
        tables = self._metadata()
        if not tables and any(vars(self.options)[name] for name in vars(self.options) if name.endswith("_column")):
            raise InputError(f"{self.root} has no metadata.csv, so it has no columns to name. Leave the column out.")
        rows: list[Row] = []
        classes: tuple[str, ...] | None = None
        for prefix, table in tables.items():
            found, classes = self._listed(prefix, table, problems)
            rows += found
        covered = tuple(tables)
        for image in self._found.images:
            if not image.startswith(covered):
                self._place(image, rows, problems)
        kept = self._keep(rows, problems)
        return SourceRows(kept, self._problems(problems), len(rows), classes)

    def _problems(self, problems: Iterable[tuple[str, str]]) -> pd.DataFrame:
        named = ((shown(name).replace("\0", "\\0"), reason) for name, reason in problems)
        return problems_frame((name, self._path(name), reason) for name, reason in named)

    def _metadata(self) -> dict[str, Path]:
        """Return the metadata files by the folder they speak for: the root's for all, else each split's for its own."""
        for folder in ("", *self._split_folders):
            files = [self.root / folder / name for name in METADATA if (self.root / folder / name).is_file()]
            if len(files) > 1:
                raise InputError(f"{self.root / folder} has both {files[0].name} and {files[1].name}. Keep one.")
        if root_file := self._metadata_in(""):
            return {"": root_file}
        found = {f"{name}/": self._metadata_in(name) for name in self._split_folders}
        return {prefix: file for prefix, file in found.items() if file is not None}

    def _metadata_in(self, folder: str) -> Path | None:
        paths = (self.root / folder / name for name in METADATA)
        path = next((path for path in paths if file_error(path) is None), None)
        if path is not None and not path.resolve().is_relative_to(self.root.resolve()):
            raise InputError(f"{path} is a link that leaves the folder. Put the file itself there.")
        return path

    def _place(self, image: str, rows: list[Row], problems: list[tuple[str, str]]) -> None:
        parts = image.split("/")
        if self._split_folders and parts[0] not in self._split_folders:
            problems.append((image, f"not in one of the folders {', '.join(self._split_folders)}"))
            return
        rows.append((image, *self._by_folder(image), None))

    def _by_folder(self, image: str) -> tuple[str | None, str | None]:
        """Return (label, split) as the folders say."""
        parts = image.split("/")
        split = parts.pop(0) if parts[0] in self._split_folders else None
        return parts[0] if len(parts) > 1 else None, split

    def _listed(
        self, prefix: str, path: Path, problems: list[tuple[str, str]]
    ) -> tuple[list[Row], tuple[str, ...] | None]:
        table, options = open_tabular(path), self.options
        key = choose_column(table, options.path_column or options.id_column, ("file_name",))
        if key is None:
            raise InputError(f"{path} has no column file_name; its columns are {', '.join(table.names)}. Add it.")
        label = choose_column(table, options.label_column, ("label", "given_label", "class", "target"))
        split = choose_column(table, options.split_column, ("split",))
        group = choose_column(table, options.group_column, ("group",))
        blank: list[str | None] = [None] * len(table)
        labels, splits, groups = (table.column(name) if name else blank for name in (label, split, group))
        rows: list[Row] = []
        for at, name in enumerate(table.column(key)):
            image = posixpath.normpath(prefix + (name or "")).removeprefix("./")
            of_folder = self._by_folder(image)
            rows.append((image, labels[at] if label else of_folder[0], splits[at] or of_folder[1], groups[at]))
            if at in table.broken or name is None:
                problems.append((f"{path.name} row {at:08d}", table.broken.get(at, "no file_name")))
                rows[-1] = ("", None, None, None)
        listed = {row[0] for row in rows}
        unlisted = [image for image in self._found.images if image.startswith(prefix) and image not in listed]
        problems += [(image, f"not listed in {path.name}") for image in unlisted]
        return rows, table.class_names(label) if label else None

    def _keep(self, rows: list[Row], problems: list[tuple[str, str]]) -> pd.DataFrame:
        """Return the rows whose image was found, each id once, with their positions as read."""
        found, seen, kept = set(self._found.images), set[str](), []
        for at, row in enumerate(rows):
            image = row[0]
            if image in found and image not in seen:
                kept.append((at, image, self._path(image), *row[1:]))
            elif image:
                problems.append((image, self._why_not(image, image in seen)))
            seen.add(image)
        names = ["row", "sample_id", "filepath", "given_label", "split", "group"]
        frame = pd.DataFrame(kept, columns=names, dtype=object)
        return frame.assign(row=frame["row"].astype(np.int64))

    def _why_not(self, image: str, twice: bool) -> str:
        if error := text_error(image):
            return error
        if image.startswith(("/", "../")) or image == "..":
            return "the metadata names a file outside the folder"
        if twice:
            return "duplicate id; the first row of this id is kept"
        return f"listed in the metadata, but {file_error(self._path(image)) or 'not an image of this folder'}"


def find_images(root: Path) -> Found:
    """Walk a folder, names in order, without following links to folders; what is no image is listed with its reason."""
    found = Found()
    real_root = os.path.realpath(root)
    _walk(str(root), "", real_root, found)
    return found


def _walk(folder: str, prefix: str, real_root: str, found: Found) -> None:
    pending = [(folder, prefix)]
    while pending:
        folder, prefix = pending.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            found.problems.append((prefix.rstrip("/"), f"the folder cannot be read ({error.strerror})"))
            continue
        deeper = []
        for entry in inside:
            name = prefix + entry.name
            if error_text := text_error(entry.name):
                found.problems.append((name, error_text))
            elif entry.is_dir(follow_symlinks=False):
                deeper.append((entry.path, f"{name}/"))
            elif reason := _refused(entry, name, real_root):
                found.problems.append((name, reason))
            elif entry.name not in METADATA:
                found.images.append(name)
        pending += reversed(deeper)


def _refused(entry: os.DirEntry[str], name: str, real_root: str) -> str | None:
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if os.path.commonpath([target, real_root]) != real_root:
            return "a link that leaves the folder"
        if os.path.isdir(target):  # noqa: PTH112
            return "a link to another folder; its images are read where they lie"
    if reason := file_error(entry.path):
        return reason
    is_metadata = entry.name in METADATA and (name == entry.name or name.split("/")[0] in SPLIT_FOLDERS)
    known = os.path.splitext(entry.name)[1].lower() in IMAGE_ENDINGS or is_metadata  # noqa: PTH122
    return None if known else "not an image file"


def open_folder(rest: str, options: SourceOptions) -> FolderSource:
    """Open `folder:PATH`; the path becomes absolute, so that the spec means the same from any folder."""
    if not rest:
        raise InputError("The source folder needs a path. Write, for example, folder:pets.")
    root = Path(os.path.abspath(expanded(rest)))  # noqa: PTH100 -- links stay as they were named
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"The folder {root} {what}. Give the folder that holds the class folders.")
    return FolderSource(root, options)
