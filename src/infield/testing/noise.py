"""The battery of noise models."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.physics.noise.base import GaussianNoiseModel, NoiseModel
from infield.physics.noise.registry import noise_from_json
from infield.testing.failure import CheckFailed, require, require_close, require_shape, require_z


def check_noise_model(
    noise: Any, z: Tensor, *, draws: int = 4000, stored: bool = True, tolerance: float = 1e-6, seed: int = 0
) -> None:
    """Check a noise model p(y | z).

    Draws are the same for the same generator; the gradient of the log density agrees with central differences; under
    the model's own draws, the score has mean zero, its square the mean of minus the curvature, likelihood ratios the
    mean one, and chi-square one per datum; data that are not observed may hold anything; row i of a batch is the same
    as alone; a Gaussian model's maps fit each other; and the model is the same built from its description again.

    Arguments:
        noise: The model.
        z: Noiseless data within its domain, shape `(1, *data)`, float64; a few dozen data suffice.
        draws: Data sets that are drawn.
        stored: Whether it has a description that measurement files can hold.
        tolerance: Of derivatives, relative.
        seed: Of the draws.

    Raises:
        CheckFailed: A check does not hold; the first one is named.
    """
    require(isinstance(noise, NoiseModel), "interface", f"found {type(noise).__name__}, expected a noise model")
    rng = Generator().manual_seed(seed)
    many = z.expand(draws, *z.shape[1:])
    y = noise.sample(many, rng)
    require_shape(y, tuple(many.shape), "sample")
    again = noise.sample(many, Generator().manual_seed(seed))
    require(torch.equal(again, y), "sample", "draws differ for the same generator")
    few = torch.cat([z, 1.1 * z + 0.01 * z.abs().mean()])
    _check_gradient(noise, y[:1], few, rng, tolerance)
    _check_batch_and_observed(noise, y[:1], few)
    _check_identities(noise, y, many)
    if isinstance(noise, GaussianNoiseModel):
        r = torch.randn(few.shape, generator=rng, dtype=torch.float64)
        require_close(noise.solve(noise.apply(r)), r, 1e-8, "covariance", "R^-1 R r and r")
        product = (noise.root(r) * noise.solve(noise.root(r))).flatten(1).sum(1)
        require_close(product, r.square().flatten(1).sum(1), 1e-8, "covariance", "|R^-1/2 R^1/2 w|^2 and |w|^2")
    if stored:
        _check_description(noise, y[:1], few)


def _check_gradient(noise: Any, y: Tensor, z: Tensor, rng: Generator, tolerance: float) -> None:
    gradient = noise.gradient(y, z)
    require_shape(gradient, tuple(z.shape), "gradient")
    step = 1e-5 * float(z.abs().mean().clamp_min(1e-3))
    for _ in range(3):
        v = torch.randn(z.shape, generator=rng, dtype=torch.float64)
        slope = (noise.log_prob(y, z + step * v) - noise.log_prob(y, z - step * v)) / (2 * step)
        expected = (gradient * v).flatten(1).sum(1)
        size = (gradient.flatten(1).norm(dim=1) * v.flatten(1).norm(dim=1)).clamp_min(1e-12)
        error = float(((slope - expected).abs() / size).max())
        require(
            error <= max(tolerance, 1e-6),
            "gradient",
            f"it differs from the slope of log_prob by {error:.2g} of its norm, expected at most {tolerance:.2g}",
        )


def _check_batch_and_observed(noise: Any, y: Tensor, z: Tensor) -> None:
    both = noise.log_prob(y, z)
    require_shape(both, (len(z),), "log_prob")
    alone = torch.cat([noise.log_prob(y, z[i : i + 1]) for i in range(len(z))])
    require_close(alone, both, 1e-10, "batch", "log densities alone and in a batch")
    observed = torch.ones(y.shape[1:], dtype=torch.bool)
    require_close(noise.log_prob(y, z, observed), both, 1e-10, "observed", "log densities with and without a full mask")
    observed.view(-1)[::3] = False
    spoilt = torch.where(observed, y, torch.nan), torch.where(observed, z, torch.ones_like(z))
    kept = noise.log_prob(torch.where(observed, y, torch.ones_like(y)), spoilt[1], observed)
    found = noise.log_prob(spoilt[0], spoilt[1], observed)
    require_close(found, kept, 1e-10, "observed", "log densities whatever lies where nothing was observed")
    require(bool((kept != both).any()), "observed", "the mask has no effect on the log density")


def _check_identities(noise: Any, y: Tensor, z: Tensor) -> None:
    """Three identities of any density that depends smoothly on z, and the promise of chi_square."""
    score = noise.gradient(y, z)
    require_z(_z(score), "score", "mean of the gradient under the model's draws, expected zero")
    step = 1e-4 * float(z.abs().mean().clamp_min(1e-3))
    slope = (noise.gradient(y, z + step) - noise.gradient(y, z - step)) / (2 * step)
    information = (score.flatten(1).sum(1)) ** 2 + slope.flatten(1).sum(1)
    require_z(_z(information[:, None]), "information", "mean of the squared score and the curvature, expected zero")
    spread = float((score.flatten(1).sum(1)).std().clamp_min(1e-12))
    other = z + 0.5 / spread
    ratio = torch.exp(noise.log_prob(y, other) - noise.log_prob(y, z))
    require_z(_z(ratio[:, None] - 1), "normalisation", "mean of p(y | z') / p(y | z) under the draws, expected one")
    count = y[0].numel()
    chi_square = noise.chi_square(y, z)
    require_shape(chi_square, (len(y),), "chi_square")
    require_z(_z(chi_square[:, None] / count - 1), "chi_square", "its mean per datum, expected one")


def _z(values: Tensor) -> Tensor:
    """z-scores of the means over draws, which are expected to be zero."""
    deviation = values.std(0)
    return values.mean(0) / deviation.clamp_min(1e-300) * math.sqrt(len(values))


def _check_description(noise: Any, y: Tensor, z: Tensor) -> None:
    try:
        description = json.loads(json.dumps(noise.to_json()))
        registry.find("noise_models", description["law"])
        again = noise_from_json(description, noise.arrays())
    except (InfieldError, KeyError, TypeError) as error:
        raise CheckFailed("description", f"it cannot be built from what to_json gives ({error})") from error
    require_close(again.log_prob(y, z), noise.log_prob(y, z), 1e-12, "description", "log densities before and after")
