"""Darcy flow: the pressure that a permeability lets a source build up."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.checks import is_number
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.base import ComplexBuffers, plain_physics
from infield.physics.operators.description import OperatorDescription
from infield.physics.operators.refusal import ForwardModelError
from infield.physics.pde.darcy_solver import DarcySolve, DarcySolver
from infield.physics.pde.dirichlet import check_dirichlet_grid, interior, laplacian_eigenvalues, pad_boundary

Coefficient = Literal["log", "value"]


class Darcy(ComplexBuffers, Physics):
    r"""The pressure u of :math:`-\nabla \cdot (a \nabla u) = f`, with u = 0 on the boundary, from the field log a or a.

    Finite volumes around the grid points, with harmonic means between them: of second order where a is smooth, or jumps
    midway between points. Solved in float64; the pressure has the precision of the field. The gradient costs one more
    solve and stores no iterates.

    Arguments:
        grid: Uniform grid of 1 to 3 axes; its first and last points are the boundary.
        forcing: f, a number or an array of shape `space` (values on the boundary do not matter).
        coefficient: "log" if the field is log a, "value" if it is a itself.
        tolerance: Relative residual at which a sample has converged, see `DarcySolver`.
        max_iterations: Maximum number of conjugate-gradient iterations. Smooth log a needs 10 to 60 at any
            contrast and mesh; a binary a at most about sqrt(max a / min a) / 2 * log(2 / tolerance).

    Raises:
        InfieldError: The grid does not fit. `A` raises `ForwardModelError` for a sample whose a is not positive and
            finite, or that does not converge; the message names the sample's index in the batch.
    """

    name: ClassVar[str] = "darcy"
    observed: Tensor | None
    forcing: Tensor
    eigenvalues: Tensor

    def __init__(
        self,
        grid: Grid,
        forcing: Tensor | float = 1.0,
        coefficient: Coefficient = "log",
        tolerance: float = 1e-8,
        max_iterations: int = 1000,
    ) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = check_dirichlet_grid(self.name, grid)
        self.channels = 1
        self.data_shape = (1, *grid.shape)
        self.coefficient = coefficient
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        forcing = torch.as_tensor(forcing, dtype=torch.float64).expand(grid.shape)
        self.register_buffer("forcing", interior(forcing, grid.ndim).clone())
        self.register_buffer("eigenvalues", laplacian_eigenvalues(grid))
        self.register_buffer("observed", None)

    @property
    def equation(self) -> DarcySolver:
        return DarcySolver(self.grid.spacing, self.eigenvalues.to(torch.float64), self.tolerance, self.max_iterations)

    def permeability(self, x: Tensor) -> Tensor:
        """a from the field, shape `(batch, *space)`, float64.

        Raises:
            ForwardModelError: If a sample of it is not positive and finite.
        """
        field = x[:, 0].to(torch.float64)
        a = field.exp() if self.coefficient == "log" else field
        good = (torch.isfinite(a) & (a > 0)).flatten(1)
        if not good.all():
            sample, place = (int(i) for i in (~good).nonzero()[0])
            found = f"a = {float(a[sample].flatten()[place])!r}"
            if self.coefficient == "log":
                found = f"log a = {float(field[sample].flatten()[place])!r}, {found}"
            where = tuple(int(i) for i in np.unravel_index(place, self.grid.shape))
            raise ForwardModelError(
                where=f"operator 'darcy': sample {sample} of the batch",
                found=f"{found} at point {where}",
                expected="a coefficient that is positive and finite",
            )
        return a

    def A(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.data_shape:
            raise InfieldError(
                where="operator 'darcy'", found=f"a field of shape {tuple(x.shape[1:])}", expected=self.data_shape
            )
        a = self.permeability(x)
        f = self.forcing.to(a).expand(len(a), *self.forcing.shape)
        return pad_boundary(DarcySolve.apply(a, f, self.equation), self.grid.ndim)[:, None].to(x.dtype)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian at `x` applied to `v`, at the cost of two solves."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.A(x), x, v)[0]


def build_darcy(description: OperatorDescription) -> Darcy:
    description.expect(parameters=("forcing", "coefficient", "tolerance", "max_iterations"), arrays=("forcing",))
    given, grid = description.parameters, description.regular_grid()
    if description.channels != 1:
        raise description.error(found=f"{description.channels} channels", expected="1")
    return Darcy(grid, _forcing(description, grid), **_settings(description, given))


def _forcing(description: OperatorDescription, grid: Grid) -> Tensor | float:
    if "forcing" in description.arrays:
        if "forcing" in description.parameters:
            raise description.error(found="forcing as a parameter and as an array", expected="one of them")
        return torch.from_numpy(description.array("forcing", grid.shape).astype("float64"))
    forcing = description.parameters.get("forcing", 1.0)
    if not is_number(forcing):
        raise description.error(found=f"forcing {forcing!r}", expected="a finite number")
    return float(forcing)


def _settings(description: OperatorDescription, given: Any) -> dict[str, Any]:
    settings = {}
    if "coefficient" in given:
        settings["coefficient"] = given["coefficient"]
        if given["coefficient"] not in get_args(Coefficient):
            expected = ", ".join(get_args(Coefficient))
            raise description.error(found=f"coefficient {given['coefficient']!r}", expected=f"one of {expected}")
    if "tolerance" in given:
        settings["tolerance"] = description.positive("tolerance", given["tolerance"])
    if "max_iterations" in given:
        count = description.positive("max_iterations", given["max_iterations"])
        if count != int(count):
            raise description.error(found=f"max_iterations {count}", expected="a whole number")
        settings["max_iterations"] = int(count)
    return settings
