"""`table:FILE`: one row per image, in CSV, TSV, Parquet or JSON Lines; also the manifests that GradSift exports.

The image of a row is a path, or the image itself as Hugging Face writes it (a struct of `bytes` and `path`) or as plain
bytes. A relative path must stay inside the table's folder, links followed; an absolute path must be a regular file.
A table with a column of ids and none of images gives rows without images, for a model that brings its own features.

A table with the columns `given_label`, `final_label` and `action` is an export of an earlier review and opens as the
cleaned set: `final_label` where it is set, excluded rows set aside. For this and for the `cleaned` table beside it,
images without a file of their own are read from the source that `run.json` in the same folder names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.data.sources.base import (
    META,
    Source,
    SourceOptions,
    SourceRows,
    expanded,
    file_error,
    problems_frame,
    read_file,
    shown,
    text_error,
)
from core.data.sources.layout import meta_columns
from core.data.sources.tabular import ParquetTable, Tabular, choose_column, open_tabular
from core.errors import InputError

ID_NAMES = ("sample_id", "id")
PATH_NAMES = ("filepath", "file_path", "path", "file_name", "filename", "image_path", "image", "img")
LABEL_NAMES = ("given_label", "label", "class", "target")
EXPORT_NAMES = {"given_label", "final_label", "action"}
CLEANED_NAMES = {"sample_id", "filepath", "split", "label"}
GUARDED = re.compile(r"^'(?='*[=+\-@\t\r])")  # the apostrophe that an export puts before what a spreadsheet would run

Column = list[str | None]


@dataclass(frozen=True)
class TableSource:
    """Rows of a table as a source. `seen` are the tables that led here through their `run.json`."""

    path: Path
    options: SourceOptions
    seen: frozenset[Path] = frozenset()

    @property
    def spec(self) -> str:
        """`table:` and the absolute path."""
        return f"table:{self.path}"

    @property
    def flip(self) -> bool:
        """True, except where an export says that it came from a source whose images must not be mirrored."""
        try:
            return self._original is None or self._original.flip
        except InputError:
            return True

    def rows(self) -> SourceRows:
        """Read the columns that are needed, no image.

        Raises:
            InputError: no image column, a named column is not there, or the file is damaged.
        """
        return self._rows

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield the encoded image of each id in the table's order; what the original source holds comes last."""
        frame = self._rows.frame.set_index("sample_id")
        known = frame.loc[frame.index.isin(ids)]
        yield from ((each, InputError("no such row in the table")) for each in ids if each not in frame.index)
        if not self.images:
            yield from ((str(sample_id), InputError("the row has no image")) for sample_id in known.index)
            return
        if isinstance(self.table, ParquetTable) and self.table.holds_images(self.image_column):
            names = dict(zip(known["row"], known.index, strict=True))
            for row, data, path in self.table.images(self.image_column, names):
                yield names[row], self._cell(data, path)
            return
        files = known.loc[known["filepath"] != "", "filepath"]
        yield from ((str(sample_id), read_file(path)) for sample_id, path in files.items())
        elsewhere = known.index[known["filepath"] == ""].tolist()
        if elsewhere and self._original is not None:
            yield from self._original.read(elsewhere)

    def _cell(self, data: bytes | None, path: str | None) -> bytes | InputError:
        if data is not None:
            return data
        if path is None:
            return InputError("the row holds no image")
        filepath, error = place(path, self.path.parent)
        return InputError(error) if error else read_file(filepath)

    @cached_property
    def table(self) -> Tabular:
        """The table itself."""
        return open_tabular(self.path)

    @cached_property
    def images(self) -> bool:
        """Whether the rows have images: False where there is a column of ids and none of images.

        An export of such rows has a column of paths, in which nothing stands.
        """
        if self._image_column is None:
            return self._chosen(self.options.id_column, ID_NAMES) is None
        original = self._original if self._exported or self.run else None
        return not isinstance(original, TableSource) or original.images

    @property
    def image_column(self) -> str:
        """The column that holds the images, or names them."""
        if self._image_column is None:
            raise InputError(
                f"{self.path} has no image column ({', '.join(PATH_NAMES)}); its columns are "
                f"{', '.join(self.table.names)}. Name one with --path-column, or, for rows without images, the column "
                "of their ids with --id-column."
            )
        return self._image_column

    @cached_property
    def _image_column(self) -> str | None:
        table, named = self.table, self.options.path_column
        if named is None and isinstance(table, ParquetTable):
            # Beside an image in the row, a path column is only where the image once came from.
            named = next((name for name in PATH_NAMES if name in table.names and table.holds_images(name)), None)
        return choose_column(table, named, PATH_NAMES)

    @property
    def _exported(self) -> bool:
        return set(self.table.names) >= EXPORT_NAMES

    @cached_property
    def run(self) -> dict[str, Any]:
        """What `run.json` beside the table says, where the table is an export of ours."""
        try:
            data = read_file(str(self.path.parent / "run.json"))
            run = json.loads(data) if isinstance(data, bytes) else {}
        except (OSError, ValueError, RecursionError):
            return {}
        cleaned = isinstance(run, dict) and run.get("tool") == "gradsift" and set(self.table.names) == CLEANED_NAMES
        return run if isinstance(run, dict) and (self._exported or cleaned) else {}

    @cached_property
    def _original(self) -> Source | None:
        source = self.run.get("source")
        if not isinstance(source, dict) or not isinstance(source.get("spec"), str):
            return None
        spec, values = source["spec"], source.get("options")
        options = SourceOptions.from_dict(values if isinstance(values, dict) else {})
        if not spec.startswith("table:"):
            from core.data.sources import open_source  # the table of sources names this file, so only now

            return open_source(spec, options)
        original = open_table(spec.removeprefix("table:"), options, self.seen | {self.path})
        if original.path in original.seen:
            raise InputError(f"{self.path.parent / 'run.json'} names its own table as the source. Name the original.")
        return original

    def _column(self, name: str | None) -> Column:
        if name is None:
            return [None] * len(self.table)
        values = self.table.column(name)
        if not (self._exported or self.run) or self.path.suffix.lower() not in (".csv", ".tsv"):
            return values
        return [value and GUARDED.sub("", value) for value in values]

    def _chosen(self, option: str | None, known: Sequence[str]) -> str | None:
        return choose_column(self.table, option, known)

    @cached_property
    def _rows(self) -> SourceRows:
        label = self._chosen(self.options.label_column, LABEL_NAMES)
        classes = self.table.class_names(label) if label is not None else None
        paths = self._column(self.image_column) if self.images else self._column(None)
        frame = pd.DataFrame(
            {
                "row": np.arange(len(self.table)),
                "sample_id": _as_object(self._ids(paths)),
                "given_label": _as_object(self._labels(label, classes)),
                "split": _as_object(self._column(self._chosen(self.options.split_column, ("split",)))),
                "group": _as_object(self._column(self._chosen(self.options.group_column, ("group",)))),
            }
        )
        if "true_label" in self.table.names:
            frame["true_label"] = _as_object(self._column("true_label"))
        frame = frame.assign(**{name: _as_object(values) for name, values in self._meta().items()})
        frame["filepath"], frame["reason"] = map(_as_object, self._places(paths))
        frame["reason"] = self._reasons(frame)
        bad = frame["reason"].notna()
        wrong = (frame.loc[bad, name].tolist() for name in ("row", "sample_id", "filepath", "reason"))
        problems = problems_frame(
            (shown(sample_id or f"{row:08d}"), shown(filepath), reason)
            for row, sample_id, filepath, reason in zip(*wrong, strict=True)
        )
        kept = frame.loc[~bad].drop(columns="reason").reset_index(drop=True)
        return SourceRows(kept, problems, len(frame), classes or self._exported_classes(kept), self.images)

    def _meta(self) -> dict[str, Column]:
        """Return the columns that travel along; of an export of ours those that already did."""
        if self.options.meta_columns or not (self._exported or self.run):
            return meta_columns(self.table, self.options)
        return {name: self._column(name) for name in self.table.names if name.startswith(META)}

    def _ids(self, paths: Column) -> Column:
        broken, column = self.table.broken, self._chosen(self.options.id_column, ID_NAMES)
        if column is not None:
            return self._column(column)
        usable = [path for row, path in enumerate(paths) if row not in broken]
        if None not in usable and len(set(usable)) == len(usable):
            return paths
        return [f"{row:08d}" for row in range(len(paths))]

    def _labels(self, column: str | None, classes: tuple[str, ...] | None) -> Column:
        given = self._column(column)
        if classes is not None:  # Hugging Face writes -1 where a row has no label
            return [None if label == "-1" else label for label in given]
        if not self._exported or self.options.label_column is not None:
            return given
        return [final or label for final, label in zip(self._column("final_label"), given, strict=True)]

    def _places(self, paths: Column) -> tuple[Column, Column]:
        if not self.images or (isinstance(self.table, ParquetTable) and self.table.holds_images(self.image_column)):
            return [""] * len(paths), [None] * len(paths)
        placed = [self._place(path) for path in paths]
        return [filepath for filepath, _ in placed], [error for _, error in placed]

    def _place(self, path: str | None) -> tuple[str, str | None]:
        if path is not None:
            return place(path, self.path.parent)
        if not (self._exported or self.run):
            return "", "no path"
        return "", None if self._original is not None else "no path, and no run.json beside the table names the source"

    def _reasons(self, frame: pd.DataFrame) -> Any:
        """Return why each row is set aside (None: it is not); of several reasons the most telling one."""
        reasons = pd.Series(frame["reason"], dtype=object)
        if self._exported:
            excluded = np.array([action == "exclude" for action in self._column("action")], dtype=bool)
            reasons[excluded] = "excluded by an earlier review"
        for name in ("sample_id", "given_label", "split", "group"):
            unclean = frame[name].map(lambda text: text_error(text) if isinstance(text, str) else None)
            reasons = reasons.where(unclean.isna(), unclean)
        reasons[frame["sample_id"].isna().to_numpy()] = "no id"
        for row, reason in self.table.broken.items():
            reasons[row] = reason
        usable = frame.loc[reasons.isna(), "sample_id"]
        reasons[usable.index[usable.duplicated()]] = "duplicate id; the first row of this id is kept"
        return reasons

    def _exported_classes(self, frame: pd.DataFrame) -> tuple[str, ...] | None:
        """Return the class order that `run.json` gives, as long as it covers the labels."""
        names = self.run.get("classes")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
        return tuple(names) if set(frame["given_label"].dropna()) <= set(names) else None


def place(text: str, root: Path) -> tuple[str, str | None]:
    """Return a path as the absolute path of a file, and why it is refused (None: it is not).

    A relative path must stay inside `root`, links followed: somebody else's table reads no other folder by it.
    """
    if error := text_error(text):
        return shown(text).replace("\0", "\\0"), error
    path = os.path.abspath(root / text)  # noqa: PTH100 -- Path has no form that takes `..` out without following links
    if not Path(text).is_absolute() and not Path(os.path.realpath(path)).is_relative_to(root.resolve()):
        return path, "the path leaves the table's folder; write it as an absolute path if that is meant"
    return path, file_error(path)


def open_table(rest: str, options: SourceOptions, seen: frozenset[Path] = frozenset()) -> TableSource:
    """Open `table:FILE`; the path becomes absolute, so that the spec means the same from any folder."""
    if not rest:
        raise InputError("The source table needs a file. Write, for example, table:pets.csv.")
    source = TableSource(Path(os.path.abspath(expanded(rest))), options, seen)  # noqa: PTH100 -- links stay as they were named
    _ = source.table
    return source


def _as_object(values: Sequence[object]) -> Any:
    """Return an object column: pandas would else guess a type, and turn None into NaN."""
    return pd.Series(list(values), dtype=object)
