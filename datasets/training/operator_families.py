"""Operators at random, for posteriors that are trained for a family of them: which points, which blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator

from infield.core._deepinv import LinearPhysics
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.renamed import old_names
from infield.physics.operators.convolution import Convolution, gaussian_kernel
from infield.physics.operators.fingerprint import operator_fingerprint
from infield.physics.operators.sensors import Mask

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)


class OperatorFamily:
    """The interface that training requires of a family."""

    def draw(self, grid: Grid, channels: int, generator: Generator) -> LinearPhysics:
        """One operator, float64, on the processor."""
        raise NotImplementedError

    def numbers(self, operator: LinearPhysics) -> tuple[str, dict[str, float]]:
        """Its name, and the fingerprint that distinguishes it within the family."""
        return operator_fingerprint(operator)


@dataclass(frozen=True)
class Inpainting(OperatorFamily):
    """Points that are observed, each by itself, or all but a box.

    Arguments:
        observed: Least and greatest share of observed points.
        box: Instead of points by themselves, a box of this share of each axis is missing, anywhere inside.
    """

    observed: tuple[float, float] = (0.2, 0.5)
    box: float | None = None

    def __post_init__(self) -> None:
        _check_range("inpainting", "observed", self.observed, 0, 1)
        if self.box is not None and not 0 < self.box < 1:
            raise InfieldError(
                where="inpainting", found=f"a box of {self.box:g}", expected="a share above 0 and below 1"
            )

    def draw(self, grid: Grid, channels: int, generator: Generator) -> Mask:
        if self.box is None:
            count = round(_uniform(self.observed, generator) * grid.size)
            order = torch.randperm(grid.size, generator=generator)
            mask = torch.zeros(grid.size, dtype=torch.bool)
            mask[order[: max(count, 1)]] = True
            return Mask(grid, channels, mask.reshape(grid.shape))
        mask = torch.ones(grid.shape, dtype=torch.bool)
        places = []
        for n in grid.shape:
            size = max(1, round(self.box * n))
            start = int(torch.randint(n - size + 1, (), generator=generator))
            places.append(slice(start, start + size))
        mask[tuple(places)] = False
        return Mask(grid, channels, mask)


@dataclass(frozen=True)
class Deblurring(OperatorFamily):
    """Gaussian blur.

    Arguments:
        width: Least and greatest standard deviation of the kernel, in spacings of the grid.
        boundary: `periodic`, which has a closed form, or `zero`.
    """

    width: tuple[float, float] = (1.0, 2.0)
    boundary: str = "periodic"

    def __post_init__(self) -> None:
        _check_range("deblurring", "width", self.width, 0, float("inf"))
        if self.boundary not in ("periodic", "zero"):
            raise InfieldError(where="deblurring", found=f"boundary '{self.boundary}'", expected="periodic or zero")

    def draw(self, grid: Grid, channels: int, generator: Generator) -> Convolution:
        width = _uniform(self.width, generator)
        widths = tuple(width * spacing for spacing in grid.spacing)
        kernel = gaussian_kernel(grid, widths, self.boundary)  # type: ignore[arg-type]
        return Convolution(grid, channels, kernel, self.boundary)  # type: ignore[arg-type]


def _uniform(between: tuple[float, float], generator: Generator) -> float:
    least, greatest = between
    return least + (greatest - least) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _check_range(family: str, name: str, between: tuple[float, float], low: float, high: float) -> None:
    least, greatest = between
    if not low < least <= greatest <= high:
        raise InfieldError(
            where=family,
            found=f"{name} {least:g} to {greatest:g}",
            expected=f"two increasing numbers above {low:g}, at most {high:g}",
        )
