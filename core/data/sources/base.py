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
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from core.errors import InputError

MAX_FILE_BYTES = 256 * 2**20  # no single image is larger; a limit keeps a mistaken path from filling the memory
PROBLEM_COLUMNS = ["sample_id", "filepath", "reason"]
ROOTS = "GRADSIFT_ROOTS"  # set for the app and the runs it starts: the folders outside of which no image is read
OUTSIDE = "outside the folders this app may read; start it with --root"


@dataclass(frozen=True)
class SourceOptions:
    """Which columns of a table to use (None: the first known name), and the seed of what a source plants itself."""

    id_column: str | None = None
    label_column: str | None = None
    path_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    seed: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SourceOptions:
        """Make options from what a `run.json` or a `project.toml` holds; names that are none are left out."""
        columns = {name: values[name] for name in cls.__dataclass_fields__ if isinstance(values.get(name), str)}
        seed = values.get("seed", 0)
        return cls(**columns, seed=seed if isinstance(seed, int) else 0)


@dataclass(frozen=True)
class SourceRows:
    """What a source says before any image is opened.

    Attributes:
        frame: one line per row that can be used, in the source's order: `row` (its position as read), `sample_id`,
            `filepath` (absolute, or "" where the image is no file), `given_label`, `split`, `group` (text, or None
            where there is none) and, where the source knows it, `true_label`.
        problems: what was set aside: `sample_id`, `filepath`, `reason`.
        n_read: how many rows were read, those set aside included; labels given by row order count these.
        classes: the class names in order where the source itself names them, else None.
    """

    frame: pd.DataFrame
    problems: pd.DataFrame
    n_read: int
    classes: tuple[str, ...] | None = None


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


@dataclass(frozen=True)
class SourceKind:
    """One kind of source: what stands before the colon, what it means, an example, and how it opens."""

    name: str
    title: str
    meaning: str
    example: str
    open: Callable[[str, SourceOptions], Source] = field(repr=False)


def problems_frame(problems: Iterable[tuple[str, str, str]] = ()) -> pd.DataFrame:
    """Make the frame of problems from (sample_id, filepath, reason)."""
    return pd.DataFrame(list(problems), columns=PROBLEM_COLUMNS, dtype=object)


def expanded(path: str | Path) -> Path:
    """Return the path with a leading `~` replaced by the home directory, where there is one of that name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises where `~x` is nobody's home)


def text_error(text: str) -> str | None:
    """Say what keeps a name from being written down again, or None: file names and JSON may hold what is no text."""
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


def read_file(path: str) -> bytes | InputError:
    """Return a regular file's bytes, or why not. The open file is checked again: it may have changed since."""
    if reason := file_error(path):
        return InputError(reason)
    if is_outside(path, os.environ.get(ROOTS, "")):
        return InputError(OUTSIDE)
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return InputError("not a regular file (a pipe, socket or device)")
            if status.st_size > MAX_FILE_BYTES:
                return InputError(
                    f"the file holds {status.st_size / 2**20:,.0f} MiB; {MAX_FILE_BYTES // 2**20} is the limit"
                )
            return file.read()
    except OSError as error:
        return InputError(f"the file cannot be read ({error.strerror or error})")
