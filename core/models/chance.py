"""Random numbers that are functions of (seed, purpose, epoch, sample): the same whatever the order, the batch or the worker.

A counter-based generator (SplitMix64's finaliser over a key per sample) instead of a stateful one, so that training goes on
after a stop with the very bits it would have had, and permuting the rows of a manifest changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from core.axes import Array, Float, Integer


def sample_keys(sample_ids: Sequence[str]) -> Integer[Array, " n"]:
    """Return a 64-bit key per sample, from its id alone."""
    digests = b"".join(hashlib.blake2b(str(sample).encode(), digest_size=8).digest() for sample in sample_ids)
    return np.frombuffer(digests, np.uint64)


def uniform(keys: Integer[Array, " n"], seed: int, purpose: str, epoch: int) -> Float[Array, " n"]:
    """Return a number in [0, 1) per sample."""
    salt = hashlib.blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest()
    mixed = keys + np.frombuffer(salt, np.uint64)[0] * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)
