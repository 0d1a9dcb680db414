"""Random numbers that are functions of (seed, purpose, epoch, sample id), whatever the order or the worker.

Splits, planted errors, training orders and augmentations all draw from here, so that a stopped training goes on with
the very bits it would have had, and another order of the rows changes nothing. Counter-based: SplitMix64's finaliser
over a key per sample, no state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from core.axes import Array, Float, Integer


def sample_keys(sample_ids: Sequence[str]) -> Integer[Array, " n"]:
    """Return a 64-bit key per sample, from its id alone."""
    encoded = (str(sample).encode("utf-8", "surrogatepass") for sample in sample_ids)
    return np.frombuffer(b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in encoded), "<u8")


def uniform(keys: Integer[Array, " n"], seed: int, purpose: str, epoch: int = 0) -> Float[Array, " n"]:
    """Return a number in [0, 1) per sample key."""
    salt = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    mixed = keys + np.frombuffer(salt, "<u8")
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)
