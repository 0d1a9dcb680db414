"""Random numbers as functions of (seed, purpose, epoch, sample id)."""

import hashlib

import numpy as np
import pytest

from core import chance

MASK = 2**64 - 1


def slow(sample_id: str, seed: int, purpose: str, epoch: int) -> float:
    """SplitMix64's finaliser with Python's whole numbers, one sample at a time."""

    def digest(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    z = (digest(sample_id) + digest(f"{seed}/{purpose}/{epoch}")) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) / 2**53


@pytest.mark.parametrize(("seed", "purpose", "epoch"), [(0, "order", 0), (2**63 - 1, "mirror", 99)])
def test_equals_the_slow_twin(seed: int, purpose: str, epoch: int) -> None:
    ids = ["", "a", "katzen/ä\n.png", *(str(i) for i in range(50))]
    found = chance.uniform(chance.sample_keys(ids), seed, purpose, epoch)
    assert found.tolist() == [slow(sample, seed, purpose, epoch) for sample in ids]


def test_a_sample_draws_the_same_in_any_company() -> None:
    ids = [f"s{i}" for i in range(100)]
    whole = chance.uniform(chance.sample_keys(ids), 3, "order", 7)
    order = np.random.default_rng(0).permutation(100)
    assert (chance.uniform(chance.sample_keys([ids[i] for i in order]), 3, "order", 7) == whole[order]).all()
    assert chance.uniform(chance.sample_keys(["s41"]), 3, "order", 7)[0] == whole[41]


def test_seed_purpose_and_epoch_each_give_unrelated_numbers() -> None:
    keys = chance.sample_keys([f"s{i}" for i in range(4000)])
    one = chance.uniform(keys, 0, "down", 0)
    for other in [(1, "down", 0), (0, "right", 0), (0, "down", 1)]:
        assert abs(np.corrcoef(one, chance.uniform(keys, *other))[0, 1]) < 0.06  # 3.8 standard errors


def test_the_numbers_are_spread_evenly_over_zero_to_one() -> None:
    found = chance.uniform(chance.sample_keys([f"s{i}" for i in range(10_000)]), 0, "order", 0)
    assert 0 <= found.min() < found.max() < 1
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 33  # chi-square of 9 degrees, p = 0.0001


def test_no_sample_no_number() -> None:
    assert chance.uniform(chance.sample_keys([]), 0, "order", 0).shape == (0,)
