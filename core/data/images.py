"""Encoded images become RGB pixels, or an error in plain words.

- `decode`: one image, at its own size or squashed to a square.
- `shrink`: one image made small and encoded again, for a screen.
- `measure`: digest and size of one image after decoding it once; what the manifest keeps.
- `read_pixels`: many images of a source, decoded in parallel with a bounded number held.

How colours become RGB: 1-bit and 8-bit grey are repeated; a palette is looked up; transparency (alpha, palette or
colour key) is laid on white; CMYK, YCbCr and Lab are converted without a colour profile; 16- and 32-bit whole numbers
are clipped to 0..65535 and divided by 257; floating point is multiplied by 255 where all of it lies within 0..1, else
clipped to 0..255 (NaN is 0). The EXIF orientation is applied. Of an animation the first frame counts.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from core.axes import Array, UInt8
from core.data.sources.base import Source
from core.errors import InputError, SettingsError
from core.progress import Progress

MAX_PIXELS = 64_000_000  # 8,000 x 8,000: 192 MB once decoded
LARGE_PIXELS = 16_000_000  # above, one image at a time is decoded: each takes up to 24 bytes per pixel
MAX_WEBP = 16_383  # pixels along one side
CHUNK_ITEMS, CHUNK_BYTES = 64, 8 * 2**20  # what one thread takes at a time
# Formats whose decoder only reads pixels: EPS would start Ghostscript, others open further files.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO")
WHITE = (255, 255, 255, 255)
ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """What one pass over an image keeps: SHA-256 of the encoded bytes (hex), and its size in pixels, turned upright."""

    sha256: str
    width: int
    height: int


def decode(data: bytes, side: int | None = None) -> UInt8[Array, "h w 3"]:
    """Return an encoded image as RGB, 0 to 255.

    Args:
        data: the bytes of the file.
        side: squash to side x side pixels: smoothed (Lanczos) where an axis shrinks, bicubic where both grow.

    Raises:
        InputError: the bytes are no image, cut short, damaged, or larger than 64 million pixels; the reason is plain.
        SettingsError: `side` is below 1.
    """
    if side is not None and side < 1:
        raise SettingsError(f"The side of an image is {side}; give at least 1 pixel.")
    with _guarded(data), _open(data) as image:
        if side is not None:
            # A JPEG can leave out detail that shrinking would smooth away: three times the side keeps enough of it.
            image.draft(None, (3 * side, 3 * side))
        upright = _upright(image)
        if side is not None:
            upright = _squash(upright, side)
        return np.array(upright)


def shrink(data: bytes, longest: int, *, quality: int = 80, lossless: int = 32) -> bytes:
    """Return an image as WebP whose longer side is at most `longest` pixels; a smaller image keeps its own size.

    Args:
        data: the bytes of the file.
        longest: the longer side, 1 to 16,383 pixels (what WebP can hold).
        quality: of the encoder, 0 to 100.
        lossless: up to this longer side, in pixels, every pixel is kept as it is.

    Raises:
        InputError: as `decode` does.
        SettingsError: `longest` is out of range.
    """
    if not 1 <= longest <= MAX_WEBP:
        raise SettingsError(f"The longer side of an image is {longest}; give 1 to {MAX_WEBP:,} pixels.")
    with _guarded(data), _open(data) as image:
        # Both sides in proportion: a JPEG is read at an eighth where that leaves three times the pixels asked for.
        scale = 3 * longest / max(image.size)
        image.draft(None, (max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        upright = _upright(image)
        scale = min(1.0, longest / max(upright.size))
        size = (max(1, round(upright.width * scale)), max(1, round(upright.height * scale)))
        if size != upright.size:
            upright = upright.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        target = io.BytesIO()
        if max(size) <= lossless:
            upright.save(target, "WEBP", lossless=True, quality=20, method=1)  # a sixth of the time, 1 % larger
        else:
            upright.save(target, "WEBP", quality=quality, method=2)  # half the time, 5 % larger
        return target.getvalue()


def measure(data: bytes) -> Measured:
    """Decode an image once and return its digest and size.

    Raises:
        InputError: as `decode` does.
    """
    with _guarded(data), _open(data) as image:
        size = image.size
        image.draft(None, (1, 1))  # every byte of a JPEG is still read, an eighth of its pixels is computed
        with _in_turn(image):
            image.load()
            turned = _orientation(image) >= 5
            _to_rgb(image)
    width, height = reversed(size) if turned else size
    return Measured(hashlib.sha256(data).hexdigest(), width, height)


def read_pixels(
    source: Source, ids: Sequence[str], side: int | None, progress: Progress | None = None
) -> Iterator[tuple[str, UInt8[Array, "h w 3"] | InputError]]:
    """Yield (id, pixels or the reason why not) in the source's order of storage, reporting as it goes."""
    return read_decoded(source, ids, lambda data: decode(data, side), "reading images", progress or Progress())


