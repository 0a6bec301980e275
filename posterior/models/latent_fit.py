r"""A stationary Gaussian prior of a latent field, fitted to data that are not linear-Gaussian: counts, links.

Where the data are of any law and any operator with a derivative, the parameters of a Matern kernel of the latent field
(Rasmussen & Williams 2006, eq. 4.14) maximise Laplace's approximation of the evidence
(`posterior.inference.laplace_evidence`). The law is that of the domain as it is: open axes are embedded in a torus
(`priors.gaussian.circulant_embedding`), periodic ones close, scattered points have their dense matrix. The mean of the
field is not a parameter: it has a wide Gaussian law of its own, so that the evidence is that of data from which it was
marginalised, and the posterior includes its uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import PoissonNoise
from infield.physics.operators.jacobian import jacobian_product
from infield.physics.operators.refusal import ForwardModelError
from infield.posterior.inference.laplace_evidence import Product, laplace_evidence
from infield.posterior.inference.likelihood import fisher_information, only_observed, slope
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Eigenbasis, Hartley, Modes
from infield.priors.gaussian.kernels import DENSE_LIMIT, Matern
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.torus_window import Window, WindowedStandardisation

ORDERS = (1.5, 0.5, 2.5)
"""Orders that are tried if none is given, the usual one first."""

MEAN_STD = 10.0
"""Standard deviation of the law of the mean, in those of the field where the fit starts."""

STARTS = (0.05, 0.15, 0.4)
"""Lengths from the best of which the search starts, as shares of the domain's largest extent."""

LONGEST, SHORTEST, RANGE = 2.0, 0.5, 5.0
"""Bounds: of the length as shares of the largest extent and of the smallest spacing, and of log standard deviation on
both sides of its start."""

SLIGHT = 2.0
"""Gain of log evidence over a constant field below which the fit warns that it is slight: two parameters were
fitted."""

FEWER = 16
"""Evidences of the search of another order, from where the first one ended."""

STEP, TOLERANCE, SEEN = 0.3, 0.05, 6.0
"""Of log standard deviation and log length: the first step, and where the search ends; and how far below the largest
log evidence others still determine its curvature."""


@dataclass(frozen=True)
class Fit:
    """What was found.

    Arguments:
        nu: Order of the Matern kernel.
        length: Its length, in the units of the grid's coordinates.
        sd: Standard deviation of the latent field, in its units.
        errors: Of log sd and of log length, by the curvature of the log evidence; NaN at a bound.
        log_evidence: Laplace's, the mean marginalised.
        gain: By how much that exceeds the log evidence of a constant field.
        at_bound: Names of the parameters at their bounds.
        sd_of_mean: Standard deviation of the law of the mean.
    """

    nu: float
    length: float
    sd: float
    errors: tuple[float, float]
    log_evidence: float
    gain: float
    at_bound: tuple[str, ...]
    sd_of_mean: float

    def __str__(self) -> str:
        of_sd, of_length = ("" if math.isnan(error) else f" ({error:.0%})" for error in self.errors)
        bounds = f"; {' and '.join(self.at_bound)} at the end of the range searched" if self.at_bound else ""
        bounds += "; hardly more probable than a constant field" if self.gain < SLIGHT else ""
        return (
            f"Matern, nu {self.nu:g}, length {self.length:.3g}{of_length}, "
            f"standard deviation {self.sd:.3g}{of_sd}{bounds}"
        )


