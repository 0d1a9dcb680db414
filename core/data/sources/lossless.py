"""Pixels as PNG whose bytes are the same on every machine: an image's digest is that of its bytes.

Nothing is packed, so no version of a packer matters; the file is a little larger than the pixels.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from core.axes import Array, UInt8

SIGN = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2  # colour types
BLOCK = 65_535  # bytes that one stored block holds


def png(pixels: UInt8[Array, "h w"] | UInt8[Array, "h w 3"]) -> bytes:
    """Return grey or RGB pixels (0 to 255) as a PNG file."""
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + pixels.size // height), dtype=np.uint8)  # before each line stands its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    data = lines.tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, GREY if pixels.ndim == 2 else RGB, 0, 0, 0)
    return SIGN + _chunk(b"IHDR", head) + _chunk(b"IDAT", _stored(data)) + _chunk(b"IEND", b"")


def _stored(data: bytes) -> bytes:
    """Return data as a zlib stream of blocks that are not packed (RFC 1950, RFC 1951 3.2.4)."""
    starts = range(0, max(len(data), 1), BLOCK)
    blocks = [data[start : start + BLOCK] for start in starts]
    ends = [0] * (len(blocks) - 1) + [1]
    written = [
        struct.pack("<BHH", end, len(block), len(block) ^ 0xFFFF) + block
        for end, block in zip(ends, blocks, strict=True)
    ]
    return b"\x78\x01" + b"".join(written) + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