def read_decoded(
    source: Source, ids: Sequence[str], function: Callable[[bytes], T], stage: str, progress: Progress
) -> Iterator[tuple[str, T | InputError]]:
    """Apply a function to each encoded image in a pool of threads; at most a few chunks of images are held at once.

    Raises:
        MemoryError: an image did not fit into memory. That is no fault of the image, so it is not set aside for it.
        Stopped: the person asked for it.
    """

    def work(chunk: list[tuple[str, bytes | InputError]]) -> list[tuple[str, T | InputError]]:
        return [(sample_id, _attempt(function, sample_id, data)) for sample_id, data in chunk]

    workers, done = _workers(), 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[Future[list[tuple[str, T | InputError]]]] = deque()
    progress.report(stage, 0, len(ids), "images")
    try:
        chunks = _chunks(source.read(ids))
        for chunk in chunks:
            pending.append(pool.submit(work, chunk))
            if len(pending) > workers + 1:
                finished = pending.popleft().result()
                yield from finished
                done += len(finished)
                progress.report(stage, done, len(ids), "images")
        while pending:
            finished = pending.popleft().result()
            yield from finished
            done += len(finished)
            progress.report(stage, done, len(ids), "images")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _chunks(items: Iterable[tuple[str, bytes | InputError]]) -> Iterator[list[tuple[str, bytes | InputError]]]:
    chunk: list[tuple[str, bytes | InputError]] = []
    size = 0
    for sample_id, data in items:
        chunk.append((sample_id, data))
        size += len(data) if isinstance(data, bytes) else 0
        if len(chunk) >= CHUNK_ITEMS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _attempt(function: Callable[[bytes], T], sample_id: str, data: bytes | InputError) -> T | InputError:
    if isinstance(data, InputError):
        return data
    try:
        return function(data)
    except InputError as error:
        if isinstance(error.__cause__, MemoryError):
            raise MemoryError(f"decoding {sample_id}") from error
        return error


def _workers() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, usable)


class _guarded:
    """Turns whatever a decoder raises into InputError: decoders of damaged files raise nearly every type there is."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, InputError) or not isinstance(error, Exception):
            return
        raise InputError(_reason(error, self.data)) from error


def _reason(error: Exception, data: bytes) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"the image is larger than {MAX_PIXELS // 10**6} million pixels"
    if isinstance(error, MemoryError):
        return "the image does not fit into memory"
    if isinstance(error, UnidentifiedImageError):
        return _what_it_is(data)
    return "the image is cut short or damaged"


def _what_it_is(data: bytes) -> str:
    start = data[:512]
    if b"<svg" in start:
        return "a vector drawing (SVG), which has no pixels"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image"
    try:
        readable = codecs.getincrementaldecoder("utf-8")().decode(start)  # the cut may go through a letter
    except UnicodeDecodeError:
        readable = "\0"
    if all(sign.isprintable() or sign in "\t\r\n" for sign in readable):
        return "text, not an image"
    if any(start.startswith(sign) for sign in (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"II*\0", b"MM\0*")):
        return "the image is cut short or damaged"
    return "not an image in a format that can be read (PNG, JPEG, GIF, WebP, BMP, TIFF …)"


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _open(data: bytes) -> Image.Image:
    if not data:
        raise InputError("the file is empty")
    image = Image.open(io.BytesIO(data), formats=_formats())
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError(f"the image has no pixels ({width} × {height})")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"the image is larger than {MAX_PIXELS // 10**6} million pixels ({width:,} × {height:,}); shrink it first"
        )
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # a damaged note about the camera does not make the picture unreadable
        return 1
    return value if isinstance(value, int) else 1


def _upright(image: Image.Image) -> Image.Image:
    with _in_turn(image):
        image.load()
        turn = TURNS.get(_orientation(image))
        rgb = _to_rgb(image)
        return rgb if turn is None else rgb.transpose(turn)


_ONE_LARGE = threading.Lock()


def _in_turn(image: Image.Image) -> AbstractContextManager[object]:
    """Hold the turn of the large images, so that as many threads do not take as many times the memory."""
    return _ONE_LARGE if image.width * image.height > LARGE_PIXELS else nullcontext()


def _squash(image: Image.Image, side: int) -> Image.Image:
    if image.size == (side, side):
        return image
    grows = image.width <= side and image.height <= side
    method = Image.Resampling.BICUBIC if grows else Image.Resampling.LANCZOS
    return image.resize((side, side), method, reducing_gap=None if grows else 3.0)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_numbers(np.asarray(image)).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, WHITE), clear).convert("RGB")
    return image.convert("RGB")


def _from_numbers(values: Array) -> Image.Image:
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0)
        scale = 255.0 if finite.min() >= 0.0 and finite.max() <= 1.0 else 1.0
        return Image.fromarray(np.rint(np.clip(finite * scale, 0.0, 255.0)).astype(np.uint8))
    return Image.fromarray(np.rint(np.clip(values, 0, 65535) / 257.0).astype(np.uint8))
