r"""A Gaussian prior from the measurement itself: what to use where the user names none.

The prior is stationary around a constant mean. On a regular grid log S(k), the power spectrum of its modes, is
piecewise linear in log k with a smoothness prior on the changes of slope; or, if an order nu is given, S is
that of a Matern field (Rasmussen & Williams 2006, eq. 4.15),

    S(k) = a (1 + (k / k_0)^2)^{-p},    p = nu + d / 2,    k_0 = sqrt(2 nu) / (2 pi l).

The parameters maximise the evidence log N(y; 0, A C A^T + R) (type-II maximum likelihood; ibid., eq. 5.8). Of many
data, random groups are taken and their log evidences added. On scattered points and on axes with uneven steps, where no
spectrum exists, the parameters are the variance and length of a Matern kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, GridLike, PointSet
from infield.core.spectra import Bins, wavenumbers
from infield.core.transform import Affine
from infield.physics.measurement import Measurement
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.priors.covariance.modes import Hartley, Modes, Pixels
from infield.priors.gaussian.kernels import DENSE_LIMIT, Matern
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior, spectrum_prior

GROUP, GROUPS = 500, 4
"""At most this many data a group, and this many groups."""

GROUP_ENTRIES = 40_000_000
"""At most this many entries in a group's data-by-modes matrix (320 MiB)."""

SHELLS = 64
"""Shells of wavenumber in which the spectrum counts as constant while it is fitted."""

KNOTS, SLOPE_CHANGE = 8, 0.3
"""Knots of log S over log k, and the prior standard deviation of its second differences from knot to knot."""

NU = 1.5
"""Order of the Matern kernel on scattered points, where the data seldom determine more than a length."""


def fit_prior(measurement: Measurement, *, nu: float | None = None, seed: int = 0) -> GaussianPrior:
    """The stationary Gaussian prior under which a measurement is most probable.

    Arguments:
        measurement: Linear operator and Gaussian noise.
        nu: Order of a Matern kernel; None takes a free spectrum (regular grids), or 3/2 (scattered points).
        seed: Seed of the choice of data.

    Raises:
        InfieldError: If the operator is not linear, the noise not Gaussian, or the data hold no signal.
    """
    if not measurement.linear_gaussian:
        raise InfieldError(
            where="the default Gaussian prior, fitted to the data",
            found="a nonlinear operator or other noise",
            expected="a linear operator and Gaussian noise",
            remedy="name a prior with {prior}",
            parameters=["prior"],
        )
    generator = Generator().manual_seed(seed)
    mean, variance = _moments(measurement, generator)
    centred = measurement.pullback(Affine(mean, torch.full_like(mean, math.sqrt(variance))))
    if isinstance(measurement.grid, PointSet) or not measurement.grid.uniform:
        prior = _most_probable_law(centred, measurement.grid, NU if nu is None else nu, generator)
    else:
        prior = _most_probable_spectrum(centred, measurement.grid, nu, generator)
    return replace(prior.in_units(mean, math.sqrt(variance)), units=measurement.units)


def _moments(measurement: Measurement, generator: Generator) -> tuple[Tensor, float]:
    """Mean of each channel by least squares, and the variance of a value that explains the power of the data.

    Data count by the inverse of their noise. A mean in the operator's null space is zero.
    """
    channels, *space = measurement.event_shape
    data = LinearGaussianData(measurement, Pixels())
    weight = (data.noise.variance * torch.ones_like(measurement.y)).flatten()[data.index].rsqrt()
    constants = torch.eye(channels, dtype=torch.float64).reshape(channels, channels, *[1] * len(space))
    of_constants = measurement.operator.A(constants.expand(channels, channels, *space).contiguous()).flatten(1)[
        :, data.index
    ]
    y, of_constants = weight * measurement.y.flatten()[data.index], weight * of_constants
    probes = torch.randn((4, channels, *space), generator=generator, dtype=torch.float64)
    squares = [(weight * measurement.operator.A(x).flatten()[data.index]).square().sum() for x in probes.split(1)]
    gain = float(sum(squares)) / len(probes)  # trace(A A^T) of whitened data, Hutchinson
    unseen = of_constants.square().sum(1, keepdim=True) <= 1e-12 * gain  # rounding alone
    of_constants = torch.where(unseen, torch.zeros_like(of_constants), of_constants)
    mean = torch.linalg.lstsq(of_constants.mT, y[:, None], driver="gelsd").solution  # least norm where unseen
    noise, power = float(len(y)), float((y - (of_constants.mT @ mean)[:, 0]).square().sum())
    if power <= noise or gain == 0:
        raise InfieldError(
            where="fit of a Gaussian prior",
            found=f"data of {power / noise:.3g} times the power of their noise",
            expected="more than once, to fit a prior to them",
            remedy="check the noise level, or name a prior with {prior}",
            parameters=["prior"],
        )
    return mean.reshape(channels, *[1] * len(space)), (power - noise) / gain