def fit_latent_prior(measurement: Measurement, *, nu: float | None = None) -> GaussianPrior:
    """The stationary Gaussian prior of the field under which data of any law are most probable.

    Arguments:
        measurement: Any operator with a derivative; a noise model of independent data.
        nu: Order of the Matern kernel; None takes the most probable of `ORDERS`.

    Raises:
        InfieldError: If the data cannot be fitted: all counts are zero, no constant field explains them, they hold no
            more than a constant field and their noise, or the axes have different units.
    """
    mean, sd = _start(measurement)
    domain = _Domain.of(measurement, MEAN_STD * sd)
    fits: list[Fit] = []
    for order in ORDERS if nu is None else (nu,):
        fits.append(_most_probable(measurement, mean, sd, domain, order, fits[0] if fits else None))
    fit = max(fits, key=lambda fit: fit.log_evidence)
    if fit.gain <= 0 or ("standard deviation" in fit.at_bound and fit.sd < sd):
        raise InfieldError(
            where="fit of a prior",
            found="data that hold no more than a constant field and their noise",
            expected="a field that varies",
            remedy="name a prior with {prior}",
            parameters=["prior"],
        )
    return domain.prior(fit, mean, measurement.units)


def _start(measurement: Measurement) -> tuple[Tensor, float]:
    """The most probable constant field, shape `(1, channel, 1, ...)`, and a standard deviation around it that explains
    by how much the data scatter more than their noise."""
    noise, channels, space = measurement.noise, measurement.event_shape[0], measurement.grid.shape
    seen = measurement.y[0] if measurement.observed is None else measurement.y[0][measurement.observed]
    if isinstance(noise, PoissonNoise) and not seen.any():
        raise InfieldError(
            where="fit of a prior",
            found=f"{measurement.count} counts, all zero, which bound the rate and leave the field's distribution open",
            expected="some above zero",
            remedy="name a prior with {prior}",
            parameters=["prior"],
        )
    units = torch.eye(channels, dtype=torch.float64).reshape(channels, channels, *[1] * len(space))
    units = units.expand(channels, channels, *space).contiguous()
    tried = [value * units.sum(0, keepdim=True) for value in (0.0, float(seen.mean()), 1.0, -1.0)]
    values = [_log_likelihood(measurement, x) for x in tried]
    value, x = max(zip(values, tried, strict=True), key=lambda pair: pair[0])
    for _ in range(200 if math.isfinite(value) else 0):  # none: data that are impossible under every one of them
        z = measurement.operator.A(x)
        W, g = fisher_information(measurement, z), slope(measurement, z)
        J = only_observed(measurement, jacobian_product(measurement.operator, x, units)).flatten(1)
        step = torch.linalg.lstsq((J * W.flatten(1)) @ J.mT, J @ g.flatten(), driver="gelsd").solution
        decrement = float(step @ (J @ g.flatten()))
        direction = (step.reshape(-1, *[1] * (units.ndim - 1)) * units).sum(0, keepdim=True)
        if not math.isfinite(decrement):
            break
        if decrement < 1e-6:
            probes = torch.randn((8, channels, *space), generator=Generator().manual_seed(0), dtype=torch.float64)
            through = only_observed(measurement, jacobian_product(measurement.operator, x, probes))
            gain = float((W * through.square()).sum()) / len(probes)
            if gain == 0:
                break
            excess = float(measurement.chi_square(x)) * measurement.count - measurement.count
            constants = x.flatten(2)[..., 0].reshape(1, channels, *[1] * len(space))
            return constants, math.sqrt(max(excess, 0.05 * measurement.count) / gain)
        for halving in range(60):
            trial = x + 0.5**halving * direction
            if (reached := _log_likelihood(measurement, trial)) > value:
                x, value = trial, reached
                break
        else:
            break
    raise InfieldError(
        where="fit of a prior",
        found="data that no constant field explains",
        expected="one, from which the fit would start",
        remedy="check that the operator has a derivative and gives data like these, or name a prior with {prior}",
        parameters=["prior"],
    )


def _log_likelihood(measurement: Measurement, x: Tensor) -> float:
    try:
        return float(measurement.log_likelihood(x).nan_to_num(-math.inf, math.inf, -math.inf))
    except ForwardModelError:
        return -math.inf


