"""Every image of a manifest at one size, in one file on disk: what a training reads its batches from.

A memory map instead of a list of arrays, so that a million images cost disk and page cache, not memory.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from core.data.images import read_pixels
from core.data.manifest import Manifest
from core.errors import InputError
from core.progress import Progress

SMALLEST, LARGEST = 28, 64


def image_side(manifest: Manifest) -> int:
    """Return the side, in pixels, at which the reference network sees these images.

    The median of the longer sides, kept within 28 to 64 and rounded up to a multiple of 4. Images of other sizes and
    shapes are squashed to that square, so that nothing is cut off.
    """
    longer = manifest.rows[["width", "height"]].max(axis=1).median()
    return int(np.clip(-(-int(longer) // 4) * 4, SMALLEST, LARGEST))


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
        InputError: images that could be read when the project was made cannot be read any more.
    """
    row_of = {sample: row for row, sample in enumerate(manifest.ids)}
    shape = (len(manifest), side, side, 3)
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    gone, reason, filled = 0, "", 0
    for sample, image in read_pixels(manifest.source, list(manifest.ids), side, progress):
        if isinstance(image, InputError):
            gone, reason = gone + 1, reason or f"{sample}: {image}"
            continue
        pixels[row_of[sample]] = image
        filled += 1
    pixels.flush()
    if missing := len(manifest) - filled:
        first = f" (the first, {reason})" if reason else ""
        raise InputError(
            f"{missing:,} of {len(manifest):,} images cannot be read any more{first}. "
            "Bring them back, or make the project anew without them."
        )
