r"""Parallel-beam projector of emission tomography, in mm, with the factors between a ray and its counts.

The expected counts of a ray are

    y = tau n a (P H x) + r + s,

P line integrals (Joseph), H a Gaussian blur, a = exp(-P mu) the attenuation, n the normalisation (relative efficiency),
tau the seconds, r and s the expected counts of randoms and scatter. Time of flight and oblique planes are not modelled;
a volume is projected slice by slice.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.checks import is_number
from infield.core.grid import Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.composition import Affine, compose
from infield.physics.operators.description import OperatorDescription
from infield.physics.operators.linear_product import LinearProduct
from infield.physics.pet.geometry import ARRAYS, PARAMETERS, ParallelBeam, coordinates_mm, image_grid
from infield.physics.pet.joseph import joseph_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_ATTENUATION = 0.08
"""Largest linear attenuation coefficient at 511 keV that is taken for one in 1/mm; of tungsten it is 0.26, of bone
0.017, and of water 0.096 in 1/cm."""

MAX_IMAGES = 64
"""Images that are multiplied by the matrix at once."""


class Projection(LinearOperator):
    """Counts of rays through an image, or through each slice of a volume, without background.

    The field is `(batch, channel, [z,] y, x)`, its data `(batch, channel, [z,] angle, bin)`.

    Arguments:
        grid: Grid of the image (y, x) or volume (z, y, x), equally spaced, in units of length.
        channels: Number of channels.
        geometry: Angles and bins.
        weight: tau n a, shape `([z,] angle, bin)`; None for 1.
        observed: Bool, shape of the data: bins that count. None where all do.
    """

    name = "projection"
    grid: Grid
    data_grid: Grid
    weight: Tensor | None
    forward_rows: Tensor
    forward_columns: Tensor
    forward_values: Tensor

    def __init__(
        self,
        grid: Grid,
        channels: int,
        geometry: ParallelBeam,
        weight: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> None:
        data_grid = geometry.data_grid(grid)
        super().__init__(grid, channels, (channels, *data_grid.shape), data_grid, observed)
        self.geometry = geometry
        y, x = (coordinates_mm(grid, axis) for axis in (-2, -1))
        centre = geometry.centre or ((y[0] + y[-1]) / 2, (x[0] + x[-1]) / 2)
        matrix = joseph_matrix(x - centre[1], y - centre[0], geometry.angles, geometry.positions)
        self._keep("forward", matrix)
        self._keep("backward", matrix.T.tocsr())
        self.register_buffer("weight", weight)
        self.blurred = geometry.psf_fwhm > 0
        for axis in range(-grid.ndim, 0) if self.blurred else ():
            blur = _blur_matrix(coordinates_mm(grid, axis), geometry.psf_fwhm)
            self.register_buffer(f"blur_{-axis}", torch.from_numpy(blur), persistent=False)

    def A(self, x: Tensor) -> Tensor:
        if self.blurred:
            x = self._blur(x)
        y = LinearProduct.apply(x, self._project, self._back_project)
        return y if self.weight is None else self.weight * y

    def A_adjoint(self, y: Tensor) -> Tensor:
        y = y if self.weight is None else self.weight * y
        x = LinearProduct.apply(y, self._back_project, self._project)
        return self._blur(x) if self.blurred else x

    def _project(self, x: Tensor) -> Tensor:
        return self._multiply("forward", x, self.data_shape[-2:])

    def _back_project(self, y: Tensor) -> Tensor:
        return self._multiply("backward", y, self.grid.shape[-2:])

    def _keep(self, name: str, matrix: csr_matrix) -> None:
        """Compressed rows; the indices in 32 bits, as the fast product of torch has them."""
        for part, values in (("rows", matrix.indptr), ("columns", matrix.indices), ("values", matrix.data)):
            tensor = torch.from_numpy(values if part == "values" else values.astype(np.int32))
            self.register_buffer(f"{name}_{part}", tensor, persistent=False)

    def _multiply(self, name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        images = x.flatten(-2).reshape(-1, x.shape[-1] * x.shape[-2])
        rows, columns, values = (getattr(self, f"{name}_{part}") for part in ("rows", "columns", "values"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            matrix = torch.sparse_csr_tensor(
                rows, columns, values, (len(rows) - 1, images.shape[1]), check_invariants=False
            )
        parts = [(matrix @ part.mT).mT for part in images.split(MAX_IMAGES)]
        return torch.cat(parts).reshape(*x.shape[:-2], *shape)

    def _blur(self, x: Tensor) -> Tensor:
        """A symmetric matrix along each axis, so that the blur is its own adjoint."""
        for axis in range(1, self.grid.ndim + 1):
            x = (x.movedim(-axis, -1) @ getattr(self, f"blur_{axis}")).movedim(-1, -axis)
        return x


def _blur_matrix(coordinates: np.ndarray, fwhm: float) -> np.ndarray:
    """A Gaussian of equally spaced points, of sum 1 far from the ends; what leaves the image is lost."""
    sigma = fwhm / math.sqrt(8 * math.log(2))
    step = coordinates[1] - coordinates[0] if len(coordinates) > 1 else 1.0
    offsets = step * np.arange(-math.ceil(6 * sigma / step), math.ceil(6 * sigma / step) + 1)
    kernel = np.exp(-0.5 * (coordinates[:, None] - coordinates) ** 2 / sigma**2)
    return kernel / np.exp(-0.5 * offsets**2 / sigma**2).sum()


def build_projection(description: OperatorDescription) -> Physics:
    """The operator `projection`, linear without background and affine with it.

    Parameters: the geometry (`ParallelBeam.from_description`), `seconds`, and `randoms` and `scatter` as numbers.
    Arrays: of the shape of a sinogram, or of one for each slice: `attenuation` (factors between 0 and 1),
    `normalisation`, `randoms` and `scatter` (expected counts); of the shape of the field: `attenuation_map` (mu, 1/mm,
    0.0096 in water at 511 keV). Bins of normalisation 0 hold no data.

    Raises:
        InfieldError: The description is incomplete, or a value is not possible.
    """
    description.expect(
        (*PARAMETERS, "seconds", "randoms", "scatter"),
        (*ARRAYS, "attenuation", "attenuation_map", "normalisation", "randoms", "scatter"),
    )
    grid, geometry = image_grid(description), ParallelBeam.from_description(description)
    operator = Projection(grid, description.channels, geometry)
    weight = _weight(description, operator)
    if weight is not None:
        operator.weight = weight
        if not (weight > 0).all():
            operator.observed = (weight > 0).expand(operator.data_shape).clone()
    parts = [part for role in ("randoms", "scatter") if (part := sinogram(description, role, operator)) is not None]
    return shifted(operator, torch.stack(parts).sum(0)) if parts else operator


def shifted(operator: Projection, background: Tensor) -> Physics:
    """The operator with expected counts beside those of the field, shape `([z,] angle, bin)`."""
    grid, channels = operator.data_grid, operator.channels
    shift = background.expand(operator.data_shape).clone()
    scale = torch.ones((channels, *(1,) * len(grid.shape)), dtype=torch.float64)
    affine = Affine(grid, channels, scale, shift)
    affine.observed = operator.observed
    return compose(affine, operator)


def sinogram(description: OperatorDescription, role: str, operator: Projection) -> Tensor | None:
    """An array of the description that belongs to each bin, of every slice or of all alike, or a parameter of that
    name, one number for all bins; at least 0, shape `([z,] angle, bin)`; None where there is neither.

    Raises:
        InfieldError: There are both, or values below zero or of another shape.
    """
    shape = operator.data_shape[1:]
    if role in description.parameters:
        value = description.parameters[role]
        if role in description.arrays or not is_number(value) or value < 0:
            raise description.error(found=f"{role} {value!r}", expected="a number of at least 0, or an array")
        return torch.full(shape, float(value), dtype=torch.float64)
    if role not in description.arrays:
        return None
    values = description.array(role, shape, shape[-2:]).astype("float64")
    if (values < 0).any():
        raise description.error(found=f"{int((values < 0).sum())} values of {role} below 0", expected="none")
    return torch.from_numpy(values).expand(shape).clone()


def _weight(description: OperatorDescription, operator: Projection) -> Tensor | None:
    """tau n a; None where all of them are 1."""
    factors = []
    if "seconds" in description.parameters:
        seconds = description.positive("seconds", description.parameters["seconds"])
        factors.append(torch.tensor(seconds, dtype=torch.float64))
    normalisation, attenuation = (sinogram(description, role, operator) for role in ("normalisation", "attenuation"))
    if attenuation is not None and (attenuation > 1).any():
        raise description.error(
            found=f"attenuation factors up to {float(attenuation.max()):.4g}",
            expected="exp(-P mu), at most 1",
            remedy="take the inverse of correction factors",
        )
    if "attenuation_map" in description.arrays:
        if attenuation is not None:
            raise description.error(found="attenuation and attenuation_map", expected="one of the two")
        mu = description.array("attenuation_map", operator.grid.shape).astype("float64")
        if mu.min() < 0 or mu.max() > MAX_ATTENUATION:
            raise description.error(
                found=f"attenuation_map from {mu.min():.4g} to {mu.max():.4g}",
                expected=f"1/mm, from 0 to {MAX_ATTENUATION} (water 0.0096)",
            )
        integrals = operator._project(torch.from_numpy(mu)[None, None])[0, 0]  # unblurred
        attenuation = torch.exp(-integrals)
    factors += [factor for factor in (normalisation, attenuation) if factor is not None]
    if not factors:
        return None
    weight = factors[0]
    for factor in factors[1:]:
        weight = weight * factor
    if not (weight > 0).any():
        raise description.error(found="normalisation times attenuation 0 in every bin", expected="one above 0")
    return weight.expand(operator.data_shape[1:]).clone()