@dataclass(frozen=True)
class _Group:
    """Some of the data: their values, shape `(data,)`, and their noise R, shape `(data, data)`."""

    y: Tensor
    noise: Tensor

    def log_evidence(self, signal: Tensor) -> Tensor:
        """log N(y; 0, signal + R) up to its constant, for the covariance of the noiseless data."""
        L = torch.linalg.cholesky(signal + self.noise)
        z = torch.linalg.solve_triangular(L, self.y[:, None], upper=False)
        return -0.5 * z.square().sum() - L.diagonal().log().sum()


def _groups(measurement: Measurement, modes: Modes, generator: Generator) -> Iterator[tuple[_Group, Tensor]]:
    """Random groups of the data, each with its rows of A T^T, shape `(data, modes)`."""
    data = LinearGaussianData(measurement, modes)
    size = min(GROUP, max(GROUP_ENTRIES // max(math.prod(measurement.event_shape), data.observed.numel()), 50))
    order = data.index[torch.randperm(len(data.index), generator=generator)]
    y = measurement.y.flatten()
    for part in (part.sort().values for part in order.split(size)[:GROUPS]):
        yield _Group(y[part], data.noise_block(part)), data.operator_rows(part)


def _most_probable_spectrum(
    measurement: Measurement, grid: Grid, nu: float | None, generator: Generator
) -> GaussianPrior:
    channels, d = measurement.event_shape[0], grid.ndim
    k = wavenumbers(grid.shape, grid.spacing)
    shells = _shells(k)
    index, k_shell = shells.index.flatten().repeat(channels), shells.mean(k)
    groups, grams = [], []  # grams: of each group, the covariance of its noiseless data for unit power in each shell
    for group, rows in _groups(measurement, Hartley(d), generator):
        groups.append(group)
        parts = (rows[:, index == s] for s in range(len(k_shell)))
        grams.append(torch.stack([part @ part.mT for part in parts]))

    family = _FreeSpectrum(k_shell) if nu is None else _MaternSpectrum(grid, nu)

    def evidence(theta: Tensor) -> Tensor:
        S = family(theta, k_shell)
        of_groups = (g.log_evidence(torch.einsum("s,sij->ij", S, gram)) for g, gram in zip(groups, grams, strict=True))
        return torch.stack(list(of_groups)).sum() + family.log_prior(theta)

    theta = _maximise(evidence, family.start(k), family.bounds(k))
    name = f"Gaussian fitted to the data, {family.describe(theta)}"
    return spectrum_prior(family(theta, k).expand(channels, *grid.shape).clone(), name=name)


class _FreeSpectrum:
    """log S piecewise linear in log k; theta holds its values at the knots."""

    def __init__(self, k_shell: Tensor) -> None:
        self.lowest = float(k_shell[k_shell > 0].min())
        self.knots = torch.linspace(math.log(self.lowest), math.log(float(k_shell.max())), KNOTS, dtype=torch.float64)

    def __call__(self, theta: Tensor, k: Tensor) -> Tensor:
        place = (k.clamp_min(self.lowest).log() - self.knots[0]) / (self.knots[1] - self.knots[0])
        i = place.floor().long().clamp(0, KNOTS - 2)
        return (theta[i] + (theta[i + 1] - theta[i]) * (place - i)).exp()

    def log_prior(self, theta: Tensor) -> Tensor:
        return -0.5 * (theta.diff().diff() / SLOPE_CHANGE).square().sum()

    def start(self, k: Tensor) -> list[float]:
        """A power law of slope -3 that gives every value the variance 1."""
        slope = -3 * self.knots
        return (slope - self(slope, k).mean().log()).tolist()

    def bounds(self, k: Tensor) -> list[tuple[float, float]]:
        return [(value - 12, value + 12) for value in self.start(k)]

    def describe(self, theta: Tensor) -> str:
        slopes = theta.diff() / self.knots.diff()
        return f"free power spectrum, slopes {float(slopes[0]):.1f} to {float(slopes[-1]):.1f} from long to short waves"


class _MaternSpectrum:
    """The spectrum of a Matern field of given order; theta holds log a and log k_0."""

    def __init__(self, grid: Grid, nu: float) -> None:
        self.grid, self.nu, self.p = grid, nu, nu + grid.ndim / 2

    def __call__(self, theta: Tensor, k: Tensor) -> Tensor:
        return theta[0].exp() * (1 + (k / theta[1].exp()) ** 2) ** -self.p

    def log_prior(self, theta: Tensor) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    def start(self, k: Tensor) -> list[float]:
        """Unit variance, and waves of a third of the domain."""
        log_k_0 = math.log(3 / max(self.grid.lengths))
        of_unit_power = self(torch.tensor([0.0, log_k_0], dtype=torch.float64), k)
        return [-float(of_unit_power.mean().log()), log_k_0]

    def bounds(self, k: Tensor) -> list[tuple[float, float]]:
        log_a = self.start(k)[0]
        longest, shortest = 10 * max(self.grid.lengths), 2 * min(self.grid.spacing)
        return [(log_a - 12, log_a + 12), (-math.log(longest), -math.log(shortest))]

    def describe(self, theta: Tensor) -> str:
        length = math.sqrt(2 * self.nu) / (2 * math.pi * float(theta[1].exp()))
        return f"Matern spectrum, nu {self.nu:g}, length {length:.3g} {self.grid.axes[-1].units}"


def _shells(k: Tensor) -> Bins:
    """Shells of equal width in log k; k = 0 has one of its own."""
    positive = k[k > 0]
    lowest, highest = float(positive.min().log10()) - 1e-6, float(positive.max().log10()) + 1e-6
    edges = torch.logspace(lowest, highest, SHELLS, dtype=torch.float64)
    return Bins.between(k, torch.cat([edges.new_zeros(1), edges])).without_empty()


def _check_points(grid: GridLike, channels: int) -> None:
    """Raises:
    InfieldError: The points have no spectrum, and are too many for matrices, or have no distance.
    """
    where, size = "a prior fitted to the data", f"{grid.size} scattered points"
    even, remedy = "", "state its length in a description ({prior}, with `law: matern` and `length`)"
    if isinstance(grid, Grid):
        size = next(axis.spacings for axis in grid.axes if not axis.uniform)
        even, interpolate = " or even steps", "interpolate field and data to even steps"
        units = sorted({axis.units for axis in grid.axes})
        if len(units) > 1 or channels > 1:
            many = f"{channels} channels" if channels > 1 else f"axes in {' and '.join(units)}"
            raise InfieldError(
                where=where,
                found=f"{many}, and {size}",
                expected="one channel on axes of one unit, or even steps",
                remedy=interpolate,
            )
        size, remedy = f"{grid.size} points with {size}", f"{remedy}, or {interpolate} (of a lightcone: {{resample}})"
    if grid.size > DENSE_LIMIT:
        parameters = {"prior": "prior.yaml", "resample": None}
        raise InfieldError(
            where=where,
            found=size,
            expected=f"at most {DENSE_LIMIT} points{even}",
            remedy=remedy,
            parameters=parameters,
        )


def _most_probable_law(measurement: Measurement, points: GridLike, nu: float, generator: Generator) -> GaussianPrior:
    """A Matern law where there is no spectrum: on scattered points, and on axes with uneven steps."""
    _check_points(points, measurement.event_shape[0])
    groups, x = list(_groups(measurement, Pixels(), generator)), points.points()
    units = points.axes[0].units if isinstance(points, Grid) else points.units
    extent = float((x.amax(0) - x.amin(0)).max())

    def law(theta: Tensor) -> Matern:
        return Matern(nu=nu, variance=math.exp(float(theta[0])), length=math.exp(float(theta[1])))

    def evidence(theta: np.ndarray) -> float:
        chosen = law(torch.from_numpy(theta))
        C = matern_matrix(x, nu=nu, length=chosen.length, variance=chosen.variance)
        return float(sum(group.log_evidence(rows @ C @ rows.mT) for group, rows in groups))

    start = np.array([0.0, math.log(extent / 5)])
    bounds = [(-7.0, 7.0), (math.log(extent / 1000), math.log(extent * 10))]
    found = minimize(
        lambda theta: -evidence(theta), start, method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-2}
    )
    best = law(torch.from_numpy(found.x))
    name = f"Gaussian fitted to the data, Matern, nu {nu}, length {best.length:.3g} {units}"
    return gaussian_prior(best, points, name=name)


def _maximise(objective: Callable[[Tensor], Tensor], start: list[float], bounds: list[tuple[float, float]]) -> Tensor:
    """Maximise a differentiable function of few parameters by L-BFGS-B."""

    def negative(values: np.ndarray) -> tuple[float, np.ndarray]:
        theta = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            value = -objective(theta)
            (gradient,) = torch.autograd.grad(value, theta, materialize_grads=True)
        return float(value.detach()), gradient.numpy()

    found = minimize(negative, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds)
    return torch.from_numpy(found.x)
