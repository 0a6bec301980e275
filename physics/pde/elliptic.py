"""The Poisson and Helmholtz equations on a rectangle with homogeneous Dirichlet boundary conditions."""

from __future__ import annotations

from torch import Tensor

from infield.core.checks import is_number
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.description import OperatorDescription
from infield.physics.pde.dirichlet import check_dirichlet_grid, interior, laplacian_eigenvalues, pad_boundary
from infield.physics.pde.sine_transform import sine_transform


class Helmholtz(LinearOperator):
    r"""The solution u of :math:`-\nabla^2 u + k^2 u = f`, u = 0 on the boundary, of the field f, by channel.

    Second-order finite differences, inverted exactly by sine series. Values of f on the boundary do not matter. The
    operator is self-adjoint.

    Arguments:
        grid: Uniform grid of 1 to 3 axes; its first and last points are the boundary.
        channels: Number of channels.
        wavenumber_squared: k^2 in 1 / (units of the grid) squared. Below zero the equation is that of waves
            (:math:`-\nabla^2 u - \kappa^2 u = f`), and must not meet an eigenvalue of the Laplacian.

    Raises:
        InfieldError: If the grid does not fit, or minus k^2 is an eigenvalue of the discrete Laplacian (to 1e-8 of it).
    """

    name = "helmholtz"
    eigenvalues: Tensor

    def __init__(self, grid: Grid, channels: int, wavenumber_squared: float) -> None:
        grid = check_dirichlet_grid(self.name, grid)
        super().__init__(grid, channels, (channels, *grid.shape), grid)
        laplacian = laplacian_eigenvalues(grid)
        gap = (laplacian + wavenumber_squared).abs()
        if gap.min() <= 1e-8 * abs(wavenumber_squared):
            nearest = float(laplacian.flatten()[gap.argmin()])
            raise InfieldError(
                where=f"operator '{self.name}'",
                found=(
                    f"wavenumber_squared {wavenumber_squared!r}, a resonance: the nearest eigenvalue of the discrete "
                    f"Laplacian is {-nearest!r}"
                ),
                remedy="move away from it",
            )
        self.register_buffer("eigenvalues", laplacian + wavenumber_squared)

    def A(self, x: Tensor) -> Tensor:
        ndim = self.grid.ndim
        series = sine_transform(interior(x, ndim), ndim) / self.eigenvalues
        return pad_boundary(sine_transform(series, ndim), ndim)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.A(y)


class Poisson(Helmholtz):
    r"""The solution u of :math:`-\nabla^2 u = f`, with u = 0 on the boundary: `Helmholtz` with k = 0."""

    name = "poisson"

    def __init__(self, grid: Grid, channels: int) -> None:
        super().__init__(grid, channels, 0.0)


def build_poisson(description: OperatorDescription) -> Poisson:
    description.expect()
    return Poisson(description.regular_grid(), description.channels)


def build_helmholtz(description: OperatorDescription) -> Helmholtz:
    description.expect(parameters=("wavenumber_squared",))
    k2 = description.parameters.get("wavenumber_squared")
    if not is_number(k2):
        raise description.error(found=f"wavenumber_squared {k2!r}", expected="a finite number")
    return Helmholtz(description.regular_grid(), description.channels, float(k2))
