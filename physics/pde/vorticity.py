r"""Time stepping of vorticity on a periodic rectangle.

Fourier-Galerkin in space: only modes with 3 |k| < n take part (the 2/3 rule, Orszag 1971, J. Atmos. Sci. 28, 1074), so
that products are free of aliasing, and without viscosity energy and enstrophy are conserved up to the time step. In
time Lawson's fourth-order Runge-Kutta method (Lawson 1967, SIAM J. Numer. Anal. 4, 372): diffusion is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from infield.core.grid import Grid

LARGEST_CFL = 2.8
"""Fourth-order Runge-Kutta methods are stable for purely oscillating modes up to 2 sqrt(2)."""


class IntegratingFactorRK4:
    """One time step of the spectrum of the vorticity, in the precision and on the device of a field.

    Arguments:
        frequencies: Result of `frequencies` for the grid.
        forcing: Source of vorticity on the grid; None if there is none.
        viscosity: nu >= 0.
        h: Time step.
        like: A field `(batch, 1, ny, nx)`.
    """

    def __init__(self, frequencies: Tensor, forcing: Tensor | None, viscosity: float, h: float, like: Tensor) -> None:
        kx, ky, kept = frequencies.to(like).unbind()
        square = kx**2 + ky**2
        inverse = torch.where(square > 0, 1 / square, torch.zeros_like(square)) * kept
        self.shape = like.shape[-2:]
        self.h = h
        self.kept = kept
        self.velocity = torch.stack([1j * ky * inverse, -1j * kx * inverse])
        self.stretch = torch.stack([(kx**2 - ky**2) * kept, kx * ky * kept])
        self.k = torch.stack([kx, ky])
        self.half = torch.exp(-viscosity * square * h / 2)
        self.whole = self.half**2
        source = torch.zeros_like(like[0, 0]) if forcing is None else forcing.to(like)
        self.source = torch.fft.rfft2(source)[None, None] * kept

    def advance(self, w: Tensor) -> Tensor:
        """`step`, storing only its starting point for the backward pass."""
        advanced: Tensor = _Step.apply(w, self)  # type: ignore[no-untyped-call]
        return advanced

    def tendency(self, w: Tensor) -> Tensor:
        """f - u . grad w, with the latter as the curl of div(u u): four transforms instead of five (Basdevant 1983)."""
        u, v = torch.fft.irfft2(w[:, None] * self.velocity[:, None], s=self.shape).unbind(1)
        uv, difference = torch.fft.rfft2(torch.stack([u * v, v**2 - u**2], 1)).unbind(1)
        return self.source + self.stretch[0] * uv + self.stretch[1] * difference

    def step(self, w: Tensor) -> Tensor:
        """Lawson's method with the classical Runge-Kutta tableau."""
        h, E, E2 = self.h, self.half, self.whole
        a = self.tendency(w)
        b = self.tendency(E * (w + h / 2 * a))
        c = self.tendency(E * w + h / 2 * b)
        d = self.tendency(E2 * w + h * E * c)
        return E2 * w + h / 6 * (E2 * a + 2 * E * (b + c) + d)

    def speed(self, w: Tensor) -> Tensor:
        """Largest frequency with which the flow carries a kept mode past a grid point, shape `(batch,)`."""
        u = torch.fft.irfft2(w[:, None] * self.velocity[:, None], s=self.shape)
        largest = (self.k * self.kept).flatten(1).abs().amax(1)
        return (largest[0] * u[:, 0].abs() + largest[1] * u[:, 1].abs()).flatten(1).amax(1)


class _Step(torch.autograd.Function):
    """A time step that stores its initial state alone; `torch.utils.checkpoint` fails in `torch.func`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, scheme: IntegratingFactorRK4) -> Tensor:
        return scheme.step(w)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, IntegratingFactorRK4], output: Tensor) -> None:
        w, ctx.scheme = inputs
        ctx.save_for_backward(w)
        ctx.save_for_forward(w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        pull: Callable[[Tensor], tuple[Tensor]] = torch.func.vjp(ctx.scheme.step, *ctx.saved_tensors)[1]
        return pull(*grads)[0], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return torch.func.jvp(ctx.scheme.step, ctx.saved_tensors, tangents[:1])[1]


def frequencies(grid: Grid) -> Tensor:
    """Angular wavenumbers k_x, k_y of the real transform and the modes that are kept, shape `(3, ny, nx // 2 + 1)`."""
    (ny, nx), (ly, lx) = grid.shape, grid.lengths
    y = torch.fft.fftfreq(ny, 1 / ny, dtype=torch.float64)[:, None]
    x = torch.fft.rfftfreq(nx, 1 / nx, dtype=torch.float64)[None]
    kept = ((3 * y.abs() < ny) & (3 * x < nx)).to(torch.float64)
    return torch.stack(torch.broadcast_tensors(2 * math.pi * x / lx, 2 * math.pi * y / ly, kept))


def norm(spectrum: Tensor) -> Tensor:
    """Norm of each field, by Parseval's theorem for real fields without Nyquist modes, shape `(batch,)`."""
    squares = spectrum.detach().abs().square()
    return (2 * squares.sum((-2, -1)) - squares[..., 0].sum(-1)).sqrt().amax(1)
