r"""A synthetic stand-in for the wall pressure of turbulent channels: any Re_tau, any domain, exact covariance.

It is no turbulence. It is a random field with the spectrum, the streamwise correlation lobe and the heavy tails of one,
for domains that no simulation of ours reaches. In wall units,

.. math:: p = g\, e^{\sigma w - \sigma^2},

with two independent Gaussian fields: g carries the spectrum, w of unit variance makes it intermittent. Then
:math:`E[p^2] = E[g^2]`, the flatness is :math:`3 e^{4 \sigma^2}`, the skewness 0 (the small one of channels is left
out), and the covariance is a product,

.. math:: R_p(r) = R_g(r)\, e^{-\sigma^2 (1 - \rho_w(r))},
   \qquad \rho_w(r) = e^{-|r|^2 / 2 \lambda^2}.

*Spectrum of g.* Eddies of all sizes l between an inner one, fixed in wall units, and an outer one, fixed in half
heights, as many per unit of ln l at each size, and C more of the inner size (the near-wall cycle). Each size has a
spectrum of one shape in kappa l, so that the sum is an incomplete gamma function P:

.. math::

   S(k_x, k_z) = \frac{a}{J}\, \frac{D(k)}{\kappa^2} \Big[ P\big(s, (\kappa l_1)^\beta\big)
      - P\big(s, (\kappa l_0)^\beta\big) + C \beta\, \frac{x^s e^{-x}}{\Gamma(s)} \Big],
   \qquad x = (\kappa l_0)^\beta, \quad \kappa^2 = k_x^2 + (\gamma k_z)^2,

with :math:`D = \epsilon + (1 - \epsilon) (k_x / \kappa)^{2 q}`, small where the streamwise wavenumber is (the
pressure of the mean shear has a factor :math:`k_x`): that makes the negative lobe along x and none along z. J
normalises D over directions. Two-sided: the integral of S over the plane is the variance,
:math:`a (\ln(l_1 / l_0) + C) = 2.32 \ln Re_\tau - 9.61`, the logarithmic law of channels (within 0.1 of simulations
from Re_tau 178 to 2003). Between :math:`1/l_1` and :math:`1/l_0` the spectrum along x falls about as 1/k: the range
grows with Re_tau.

*Fit.* The eight constants below were fitted to the one-dimensional spectra of Moser, Kim & Mansour (1999, Phys. Fluids
11, 943) at y+ 5 and Re_tau 178, 392 and 587, both axes, wavenumbers up to k+ 0.16, on their grids and with the
modulation included. Left is a misfit of 0.63, 0.35, 0.34 dB r.m.s. along x and 0.48, 0.39, 0.46 dB along z over all
modes, at most 1.8 dB (the shortest waves at Re_tau 178). Their correlations are met to 0.05 R(0); along x the zero lies
at 87, 106, 144 wall units (theirs 87, 106, 192) and the lobe reaches -0.072, -0.057, -0.043 (theirs -0.086, -0.058,
-0.028). The premultiplied spectrum along x peaks at lambda+ 224, 246, 307 (theirs 224, 190, 217), on a plateau. The
r.m.s. follows the logarithmic law at the wall, which is 1 to 4 % in variance below theirs at y+ 5. Beyond Re_tau 587 it
is an extrapolation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, GridLike
from infield.core.transform import Window
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley, Modes
from infield.priors.gaussian.circulant_embedding import Embedding
from infield.priors.random_fields.spectral import White, check_positive

SLOPE, OFFSET = 2.32, -9.61
"""Variance of the wall pressure in wall units: SLOPE ln Re_tau + OFFSET."""

SMALLEST_RE_TAU = 150.0
"""Below it the inner and the outer size change places, and no table was fitted."""

WALL_LENGTH = "nu/u_tau"
"""Units that a grid must be in; `physics.wall_pressure.wall_units` has the same."""

INNER_SIZE, LOW_RE = 70.0, 31.0
"""l_0 = INNER_SIZE (1 + LOW_RE / Re_tau): at low Reynolds numbers even the smallest eddies are a little larger."""

ORDER, STEEPNESS = 2.5, 0.9
"""s and beta: how a size's spectrum rises and falls."""

ASPECT, SHARE, DIRECTION = 0.428, 0.138, 1.82
"""gamma, epsilon and q: how it depends on the direction of the wave."""

NEAR_WALL = 0.93
"""C: variance of the near-wall cycle, over a."""

BEYOND = 2 * math.pi
"""Half heights by which the torus exceeds a non-periodic domain."""


