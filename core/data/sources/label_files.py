"""Labels from a file of their own, in the shapes in which people have them.

| file | joined by |
|---|---|
| `.csv .tsv .parquet .jsonl` with a column of ids (`sample_id`, `id`, a path, or an unnamed first column) | id |
| `.json`: one object `{id: label}`, FiftyOne's `{"classes": [...], "labels": {id: number}}`, or a list of rows | id |
| `.npz` with an array of ids (`sample_id`, `ids` ...) beside the labels | id |
| `.npy`, `.npz` without one | row order |
| cleanlab's issues, saved without an id | row order |

A file of torch or a pickle is refused: loading one runs whatever code it holds.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.data.sources.base import read_file, require_file
from core.data.sources.labels import INTEGER, LabelTable, split_column
from core.data.sources.table import ID_NAMES, LABEL_NAMES, PATH_NAMES
from core.data.sources.tabular import ENDINGS, Tabular, as_text, choose_column, open_tabular
from core.errors import InputError

PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")
ID_ARRAYS = (*ID_NAMES, "ids", "sample_ids", *PATH_NAMES, "filepaths", "paths")
UNNAMED = ("", "Unnamed: 0", "index", "__index_level_0__")  # what an index without a name is written as
CLEANLAB = "is_label_issue"
Pairs = Iterable[tuple[str | None, str | None]]


def read_labels(text: str) -> LabelTable:
    """Read `FILE` or `FILE:COLUMN` (of an `.npz`: `FILE:KEY`).

    Raises:
        InputError: the file is missing, damaged or a pickle, the column or key is not there, or two rows of one id
            disagree.
    """
    path, column = split_column(text)
    require_file(path, "The label file")
    ending = path.suffix.lower()
    if ending in PICKLED:
        raise InputError(
            f"{path.name} is a file of torch or a pickle, and loading one runs whatever code it holds, so it is not "
            "read. If you trust whoever made it, load it yourself once and save plain arrays: "
            "`numpy.savez('labels.npz', **torch.load(FILE, weights_only=False))`, then give labels.npz:KEY."
        )
    if ending in (".npy", ".npz"):
        return _array_labels(path, column)
    if ending not in ENDINGS:
        raise InputError(f"{path.name} is no label file; give one that ends in .npz, .npy, {', '.join(ENDINGS)}.")
    found = _document_labels(path, column) if ending == ".json" else None
    return found or _table_labels(path, column)


def _array_labels(path: Path, key: str | None) -> LabelTable:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return LabelTable(path.name, _texts(loaded, path))
        with loaded as archive:
            return _archive_labels(archive, path, key)
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} cannot be read as arrays of numbers or text (damaged, or pickled objects)."
        ) from error


def _archive_labels(archive: Any, path: Path, key: str | None) -> LabelTable:
    keys = list(archive.files)
    id_key = next((name for name in ID_ARRAYS if name in keys and name != key), None)
    others = [name for name in keys if name != id_key]
    key = next((name for name in LABEL_NAMES if name in others), None) if key is None and id_key else key
    if key is None and len(others) == 1:
        key = others[0]
    if key not in keys:
        what = f"has no array {key!r}" if key else f"holds {len(keys)} arrays"
        raise InputError(f"{path.name} {what}; write {path.name}:KEY with one of {', '.join(others)}.")
    labels = _texts(archive[key], path)
    ids = _texts(archive[id_key], path) if id_key else None
    if ids is None or len(ids) != len(labels):
        return LabelTable(path.name, labels)  # an array of another length belongs to something else
    return _by_id(path, zip(ids, labels, strict=True))


def _texts(array: Any, path: Path) -> tuple[str | None, ...]:
    if array.ndim != 1 or array.dtype.kind not in "iufbUS":
        raise InputError(
            f"{path.name} holds an array of {array.dtype} {array.shape}; labels are one number or text each."
        )
    return tuple(as_text(value) for value in array.tolist())


def _document_labels(path: Path, column: str | None) -> LabelTable | None:
    """Return the labels of a file that is one JSON object or list; None where it is JSON Lines."""
    data = read_file(str(path))
    if isinstance(data, InputError):
        raise InputError(f"The label file {path} cannot be read: {data}.")
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, _Pairs):
        return _mapped(path, found)
    if isinstance(found, list) and found and all(isinstance(row, _Pairs) for row in found):
        return _listed(path, [dict(row) for row in found], column)
    raise InputError(f"{path} holds neither one object of labels by id nor a list of rows. Write {{id: label}}.")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every key that was written, those that come twice included."""


