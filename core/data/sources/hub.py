"""`hf:PATH`: a data set of Hugging Face on this machine, read in place: no copy, no cache, no code of the data set's.

PATH is one of

- a folder that `save_to_disk` of `datasets` wrote, of one split or of several (Arrow files),
- a folder of Parquet files, as the Hub keeps them: names tell the splits (`data/train-00000-of-00002.parquet`),
- OWNER/NAME of the Hub, once its Parquet files were downloaded (needs the extra `hf`; a folder needs nothing more).

The image column is the one that the file declares as images, the label column the one that it declares as classes.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.data.sources.base import (
    OUTSIDE,
    ROOTS,
    Opener,
    SourceOptions,
    SourceRows,
    expanded,
    is_outside,
    meta_name,
    meta_text,
    open_file,
    problems_frame,
    read_file,
    shown,
    text_error,
)
from core.data.sources.hub_files import REPOSITORY, Part, advice, fetched, find_parts
from core.data.sources.table import ID_NAMES, LABEL_NAMES, place
from core.data.sources.tabular import BATCH_ROWS, as_text
from core.errors import InputError

IMAGE_NAMES = ("image", "img", "pixel_values")
LABELS = (*LABEL_NAMES, "labels", "fine_label")


@dataclass(frozen=True)
class Columns:
    """Which columns hold what. `label_names` are the class names that the file declares."""

    image: str
    label: str | None
    label_names: tuple[str, ...] | None
    others: Mapping[str, str]  # id, split, group and what travels along: column by our name


@dataclass(frozen=True)
class HubSource:
    """A data set of Hugging Face as a source. `folder` is absolute, `name` what the spec says."""

    name: str
    folder: Path
    options: SourceOptions
    opener: Opener = open_file
    flip: bool = True

    @property
    def spec(self) -> str:
        """`hf:` and the absolute path, or the name on the Hub."""
        return f"hf:{self.name}"

    def opened_with(self, opener: Opener) -> HubSource:
        """Return the source with another way to open its files."""
        return replace(self, opener=opener)

    def rows(self) -> SourceRows:
        """Read the columns that are needed, no image.

        Raises:
            InputError: no image column, a named column is not there, or a file is damaged.
        """
        return self._rows

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield the encoded image of each id in the order of the files."""
        frame = self._rows.frame
        known = frame.loc[frame["sample_id"].isin(set(ids)), ["row", "sample_id"]]
        names = dict(zip(known["row"].tolist(), known["sample_id"].tolist(), strict=True))
        missing = set(ids) - set(names.values())
        yield from ((each, InputError("no such row in the data set")) for each in ids if each in missing)
        start = 0
        for part, count in zip(self._parts, self._counts, strict=True):
            wanted = [row - start for row in names if start <= row < start + count]
            for row, cell in self._images(part, wanted):
                yield names[start + row], self._image(part, cell)
            start += count

    def _image(self, part: Part, cell: Any) -> bytes | InputError:
        data, path = (cell.get("bytes"), as_text(cell.get("path"))) if isinstance(cell, dict) else (cell, None)
        if isinstance(data, bytes):
            return data
        if path is None:
            return InputError("the row holds no image")
        filepath, error = place(path, part.path.parent)
        if error and not Path(path).is_absolute():
            return InputError(error)
        return read_file(filepath, self.opener)  # says itself why not, once it knows that the path may be read

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        return find_parts(self.folder)

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        counts = []
        for part in self._parts:
            with self._opened(part) as file:
                counts.append(file.rows)
        return tuple(counts)

    @cached_property
    def _schema(self) -> pa.Schema:
        with self._opened(self._parts[0]) as file:
            return file.schema

    @cached_property
    def _columns(self) -> Columns:
        return choose_columns(self._schema, self.options, str(self.folder))

    @cached_property
    def _rows(self) -> SourceRows:
        columns = self._columns
        chosen = {**columns.others, **({"given_label": columns.label} if columns.label else {})}
        values: dict[str, list[str | None]] = {name: [] for name in chosen}
        splits: list[str | None] = []
        for part, count in zip(self._parts, self._counts, strict=True):
            splits += [part.split] * count
            for batch in self._batches(part, sorted(set(chosen.values()))) if chosen else ():
                for name, column in chosen.items():
                    values[name] += [as_text(value) for value in batch.column(column).to_pylist()]
        blank: list[str | None] = [None] * len(splits)
        found = {name: values.get(name, blank) for name in ("given_label", "group")}
        if columns.label_names is not None:  # a row without a label is written as -1
            found["given_label"] = [None if label == "-1" else label for label in found["given_label"]]
        found["split"] = values.get("split", splits)
        found["sample_id"] = values["sample_id"] if "sample_id" in values else _numbered(found["split"])
        meta = {name: [meta_text(text) for text in values[name]] for name in map(meta_name, self.options.meta_columns)}
        truth = {name: values[name] for name in ("true_label",) if name in values}
        return _source_rows({**found, **truth, **meta}, columns.label_names)

    def _images(self, part: Part, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield (row, cell of the image column) of the wanted rows of a file, a few hundred rows held at a time."""
        left = sorted(wanted, reverse=True)
        start = 0
        for batch in self._batches(part, [self._columns.image]) if left else ():
            stop = start + batch.num_rows
            while left and left[-1] < stop:
                row = left.pop()
                yield row, batch.column(0)[row - start].as_py()
            if not left:
                return
            start = stop

    def _batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self._opened(part) as file:
            if missing := [name for name in columns if name not in file.schema.names]:
                raise InputError(f"{part.path} has no column {missing[0]!r}, as the other files have. Copy it again.")
            yield from file.batches(columns)

    @contextmanager
    def _opened(self, part: Part) -> Iterator[_File]:
        try:
            handle = self.opener(str(part.path))
        except InputError as error:
            raise InputError(f"{part.path} cannot be read: {error}.") from error
        try:
            with handle:
                yield _Arrow(handle) if part.is_arrow else _Parquet(handle)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{part.path} is cut short or damaged. Copy it again.") from error


class _File(Protocol):
    schema: pa.Schema
    rows: int

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]: ...


class _Parquet:
    def __init__(self, file: BinaryIO) -> None:
        self._file = pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
        self.schema: pa.Schema = self._file.schema_arrow
        self.rows: int = self._file.metadata.num_rows

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self._file.iter_batches(BATCH_ROWS, columns=list(columns))


class _Arrow:
    """An Arrow stream mapped into memory: of columns that are not asked for nothing is read."""

    def __init__(self, file: BinaryIO) -> None:
        if not os.fstat(file.fileno()).st_size:
            raise pa.ArrowInvalid("empty")  # which cannot be mapped
        self._map = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self.schema: pa.Schema = self._stream().schema
        self.rows: int = sum(batch.num_rows for batch in self._stream())

    def _stream(self) -> Any:
        return pa.ipc.open_stream(pa.BufferReader(self._map))

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in self._stream():
            yield batch.select(list(columns))


def _numbered(splits: Sequence[str | None]) -> list[str | None]:
    """Return `train/00000012` and so on: the split and the row's number in it."""
    counts: dict[str | None, int] = {}
    ids: list[str | None] = []
    for split in splits:
        number = counts[split] = counts.get(split, -1) + 1
        ids.append(f"{split}/{number:08d}" if split else f"{number:08d}")
    return ids


def _source_rows(columns: Mapping[str, Sequence[str | None]], classes: tuple[str, ...] | None) -> SourceRows:
    """Return the rows that can be used, and why the others cannot."""
    frame = pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in columns.items()})
    frame = frame.assign(row=np.arange(len(frame)), filepath="")
    reasons = pd.Series([None] * len(frame), dtype=object)
    for name in ("sample_id", "given_label", "split", "group"):
        unclean = frame[name].map(lambda text: text_error(text) if isinstance(text, str) else None)
        reasons = reasons.where(unclean.isna(), unclean)
    reasons[frame["sample_id"].isna().to_numpy()] = "no id"
    usable = frame.loc[reasons.isna(), "sample_id"]
    reasons[usable.index[usable.duplicated()]] = "duplicate id; the first row of this id is kept"
    bad = reasons.notna()
    aside = zip(frame.loc[bad, "row"], frame.loc[bad, "sample_id"], reasons[bad], strict=True)
    problems = problems_frame((shown(name or f"{row:08d}"), "", reason) for row, name, reason in aside)
    return SourceRows(frame.loc[~bad].reset_index(drop=True), problems, len(frame), classes)


