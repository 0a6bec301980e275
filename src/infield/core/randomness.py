"""Per-sample random streams: sample i is the same for any batch, worker or interruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor


def sample_generator(seed: int, i: int) -> Generator:
    """The generator of sample i of a run, on the processor."""
    key = int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0])
    return Generator().manual_seed(key >> 1)


@dataclass
class SampleStreams:
    """One generator per sample, keyed by the seed of the run and the index of the sample alone.

    Arguments:
        seed: Seed of the run.
        indices: Indices of the samples, in the order of the batch.
    """

    seed: int
    indices: Sequence[int]
    _generators: list[Generator] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._generators = [sample_generator(self.seed, i) for i in self.indices]

    def __len__(self) -> int:
        return len(self._generators)

    def part(self, rows: Sequence[int]) -> SampleStreams:
        """The streams of some rows of the batch, going on where they are."""
        streams = SampleStreams(self.seed, [])
        streams.indices, streams._generators = [self.indices[i] for i in rows], [self._generators[i] for i in rows]
        return streams

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Independent standard normal numbers, shape `(samples, *shape)`, float64."""
        return torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in self._generators])


Randomness = Generator | SampleStreams
"""Randomness of a sampler: one generator for the batch (fast), or one stream per sample (the same in any batch)."""


def normal(generator: Randomness, n: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal numbers of shape `(n, *shape)`, float64, on `device`; drawn on the generator's device."""
    if isinstance(generator, SampleStreams):
        if len(generator) != n:
            raise ValueError(f"{len(generator)} sample streams for a batch of {n}: expected one a sample")
        return generator.normal(shape).to(device)
    return torch.randn((n, *shape), generator=generator, dtype=torch.float64, device=generator.device).to(device)