def _most_probable(
    measurement: Measurement, mean: Tensor, sd: float, domain: _Domain, nu: float, near: Fit | None
) -> Fit:
    """The law of one order; the search starts at that of another, where one is known."""
    centre = mean.expand(1, *measurement.event_shape).contiguous()
    duals: list[Tensor | None] = [None]
    tried: list[tuple[np.ndarray, float]] = []

    def evidence(theta: np.ndarray) -> float:
        product = domain.product(Matern(nu=nu, length=extent * math.exp(theta[1])), math.exp(theta[0]))
        found = laplace_evidence(measurement, centre, product, duals[0])
        duals[0] = found.dual
        tried.append((theta.copy(), found.log_evidence))
        return tried[-1][1]

    log_sd, extent = math.log(sd), domain.extent
    bounds = [(log_sd - RANGE, log_sd + RANGE), (math.log(SHORTEST * domain.spacing / extent), math.log(LONGEST))]
    starts = [np.array([log_sd, math.log(share)]) for share in STARTS]
    if near is not None:
        starts = [np.log([near.sd, near.length / extent])]
    start = max(starts, key=evidence) if len(starts) > 1 else starts[0]
    simplex = start + STEP * np.array([[0, 0], [1, 0], [0, 1]])
    found = minimize(
        lambda theta: -evidence(theta),
        start,
        method="Nelder-Mead",
        bounds=bounds,
        options={"xatol": TOLERANCE, "fatol": 0.05, "initial_simplex": simplex, "maxfev": FEWER if near else 200},
    )
    ends = [abs(value - end) < 2 * TOLERANCE for value, pair in zip(found.x, bounds, strict=True) for end in pair]
    at_bound = tuple(name for name, *of in (("standard deviation", *ends[:2]), ("length", *ends[2:])) if any(of))
    errors = (math.nan, math.nan) if at_bound else _errors(tried, found.x)
    constant = laplace_evidence(measurement, centre, domain.product(None, 0.0)).log_evidence
    sd, length = math.exp(found.x[0]), extent * math.exp(found.x[1])
    best = -float(found.fun)
    return Fit(nu, length, sd, errors, best, best - constant, at_bound, domain.wide)


def _errors(tried: list[tuple[np.ndarray, float]], best: np.ndarray) -> tuple[float, float]:
    """Standard deviations of the parameters by the parabola through the log evidences around their maximum; NaN where
    it has none."""
    top = max(value for _, value in tried)
    near = [(theta - best, value - top) for theta, value in tried if value > top - SEEN]
    x, y = np.array([theta for theta, _ in near]), np.array([value for _, value in near])
    terms = np.stack([np.ones(len(x)), x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2], axis=1)
    if len(near) < terms.shape[1]:
        return math.nan, math.nan
    *_, a, b, c = np.linalg.lstsq(terms, y, rcond=None)[0]
    curvature = -np.array([[2 * a, b], [b, 2 * c]])
    if np.linalg.eigvalsh(curvature)[0] <= 0:
        return math.nan, math.nan
    variances = np.linalg.inv(curvature).diagonal()
    return float(np.sqrt(variances[0])), float(np.sqrt(variances[1]))