@dataclass(frozen=True)
class WallPressure:
    """The law of the synthetic stand-in, in wall units, with the mean over its torus removed.

    On a periodic grid of axes z and x it is drawn on the grid itself; a non-periodic axis is cut out of a
    periodic one, longer by 2 pi half heights. Waves shorter than two spacings are left out, as a spectral simulation of
    that resolution does. It is a `priors.gaussian.kernels.Law` as well: the Gaussian law with its exact covariance.

    Arguments:
        re_tau: Friction Reynolds number, at least 150.
        flatness: E[p^4] / E[p^2]^2, at least 3 (Gaussian).
        modulation_length: lambda, over which the intermittency varies, in nu/u_tau.
    """

    re_tau: float
    flatness: float = 5.0
    modulation_length: float = 200.0

    def __post_init__(self) -> None:
        for name in ("re_tau", "flatness", "modulation_length"):
            check_positive(f"synthetic wall pressure: {name}", getattr(self, name))
        if self.re_tau < SMALLEST_RE_TAU:
            raise InfieldError(
                where="synthetic wall pressure",
                found=f"re_tau {self.re_tau:g}",
                expected=f"at least {SMALLEST_RE_TAU:g}, where there are tables to fit it to",
            )
        if self.flatness < 3:
            raise InfieldError(
                where="synthetic wall pressure",
                found=f"flatness {self.flatness:g}",
                expected="at least 3, that of a Gaussian",
            )

    def __str__(self) -> str:
        return f"synthetic wall pressure, Re_tau {self.re_tau:g}"

    @property
    def variance(self) -> float:
        """Variance on the unbounded plane, in (rho u_tau^2)^2."""
        return SLOPE * math.log(self.re_tau) + OFFSET

    @property
    def sigma_squared(self) -> float:
        """sigma^2 of the modulation."""
        return math.log(self.flatness / 3) / 4

    @property
    def sizes(self) -> tuple[float, float]:
        """The inner and the outer size l_0 and l_1, in nu/u_tau."""
        inner = INNER_SIZE * (1 + LOW_RE / self.re_tau)
        return inner, inner * math.exp(self.variance / SLOPE - NEAR_WALL)

    def density(self, k_x: Tensor, k_z: Tensor) -> Tensor:
        """Two-sided spectral density S of g, in (rho u_tau^2)^2 (nu/u_tau)^2, at wavenumbers in u_tau/nu; broadcasts.

        Over the plane of both signs its integral is `variance`. At wavenumber 0 it is 0.
        """
        inner, outer = self.sizes
        square = k_x**2 + (ASPECT * k_z) ** 2
        known = square > 0
        kappa = torch.where(known, square, torch.ones_like(square)).sqrt()
        direction = SHARE + (1 - SHARE) * (k_x / kappa).abs() ** (2 * DIRECTION)
        of_cosine = math.gamma(DIRECTION + 0.5) / (math.sqrt(math.pi) * math.gamma(DIRECTION + 1))  # mean of |cos|^2q
        norm = 2 * math.pi / ASPECT * (SHARE + (1 - SHARE) * of_cosine)
        order = torch.full_like(kappa, ORDER)
        x = (kappa * inner) ** STEEPNESS
        between = torch.special.gammainc(order, (kappa * outer) ** STEEPNESS) - torch.special.gammainc(order, x)
        cycle = NEAR_WALL * STEEPNESS * x**ORDER * torch.exp(-x) / math.gamma(ORDER)
        return torch.where(known, SLOPE / norm * direction / kappa**2 * (between + cycle), torch.zeros_like(kappa))

    def torus(self, grid: GridLike) -> tuple[int, ...]:
        """Points along each axis of the torus on which fields are drawn: the grid's own where it is periodic.

        Raises:
            InfieldError: The grid is no uniform one with axes z and x in wall units.
        """
        beyond = BEYOND * self.re_tau
        return tuple(
            axis.size if axis.periodic else next_fast_len(axis.size + math.ceil(beyond / axis.spacing), real=True)
            for axis in _axes(grid)
        )

    def spectrum(self, grid: GridLike) -> Tensor:
        """Variances of the modes of p on the torus of a grid: its exact covariance, diagonal there.

        Returns:
            Shape `torus(grid)`, in the order of `torch.fft.fftn`; >= 0, 0 at wavenumber 0, and its mean is the variance
            of each value. The covariance function is its inverse FFT.
        """
        gaussian, modulation = self._modes(grid)
        covariance = torch.fft.ifftn(gaussian).real
        if modulation is not None:
            covariance = covariance * torch.exp(-self.sigma_squared * (1 - torch.fft.ifftn(modulation).real))
        spectrum = torch.fft.fftn(covariance).real.clamp_min(0)  # a product of covariances; below 0 by rounding alone
        spectrum[0, 0] = 0.0
        return spectrum

    def draw(self, grid: GridLike, white: White) -> Tensor:
        """Fields at the points of a grid, shape `(batch, *space)`, float64, in rho u_tau^2.

        Raises:
            InfieldError: The grid is no uniform one with axes z and x in wall units.
        """
        gaussian, modulation = self._modes(grid)
        p = _coloured(gaussian, white)
        if modulation is not None:
            p *= torch.exp(math.sqrt(self.sigma_squared) * _coloured(modulation, white) - self.sigma_squared)
        p -= p.mean((-2, -1), keepdim=True)
        return Window(grid.shape, self.torus(grid)).crop(p)

    def _modes(self, grid: GridLike) -> tuple[Tensor, Tensor | None]:
        """Variances of the modes of g and of w on the torus; None for w where there is no modulation."""
        axes = _axes(grid)
        streamwise = [axis.name for axis in axes].index("x")
        return _modes(self, self.torus(grid), tuple(axis.spacing for axis in axes), streamwise)

    def covariance(self, grid: GridLike, channels: int = 1) -> Covariance:
        return self.covariance_in(Hartley(2), grid, channels)

    def covariance_in(self, modes: Modes, grid: GridLike, channels: int = 1) -> Covariance:
        if not isinstance(modes, Hartley) or self.prefers_embedding(grid):
            raise InfieldError(
                where=self,
                found="a source that is not diagonal on this grid",
                expected="one of the modes of a torus",
                remedy="leave out the source, which then is white",
            )
        spectrum = self.spectrum(grid)
        floor = 1e-12 * float(spectrum.max())
        return Covariance.diagonal_in(modes, spectrum.clamp_min(floor).expand(channels, *grid.shape).clone())

    def prefers_embedding(self, grid: GridLike) -> bool:
        return not all(axis.periodic for axis in _axes(grid))

    def embed(self, grid: GridLike, torus: tuple[int, ...] | None = None) -> Embedding:
        own = self.torus(grid)
        if torus not in (None, own):
            raise InfieldError(where=self, found=f"a torus of {torus} points", expected=f"its own, {own}")
        return Embedding(Window(grid.shape, own), self.spectrum(grid), 0.0)


