"""The table of sources. One entry per kind; `open_source("kind:rest")` opens one.

| kind | use it when |
|---|---|
| `digits` | you want real data without any file |
| `pictograms` | you want to see at a glance what a wrong label is, without any file: the demo |
| `folder` | the images lie in folders named after their classes, or beside a metadata file |
| `zip` | such a folder is packed into one file; nothing is unpacked |
| `table` | a CSV, Parquet or JSON Lines file names the images, or holds them; GradSift's own exports; ids and labels |
| `torchvision` | a data set that torchvision knows lies in its usual shape on this machine |
| `hf` | Hugging Face's `datasets` saved it, or its Parquet files were downloaded |

What a source must offer stands in `base.py`. Opening one never downloads; `fetch_source` does, where a person asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.data.sources.archive import open_zip
from core.data.sources.base import Contained, Source, SourceKind, SourceOptions, SourceRows
from core.data.sources.digits import open_digits
from core.data.sources.folder import open_folder
from core.data.sources.hub import open_hub
from core.data.sources.hub_files import fetch_hub
from core.data.sources.pictograms import open_pictograms
from core.data.sources.table import open_table
from core.data.sources.torchvision_sets import fetch_torchvision, open_torchvision
from core.errors import InputError

__all__ = [
    "SOURCES", "Contained", "Source", "SourceKind", "SourceOptions", "SourceRows", "fetch_source", "open_or_missing",
    "open_source", "register", "split_spec",
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
        "1,800 drawn pictures of ten things with planted wrong labels, hard, rare, junk, near copies; 600 to test on",
        "pictograms",
        open_pictograms,
    ),
    SourceKind(
        "folder",
        "Folder of images",
        "class folders, train/ val/ test/ of class folders, or images beside metadata.csv, .jsonl or .parquet",
        "folder:pets",
        open_folder,
        columns=True,
    ),
    SourceKind(
        "zip",
        "Zip file of images",
        "the same in one .zip file, which is read without being unpacked",
        "zip:pets.zip",
        open_zip,
        columns=True,
    ),
    SourceKind(
        "table",
        "Table of images",
        "a CSV, TSV, Parquet or JSON Lines file with a path or the image itself in each row; also an exported manifest",
        "table:pets.parquet",
        open_table,
        columns=True,
    ),
    SourceKind(
        "torchvision",
        "Data set of torchvision",
        "a data set that torchvision knows, in its usual shape below ROOT",
        "torchvision:CIFAR10@data",
        open_torchvision,
        before_path="@",
        fetch=fetch_torchvision,
    ),
    SourceKind(
        "hf",
        "Data set of Hugging Face",
        "a folder that datasets' save_to_disk wrote, a folder of Parquet files, or OWNER/NAME of the Hub",
        "hf:pets",
        open_hub,
        columns=True,
        fetch=fetch_hub,
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
    kind, options = _kind(spec), options or SourceOptions()
    if options.meta_columns and not kind.columns:
        raise InputError(
            f"The source {kind.name} has no further columns, so {options.meta_columns[0]!r} cannot travel along. "
            "Leave it out."
        )
    return kind.open(spec.partition(":")[2], options)


def fetch_source(spec: str) -> None:
    """Download what a spec names, where it is not there yet: only ever because a person asked for it.

    Raises:
        InputError: there is nothing to download for this kind of source, or the download failed (what to do is said).
    """
    kind = _kind(spec)
    if kind.fetch is None:
        able = ", ".join(each.example for each in SOURCES if each.fetch)
        raise InputError(f"Nothing can be downloaded for {spec}; only for {able}. Leave the download out.")
    kind.fetch(spec.partition(":")[2])


def split_spec(spec: str) -> tuple[str, str]:
    """Return a spec as what stands before its path and the path, "" where it has none.

    `folder:pets` is ("folder:", "pets"), `torchvision:CIFAR10@data` is ("torchvision:CIFAR10@", "data").
    """
    name, colon, rest = spec.partition(":")
    sign = next((kind.before_path for kind in SOURCES if kind.name == name), "")
    if not sign:
        return name + colon, rest
    head, at, path = rest.partition(sign)
    return name + colon + head + at, path


def _kind(spec: str) -> SourceKind:
    name = spec.partition(":")[0]
    for kind in SOURCES:
        if kind.name == name:
            return kind
    known = "; ".join(f"{kind.example} ({kind.meaning})" for kind in SOURCES)
    raise InputError(f"Unknown source {spec!r}. Write one of: {known}.")
