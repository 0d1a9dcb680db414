"""Labels and class names that come from a file of their own.

- `LabelTable`: labels that replace the source's, by `sample_id` or by row order; `label_files.py` reads them.
- `read_classes`: the class names in order, from a file with one name per line or from a sequence.
- `name_labels`: turns labels as they were read into class names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from core.data.sources.base import SourceRows, require_file, text_error
from core.errors import InputError

INTEGER = re.compile(r"-?[0-9]{1,18}")
DECIMAL = re.compile(r"(-?[0-9]{1,18})\.0+")
TRAIN = ("train", "training")


@dataclass(frozen=True)
class LabelTable:
    """Labels read from a file. `ids` is None where they belong to rows by order."""

    name: str
    values: tuple[str | None, ...]
    ids: tuple[str, ...] | None = None

    def replace_in(self, rows: SourceRows) -> SourceRows:
        """Return the rows with these labels; a row without one has None.

        Raises:
            InputError: another number of labels than rows, or not a single id in common.
        """
        if self.ids is None:
            labels = self._by_order(rows)
        else:
            by_id = dict(zip(self.ids, self.values, strict=True))
            self._check_overlap(by_id, rows)
            labels = [by_id.get(sample_id) for sample_id in rows.frame["sample_id"]]
        for sample_id, label in zip(rows.frame["sample_id"], labels, strict=True):
            if isinstance(label, str) and (error := text_error(label)):
                raise InputError(f"The label of {sample_id} in {self.name} {error}. Fix that label.")
        return replace(rows, frame=rows.frame.assign(given_label=pd.Series(labels, dtype=object)))

    def _by_order(self, rows: SourceRows) -> list[str | None]:
        if len(self.values) == rows.n_read:
            return [self.values[row] for row in rows.frame["row"]]
        train = [split is not None and split.strip().lower() in TRAIN for split in rows.frame["split"]]
        if len(self.values) != sum(train) or len(rows.frame) != rows.n_read:
            also = f" or its {sum(train):,} training rows" if 0 < sum(train) < rows.n_read else ""
            raise InputError(
                f"{self.name} holds {len(self.values):,} labels but the source has {rows.n_read:,} rows; labels by row "
                f"order must be as many as its rows{also}. Give the array of this source, or a table with sample_id."
            )
        new, own = (_in_words(labels, rows.classes) for labels in (self.values, rows.frame["given_label"].tolist()))
        left = iter(new)
        return [next(left) if is_train else kept for is_train, kept in zip(train, own, strict=True)]

    def _check_overlap(self, by_id: dict[str, str | None], rows: SourceRows) -> None:
        ids = rows.frame["sample_id"]
        if len(ids) and not any(sample_id in by_id for sample_id in ids):
            theirs = next(iter(by_id), "nothing")
            raise InputError(
                f"No id of {self.name} is one of the source's: it has {theirs!r}, the source has {ids.iloc[0]!r}. "
                "Write the source's ids in its column sample_id."
            )


def _in_words(labels: Sequence[str | None], classes: tuple[str, ...] | None) -> list[str | None]:
    """Return labels as class names where they are numbers of classes; labels of two origins may differ in this."""
    codes = {str(code): name for code, name in enumerate(classes or ())}
    known = {label for label in labels if label is not None}
    return [codes[label] if label else label for label in labels] if known <= set(codes) else list(labels)


def alike(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the classes whose names differ in nothing but case and spaces, such as `cat ` beside `Cat`, in groups."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(" ".join(name.split()).casefold(), []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def split_column(text: str) -> tuple[Path, str | None]:
    """Split `FILE[:COLUMN]` at the last colon, unless the whole is the name of a file."""
    head, colon, tail = text.rpartition(":")
    if not colon or not head or Path(text).exists():
        return Path(text), None
    return Path(head), tail or None


def read_classes(classes: Sequence[str] | Path) -> tuple[str, ...]:
    """Return the class names in order: integer labels index into them.

    Raises:
        InputError: the file cannot be read, a name comes twice, or there are fewer than 2.
    """
    if isinstance(classes, Path):
        require_file(classes, "The class file")
        try:
            lines = classes.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"The class file {classes} is not in the encoding UTF-8. Save it as UTF-8.") from error
        names = tuple(line.strip() for line in lines if line.strip())
    else:
        names = tuple(classes)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"The class {twice[0]!r} is named twice. Name each class once.")
    if len(names) < 2:
        raise InputError(f"There are {len(names)} class names. Name at least 2, one per line.")
    return names


def name_labels(
    labels: Sequence[str], ids: Sequence[str], classes: tuple[str, ...] | None
) -> tuple[list[str], tuple[str, ...]]:
    """Return the labels as class names, and the classes in order.

    Without `classes` the labels are the names, sorted (as numbers where all are whole numbers). With them, labels that
    are all names stay, and labels that are all whole numbers from 0 index into the names.

    Raises:
        InputError: a label is not among the classes (the message counts the rows), or class names are numbers in an
            order of their own, so that a label could mean either of two classes.
    """
    labels = _whole(labels)
    distinct = set(labels)
    if classes is None:
        numbers = all(INTEGER.fullmatch(label) for label in distinct)
        return labels, tuple(sorted(distinct, key=lambda label: (int(label), label)) if numbers else sorted(distinct))
    indexed = {str(code): name for code, name in enumerate(classes)}
    if distinct <= set(classes):
        if set(indexed) == set(classes) and tuple(indexed) != classes:
            raise InputError(
                "The class names are the numbers of the classes in another order, so a label could mean two classes. "
                "Name the classes in words, or in the order 0, 1, 2 …"
            )
        return labels, classes
    if distinct <= set(indexed):
        return [indexed[label] for label in labels], classes
    raise _unknown(labels, ids, classes, set(classes) if distinct & set(classes) else set(indexed) | set(classes))


def _whole(labels: Sequence[str]) -> list[str]:
    """Take `.0` from labels where all have it: a table with an empty cell writes whole numbers so."""
    matches = [DECIMAL.fullmatch(label) for label in labels]
    return [match[1] for match in matches if match] if all(matches) else list(labels)


def _unknown(labels: Sequence[str], ids: Sequence[str], classes: tuple[str, ...], known: set[str]) -> InputError:
    wrong = [row for row, label in enumerate(labels) if label not in known]
    shown = ", ".join(classes[:10]) + (" …" if len(classes) > 10 else "")
    rows = "1 row has" if len(wrong) == 1 else f"{len(wrong):,} rows have"
    return InputError(
        f"Label {labels[wrong[0]]!r} (sample {ids[wrong[0]]}) is not among the {len(classes)} classes ({shown}); "
        f"{rows} such a label. Fix the row, or name it in the class file."
    )
