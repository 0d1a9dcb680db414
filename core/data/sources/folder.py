"""`folder:PATH`: images on disk, labelled by the folder they lie in or by a metadata file (see `layout.py`).

Ids are the relative paths with forward slashes. Hidden files are no part of a source. Links that leave the folder are
refused and links to folders are not followed, so a loop of links ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from core.data.sources.base import SourceOptions, SourceRows, expanded, file_error, read_file, text_error
from core.data.sources.layout import METADATA, SPLIT_FOLDERS, Layout, is_image_name, split_folders
from core.data.sources.tabular import open_tabular
from core.errors import InputError


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
    def _rows(self) -> SourceRows:
        found = find_images(self.root)
        beside = (f"{name}/{file}" for name in SPLIT_FOLDERS for file in METADATA)
        splits = split_folders(found.images, [name for name in beside if (self.root / name).is_file()])
        tables = {prefix: open_tabular(path) for prefix, path in self._metadata(splits).items()}
        return Layout(
            str(self.root), found.images, found.problems, splits, tables, self.options, self._path,
            lambda image: file_error(self._path(image)) or "not an image of this folder",
        ).rows()  # fmt: skip

    def _metadata(self, splits: Sequence[str]) -> dict[str, Path]:
        """Return the metadata files by the folder they speak for: the root's for all, else each split's for its own."""
        for folder in ("", *splits):
            files = [self.root / folder / name for name in METADATA if (self.root / folder / name).is_file()]
            if len(files) > 1:
                raise InputError(f"{self.root / folder} has both {files[0].name} and {files[1].name}. Keep one.")
        if root_file := self._metadata_in(""):
            return {"": root_file}
        found = {f"{name}/": self._metadata_in(name) for name in splits}
        return {prefix: file for prefix, file in found.items() if file is not None}

    def _metadata_in(self, folder: str) -> Path | None:
        paths = (self.root / folder / name for name in METADATA)
        path = next((path for path in paths if file_error(path) is None), None)
        if path is not None and not path.resolve().is_relative_to(self.root.resolve()):
            raise InputError(f"{path} is a link that leaves the folder. Put the file itself there.")
        return path


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
    return None if is_image_name(entry.name) or is_metadata else "not an image file"


def open_folder(rest: str, options: SourceOptions) -> FolderSource:
    """Open `folder:PATH`; the path becomes absolute, so that the spec means the same from any folder."""
    if not rest:
        raise InputError("The source folder needs a path. Write, for example, folder:pets.")
    root = Path(os.path.abspath(expanded(rest)))  # noqa: PTH100 -- links stay as they were named
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"The folder {root} {what}. Give the folder that holds the class folders.")
    return FolderSource(root, options)