def _axes(grid: GridLike) -> tuple[Axis, ...]:
    axes = grid.axes if isinstance(grid, Grid) else ()
    if sorted(axis.name for axis in axes) != ["x", "z"]:
        found = f"the axes {', '.join(axis.name for axis in axes)}" if axes else "scattered points"
        raise InfieldError(where="synthetic wall pressure", found=found, expected="a grid of axes z and x")
    for axis in axes:
        if axis.units != WALL_LENGTH or not axis.uniform:
            found = f"{'even' if axis.uniform else 'uneven'} spacings in {axis.units}"
            raise InfieldError(
                where="synthetic wall pressure",
                found=f"{found} along {axis.name}",
                expected=f"even ones in {WALL_LENGTH}",
            )
    return axes


def _coloured(variances: Tensor, white: White) -> Tensor:
    """Fields on a torus with given variances of the modes."""
    shape = tuple(variances.shape)
    spectrum = torch.fft.rfft2(white(shape)) * variances[:, : shape[1] // 2 + 1].sqrt()
    return torch.fft.irfft2(spectrum, s=shape)


@lru_cache(maxsize=2)
def _modes(
    law: WallPressure, shape: tuple[int, ...], spacing: tuple[float, ...], streamwise: int
) -> tuple[Tensor, Tensor | None]:
    halves = [torch.arange(n // 2 + 1, dtype=torch.float64) for n in shape]
    waves = [2 * math.pi / (n * h) * half for n, h, half in zip(shape, spacing, halves, strict=True)]
    across = torch.meshgrid(*waves, indexing="ij")
    k_x, k_z = across[streamwise], across[1 - streamwise]
    gaussian = _all_signs(law.density(k_x, k_z), shape) * ((2 * math.pi) ** 2 / math.prod(spacing))
    if law.sigma_squared == 0:
        return gaussian, None
    modulation = _all_signs(torch.exp(-0.5 * law.modulation_length**2 * (k_x**2 + k_z**2)), shape)
    return gaussian, modulation / modulation.mean()


def _all_signs(quadrant: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Extend a function that is even in both wavenumbers from k >= 0 to all k in the order of the FFT."""
    rows, columns = (torch.minimum(torch.arange(n), n - torch.arange(n)) for n in shape)
    return quadrant[rows][:, columns]
