"""What every kind of source is made of: its options, its rows, the protocol, and the one careful way to read a file.

A new kind of source is one file with a class that keeps the `Source` protocol and one entry in the table of
`core.data.sources`.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

import pandas as pd

from core.errors import InputError

MAX_FILE_BYTES = 256 * 2**20  # no single image is larger; a limit keeps a mistaken path from filling the memory
MAX_NAME = 4_096  # characters of an id, a path, a label or a split; a system's longest path
PROBLEM_COLUMNS = ["sample_id", "filepath", "reason"]
ROOTS = "GRADSIFT_ROOTS"  # set for the app and the runs it starts: the folders outside of which no image is read
OUTSIDE = "outside the folders this app may read; start it with --root"
META = "meta_"  # what a column that travels along is called from then on: `annotator` becomes `meta_annotator`

Opener: TypeAlias = Callable[[str], BinaryIO]


@dataclass(frozen=True)
class SourceOptions:
    """Which columns of a table to use (None: the first known name), and the seed of what a source plants itself.

    `meta_columns` travel along as text, each as `meta_<name>`: who labelled, which camera, which batch.
    """

    id_column: str | None = None
    label_column: str | None = None
    path_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    seed: int = 0
    meta_columns: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Keep a tuple of the names, each once: files hold lists, and one text is one name."""
        names = (self.meta_columns,) if isinstance(self.meta_columns, str) else self.meta_columns
        object.__setattr__(self, "meta_columns", tuple(dict.fromkeys(names)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SourceOptions:
        """Make options from what a `run.json` or a `project.toml` holds; names that are none are left out."""
        columns = {name: values[name] for name in COLUMN_OPTIONS if isinstance(values.get(name), str)}
        seed, meta = values.get("seed", 0), values.get("meta_columns", ())
        meta = tuple(name for name in meta if isinstance(name, str)) if isinstance(meta, list | tuple) else ()
        return cls(**columns, seed=seed if isinstance(seed, int) else 0, meta_columns=meta)


COLUMN_OPTIONS = ("id_column", "label_column", "path_column", "split_column", "group_column")


@dataclass(frozen=True)
class SourceRows:
    """What a source says before any image is opened.

    Attributes:
        frame: one line per row that can be used, in the source's order: `row` (its position as read), `sample_id`,
            `filepath` (absolute, or "" where the image is no file), `given_label`, `split`, `group` (text, or None
            where there is none), where the source knows it, `true_label`, and a text column `meta_<name>` for each
            of `SourceOptions.meta_columns`.
        problems: what was set aside: `sample_id`, `filepath`, `reason`.
        n_read: how many rows were read, those set aside included; labels given by row order count these.
        classes: the class names in order where the source itself names them, else None.
        images: False where the rows are ids and labels alone, for a model that needs no image.
    """

    frame: pd.DataFrame
    problems: pd.DataFrame
    n_read: int
    classes: tuple[str, ...] | None = None
    images: bool = True


@runtime_checkable
class Source(Protocol):
    """Where images and labels come from. Sources are read, never written."""

    @property
    def spec(self) -> str:
        """The text that opens this source again from any folder (paths in it are absolute)."""
        ...

    @property
    def options(self) -> SourceOptions:
        """The options that it was opened with."""
        ...

    @property
    def flip(self) -> bool:
        """Whether a left-right mirror leaves the label true."""
        ...

    def rows(self) -> SourceRows:
        """Read ids, labels and splits, no image."""
        ...

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield the encoded image of each id in the order of storage, never all held at once."""
        ...


@runtime_checkable
class Contained(Protocol):
    """A source whose images lie in larger files below the path of its spec: a screen opens these through its roots."""

    def opened_with(self, opener: Opener) -> Source:
        """Return the source with another way to open a file, by default `open_file`."""
        ...


@dataclass(frozen=True)
class SourceKind:
    """One kind of source: what stands before the colon, what it means, an example, and how it opens.

    Attributes:
        before_path: what ends the name before the path in the rest of a spec (`torchvision:CIFAR10@ROOT`: "@").
        columns: whether its rows have further columns, which can be named.
        fetch: downloads what a spec's rest names, where a source can be downloaded.
    """

    name: str
    title: str
    meaning: str
    example: str
    open: Callable[[str, SourceOptions], Source] = field(repr=False)
    before_path: str = ""
    columns: bool = False
    fetch: Callable[[str], None] | None = field(default=None, repr=False)


def problems_frame(problems: Iterable[tuple[str, str, str]] = ()) -> pd.DataFrame:
    """Make the frame of problems from (sample_id, filepath, reason)."""
    return pd.DataFrame([tuple(map(_clipped, row)) for row in problems], columns=PROBLEM_COLUMNS, dtype=object)


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_NAME else f"{text[:100]}…"


def expanded(path: str | Path) -> Path:
    """Return the path with a leading `~` replaced by the home directory, where there is one of that name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises where `~x` is nobody's home)


def text_error(text: str) -> str | None:
    """Say what keeps a name from being written down again, or None: file names and JSON may hold what is no text."""
    if len(text) > MAX_NAME:
        return f"the name has {len(text):,} characters; {MAX_NAME:,} is the limit"
    if "\0" in text:
        return "the name holds a zero byte"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    return None


def shown(text: str) -> str:
    """Return a name that can be written down, whatever its bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def file_error(path: str | Path) -> str | None:
    """Say why a path cannot be read as a file, or None. Nothing is opened: opening a named pipe would wait for ever."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"the file cannot be reached ({error.strerror})"
    except ValueError:
        return "the name holds a zero byte"
    if stat.S_ISDIR(mode):
        return "a folder, not a file"
    return None if stat.S_ISREG(mode) else "not a regular file (a pipe, socket or device)"


def require_file(path: Path, what: str) -> None:
    """Raise InputError, naming the path and what was expected of it, unless it is a readable regular file."""
    if error := file_error(path):
        raise InputError(f"{what} {path} cannot be read: {error}. Check the path.")


def folders_of(text: str) -> list[str]:
    """Return the folders that the variable `ROOTS` names: a JSON list, or a list as in PATH where a person wrote it."""
    try:
        folders = json.loads(text or "[]")
    except ValueError:
        folders = text.split(os.pathsep)
    return [folder for folder in folders if isinstance(folder, str) and folder] if isinstance(folders, list) else []


def is_outside(path: str, roots: str) -> bool:
    """Whether a path, its links followed, lies in none of the folders of `roots` (see `folders_of`; empty: all)."""
    real, folders = Path(os.path.realpath(path)), _real_folders(roots)
    return bool(folders) and not any(real.is_relative_to(folder) for folder in folders)


@cache
def _real_folders(roots: str) -> tuple[Path, ...]:
    return tuple(Path(os.path.realpath(folder)) for folder in folders_of(roots))


def open_file(path: str) -> BinaryIO:
    """Open a regular file for reading. The open file is checked again: it may have changed since.

    Raises:
        InputError: why it cannot be read, or that it lies outside the folders that may be read.
    """
    if "\0" not in path and is_outside(path, os.environ.get(ROOTS, "")):
        raise InputError(OUTSIDE)
    if reason := file_error(path):
        raise InputError(reason)
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror or error})") from error
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise InputError("not a regular file (a pipe, socket or device)")


def read_file(path: str, opener: Opener = open_file, limit: int = MAX_FILE_BYTES) -> bytes | InputError:
    """Return a regular file's bytes, never more than `limit`, or why not."""
    try:
        with opener(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                return InputError(f"the file holds {size / 2**20:,.0f} MiB; {limit / 2**20:,.0f} is the limit")
            return file.read(limit)
    except InputError as error:
        return error
    except OSError as error:
        return InputError(f"the file cannot be read ({error.strerror or error})")


def meta_name(column: str) -> str:
    """Return what a column that travels along is called: `meta_<name>`, once."""
    return column if column.startswith(META) else META + column


def meta_text(text: str | None) -> str | None:
    """Return a value that travels along as text that can be written down, whatever its bytes."""
    return text if text is None else shown(text).replace("\0", "\\0")
