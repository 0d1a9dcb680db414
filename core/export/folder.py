"""A folder that appears whole or not at all, with the digest of every file in it.

`whole_folder` is a context: write into the folder it gives; leaving the block in peace brings every file to the disk
and gives the folder its name, leaving it by an error removes it. A killed process leaves nothing under the final
name, and its remains go with the next export to that name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import ExportError


@dataclass(frozen=True)
class ExportedFile:
    """One written file: its name within the folder, its size in bytes, and its digest."""

    name: str
    size: int
    sha256: str


def described(folder: Path) -> tuple[ExportedFile, ...]:
    """Size and digest of every file in `folder`, by name."""
    files = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append(ExportedFile(path.name, path.stat().st_size, digest))
    return tuple(files)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside `target` to write into, which becomes `target` when the block ends without an error.

    Raises:
        ExportError: `target` exists and is not an empty folder, another export is writing it, or the disk refuses.
    """
    work = target.with_name(f".{target.name}.part")
    try:
        _check_free(target)
        work.mkdir(parents=True, exist_ok=True)
        with _held(work, target):
            try:
                _empty(work)  # what a killed export left
                yield work
                _flush(work)
                work.replace(target)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
        _flush_folder(target.parent)
    except OSError as error:
        raise ExportError(
            f"The export to {target} cannot be written ({error}); nothing was left there. "
            "Free some space, or choose another folder."
        ) from error


def _check_free(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise ExportError(f"{target} exists and is not an empty folder. Choose another folder for the export.")


@contextmanager
def _held(work: Path, target: Path) -> Iterator[None]:
    """Hold the folder until the block ends; the kernel lets go of it when the process dies."""
    handle = os.open(work, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders: then two exports to one name may clash
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ExportError(
                    f"Another export to {target} is being written. Wait for it, or choose another folder."
                ) from error
        yield
    finally:
        os.close(handle)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
