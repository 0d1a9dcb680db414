"""Tests of this folder compare a CUDA device with the CPU: the same weights, in float32, TF32 off."""

from __future__ import annotations

import pytest
import torch

DEVICE = "cuda"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))


@pytest.fixture
def device() -> torch.device:
    return torch.device(DEVICE)
