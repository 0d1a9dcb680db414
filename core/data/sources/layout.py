"""How images lying in folders are labelled, wherever the folders lie: on disk (`folder`) or in an archive (`zip`).

Three layouts are told apart by what is there:
- `cat/1.png`: the first folder is the class.
- `train/cat/1.png` beside `val` (`valid`, `validation`) or `test`: the first folder is the split, the second the class.
- `metadata.csv`, `.jsonl` or `.parquet` in either place (Hugging Face's ImageFolder): its rows are the samples, keyed
  by `file_name`; a column `label` goes before the folder's name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from core.data.sources.base import (
    COLUMN_OPTIONS,
    SourceOptions,
    SourceRows,
    meta_name,
    meta_text,
    problems_frame,
    shown,
    text_error,
)
from core.data.sources.tabular import Tabular, choose_column, require_column
from core.errors import InputError

IMAGE_ENDINGS = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".ico"}
)
SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
COLUMNS = ("sample_id", "given_label", "split", "group")

Row = tuple[str | None, ...]  # the values of COLUMNS, then of the columns that travel along


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its ending."""
    return PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS


def split_folders(images: Sequence[str], metadata: Iterable[str]) -> tuple[str, ...]:
    """Return the split folders that are there, or nothing: a folder `train` full of trains is a class.

    Args:
        images: their relative paths.
        metadata: the relative paths of the metadata files.
    """
    folders = {image.split("/")[0] for image in images if "/" in image}
    here = tuple(name for name in SPLIT_FOLDERS if name in folders)
    nested = any(image.startswith("train/") and image.count("/") > 1 for image in images)
    listed = any(f"{name}/{file}" in set(metadata) for name in here for file in METADATA)
    return here if "train" in here and (nested or listed) and (len(here) > 1 or folders == {"train"}) else ()


@dataclass(frozen=True)
class Layout:
    """The images found below a folder, and what says which class each belongs to.

    Attributes:
        name: the folder or archive, for messages.
        images: relative paths with forward slashes, in order.
        problems: (name, reason) of what was set aside already.
        splits: the split folders, see `split_folders`.
        tables: the metadata by the folder they speak for, "" for all, else `train/` and so on.
        options: which columns of the metadata to use.
        place: gives the path of an image, "" where it is no file of its own.
        missing: says why an image that the metadata lists is not there.
    """

    name: str
    images: Sequence[str]
    problems: Sequence[tuple[str, str]]
    splits: tuple[str, ...]
    tables: Mapping[str, Tabular]
    options: SourceOptions
    place: Callable[[str], str]
    missing: Callable[[str], str]

    def rows(self) -> SourceRows:
        """Return every image once with its label and split.

        Raises:
            InputError: columns were named and there is no metadata, or it has no such column or no `file_name`.
        """
        named = any(getattr(self.options, name) for name in COLUMN_OPTIONS) or self.options.meta_columns
        if named and not self.tables:
            raise InputError(f"{self.name} has no metadata.csv, so it has no columns to name. Leave the column out.")
        rows: list[Row] = []
        problems = list(self.problems)
        classes: tuple[str, ...] | None = None
        for prefix, table in self.tables.items():
            found, classes = self._listed(prefix, table, problems)
            rows += found
        covered = tuple(self.tables)
        for image in self.images:
            if not image.startswith(covered):
                self._by_place(image, rows, problems)
        kept = self._kept(rows, problems)
        return SourceRows(kept, self._problems(problems), len(rows), classes)

    @property
    def meta(self) -> list[str]:
        """What the columns that travel along are called."""
        return [meta_name(name) for name in self.options.meta_columns]

    def _problems(self, problems: Iterable[tuple[str, str]]) -> pd.DataFrame:
        named = ((shown(name).replace("\0", "\\0"), reason) for name, reason in problems)
        return problems_frame((name, self.place(name), reason) for name, reason in named)

    def _by_place(self, image: str, rows: list[Row], problems: list[tuple[str, str]]) -> None:
        if self.splits and image.split("/")[0] not in self.splits:
            problems.append((image, f"not in one of the folders {', '.join(self.splits)}"))
            return
        rows.append((image, *self._by_folder(image), None, *(None for _ in self.meta)))

    def _by_folder(self, image: str) -> tuple[str | None, str | None]:
        """Return (label, split) as the folders say."""
        parts = image.split("/")
        split = parts.pop(0) if parts[0] in self.splits else None
        return parts[0] if len(parts) > 1 else None, split

    def _listed(
        self, prefix: str, table: Tabular, problems: list[tuple[str, str]]
    ) -> tuple[list[Row], tuple[str, ...] | None]:
        options = self.options
        key = choose_column(table, options.path_column or options.id_column, ("file_name",))
        if key is None:
            raise InputError(f"{table.path} has no column file_name; its columns are {', '.join(table.names)}. Add it.")
        label = choose_column(table, options.label_column, ("label", "given_label", "class", "target"))
        split = choose_column(table, options.split_column, ("split",))
        group = choose_column(table, options.group_column, ("group",))
        blank: list[str | None] = [None] * len(table)
        labels, splits, groups = (table.column(name) if name else blank for name in (label, split, group))
        meta = meta_columns(table, options).values()
        rows: list[Row] = []
        for at, name in enumerate(table.column(key)):
            image = posixpath.normpath(prefix + (name or "")).removeprefix("./")
            of_folder = self._by_folder(image)
            row = (image, labels[at] if label else of_folder[0], splits[at] or of_folder[1], groups[at])
            rows.append((*row, *(values[at] for values in meta)))
            if at in table.broken or name is None:
                problems.append((f"{table.path.name} row {at:08d}", table.broken.get(at, "no file_name")))
                rows[-1] = ("", *(None for _ in rows[-1][1:]))
        listed = {row[0] for row in rows}
        unlisted = [image for image in self.images if image.startswith(prefix) and image not in listed]
        problems += [(image, f"not listed in {table.path.name}") for image in unlisted]
        return rows, table.class_names(label) if label else None

    def _kept(self, rows: list[Row], problems: list[tuple[str, str]]) -> pd.DataFrame:
        """Return the rows whose image was found, each id once, with their positions as read."""
        found, seen, kept = set(self.images), set[str](), []
        for at, (image, *rest) in enumerate(rows):
            if image is None:
                continue
            if image in found and image not in seen:
                kept.append((at, self.place(image), image, *rest))
            elif image:
                problems.append((image, self._why_not(image, image in seen)))
            seen.add(image)
        frame = pd.DataFrame(kept, columns=["row", "filepath", *COLUMNS, *self.meta], dtype=object)
        return frame.assign(row=frame["row"].astype(np.int64))

    def _why_not(self, image: str, twice: bool) -> str:
        if error := text_error(image):
            return error
        if image.startswith(("/", "../")) or image == "..":
            return "the metadata names a file outside the folder"
        if twice:
            return "duplicate id; the first row of this id is kept"
        return f"listed in the metadata, but {self.missing(image)}"


def meta_columns(table: Tabular, options: SourceOptions) -> dict[str, list[str | None]]:
    """Return the columns of a table that travel along, by what they are called from then on.

    Raises:
        InputError: there is no such column.
    """
    found = {}
    for name in options.meta_columns:
        require_column(table, name)
        found[meta_name(name)] = [meta_text(text) for text in table.column(name)]
    return found
