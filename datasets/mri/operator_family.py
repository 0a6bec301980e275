"""Undersampled k-space at random, for posteriors that are trained for a family of measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.mri.masks import sampling_mask
from infield.datasets.training.operator_families import OperatorFamily
from infield.physics.operators.fourier import FourierSampling


@dataclass(frozen=True)
class UndersampledKspace(OperatorFamily):
    """Lines of k-space of a complex field on two axes, by fastMRI's masks, or Poisson-disc points.

    Arguments:
        mask: One of `datasets.mri.masks.MASKS`.
        accelerations: From which one is taken, each as often.
    """

    mask: str = "random"
    accelerations: Sequence[float] = (4.0, 8.0)

    def draw(self, grid: Grid, channels: int, generator: Generator) -> FourierSampling:
        if grid.ndim != 2 or channels != 2:
            raise InfieldError(
                where="undersampled k-space",
                found=f"{channels} channels on {grid.ndim} axes",
                expected="a complex field (2 channels) on 2 axes",
            )
        chosen = int(torch.randint(len(self.accelerations), (), generator=generator))
        seed = int(torch.randint(2**31, (), generator=generator))
        mask = sampling_mask(self.mask, (grid.shape[0], grid.shape[1]), self.accelerations[chosen], seed=seed)
        return FourierSampling(grid, channels, torch.from_numpy(mask))