@dataclass(frozen=True)
class _Domain:
    """Domain of the field, and the laws of constant mean there: on a torus around a uniform grid, dense elsewhere.

    Arguments:
        grid: The field's.
        channels: Their number.
        wide: Standard deviation of the law of the mean.
    """

    grid: Grid | PointSet
    channels: int
    wide: float
    kept: dict[Matern, tuple[Tensor, Window | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, measurement: Measurement, wide: float) -> _Domain:
        """
        Raises:
            InfieldError: If the axes have different units, or there are too many points without a uniform grid.
        """
        grid = measurement.grid
        units = sorted({axis.units for axis in grid.axes}) if isinstance(grid, Grid) else []
        if len(units) > 1:
            raise InfieldError(
                where="a prior fitted to the data",
                found=f"axes in {' and '.join(units)}",
                expected="one unit: one correlation length cannot be in both",
                remedy="name a prior with {prior}",
                parameters=["prior"],
            )
        domain = cls(grid, measurement.event_shape[0], wide)
        if not domain.uniform and grid.size > DENSE_LIMIT:
            raise InfieldError(
                where="fit of a prior",
                found=f"{grid.size} points that are no uniform grid",
                expected=f"at most {DENSE_LIMIT}",
                remedy="name a prior with {prior}",
                parameters=["prior"],
            )
        return domain

    @property
    def uniform(self) -> bool:
        return isinstance(self.grid, Grid) and all(axis.uniform for axis in self.grid.axes)

    @property
    def extent(self) -> float:
        """Largest extent along an axis."""
        points = self.grid.points()
        return float((points.amax(0) - points.amin(0)).max())

    @property
    def spacing(self) -> float:
        """Smallest distance of neighbours on a grid; of scattered points, what it would be were they spread evenly."""
        if isinstance(self.grid, Grid):
            return min(axis.spacing for axis in self.grid.axes if axis.size > 1)
        return self.extent / max(self.grid.size ** (1 / self.grid.ndim) - 1, 1.0)

    def law(self, law: Matern) -> tuple[Tensor, Window | None]:
        """Spectrum on a torus, with its window; or the dense matrix, with None."""
        if law not in self.kept:
            if self.uniform:
                embedding = law.embed(self.grid)
                self.kept[law] = (embedding.spectrum, embedding.window)
            else:
                axes = getattr(self.grid, "axes", None)
                periods = axes and tuple(axis.spacing * axis.size if axis.periodic else None for axis in axes)
                matrix = matern_matrix(
                    self.grid.points(), nu=law.nu, length=law.length, variance=law.variance, periods=periods
                )
                self.kept[law] = (matrix, None)
        return self.kept[law]

    def product(self, law: Matern | None, sd: float) -> Product:
        """x -> sd^2 C x + wide^2 1 1^T x of fields `(batch, channel, *space)`, each channel by itself."""
        space = tuple(range(-len(self.grid.shape), 0))

        def mean(x: Tensor) -> Tensor:
            return self.wide**2 * x.sum(space, keepdim=True)

        if law is None:
            return lambda x: mean(x).expand(x.shape)
        numbers, window = self.law(law)
        if window is None:
            return lambda x: sd**2 * (x.flatten(2) @ numbers).reshape(x.shape) + mean(x)
        half = numbers[..., : numbers.shape[-1] // 2 + 1]

        def by_fft(x: Tensor) -> Tensor:
            through = torch.fft.irfftn(torch.fft.rfftn(x, s=window.torus, dim=space) * half, s=window.torus, dim=space)
            return sd**2 * window.crop(through) + mean(x)

        return by_fft

    def prior(self, fit: Fit, mean: Tensor, units: str) -> GaussianPrior:
        """The prior of a fit, its fields standardised by `mean` and the standard deviation."""
        law = Matern(nu=fit.nu, length=fit.length)
        numbers, window = self.law(law)
        shift = mean[0]
        scale = torch.full_like(shift, fit.sd)
        variance_of_mean = (self.wide / fit.sd) ** 2
        modes: Modes
        if window is None:
            eigenvalues, vectors = torch.linalg.eigh(numbers + variance_of_mean)
            modes, spectrum = Eigenbasis(vectors, self.grid.shape), eigenvalues.reshape(self.grid.shape)
        else:
            modes, spectrum = Hartley(len(window.torus)), numbers.clone()
            spectrum[(0,) * spectrum.ndim] += variance_of_mean * spectrum.numel()
        spectrum = spectrum.clamp_min(1e-14 * float(spectrum.max())).expand(self.channels, *spectrum.shape).clone()
        seen = window is not None and window.torus != window.shape
        covariance = Covariance.diagonal_in(modes, spectrum)
        return GaussianPrior(
            name=f"Gaussian of the field, fitted to the data by Laplace's evidence, {fit}",
            source=Covariance.diagonal_in(modes, torch.ones_like(spectrum)),
            covariance=covariance,
            mean=torch.zeros_like(spectrum),
            standardisation=WindowedStandardisation(shift, scale, window) if seen else Standardisation(shift, scale),  # type: ignore[arg-type]
            provenance={"kind": "gaussian", "law": str(law), "fit": asdict(fit)},
            units=units,
        )
