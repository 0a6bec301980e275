"""Transmission tomography: the law of Beer and Lambert, y = b exp(-P mu) + r."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.checks import is_positive
from infield.physics.operators.base import plain_physics
from infield.physics.operators.description import OperatorDescription
from infield.physics.pet.geometry import ARRAYS, PARAMETERS, ParallelBeam, image_grid
from infield.physics.pet.projection import Projection, sinogram


class BeerLambert(Physics):
    """Expected counts behind an absorber.

    Arguments:
        projection: P, line integrals in mm of the attenuation coefficient, 1/mm.
        blank: b, the expected counts without absorber, shape `([z,] angle, bin)`.
        background: r, shape of `blank`; None for none.
    """

    name: ClassVar[str] = "beer-lambert"
    blank: Tensor
    background: Tensor | None
    observed: Tensor | None

    def __init__(self, projection: Projection, blank: Tensor, background: Tensor | None = None) -> None:
        super().__init__(**plain_physics())
        self.projection = projection
        self.grid, self.channels = projection.grid, projection.channels
        self.data_shape, self.data_grid = projection.data_shape, projection.data_grid
        self.register_buffer("blank", blank)
        self.register_buffer("background", background)
        lit = None if bool((blank > 0).all()) else (blank > 0).expand(self.data_shape).clone()
        self.register_buffer("observed", lit)

    def A(self, x: Tensor) -> Tensor:
        y = self._transmitted(x)
        return y if self.background is None else y + self.background

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian, -P^T (b exp(-P x) v)."""
        return -self.projection.A_adjoint(self._transmitted(x) * v)

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The Jacobian, -b exp(-P x) (P v)."""
        return -self._transmitted(x) * self.projection.A(v)

    def _transmitted(self, x: Tensor) -> Tensor:
        return self.blank * torch.exp(-self.projection.A(x))


def build_beer_lambert(description: OperatorDescription) -> BeerLambert:
    """The operator `beer-lambert`: the geometry as for `projection`, `blank` and, if any, `background`, each a number
    or an array of the shape of a sinogram. Bins of blank 0 hold no data. The field is in 1/mm.

    Raises:
        InfieldError: The description is incomplete, or a value is not possible.
    """
    description.expect((*PARAMETERS, "blank", "background"), (*ARRAYS, "blank", "background"))
    geometry = ParallelBeam.from_description(description)
    operator = Projection(image_grid(description), description.channels, geometry)
    blank = sinogram(description, "blank", operator)
    if blank is None or not is_positive(float(blank.max())):
        what = "no blank" if blank is None else "a blank of 0"
        raise description.error(found=what, expected="the counts without absorber, a number or an array")
    return BeerLambert(operator, blank, sinogram(description, "background", operator))
