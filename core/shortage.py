"""Disk or memory ran out: whichever library says so, and in whatever words, it becomes one line that says what to do.

- `shortage`: what an error means, or None where nothing ran out.
- `shortages`: a context that raises that in the error's place.

The system speaks of it as `OSError`, Python and NumPy as `MemoryError` (a short write of an array as `OSError` without
a number), PyTorch as `RuntimeError`, safetensors in an error of its own, and a thread that finds no room for its stack
as `RuntimeError`. A kernel that kills the process says nothing: then `gradsift status` does.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import GradSiftError

DISK_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_WORDS = ("No space left on device", "(os error 28)", "Disk quota exceeded", "requested and")
MEMORY_WORDS = ("allocate memory", "out of memory", "not enough memory", "can't start new thread", "bad_alloc")
LONGEST = 160  # characters of a library's own words that help anybody


class ShortageError(GradSiftError):
    """Disk or memory ran out: what is on disk is whole, and the same call goes on when there is room."""


def shortage(error: Exception, what: str = "", folder: Path | None = None) -> ShortageError | None:
    """Return what an error of any library means where disk or memory ran out, else None.

    Args:
        error: as it was raised.
        what: was being done, as in "the stage features".
        folder: where was written to, so that its free space can be told.
    """
    if isinstance(error, GradSiftError):
        return None
    if _is_of_disk(error):
        return ShortageError(
            f"The disk is full{_at(folder)}{f': {what} could not be written' if what else ''}. "
            "What is on disk is whole; make room, and the same command goes on."
        )
    if _is_of_memory(error):
        return ShortageError(
            f"Memory ran out{f' in {what}' if what else ''}{_detail(error)}. What is on disk is whole; free or allow "
            "more memory, and the same command goes on. Smaller images (--image-size) need less."
        )
    return None


@contextmanager
def shortages(what: str = "", folder: Path | None = None) -> Iterator[None]:
    """Raise `ShortageError` where the block ran out of disk or memory; every other error passes as it is."""
    try:
        yield
    except Exception as error:
        if told := shortage(error, what, folder):
            raise told from error
        raise


def _is_of_disk(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_NUMBERS
    foreign = type(error).__name__ == "SafetensorError"  # by name: importing it would load torch's companions
    return (isinstance(error, OSError) or foreign) and any(words in str(error) for words in DISK_WORDS)


def _is_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    worded = isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_WORDS)
    return isinstance(error, MemoryError) or worded


def _at(folder: Path | None) -> str:
    try:
        return "" if folder is None else f" ({shutil.disk_usage(folder).free // 10**6:,} MB free in {folder})"
    except OSError:
        return f" ({folder})"


def _detail(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f" ({said if len(said) <= LONGEST else said[:LONGEST] + '…'})" if said else ""
