"""Every image of a manifest at one size, in one file on disk: what a training reads its batches from.

A memory map instead of a list of arrays, so that a million images cost disk and page cache, not memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from core.axes import Array
from core.data.images import decode, read_decoded
from core.data.manifest import Manifest
from core.errors import InputError
from core.progress import Progress

SMALLEST, LARGEST = 28, 64


def image_side(manifest: Manifest) -> int:
    """Return the side, in pixels, at which the reference network sees these images.

    The median of the longer sides, kept within 28 to 64 and rounded up to a multiple of 4. Images of other sizes and
    shapes are squashed to that square, so that nothing is cut off.
    """
    return int(np.clip(-(-median_side(manifest) // 4) * 4, SMALLEST, LARGEST))


def median_side(manifest: Manifest) -> int:
    """Return the median of the images' longer sides, in pixels, as they are."""
    return max(1, int(manifest.rows[["width", "height"]].max(axis=1).median()))


def image_digest(manifest: Manifest) -> str:
    """Return the SHA-256 (hex) of the ids and image digests in order, whatever their labels and splits."""
    pairs = zip(manifest.rows["sample_id"], manifest.rows["sha256"], strict=True)
    state = hashlib.sha256()
    for pair in pairs:
        state.update(json.dumps(pair).encode())
    return state.hexdigest()


def decode_all(manifest: Manifest, side: int, path: Path, progress: Progress) -> None:
    """Decode every image to `side` x `side` RGB bytes, in manifest order, into `path` (.npy, n side side 3).

    Raises:
        InputError: images that could be read when the project was made are gone, or are others now.
    """
    row_of = {sample: row for row, sample in enumerate(manifest.ids)}
    digests, shape = list(manifest.rows["sha256"]), (len(manifest), side, side, 3)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a signal that ends the process at some write
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    reason, filled = "", 0

    def read(data: bytes) -> tuple[str, Array]:
        return hashlib.sha256(data).hexdigest(), decode(data, side)

    for sample, found in read_decoded(manifest.source, list(manifest.ids), read, "reading images", progress):
        if isinstance(found, InputError) or found[0] != digests[row_of[sample]]:
            why = found if isinstance(found, InputError) else "not the image it was"
            reason = reason or f" (the first, {sample}: {why})"
            continue
        pixels[row_of[sample]] = found[1]
        filled += 1
    pixels.flush()
    if missing := len(manifest) - filled:
        raise InputError(
            f"{missing:,} of {len(manifest):,} images are gone or have changed since the project was made{reason}. "
            "Bring them back, or make the project anew."
        )