def _mapped(path: Path, pairs: _Pairs) -> LabelTable | None:
    whole = dict(pairs)
    names, labels = whole.get("classes"), whole.get("labels")
    if isinstance(names, list) and isinstance(labels, _Pairs):
        return _by_id(path, ((key, _named(as_text(value), tuple(map(str, names)))) for key, value in labels))
    row = (set(ID_NAMES) | set(PATH_NAMES)) & set(whole) and set(LABEL_NAMES) & set(whole)
    if row:  # JSON Lines of a single line
        return None
    if any(isinstance(value, list | dict) for value in whole.values()):
        raise InputError(f"{path} gives {pairs[0][0]!r} something that is no label. Write {{id: label}}.")
    return _by_id(path, ((key, as_text(value)) for key, value in pairs))


def _listed(path: Path, rows: Sequence[Mapping[str, Any]], column: str | None) -> LabelTable:
    names = list(dict.fromkeys(name for row in rows for name in row))
    key = next((name for name in (*ID_NAMES, *PATH_NAMES) if name in names), None)
    label = column or next((name for name in LABEL_NAMES if name in names), None)
    if key is None or label not in names:
        raise InputError(f"{path} needs sample_id and label in its rows; it has {', '.join(names)}. Add them.")
    return _by_id(path, ((as_text(row.get(key)), as_text(row.get(label))) for row in rows))


def _table_labels(path: Path, column: str | None) -> LabelTable:
    table = open_tabular(path)
    id_column = choose_column(table, None, (*ID_NAMES, *PATH_NAMES)) or _unnamed(table)
    cleanlab = CLEANLAB in table.names
    if id_column is None and not cleanlab:
        raise InputError(
            f"{path} has no column sample_id to join the labels by; its columns are {', '.join(table.names)}. Add one."
        )
    label_column = choose_column(table, column, LABEL_NAMES)
    others = [name for name in table.names if name != id_column]
    if label_column is None and len(others) != 1:
        raise InputError(
            f"{path} has no column label; its columns are {', '.join(table.names)}. Write {path.name}:COLUMN."
        )
    label_column = label_column or others[0]
    names = table.class_names(label_column)
    labels = [_named(label, names) for label in table.column(label_column)]
    if id_column is None:
        return LabelTable(path.name, tuple(labels))
    return _by_id(path, zip(table.column(id_column), labels, strict=True))


def _unnamed(table: Tabular) -> str | None:
    """Return the column of an index without a name, unless it only counts the rows."""
    name = table.names[0] if table.names[0] in UNNAMED else table.names[-1]
    if name not in UNNAMED:
        return None
    return None if table.column(name) == [str(row) for row in range(len(table))] else name


def _named(label: str | None, names: tuple[str, ...] | None) -> str | None:
    """Return a label as its class name where the file itself says what its numbers mean; -1 means none."""
    if names is None or label is None or not INTEGER.fullmatch(label):
        return label
    return names[int(label)] if 0 <= int(label) < len(names) else None


def _by_id(path: Path, pairs: Pairs) -> LabelTable:
    labels: dict[str, str | None] = {}
    for sample_id, label in pairs:
        if sample_id is not None and labels.setdefault(sample_id, label) != label:
            raise InputError(f"{path} gives {sample_id!r} two labels, {labels[sample_id]!r} and {label!r}. Keep one.")
    return LabelTable(path.name, tuple(labels.values()), tuple(labels))
