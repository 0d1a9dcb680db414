"""umap, pynndescent and numba change how many threads others get: put back what they found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def threads_as_found() -> Iterator[None]:
    """Put back numba's number of threads, which umap sets to one and leaves so when it is stopped, and torch's.

    numba's own threads, once started, change the number that OpenMP gives to torch.
    """
    import numba
    import torch

    of_torch, before = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        numba.set_num_threads(before)
        torch.set_num_threads(of_torch)