def choose_columns(schema: pa.Schema, options: SourceOptions, name: str) -> Columns:
    """Work out which columns hold what: what an option names, else what the file declares, else the known names.

    Raises:
        InputError: there is no image column, several could be the label, or a named column is not there.
    """
    declared = features(schema)
    images = [each for each in schema.names if _holds_images(schema.field(each).type)]
    told = [each for each in images if _declared(declared, each) == "Image"]
    known = [each for each in (*IMAGE_NAMES, *images) if each in images]
    image = options.path_column or next(iter(told or known), None)
    if image is None:
        raise InputError(f"{name} has no column of images; its columns are {', '.join(schema.names)}. Name one.")
    labels = [each for each in schema.names if _declared(declared, each) == "ClassLabel"]
    by_name = [each for each in LABELS if each in schema.names]
    if options.label_column is None and len(labels) > 1 and not set(by_name) & set(labels):
        raise InputError(f"{name} has several columns of classes: {', '.join(labels)}. Name one with --label-column.")
    good = [each for each in by_name if each in labels] or labels or by_name
    label = options.label_column or next(iter(good), None)
    id_column = options.id_column or next((each for each in ID_NAMES[:1] if each in schema.names), None)
    group = options.group_column or ("group" if "group" in schema.names else None)
    truth = "true_label" if "true_label" in schema.names else None
    others = {"sample_id": id_column, "split": options.split_column, "group": group, "true_label": truth}
    others |= {meta_name(each): each for each in options.meta_columns}
    chosen = {ours: theirs for ours, theirs in others.items() if theirs}
    for column in (image, label, *chosen.values()):
        if column is not None and schema.names.count(column) != 1:
            raise InputError(f"Column {column!r} is not there in {name}; its columns are {', '.join(schema.names)}.")
    return Columns(image, label, _class_names(declared, label), chosen)


