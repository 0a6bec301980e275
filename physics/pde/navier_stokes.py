r"""The vorticity of a two-dimensional incompressible flow on a periodic domain, from time 0 to time T.

.. math:: w_t + u \cdot \nabla w = \nu \Delta w + f, \qquad u = (\psi_y, -\psi_x), \qquad -\Delta \psi = w - \bar w.

Pseudo-spectral, of fourth order in time: see `vorticity`.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.checks import is_whole
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.base import plain_physics
from infield.physics.operators.description import OperatorDescription
from infield.physics.operators.refusal import ForwardModelError
from infield.physics.pde.vorticity import LARGEST_CFL, IntegratingFactorRK4, frequencies, norm

POINTS_A_STEP = 4
"""Points that a flow of unit speed (a length a unit of time) crosses in a step, unless a number of steps is given.
Li et al.'s flows at 64^2 then take 16 steps to time 1, with CFL numbers up to 1.2 and errors in time up to 2e-7."""

FORCINGS = ("none", "li")


class NavierStokes(Physics):
    """Vorticity at time 0 to vorticity at time T, on a periodic rectangle; the last axis is x, the one before it y.

    The mean of the field is kept, and moves nothing. Modes beyond the 2/3 rule are removed from the field at once.
    Gradients are those of the discrete solver. Their memory is one spectrum a time step: the stages inside of a step
    are computed again on the way back.

    Arguments:
        grid: Two uniform periodic axes.
        viscosity: nu >= 0, in length^2 / time.
        time: T > 0.
        steps: Number of time steps; by default as many as `POINTS_A_STEP` has it.
        forcing: Constant source of vorticity f, shape of the grid; None for none.

    Raises:
        InfieldError: The grid is not periodic and uniform, or has not two axes.
    """

    name: ClassVar[str] = "navier-stokes"
    frequencies: Tensor
    forcing: Tensor | None
    observed: Tensor | None

    def __init__(
        self,
        grid: Grid,
        viscosity: float = 1e-3,
        time: float = 1.0,
        steps: int | None = None,
        forcing: Tensor | None = None,
    ) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = check_torus(grid)
        self.channels = 1
        self.data_shape = (1, *grid.shape)
        self.viscosity, self.time = viscosity, time
        self.steps = math.ceil(time * max(grid.shape) / POINTS_A_STEP) if steps is None else steps
        self.register_buffer("frequencies", frequencies(grid))
        self.register_buffer("forcing", forcing)
        self.register_buffer("observed", None)

    def scheme(self, like: Tensor) -> IntegratingFactorRK4:
        """The time step for a field."""
        return IntegratingFactorRK4(self.frequencies, self.forcing, self.viscosity, self.time / self.steps, like)

    def A(self, x: Tensor) -> Tensor:
        """The vorticity at time T, in the precision of the field; differentiable, and under `torch.func` too.

        Raises:
            ForwardModelError: A trajectory has blown up, or its time step is not stable (the message names the sample
            and the time). InfieldError: The field has another shape.
        """
        if x.shape[1:] != self.data_shape:
            found = tuple(x.shape[1:])
            raise InfieldError(
                where=f"operator '{self.name}'", found=f"a field of shape {found}", expected=self.data_shape
            )
        scheme = self.scheme(x)
        spectrum = torch.fft.rfft2(x) * scheme.kept
        norms, speeds = [norm(spectrum)], []
        for _ in range(self.steps):
            speeds.append(scheme.speed(spectrum.detach()))
            spectrum = scheme.advance(spectrum)
            norms.append(norm(spectrum))
        self._check(torch.stack(norms), torch.stack(speeds), norm(scheme.source))
        return torch.fft.irfft2(spectrum, s=self.grid.shape)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian at `x` applied to `v`."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.A(x), x, v)[0]

    def _check(self, norms: Tensor, speeds: Tensor, source: Tensor) -> None:
        """Refuse what is no solution: the norm of the vorticity can only grow by the forcing (the energy estimate)."""
        h = self.time / self.steps
        times = h * torch.arange(len(norms), dtype=norms.dtype, device=norms.device)
        bound = 1.05 * (norms[0] + times[:, None] * source) + torch.finfo(norms.dtype).tiny
        for wrong, message in (
            (~torch.isfinite(norms[:1]), "holds NaN or infinity"),
            (h * speeds > LARGEST_CFL, "is too fast for the time step"),
            (~(norms[1:] <= bound[1:]), "has blown up"),
        ):
            if wrong.any():
                step, sample = (int(i) for i in wrong.nonzero()[0])
                cfl = float(h * speeds[step, sample])
                where = f"operator '{self.name}': sample {sample} of the batch {message} at step {step}"
                if not torch.isfinite(norms[0, sample]):
                    raise ForwardModelError(where=where, found="NaN or infinity at its start", expected="finite values")
                raise ForwardModelError(
                    where=where,
                    found=f"CFL number {cfl:.3g} with {self.steps} steps",
                    expected=f"at most {LARGEST_CFL}",
                    remedy=f"take {math.ceil(self.steps * cfl / 1.4)} steps or more" if math.isfinite(cfl) else "",
                )


def check_torus(grid: Grid) -> Grid:
    """The grid; InfieldError unless it has two uniform periodic axes, on which a transform has more than one wave."""
    if grid.ndim != 2 or not all(axis.periodic and axis.uniform and axis.size >= 4 for axis in grid.axes):
        kinds = [
            f"{axis.name}: {axis.size} points{', periodic' * axis.periodic}{', uniform' * axis.uniform}"
            for axis in grid.axes
        ]
        raise InfieldError(
            where=f"operator '{NavierStokes.name}'",
            found=f"the axes ({'; '.join(kinds)})",
            expected="two uniform periodic ones of at least 4 points",
        )
    return grid


def li_forcing(grid: Grid) -> Tensor:
    """0.1 (sin(2 pi (x + y)) + cos(2 pi (x + y))) of Li et al. 2021 (Fourier neural operator), x and y in periods."""
    axes = check_torus(grid).axes
    y, x = (torch.tensor(a.coordinates, dtype=torch.float64) / (a.spacing * a.size) for a in axes)
    phase = 2 * math.pi * (x[None] + y[:, None])
    return 0.1 * (torch.sin(phase) + torch.cos(phase))


def build_navier_stokes(description: OperatorDescription) -> NavierStokes:
    description.expect(parameters=("viscosity", "time", "steps", "forcing"), arrays=("forcing",))
    grid = description.regular_grid()
    if description.channels != 1:
        raise description.error(found=f"{description.channels} channels", expected="1, the vorticity")
    parameters = {"viscosity": 1e-3, "time": 1.0, "steps": None, "forcing": "none", **description.parameters}
    steps, forcing = parameters["steps"], parameters["forcing"]
    if steps is not None and not is_whole(steps, 1):
        raise description.error(found=f"steps {steps!r}", expected="a whole number of at least 1")
    if forcing not in FORCINGS or ("forcing" in description.arrays and "forcing" in description.parameters):
        raise description.error(
            found=f"forcing {forcing!r}", expected=f"{' or '.join(FORCINGS)}, or an array 'forcing'"
        )
    source = li_forcing(grid) if forcing == "li" else None
    if "forcing" in description.arrays:
        source = torch.from_numpy(description.array("forcing", grid.shape).astype("float64"))
    inviscid = parameters["viscosity"] == 0
    viscosity = 0.0 if inviscid else description.positive("viscosity", parameters["viscosity"])
    return NavierStokes(grid, viscosity, description.positive("time", parameters["time"]), steps, source)
