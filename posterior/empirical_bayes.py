r"""A Gaussian prior from the measurement itself: what to use where the user names none.

The prior is stationary with the spectral density of a Matern field (Rasmussen & Williams 2006, eq. 4.15) on the modes of the grid,

    S(k) = a (1 + (k / k_0)^2)^{-p},    p = nu + d / 2,    k_0 = sqrt(2 nu) / (2 pi l),

around a constant mean. Its parameters are those under which the data are most probable. On a regular grid they are found by
expectation-maximisation (Dempster, Laird & Rubin 1977): E, draw fields of the posterior under the present spectrum; M, fit (a, k_0, p) to the
power of these draws by Whittle's likelihood. On scattered points, where no spectrum exists, (variance, l) of a Matern law of order
3/2 maximise the evidence directly.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Generator, Tensor

from infield import InfieldError
from infield.physics.grid import Grid, PointSet
from infield.physics.measurement import Measurement
from infield.posterior.linear_gaussian import LinearGaussianData
from infield.priors.covariance import Covariance
from infield.priors.gaussian import GaussianPrior, gaussian_prior, spectrum_prior
from infield.priors.modes import Hartley, Pixels
from infield.priors.source import Matern

NU = 1.5
"""Order of the Matern law on scattered points, where the data seldom say more than a length."""


def fit_prior(
    measurement: Measurement, *, nu: float | None = None, iterations: int = 15, draws: int = 2, seed: int = 0
) -> GaussianPrior:
    """The stationary Gaussian prior under which a measurement is most probable.

    Arguments:
        measurement: Linear operator and Gaussian noise.
        nu: Order of the Matern spectrum; None lets the data choose it (regular grids), or takes 3/2 (scattered points).
        iterations: Steps of expectation-maximisation.
        draws: Posterior draws of each step.
        seed: Seed of these draws.

    Raises:
        InfieldError: If the operator is not linear, the noise not Gaussian, or the data hold no signal.
    """
    if not measurement.linear_gaussian:
        raise InfieldError(
            "without --prior a Gaussian prior is fitted to the data, which needs a linear operator and Gaussian noise; "
            "name a prior with --prior"
        )
    mean, variance = _moments(measurement, seed)
    centred = measurement.standardised(mean, torch.full_like(mean, math.sqrt(variance)))
    if isinstance(measurement.grid, PointSet):
        prior = _most_probable_matern(centred, measurement.grid, NU if nu is None else nu)
    else:
        prior = _most_probable_spectrum(centred, measurement.grid, nu, iterations, draws, seed)
    return replace(prior.in_units(mean, math.sqrt(variance)), units=measurement.units)


def _moments(measurement: Measurement, seed: int) -> tuple[Tensor, float]:
    """Mean of each channel by least squares, and the variance a value that explains the power of the data."""
    channels, *space = measurement.event_shape
    A, noise = measurement.operator.A, measurement.noise
    observed = measurement.observed if measurement.observed is not None else torch.ones_like(measurement.y[0], dtype=torch.bool)
    constants = torch.eye(channels, dtype=torch.float64).reshape(channels, channels, *[1] * len(space))
    constant_data = A(constants.expand(channels, channels, *space).contiguous())[:, observed]
    mean = torch.linalg.lstsq(constant_data.mT, measurement.y[0][observed][:, None]).solution
    residual = measurement.y[0][observed] - (constant_data.mT @ mean)[:, 0]
    probes = torch.randn((4, channels, *space), generator=Generator().manual_seed(seed), dtype=torch.float64)
    gain = float(A(probes)[:, observed].square().sum() / 4)  # trace(A A^T) by Hutchinson's estimator
    noise_power = float((noise.variance * torch.ones_like(measurement.y[0]))[observed].sum())  # type: ignore[attr-defined]
    power = float(residual.square().sum()) - noise_power
    if power <= 0:
        raise InfieldError(
            f"the data hold no more power ({power + noise_power:.3g}) than their noise ({noise_power:.3g}): no prior can be "
            "fitted to them; check the noise level, or name a prior with --prior"
        )
    return mean.reshape(channels, *[1] * len(space)), power / gain


def _most_probable_spectrum(
    measurement: Measurement, grid: Grid, nu: float | None, iterations: int, draws: int, seed: int
) -> GaussianPrior:
    channels = measurement.event_shape[0]
    frequencies = [torch.fft.fftfreq(a.size, a.spacing, dtype=torch.float64) for a in grid.axes]
    k2 = torch.stack(torch.meshgrid(*frequencies, indexing="ij")).square().sum(0)
    order = math.log(nu + grid.ndim / 2) if nu is not None else None
    k_0 = 3 / max(grid.lengths)
    parameters = np.array([math.log(_amplitude(k2, k_0, 1.5 + grid.ndim / 2)), math.log(k_0), math.log(1.5 + grid.ndim / 2)])
    data = LinearGaussianData(measurement, Hartley(grid.ndim), tolerance=1e-3)
    generator = Generator().manual_seed(seed)
    for _ in range(iterations):
        S = _spectrum(parameters, order, k2).expand(channels, *grid.shape)
        C = Covariance.diagonal_in(data.modes, S)
        u = data.draw(torch.zeros((draws, *C.event_shape), dtype=torch.float64), C, generator)  # E
        power = data.modes.analyse(u).square().mean((0, 1))
        before, parameters = parameters, _whittle(parameters, order, k2, power)  # M
        if np.abs(parameters - before).max() < 5e-3:
            break
    p = math.exp(parameters[2] if order is None else order)
    fitted_nu = max(p - grid.ndim / 2, 1e-3)
    length = math.sqrt(2 * fitted_nu) / (2 * math.pi * math.exp(parameters[1]))
    name = f"Gaussian fitted to the data: Matern spectrum, nu {fitted_nu:.2f}, length {length:.3g} {grid.axes[-1].units}"
    return spectrum_prior(_spectrum(parameters, order, k2).expand(channels, *grid.shape).clone(), name=name)


def _amplitude(k2: Tensor, k_0: float, p: float) -> float:
    """a for which the values have variance 1."""
    return 1 / float((1 + k2 / k_0**2).pow(-p).mean())


def _spectrum(parameters: np.ndarray, order: float | None, k2: Tensor) -> Tensor:
    a, k_0, p = np.exp([*parameters[:2], parameters[2] if order is None else order])
    return float(a) * (1 + k2 / float(k_0) ** 2).pow(-float(p)) + 1e-12


def _whittle(start: np.ndarray, order: float | None, k2: Tensor, power: Tensor) -> np.ndarray:
    """Parameters that minimise sum_k log S(k) + power(k) / S(k); k = 0 is left out, the mean having been removed."""
    k2, power = k2.flatten()[1:], power.flatten()[1:]
    edges = torch.logspace(float(k2.min().log10()) - 1e-6, float(k2.max().log10()) + 1e-6, 80, dtype=torch.float64)
    shell = torch.bucketize(k2, edges)
    count = torch.bincount(shell).to(torch.float64)
    filled = count > 0
    k2 = (torch.zeros_like(count).index_add(0, shell, k2) / count)[filled]
    power = (torch.zeros_like(count).index_add(0, shell, power) / count)[filled]

    def objective(parameters: np.ndarray) -> float:
        S = _spectrum(parameters, order, k2)
        return float((count[filled] * (S.log() + power / S)).sum())

    return minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-3}).x


def _most_probable_matern(measurement: Measurement, points: PointSet, nu: float) -> GaussianPrior:
    data = LinearGaussianData(measurement, Pixels())
    extent = float((points.points().amax(0) - points.points().amin(0)).max())
    mean = torch.zeros(measurement.event_shape, dtype=torch.float64)

    def law(parameters: np.ndarray) -> Matern:
        return Matern(nu=nu, variance=float(np.exp(parameters[0])), length=float(np.exp(parameters[1])))

    def objective(parameters: np.ndarray) -> float:
        return -float(data.log_evidence(mean, law(parameters).within(Pixels(), points)))

    start = np.array([0.0, math.log(extent / 5)])
    bounds = [(-7.0, 7.0), (math.log(extent / 1000), math.log(extent * 10))]
    best = law(minimize(objective, start, method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-2}).x)
    name = f"Gaussian fitted to the data: Matern, nu {nu}, length {best.length:.3g} {points.units}"
    return gaussian_prior(best, points, name=name)
