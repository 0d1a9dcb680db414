"""The one door to the machine: which device and which number type a run computes with.

Scores agree between devices to the last digits that the number type holds; the choice is recorded with every run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from core.errors import SettingsError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Compute:
    """A device and the number type of its forward and backward passes (weights stay float32)."""

    device: torch.device
    dtype: torch.dtype

    @property
    def mixed(self) -> bool:
        """Whether passes run in a shorter type than the weights."""
        return self.dtype != torch.float32

    def autocast(self) -> torch.autocast:
        """Return the context in which a forward pass runs."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.mixed)

    def describe(self) -> dict[str, object]:
        """Return what a run's record says about it."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        return {"device": name, "precision": str(self.dtype).removeprefix("torch."), "threads": threads}


def choose(device: str = "auto", precision: str = "auto") -> Compute:
    """Choose CUDA, MPS or the CPU, and bfloat16 only where the hardware computes in it.

    Raises:
        SettingsError: a device was asked for by name and is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(name for name, there in available.items() if there)
    if not available[device]:
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise SettingsError(f"Device {device!r} was asked for, but torch finds only: {there}. Choose one, or 'auto'.")
    wants_short = precision == "bfloat16" or (precision == "auto" and _computes_bfloat16(device))
    return Compute(torch.device(device), torch.bfloat16 if wants_short else torch.float32)


def _computes_bfloat16(device: str) -> bool:
    """Whether products in bfloat16 run natively (an emulated bfloat16 is slower than float32)."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seed the CPU's generator, which first weights are drawn from, inside the block; leave it as it was found.

    With an accelerator its generator is seeded too: dropout draws from it there.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    beside = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    there = beside.get_rng_state() if beside else None
    if beside:
        beside.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if beside and there is not None:
            beside.set_rng_state(there)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
