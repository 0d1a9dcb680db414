"""One door for tables of any format: names first, then single columns, as plain Python values.

- `TextTable`: CSV, TSV and JSON Lines, read once as text; a line that cannot be used is listed in `broken`.
- `ParquetTable`: reads the columns asked for and nothing else; `images` streams the bytes of an image column.

`open_tabular` chooses by the file's ending.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from core.data.sources.base import require_file
from core.errors import InputError

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
BATCH_ROWS = 256  # rows of a Parquet image column held at once


@dataclass(frozen=True)
class TextTable:
    """A table held as text. `broken` maps a row's position to why the row cannot be used."""

    path: Path
    names: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[str]]
    broken: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str | None]:
        """Return one column as text, None where a cell is empty or missing."""
        at = require_column(self, name)
        return [as_text(row.get(name) if isinstance(row, Mapping) else row[at]) for row in self.rows]

    def class_names(self, name: str) -> tuple[str, ...] | None:
        """Return the class names that the file declares for a column: a text table declares none."""
        return None


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file, read column by column."""

    path: Path
    names: tuple[str, ...]
    schema: pa.Schema
    n_rows: int
    broken: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.n_rows

    def holds_images(self, name: str) -> bool:
        """Whether a column holds the images themselves: bytes, or Hugging Face's struct of bytes and path."""
        kind = self.schema.field(name).type
        return _is_bytes(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)

    def column(self, name: str) -> list[str | None]:
        """Return one column as text; of a struct its `path`; of bytes nothing, as images are read by `images`."""
        require_column(self, name)
        kind = self.schema.field(name).type
        if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            values = [value and value.get("path") for value in self._read(f"{name}.path").to_pylist()]
        elif self.holds_images(name):
            values = [None] * self.n_rows
        elif pa.types.is_nested(kind):
            raise InputError(f"Column {name!r} of {self.path} holds {kind}, not text or numbers. Name another column.")
        else:
            values = self._read(name).to_pylist()
        return [as_text(value) for value in values]

    def class_names(self, name: str) -> tuple[str, ...] | None:
        """Return the class names that Hugging Face declares in the file for an integer label column, if it does."""
        try:
            info = json.loads((self.schema.metadata or {})[b"huggingface"])
            names = info["info"]["features"][name]["names"]
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
        good = isinstance(names, list) and all(isinstance(each, str) for each in names)
        return tuple(names) if good and pa.types.is_integer(self.schema.field(name).type) else None

    def images(self, name: str, wanted: Iterable[int]) -> Iterator[tuple[int, bytes | None, str | None]]:
        """Yield (row, bytes, path) of the wanted rows in the file's order, a few hundred rows in memory at a time."""
        left = sorted(set(wanted), reverse=True)
        with _arrow(self.path), pq.ParquetFile(self.path, buffer_size=2**20, pre_buffer=False) as file:
            start = 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                if left and left[-1] < stop:
                    yield from self._group(file, group, start, name, left)
                start = stop

    def _group(
        self, file: pq.ParquetFile, group: int, start: int, name: str, left: list[int]
    ) -> Iterator[tuple[int, bytes | None, str | None]]:
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[name]):
            stop = start + batch.num_rows
            while left and left[-1] < stop:
                row = left.pop()
                yield (row, *_image_cell(batch.column(0)[row - start].as_py()))
            if not left:
                return
            start = stop

    def _read(self, column: str) -> Any:
        with _arrow(self.path), pq.ParquetFile(self.path) as file:
            return file.read(columns=[column]).column(0)


Tabular: TypeAlias = TextTable | ParquetTable


def open_tabular(path: Path) -> Tabular:
    """Open a table by its ending.

    Raises:
        InputError: the file is missing, of an unknown format, not UTF-8, empty, or damaged.
    """
    kind = ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path.name} is no table that can be read; give one that ends in {', '.join(ENDINGS)}.")
    require_file(path, "The table")
    if kind == "parquet":
        return _open_parquet(path)
    with path.open("rb") as file:
        start = file.read(4)
    if b"\0" in start or start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path} is not in the encoding UTF-8 (it looks like UTF-16 or UTF-32). Save it as UTF-8.")
    try:
        return _open_jsonl(path) if kind == "jsonl" else _open_csv(path, "\t" if kind == "tsv" else None)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not in the encoding UTF-8 ({_foreign(path)}). Save it as UTF-8.") from error


