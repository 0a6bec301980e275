"""The battery of samplers: the exact posterior of a Gaussian field, by z-scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.sensors import Mask
from infield.posterior.diagnostics.calibration import gaussian_z_scores
from infield.posterior.samplers.base import Posterior
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior
from infield.testing.failure import require, require_close, require_shape, require_z

POINTS, SHIFT, SCALE = 12, 5.0, 2.0
FAR = 1e3
"""What the data hold where nothing was observed, which must not matter."""


def check_sampler(
    sampler: Any,
    prior: Any = None,
    measurement: Measurement | None = None,
    exact: tuple[Tensor, Tensor] | None = None,
    *,
    draws: int = 2000,
    together: int = 200,
    threshold: float = 4.5,
    seed: int = 0,
) -> None:
    """Check a sampler against a posterior that is known exactly.

    Samples have the shape of the field, are finite, and are the same for the same streams of random numbers; the global
    generator is left alone; costs are reported; the posterior of a Gaussian field that is seen in part, under noise,
    in other units than the prior's own, has the exact mean and covariance, direction by direction. A sampler with a
    `caveat`, whose samples are no draws of a posterior, need not have the latter.

    Arguments:
        sampler: Called as `sampler(prior, measurement, n, streams)`.
        prior: A prior, or what was trained for a family of measurements; by default a Gaussian field on a line.
        measurement: Of a small field, a few dozen values; by default every other point under Gaussian noise.
        exact: Mean `(values)` and covariance `(values, values)` of the posterior in units; by default that of the
            Gaussian prior, which it must be.
        draws: Samples for the z-scores.
        together: Samples that are drawn at a time.
        threshold: Of the z-scores. One for approximate samplers has to be chosen for their known error.
        seed: Of the draws.

    Raises:
        CheckFailed: A check does not hold; the first one is named.
    """
    if prior is None:
        prior = _prior()
    if measurement is None:
        measurement = _measurement(prior)
    caveat = getattr(sampler, "caveat", None)

    def draw(start: int, n: int) -> Posterior:
        found: Posterior = sampler(prior, measurement, n, SampleStreams(seed, range(start, start + n)))
        return found

    before = torch.get_rng_state()
    first = draw(0, 4)
    require(torch.equal(torch.get_rng_state(), before), "generator", "it draws from the global generator")
    require_shape(first.samples, (4, *measurement.event_shape), "samples")
    for name in ("velocity_calls", "operator_calls", "seconds"):
        require(name in first.cost, "cost", f"found {sorted(first.cost)}, expected '{name}' in it")
    again = draw(0, 4)
    require_close(again.samples, first.samples, 1e-9, "repeatable", "samples for the same streams")
    other = draw(4, 4)
    require(not torch.equal(other.samples, first.samples), "streams", "other streams give the same samples")
    if caveat is None:
        require(
            bool((first.samples.std(0) > 0).any()),
            "spread",
            "all samples are the same field, and no caveat declares it",
        )
        mean, covariance = exact or exact_posterior(prior, measurement)
        parts = [draw(start, min(together, draws - start)) for start in range(0, draws, together)]
        x = torch.cat([part.samples for part in parts]).flatten(1)
        z = gaussian_z_scores(x, mean.flatten(), covariance)
        require_z(z.mean, "mean", "means along the directions of the exact posterior", threshold)
        require_z(z.covariance, "covariance", "variances and correlations along them", threshold)


def exact_posterior(prior: GaussianPrior, measurement: Measurement) -> tuple[Tensor, Tensor]:
    """Mean `(values)` and covariance `(values, values)` of the posterior of a Gaussian field, by dense algebra."""
    shape, values = prior.mean.shape, prior.mean.numel()
    eye = torch.eye(values, dtype=torch.float64).reshape(values, *shape)
    scale = prior.standardisation.to_units(torch.ones_like(eye[:1])) - prior.standardisation.to_units(
        torch.zeros_like(eye[:1])
    )
    m = prior.standardisation.to_units(prior.mean[None]).flatten()
    C = prior.covariance.apply(eye).flatten(1) * scale.flatten() * scale.flatten()[:, None]
    seen = slice(None) if measurement.observed is None else measurement.observed.flatten()
    A = measurement.operator.A(eye).flatten(1).T[seen]
    y = measurement.y.flatten()[seen]
    R = measurement.noise.variance.expand(measurement.y.shape[1:]).flatten()[seen]  # type: ignore[attr-defined]
    G = A @ C @ A.T + torch.diag(R)
    gain = torch.linalg.solve(G, A @ C).T
    return m + gain @ (y - A @ m), C - gain @ A @ C


def _prior() -> GaussianPrior:
    grid = Grid.regular((POINTS,), 1.0, periodic=True)
    prior = gaussian_prior(Matern(1.5, 0.2), grid, source=Matern(0.5, 0.1)).in_units(SHIFT, SCALE)
    return replace(prior, mean=torch.linspace(-1.0, 1.0, POINTS, dtype=torch.float64)[None])


def _measurement(prior: GaussianPrior) -> Measurement:
    grid = Grid.regular((POINTS,), 1.0, periodic=True)
    mask = torch.arange(POINTS) % 2 == 0
    operator = Mask(grid, 1, mask)
    rng = Generator().manual_seed(1)
    truth = prior.standardisation.to_units(prior.mean + prior.covariance.sample(1, rng))
    noise = GaussianNoise(torch.tensor(0.25, dtype=torch.float64))
    y = torch.where(operator.observed, noise.sample(operator.A(truth), rng), torch.tensor(FAR, dtype=torch.float64))
    return Measurement(y=y, operator=operator, noise=noise, grid=grid)
