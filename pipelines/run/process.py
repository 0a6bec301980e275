"""What a command changes in its process while it runs, and gives back when it ends."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def process_restored() -> Iterator[None]:
    """Leave the process as it was found: threads of torch, global random generators, filters of warnings.

    A context, or a decorator of a function.
    """
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (libraries draw from it)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(generator)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def one_thread() -> Iterator[None]:
    """Run with one thread of torch, and leave the process as it was found; a context, or a decorator of a function.

    Blocks run side by side, and one thread gives the same bits on any number of cores.
    """
    with process_restored():
        torch.set_num_threads(1)
        yield