def features(schema: pa.Schema) -> Mapping[str, Any]:
    """Return what `datasets` declares of the columns, or nothing."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _declared(declared: Mapping[str, Any], column: str) -> str | None:
    kind = declared.get(column)
    return kind.get("_type") if isinstance(kind, dict) else None


def _class_names(declared: Mapping[str, Any], column: str | None) -> tuple[str, ...] | None:
    kind = declared.get(column) if column else None
    names = kind.get("names") if isinstance(kind, dict) else None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _holds_images(kind: pa.DataType) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return bool(binary or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0))


def open_hub(rest: str, options: SourceOptions) -> HubSource:
    """Open `hf:PATH`; a path becomes absolute, so that the spec means the same from any folder."""
    if not rest:
        raise InputError("The source hf needs a folder. Write, for example, hf:pets.")
    folder = Path(os.path.abspath(expanded(rest)))  # noqa: PTH100 -- links stay as they were named
    name = str(folder)
    if not folder.exists() and REPOSITORY.fullmatch(rest):
        name, folder = rest, fetched(rest)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"The folder {folder} {what}. {advice(rest)}")
    if is_outside(str(folder), os.environ.get(ROOTS, "")):
        raise InputError(f"The source hf:{name} is {OUTSIDE}.")
    source = HubSource(name, folder, options)
    _ = source._parts
    return source
