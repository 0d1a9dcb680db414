"""Which folders the app may read: every path that a browser names, or that a file names, goes through here.

A path is checked after its links are followed, and the path so found is what is opened, folder by folder without
following links: a link put in its place after the check is refused, not followed. What a path is called (`..`, `~`,
upper case, a link, `/proc/self/root/…`) makes no difference; where it leads does. A hard link cannot be told from a
file, nor a mounted folder from a folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.data.sources import split_spec
from core.data.sources.base import MAX_FILE_BYTES, OUTSIDE, shown
from core.errors import InputError

MAX_PATH = 4096  # characters; no system takes more
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a named pipe would wait for ever


@dataclass(frozen=True)
class Roots:
    """The folders that may be read, absolute and with links followed: make them with `Roots.parse`."""

    folders: tuple[Path, ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Roots:
        """Make roots of paths as a person writes them; a folder inside another root is left out.

        Raises:
            InputError: there is none, or one of them is a file. A folder may be made later; a link may not.
        """
        found: list[Path] = []
        for text in texts:
            _check_text(text)
            path = Path(os.path.realpath(_at_home(text)))
            if path.exists() and not path.is_dir():
                raise InputError(f"The root {shown(text)} is not a folder. Give a folder.")
            found.append(path)
        if not found:
            raise InputError("No folder was named that the app may read. Name one with --root.")
        distinct = list(dict.fromkeys(found))
        outer = [path for path in distinct if not any(other in path.parents for other in distinct)]
        return cls(tuple(outer))

    @property
    def text(self) -> str:
        """The roots in one line, the home directory as `~`."""
        return ", ".join(_short(folder) for folder in self.folders)

    def holds(self, path: Path | str) -> bool:
        """Whether a path leads into one of the roots once its links are followed. It need not exist."""
        try:
            return self._root_of(os.path.realpath(path)) is not None
        except (OSError, ValueError):  # a zero byte, a name that is no text
            return False

    def resolve(self, text: str) -> Path:
        """Return where a path leads, inside the roots; a relative path starts at the first root.

        Raises:
            InputError: it leads elsewhere, or is no path; the message names the roots.
        """
        _check_text(text)
        path = os.path.realpath(self.folders[0] / _at_home(text))
        if self._root_of(path) is None:
            raise InputError(f"{shown(text)} is {OUTSIDE}. The folders: {self.text}.")
        return Path(path)

    def resolve_spec(self, spec: str) -> str:
        """Return a source's spec (`kind`, `kind:path` or `kind:name@path`) with its path resolved inside the roots.

        Raises:
            InputError: as `resolve` does.
        """
        head, path = split_spec(spec)
        return f"{head}{self.resolve(path)}" if path else spec

    def outside(self, paths: Sequence[str]) -> list[bool]:
        """Say of the paths of many files whether they lead out of the roots; their folders are looked at once each."""
        known: dict[str, bool] = {}
        found = []
        for path in paths:
            folder, name = os.path.split(path)
            if name in ("", ".", "..") or "\0" in path or os.path.islink(path):  # noqa: PTH114 -- 50,000 of them
                found.append(not self.holds(path))
                continue
            if folder not in known:
                known[folder] = not self.holds(folder)
            found.append(known[folder])
        return found

    def open(self, path: Path | str, *, folder: bool = False) -> int:
        """Return a descriptor of a file (or folder) inside the roots; the caller closes it.

        Raises:
            InputError: it lies outside, is not there, or is no regular file (no folder).
        """
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError) as error:
            raise InputError("the name is no path") from error
        root = self._root_of(real)
        if root is None:
            raise InputError(OUTSIDE)
        try:
            return _walk(root, Path(real).relative_to(root).parts, folder)
        except FileNotFoundError as error:
            raise InputError("no such file") from error
        except (OSError, ValueError) as error:
            raise InputError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error

    @contextmanager
    def opened(self, path: Path | str) -> Iterator[int]:
        """Open a file inside the roots for a block of code; as `open`."""
        handle = self.open(path)
        try:
            yield handle
        finally:
            os.close(handle)

    def read(self, path: Path | str, limit: int = MAX_FILE_BYTES) -> bytes | InputError:
        """Return the bytes of a regular file inside the roots, or why not; never more than `limit`."""
        try:
            with self.opened(path) as handle, os.fdopen(handle, "rb", closefd=False) as file:
                size = os.fstat(handle).st_size
                if size > limit:
                    return InputError(f"the file holds {size / 2**20:,.0f} MiB; {limit / 2**20:,.0f} is the limit")
                return file.read(limit)
        except InputError as error:
            return error
        except OSError as error:
            return InputError(f"the file cannot be read ({error.strerror or error})")

    def _root_of(self, real: str) -> Path | None:
        path = Path(real)
        return next((folder for folder in self.folders if path.is_relative_to(folder)), None)


def _walk(root: Path, parts: tuple[str, ...], folder: bool) -> int:
    """Open a path below a root step by step; a link at any step is an error."""
    if not parts:
        if not folder:
            raise InputError("a folder, not a file")
        return os.open(root, _READ | os.O_DIRECTORY)
    at = os.open(root, _STEP)
    try:
        for part in parts[:-1]:
            below = os.open(part, _STEP, dir_fd=at)
            os.close(at)
            at = below
        handle = os.open(parts[-1], _READ | (os.O_DIRECTORY if folder else 0), dir_fd=at)
    finally:
        os.close(at)
    if folder:
        return handle
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    raise InputError("a folder, not a file" if stat.S_ISDIR(mode) else "not a regular file (a pipe, socket or device)")


def _check_text(text: str) -> None:
    if not text.strip():
        raise InputError("No path was given. Write the path of a file or folder.")
    if len(text) > MAX_PATH:
        raise InputError(f"The path has {len(text):,} characters; {MAX_PATH:,} is the limit.")
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
        raise InputError("The path holds a sign that no path can be typed with (a zero byte or a control sign).")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError("The path is not valid UTF-8.") from error
    if "://" in text or text.lower().startswith("file:"):
        raise InputError(f"{text} is an address, not a path. Write the path of a file or folder on this machine.")


def _at_home(text: str) -> Path:
    """Return the path with the person's own `~` replaced; another's home is not looked up."""
    first = text.partition("/")[0]
    if first.startswith("~") and first != "~":
        raise InputError(f"{first} is another's home directory. Write the whole path.")
    return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises where there is no home)


def _short(folder: Path) -> str:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    return f"~/{folder.relative_to(home)}".removesuffix("/.") if folder.is_relative_to(home) else str(folder)
