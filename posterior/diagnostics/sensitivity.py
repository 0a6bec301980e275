r"""What each datum contributes to a feature of the field: derivatives of posterior means with respect to the data.

For any prior and operator, with a feature f of the field (differentiate under the integral of E[f | y]),

    d E[f | y] / d y_i = Cov(f, d log p(y | x) / d y_i | y),                                                       (1)

which is Cov(f, (R^{-1} A x)_i | y) under Gaussian noise and Cov(f, log (A x)_i | y) / gain under Poisson noise: draws
of the posterior suffice. Where prior and noise are Gaussian, A linear and f = <w, x>, (1) is the gain

    (A K A^T + R)^{-1} A K w,                                                                                      (2)

and the degrees of freedom of the data are tr A K A^T (A K A^T + R)^{-1} = sum_i d E[(A x)_i | y] / d y_i.

A further datum of x_j with noise variance r would reduce the variance of f, if the posterior were Gaussian, by the
fraction rho^2 = Cov(f, x_j)^2 / (Var f (Var x_j + r)).                                                            (3)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.base import GaussianNoiseModel
from infield.physics.noise.poisson import PoissonNoise
from infield.posterior.diagnostics.leave_one_out import LeaveOneOut, exact
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.priors.base import FlowPrior

MIN_DRAWS = 32
"""Below this number of draws, error bars of covariances mean nothing."""

BATCH = 16
"""Fields to which the operator is applied together."""


@dataclass(frozen=True)
class Sensitivity:
    """d E[f | y] / d y, shape of the data, 0 where nothing was measured.

    Arguments:
        value: The derivative, in units of the feature over those of the data.
        error: Standard error of each from the number of draws; 0 where it is exact.
        degrees_of_freedom: Of the data; None where they were not computed.
    """

    value: Tensor
    error: Tensor
    degrees_of_freedom: float | None = None


def noiseless_data(measurement: Measurement, draws: Tensor) -> Tensor:
    """A x of posterior draws `(n, channel, *space)` in units, shape `(n, *data)`."""
    return torch.cat([measurement.y - measurement.residual(some) for some in draws.split(BATCH)])


def scores(measurement: Measurement, z: Tensor) -> Tensor:
    """d log p(y | x) / d y up to what does not depend on x, of noiseless data z; shape `(n, *data)`.

    Raises:
        InfieldError: The noise model has no such derivative here.
    """
    noise = measurement.noise
    if isinstance(noise, GaussianNoiseModel):
        return noise.solve(z - measurement.y)
    if isinstance(noise, PoissonNoise):
        return z.clamp_min(1e-300).log() / noise.gain
    raise InfieldError(
        where="sensitivity to the data",
        found=f"noise {type(noise).__name__}",
        expected="Gaussian or Poisson noise, whose density has a derivative with respect to a datum",
    )


def sensitivity(f: Tensor, score: Tensor) -> Sensitivity:
    """Equation (1) from draws.

    Arguments:
        f: The feature of each draw, shape `(n,)`.
        score: `scores`, shape `(n, *data)`.

    Raises:
        InfieldError: There are fewer than `MIN_DRAWS` draws.
    """
    check_draws(len(f))
    value, error = _covariance(f, score)
    return Sensitivity(value, error)


def check_draws(n: int) -> None:
    """Refuse draws that are too few for error bars."""
    if n < MIN_DRAWS:
        raise InfieldError(
            where="sensitivity to the data",
            found=f"{n} draws",
            expected=f"at least {MIN_DRAWS}; 256 for errors of 10 to 20 %",
            remedy="reconstruct it with more ({samples})",
            parameters={"samples": 256},
        )


def exact_gain(prior: FlowPrior, measurement: Measurement, w: Tensor) -> Sensitivity:
    """Equation (2) for a Gaussian prior, with the degrees of freedom where the data are few enough for matrices.

    Arguments:
        prior: Gaussian.
        measurement: Linear operator, Gaussian noise.
        w: Weights of the feature on the field in units, shape `(channel, *space)`.
    """
    data, w_u = _standardised(prior, measurement, w)
    K = prior.covariance
    r = data.mask_unobserved(data.measurement.operator.A(K.apply(w_u[None])))
    value = data.solve(r, K)[0]
    freedom = None
    if data.dense:
        L = data.factorise(K)
        freedom = measurement.count - float(torch.cholesky_solve(data.noise_matrix, L).diagonal().sum())
    return Sensitivity(value, torch.zeros_like(value), freedom)


def exact_leave_one_out(prior: FlowPrior, measurement: Measurement) -> LeaveOneOut | None:
    """Each observed datum beside all others under a Gaussian prior; None where they are too many for matrices."""
    data, _ = _standardised(prior, measurement, torch.zeros(measurement.event_shape, dtype=torch.float64))
    if not data.dense:
        return None
    inverse = torch.cholesky_inverse(data.factorise(prior.covariance))
    misfit = data.misfit(prior.mean[None].double()).flatten()[data.index]
    return exact(measurement.y.flatten()[data.index], misfit, inverse)


def value_of_data(f: Tensor, draws: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """Fraction of the variance of f that one further datum of each value of the field would remove, equation (3), and
    its standard error; shape `(channel, *space)` each.

    Arguments:
        f: The feature of each draw, shape `(n,)`.
        draws: The fields, shape `(n, channel, *space)`.
        variance: That of the noise of the planned datum, in squared units of the field.
    """
    check_draws(len(f))
    deviation, of_f = draws - draws.mean(0), f - f.mean()
    n = len(f)
    shared = torch.einsum("n,n...->...", of_f, deviation) / (n - 1)
    rho = shared / ((of_f.square().sum() / (n - 1)) * (deviation.square().sum(0) / (n - 1) + variance)).sqrt()
    square = rho.square()
    unbiased = (square - (1 - square) / n).clamp(0, 1)  # chance alone gives 1 / n
    return unbiased, 2 * rho.abs() * (1 - square) / n**0.5


def _standardised(prior: FlowPrior, measurement: Measurement, w: Tensor) -> tuple[LinearGaussianData, Tensor]:
    """The data of the standardised field, and the weights of the feature on it."""
    z = torch.zeros(prior.mean.shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        x = prior.standardisation.to_units(z[None])
        (w_u,) = torch.autograd.grad((x * w).sum(), z)
    data = LinearGaussianData(measurement.pullback(prior.standardisation), prior.covariance.modes, 1e-6)
    return data, w_u


def _covariance(f: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Sample covariance with each column, and its standard error."""
    n = len(f)
    of_f = f - f.mean()
    mean = s.mean(0)
    value = torch.einsum("n,n...->...", of_f, s - mean) / (n - 1)
    square = torch.einsum("n,n...->...", of_f.square(), (s - mean).square()) / n
    return value, ((square - value.square()).clamp_min(0) / n).sqrt()
