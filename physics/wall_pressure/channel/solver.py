r"""Incompressible flow between two walls, driven by a constant mean pressure gradient F.

.. math:: u_t + \nabla P = u \times \omega + F e_x + \nu \Delta u, \quad \nabla \cdot u = 0, \quad u(y = \pm 1) = 0,

with P the pressure plus |u|^2 / 2, periodic in x and z. The method is that of Kim, Moin & Moser 1987 (J. Fluid Mech.
177, 133): Fourier modes in x and z, Chebyshev polynomials in y, and as unknowns :math:`\phi = \Delta v`, the
wall-normal vorticity :math:`g = \omega_y`, and the mean profiles of u and w. What fixes phi at the walls are the
conditions v = v' = 0 (influence matrix). Products are free of aliasing in x and z (3/2 rule); in y they are collocated.

In time the scheme of Spalart, Moser & Rogers 1991 (J. Comput. Phys. 96, 297): third-order Runge-Kutta for products,
Crank-Nicolson in each of its three steps for viscosity.

Lengths are in units of half the distance of the walls, h. With F = 1 and nu = 1 / Re_tau velocities are in units of the
friction velocity u_tau, times in eddy turnovers h / u_tau, and pressures in rho u_tau^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.wall_pressure.channel.chebyshev import product
from infield.physics.wall_pressure.channel.grid import ChannelGrid

GAMMA, ZETA = (8 / 15, 5 / 12, 3 / 4), (0.0, -17 / 60, -5 / 12)  # of the products of this step and the one before
ALPHA, BETA = (29 / 96, -3 / 40, 1 / 6), (37 / 160, 5 / 24, 1 / 6)  # of viscosity before and after the step

LARGEST_CFL = math.sqrt(3)
"""Third-order Runge-Kutta methods are stable for purely oscillating modes up to here."""

CACHE_BYTES = 2**20


@dataclass(frozen=True)
class ChannelState:
    """A flow at one time, by its coefficients in `Chebyshev`.

    Arguments:
        modes: phi and g for each kz and kx, `(2, n, kz, kx)`, complex; the mode kz = kx = 0 is 0.
        mean: Mean profiles of u and w, `(2, n)`.
        time: Its time.
    """

    modes: Tensor
    mean: Tensor
    time: float = 0.0


@dataclass(frozen=True)
class Tendency:
    """What the products u x omega and the driving force do to a state, and how fast the flow crosses the grid.

    Arguments:
        modes, mean: As those of the state, per unit of time.
        speed: Largest frequency with which the flow carries the finest wave past a point.
    """

    modes: Tensor
    mean: Tensor
    speed: Tensor


class ChannelFlowSolver(ChannelGrid):
    """The solver, for one grid, viscosity and driving force.

    Arguments:
        viscosity: nu > 0.
        lengths, points, device: Lengths, points and device of the grid.
        forcing: F, the driving force.
        padding: Points along x and z on which products are taken, over those of the grid.

    Raises:
        InfieldError: A number does not fit.
    """

    def __init__(
        self,
        viscosity: float,
        lengths: tuple[float, float],
        points: tuple[int, int, int],
        forcing: float = 1.0,
        padding: float = 1.5,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(lengths, points, device)
        if not 0 < viscosity < math.inf:
            raise InfieldError(where="channel", found=f"viscosity {viscosity}", expected="a finite number above zero")
        (lx, lz), (nx, _, nz) = lengths, points
        self.viscosity, self.forcing = viscosity, forcing
        self.padded = (2 * math.ceil(padding * nz / 2), 2 * math.ceil(padding * nx / 2))
        inverse = self.wave / self.k2.clamp(min=1e-300)
        self.jx, self.jz = self.ikx * inverse, self.ikz * inverse  # i k / k^2
        c = self.chebyshev
        gaps = torch.cat([c.y.diff()[:1], (c.y[2:] - c.y[:-2]) / 2, c.y.diff()[-1:]])
        self.finest = (math.pi * nx / lx, math.pi / gaps[:, None, None], math.pi * nz / lz)
        laplacian = c.eigenvalues[:, None, None] - self.k2
        self.viscous, self.viscous_mean = viscosity * laplacian, viscosity * c.eigenvalues
        self.to_v = torch.where(self.wave > 0, 1 / laplacian, 0.0)
        self.of_v = torch.cat([c.values, c.slopes, c.curvatures])
        self.of_g = torch.cat([c.values, c.slopes])
        self.inner_slope = c.coefficients @ c.first[1:-1]
        self.force = forcing * c.coefficients.sum(1)

    def state(self, v: Tensor, g: Tensor, mean: Tensor, time: float = 0.0) -> ChannelState:
        """A state from values at the points of y.

        Arguments:
            v: Amplitudes of the wall-normal velocity, `(ny, kz, kx)`, complex; v = v' = 0 at the walls.
            g: Amplitudes of the wall-normal vorticity; 0 at the walls.
            mean: Profiles of u and w, `(2, ny)`.
            time: Its time.
        """
        inner = product(self.chebyshev.coefficients, torch.stack([v, g], 1)[1:-1].to(self.device))
        modes = (inner * self.wave).unbind(1)
        phi = modes[0] * (self.chebyshev.eigenvalues[:, None, None] - self.k2)
        profiles = self.chebyshev.coefficients @ mean.to(self.device)[:, 1:-1].mT
        return ChannelState(torch.stack([phi, modes[1]]), profiles.mT.contiguous(), time)

    def spectra(self, state: ChannelState) -> Tensor:
        """Amplitudes of u, v, w and of the vorticity in x, y and z, at the points of y, `(6, ny, kz, kx)`."""
        c, ny = self.chebyshev, self.points[1]
        v, v_y, v_yy = product(self.of_v, self.to_v * state.modes[0]).reshape(3, ny, *self.k2.shape)
        g, g_y = product(self.of_g, state.modes[1]).reshape(2, ny, *self.k2.shape)
        jx, jz = self.jx, self.jz
        found = torch.empty(6, *v.shape, dtype=v.dtype, device=v.device)
        torch.sub(jx * v_y, jz * g, out=found[0])
        found[1] = v
        torch.add(jz * v_y, jx * g, out=found[2])
        torch.add(jz * v_yy, jx * g_y, out=found[3]).sub_(self.ikz * v)
        found[4] = g
        torch.sub(jz * g_y, jx * v_yy, out=found[5]).add_(self.ikx * v)
        u, w = state.mean
        found[[0, 2], :, 0, 0] = (c.values @ state.mean.mT).mT.to(found.dtype)
        found[3, :, 0, 0], found[5, :, 0, 0] = (c.slopes @ w).to(found.dtype), (-c.slopes @ u).to(found.dtype)
        return found

    def products(self, state: ChannelState) -> tuple[Tensor, Tensor]:
        """Amplitudes of u x omega, `(3, ny, kz, kx)`, and the speed of `Tendency`."""
        spectra = self.spectra(state)
        kx, ky, kz = self.finest
        found, speeds = [], []
        size = self._planes_at_a_time()
        for planes in (slice(start, start + size) for start in range(0, self.points[1], size)):
            u, v, w, a, b, c = self.fields(spectra[:, planes], self.padded)
            cross = torch.empty(3, *u.shape, dtype=u.dtype, device=u.device)
            torch.mul(v, c, out=cross[0]).addcmul_(w, b, value=-1)
            torch.mul(w, a, out=cross[1]).addcmul_(u, c, value=-1)
            torch.mul(u, b, out=cross[2]).addcmul_(v, a, value=-1)
            found.append(self.amplitudes(cross))
            speeds.append(u.abs_().mul_(kx).addcmul_(v.abs_(), ky[planes]).add_(w.abs_(), alpha=kz).amax())
        return torch.cat(found, 1), torch.stack(speeds).amax()

    def _planes_at_a_time(self) -> int:
        """Planes whose fields fit into a processor's cache together, which makes products 3 times as fast; else all."""
        size = 6 * math.prod(self.padded) * 8
        return max(1, CACHE_BYTES // size) if self.device.type == "cpu" else self.points[1]

    def tendency(self, state: ChannelState) -> Tendency:
        """All of the equations of phi, g and the means but viscosity."""
        (x, y, z), speed = self.products(state)
        modes = torch.stack(
            [
                -product(self.inner_slope, self.ikx * x + self.ikz * z)
                - product(self.chebyshev.coefficients, (self.k2 * y)[1:-1]),
                product(self.chebyshev.coefficients, (self.ikz * x - self.ikx * z)[1:-1]),
            ]
        )
        means = self.chebyshev.coefficients @ torch.stack([x, z], -1)[1:-1, 0, 0].real
        means[:, 0] += self.force
        return Tendency(modes, means.mT, speed)

    def advance(self, state: ChannelState, h: float, first: Tendency | None = None) -> ChannelState:
        """One step of length h; `first` is the tendency at its beginning where that is known."""
        modes, mean, before = state.modes, state.mean, None
        for alpha, beta, gamma, zeta in zip(ALPHA, BETA, GAMMA, ZETA, strict=True):
            now = first if first is not None else self.tendency(ChannelState(modes, mean))
            modes = modes * (1 + alpha * h * self.viscous) + gamma * h * now.modes
            mean = mean * (1 + alpha * h * self.viscous_mean) + gamma * h * now.mean
            if before is not None:
                modes = modes.add_(before.modes, alpha=zeta * h)
                mean = mean.add_(before.mean, alpha=zeta * h)
            modes = self._clamped(modes, 1 / (1 - beta * h * self.viscous))
            mean = mean / (1 - beta * h * self.viscous_mean)
            before, first = now, None
        return ChannelState(modes, mean, state.time + h)

    def _clamped(self, modes: Tensor, implicit: Tensor) -> Tensor:
        """Solve the implicit equations; the value of phi at the walls is what makes v' vanish there."""
        c = self.chebyshev
        modes = modes * implicit
        to_v = self.to_v * implicit
        at_walls = self.solve_pairs(self.slopes_of_sources(to_v), product(c.end_slopes, self.to_v * modes[0]))
        modes[0] -= implicit * product(c.end_sources, at_walls)
        return modes

    def step(self, state: ChannelState, until: float, cfl: float = 1.0) -> ChannelState:
        """One step towards a time, of equal steps of at most the given CFL number that reach it exactly.

        Arguments:
            state: Initial state.
            until: A later time.
            cfl: Step times the speed of `Tendency`; stable to `LARGEST_CFL`.

        Raises:
            InfieldError: The flow has blown up.
        """
        first = self.tendency(state)
        speed = float(first.speed)
        if not math.isfinite(speed):
            raise InfieldError(
                where="channel",
                found=f"a flow that blew up at time {state.time:.6g} with CFL number {cfl:g}",
                expected=f"at most {LARGEST_CFL:.3g}, less on coarse grids",
                remedy="take a smaller one",
            )
        left = until - state.time
        steps = max(1, math.ceil(left * speed / cfl - 1e-9))
        moved = self.advance(state, left / steps, first)
        return moved if steps > 1 else ChannelState(moved.modes, moved.mean, until)

    def total_pressure(self, state: ChannelState) -> Tensor:
        """Amplitudes of the pressure plus |u|^2 / 2, without the mean gradient, plane means removed, `(ny, kz, kx)`.

        At the walls this is the pressure. Its equation is the divergence of the momentum equation; at the walls its
        slope is what the wall-normal momentum equation has it: y-component of u x omega + nu v''.
        """
        cross, _ = self.products(state)
        curvature = product(self.chebyshev.curvatures[[0, -1]], self.to_v * state.modes[0])
        return self.pressure(cross, cross[1, [0, -1]] + self.viscosity * curvature)

    def wall_pressure(self, state: ChannelState) -> Tensor:
        """Pressure at the lower and the upper wall on the grid, plane means removed, `(2, nz, nx)`."""
        return self.fields(self.total_pressure(state)[[0, -1]], (self.points[2], self.points[0]))