def _foreign(path: Path) -> str:
    """Say where a text is not UTF-8, and what the byte is where Windows wrote it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start : error.start + 1]
                letter = byte.decode("cp1252", "ignore")
                meant = f", {letter!r} in Windows-1252 and Latin-1" if letter.isalpha() else ""
                return f"byte {byte[0]:#04x} in line {number:,}{meant}"
    return "it changed while it was read"


def require_column(table: Tabular, name: str) -> int:
    """Return the place of a column that must be there exactly once, or raise InputError listing the columns."""
    if (count := table.names.count(name)) != 1:
        has = "is not there" if count == 0 else f"is there {count} times"
        raise InputError(f"Column {name!r} {has} in {table.path}; its columns are {', '.join(table.names)}.")
    return table.names.index(name)


def choose_column(table: Tabular, named: str | None, known: Sequence[str]) -> str | None:
    """Return the column that an option names, else the first of the known names that is there, else None."""
    chosen = named if named is not None else next((name for name in known if name in table.names), None)
    if chosen is not None:
        require_column(table, chosen)
    return chosen


def as_text(value: object) -> str | None:
    """Return a cell as text, None where it is empty; whole numbers have no decimal point, whatever their type."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape") or None
    if isinstance(value, dict):
        return as_text(value.get("path"))
    text = str(value)
    return text if text.strip() else None


def _open_csv(path: Path, separator: str | None) -> TextTable:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        file.seek(0)
        reader = _Lines(csv.reader(file, delimiter=separator or _separator(header)), path)
        names = tuple(next(reader, ()))
        rows, broken = _csv_rows(reader, len(names))
    if not names:
        raise InputError(f"{path} is empty. Give a table whose first line names the columns.")
    return TextTable(path, names, rows, broken)


def _separator(header: str) -> str:
    return next((sign for sign in ",;\t" if sign in header), ",")


class _Lines:
    """The rows of a CSV reader; `line` is where the latest one ends."""

    def __init__(self, reader: Any, path: Path) -> None:
        self.reader, self.path, self.line = reader, path, 0

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        try:
            row: list[str] = next(self.reader)
        except csv.Error as error:
            long = f"a field of it has more than {csv.field_size_limit():,} characters; is a quote missing?"
            why = long if "field limit" in str(error) else str(error)
            raise InputError(
                f"Line {self.line + 1:,} of {self.path} cannot be read as CSV ({why}). Repair it."
            ) from error
        self.line = self.reader.line_num
        return row


def _csv_rows(reader: _Lines, width: int) -> tuple[list[list[str]], dict[int, str]]:
    rows: list[list[str]] = []
    broken: dict[int, str] = {}
    for row in reader:
        if not row:
            continue
        if len(row) != width:
            broken[len(rows)] = f"line {reader.line} has {len(row)} fields, the header {width}"
            row = [""] * width
        rows.append(row)
    return rows, broken


def _open_jsonl(path: Path) -> TextTable:
    rows: list[dict[str, Any]] = []
    broken: dict[int, str] = {}
    names: dict[str, None] = {}
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if not isinstance(row := _json(line), dict):
                broken[len(rows)] = f"line {number} is not a JSON object"
                row = {}
            names.update(dict.fromkeys(row))
            rows.append(row)
    if not names:
        raise InputError(f"{path} holds no rows. Give one JSON object per line.")
    return TextTable(path, tuple(names), rows, broken)


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _open_parquet(path: Path) -> ParquetTable:
    with _arrow(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        return ParquetTable(path, tuple(schema.names), schema, file.metadata.num_rows)


class _arrow:
    """Turns whatever Arrow says of a damaged file into one plain line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError):
            raise InputError(f"{self.path} is no whole Parquet file (cut short or damaged). Copy it again.") from error


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _image_cell(cell: Any) -> tuple[bytes | None, str | None]:
    if isinstance(cell, dict):
        return cell.get("bytes"), as_text(cell.get("path"))
    return cell, None
