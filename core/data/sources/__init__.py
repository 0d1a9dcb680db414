"""The table of sources. One entry per kind; `open_source("kind:rest")` opens one.

| kind | use it when |
|---|---|
| `digits` | you want real data without any file |
| `pictograms` | you want to see at a glance what a wrong label is, without any file: the demo |
| `folder` | the images lie in folders named after their classes, or beside a metadata file |
| `table` | a CSV, Parquet or JSON Lines file names the images, or holds them; also GradSift's own exports |

What a source must offer stands in `base.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.data.sources.base import Source, SourceKind, SourceOptions, SourceRows
from core.data.sources.digits import open_digits
from core.data.sources.folder import open_folder
from core.data.sources.pictograms import open_pictograms
from core.data.sources.table import open_table
from core.errors import InputError

__all__ = [
    "SOURCES", "Source", "SourceKind", "SourceOptions", "SourceRows", "open_or_missing", "open_source", "register",
]  # fmt: skip


def register(*kinds: SourceKind) -> tuple[SourceKind, ...]:
    """Return the kinds as a table; two of the same name are a mistake that names both."""
    table: dict[str, SourceKind] = {}
    for kind in kinds:
        if kind.name in table:
            raise ValueError(f"Two sources are named {kind.name!r}: {table[kind.name].title!r} and {kind.title!r}.")
        table[kind.name] = kind
    return tuple(table.values())


SOURCES: tuple[SourceKind, ...] = register(
    SourceKind(
        "digits",
        "Built-in digits",
        "scikit-learn's 1,797 handwritten digits with 10 % planted label errors, the truth beside them",
        "digits",
        open_digits,
    ),
    SourceKind(
        "pictograms",
        "Built-in pictograms",
        "1,800 drawn pictures of ten things with planted label errors, hard, rare and junk pictures, and near copies",
        "pictograms",
        open_pictograms,
    ),
    SourceKind(
        "folder",
        "Folder of images",
        "class folders, train/ val/ test/ of class folders, or images beside metadata.csv, .jsonl or .parquet",
        "folder:pets",
        open_folder,
    ),
    SourceKind(
        "table",
        "Table of images",
        "a CSV, TSV, Parquet or JSON Lines file with a path or the image itself in each row; also an exported manifest",
        "table:pets.parquet",
        open_table,
    ),
)


@dataclass(frozen=True)
class MissingSource:
    """A source that cannot be opened now: rows that were read before stay usable, images and new rows do not."""

    spec: str
    options: SourceOptions
    error: InputError
    flip: bool = True

    def rows(self) -> SourceRows:
        """Raise what opening the source raised."""
        raise self.error

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Raise what opening the source raised."""
        raise self.error


def open_or_missing(spec: str, options: SourceOptions) -> Source:
    """Open a source whose rows are known already; where it is gone, say so only when its images are asked for."""
    try:
        return open_source(spec, options)
    except InputError as error:
        return MissingSource(spec, options, error)


def open_source(spec: str, options: SourceOptions | None = None) -> Source:
    """Open a source by its spec, `kind` or `kind:rest`. No image is read yet.

    Raises:
        InputError: the kind is unknown (the message lists the kinds), or what follows it cannot be opened.
    """
    name, _, rest = spec.partition(":")
    for kind in SOURCES:
        if kind.name == name:
            return kind.open(rest, options or SourceOptions())
    known = "; ".join(f"{kind.example} ({kind.meaning})" for kind in SOURCES)
    raise InputError(f"Unknown source {spec!r}. Write one of: {known}.")
