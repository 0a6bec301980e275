"""The battery of priors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.registry import Storable
from infield.priors.base import FlowPrior, sample
from infield.priors.denoiser_check import check_denoiser
from infield.testing.failure import CheckFailed, require, require_close, require_shape, require_z

TIMES = (0.0, 0.3, 0.7, 0.95)


def check_prior(
    prior: Any,
    fields: Tensor | None = None,
    *,
    stored_as: Storable | None = None,
    draws: int = 3000,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> None:
    """Check a prior: its source, its velocity and its units.

    The velocity has the shape and the precision of the field, is the same when it is computed again and for a field
    alone, and agrees with its derivative; the modes are orthonormal, and the source has the variances that its
    covariance gives; a map to units and back is the identity. The mean of x_1 given x_t, which the velocity gives,
    leaves a remainder that is orthogonal to functions of x_t, for fields that are draws of the prior: this proves the
    velocity. The derivative of that mean, times C_0, is symmetric and positive, as a conditional covariance is. A
    Gaussian prior's draws through its flow have its mean and covariance.

    Arguments:
        prior: The prior.
        fields: Draws of the prior in units, shape `(n, channel, *space)`, some hundreds; by default those of the closed
            form, if it has one (`components`), else the identity is not checked.
        stored_as: The kind of checkpoint that holds it (`STORED` of its module): it is written and read again.
        draws: Fields that are drawn for z-scores.
        tolerance: Of batches, relative; networks in single precision need 1e-4.
        seed: Of the draws.

    Raises:
        CheckFailed: A check does not hold; the first one is named.
    """
    require(isinstance(prior, FlowPrior), "interface", f"{type(prior).__name__} lacks members of priors.base.FlowPrior")
    shape = tuple(prior.source.event_shape)
    rng = Generator().manual_seed(seed)
    require_shape(prior.mean, shape, "mean")
    require(tuple(prior.covariance.event_shape) == shape, "covariance", "found another shape than the source's")
    _check_source(prior, rng, draws)
    x = prior.source.sample(3, rng)
    _check_velocity(prior, x, rng, tolerance)
    _check_units(prior, x)
    exact = _exact_draws(prior, draws, rng)
    if fields is not None:
        exact = prior.standardisation.from_units(fields.to(torch.float64))
    if exact is not None:
        _check_conditional_mean(prior, exact, rng)
    if prior.gaussian:
        _check_flow(prior, rng, draws)
    check = check_denoiser(prior, exact, seed=seed)
    right = check.passed and (check.positive or exact is None)
    require(right, "denoiser", f"(dE[x_1 | x_t]/dx_t) C_0 is no covariance: {check}")
    if getattr(prior, "components", None) is not None:
        require(check.asymmetry < 1e-3, "denoiser", f"found {check} of a closed form, expected symmetry")
    if stored_as is not None:
        _check_stored(prior, stored_as, x)


def _check_source(prior: Any, rng: Generator, draws: int) -> None:
    modes, variances = prior.source.modes, prior.source.diagonal
    require(bool((variances > 0).all()), "source", "a variance is not above zero")
    x = torch.randn((3, *prior.source.event_shape), generator=rng, dtype=torch.float64)
    c = modes.analyse(x)
    require_close(modes.synthesise(c), x, 1e-6, "modes", "fields through the modes and back")
    require_close(c.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), 1e-6, "modes", "norms of fields and coordinates")
    c = modes.analyse(prior.source.sample(draws, rng)) / variances.sqrt()
    require_z(c.mean(0) * math.sqrt(draws), "source", "means of draws in their modes")
    require_z((c.square().mean(0) - 1) * math.sqrt(draws / 2), "source", "variances of draws in their modes")


def _check_velocity(prior: Any, x: Tensor, rng: Generator, tolerance: float) -> None:
    for t in TIMES:
        kept = x.clone()
        v = prior.velocity(x, t)
        require_shape(v, tuple(x.shape), "velocity")
        require(v.dtype == x.dtype, "precision", f"found {v.dtype}, expected that of the field, {x.dtype}")
        require(torch.equal(x, kept), "velocity", "it changes the field that it is given")
        require_close(prior.velocity(x, t), v, 1e-9, "repeatable", "velocities of the same field")
        alone = torch.cat([prior.velocity(x[i : i + 1], t) for i in range(len(x))])
        require_close(alone, v, tolerance, "batch", "velocities of a field alone and in a batch")
    z, direction = x.clone().requires_grad_(), torch.randn(x.shape, generator=rng, dtype=torch.float64)
    with torch.enable_grad():
        v = prior.velocity(z, 0.5)
        require(v.requires_grad, "derivative", "autograd finds none of the velocity")
        (back,) = torch.autograd.grad((v * direction).sum(), z)
    require_shape(back, tuple(x.shape), "derivative")
    step = 1e-3 * float(x.abs().max())
    slope = (prior.velocity(x + step * direction, 0.5) - prior.velocity(x - step * direction, 0.5)) / (2 * step)
    one, other = float((slope * direction).sum()), float((back * direction).sum())
    require(abs(one - other) <= 0.02 * abs(one) + 1e-6, "derivative", f"found {other:.6g}, expected {one:.6g}")


def _check_units(prior: Any, x: Tensor) -> None:
    units = prior.standardisation
    field = units.to_units(x)
    require_shape(field, (len(x), *units.output_shape(tuple(x.shape[1:]))), "units")
    try:
        back = units.from_units(field)
    except InfieldError:  # a window shows a part: it has no inverse
        return
    require_close(back, x, 1e-6, "units", "fields in units and back")


def _exact_draws(prior: Any, n: int, rng: Generator) -> Tensor | None:
    """Standardised draws of a closed-form prior."""
    components = getattr(prior, "components", None)
    if components is None:
        return None
    counts = torch.bincount(torch.multinomial(prior.weights, n, True, generator=rng), minlength=len(components))
    parts = [c.mean + c.covariance.sample(int(k), rng) for c, k in zip(components, counts, strict=True) if k]
    return torch.cat(parts)


def _check_conditional_mean(prior: Any, x_1: Tensor, rng: Generator) -> None:
    """E[(x_1 - D(x_t)) f(x_t)] = 0 for every f, D the denoiser: for f = 1, x_t and D itself, along fixed directions."""
    n = len(x_1)
    for t in TIMES[1:]:
        x_t = t * x_1 + (1 - t) * prior.source.sample(n, rng)
        D = x_t + (1 - t) * prior.velocity(x_t, t)
        rest, seen, estimate = ((field - field.mean(0)).flatten(1) for field in (x_1 - D, x_t, D))
        u = torch.randn((rest.shape[1], 16), generator=rng, dtype=torch.float64)
        one = (x_1 - D).flatten(1) @ u
        require_z(_z(one), "conditional mean", f"mean of x_1 - E[x_1 | x_t] at t = {t}")
        for name, other in (("x_t", seen), ("E[x_1 | x_t]", estimate)):
            products = (rest @ u) * (other @ u)
            require_z(_z(products), "conditional mean", f"covariance of x_1 - E[x_1 | x_t] with {name} at t = {t}")
            whole = (rest * other).sum(1, keepdim=True)
            require_z(_z(whole), "conditional mean", f"inner product of x_1 - E[x_1 | x_t] with {name} at t = {t}")


def _z(values: Tensor) -> Tensor:
    return values.mean(0) / values.std(0).clamp_min(1e-300) * math.sqrt(len(values))


def _check_flow(prior: Any, rng: Generator, draws: int) -> None:
    """Draws through the flow in the covariance's modes; its error with 100 steps is below the scatter."""
    x = prior.standardisation
    fields = sample(prior, draws, rng, steps=100)
    try:
        z = x.from_units(fields)
    except InfieldError:
        return
    u = torch.randn((prior.mean.numel(), 16), generator=rng, dtype=torch.float64)
    exact = (prior.covariance.apply(u.T.reshape(16, *prior.mean.shape)).flatten(1) * u.T).sum(1)
    along = (z - prior.mean).flatten(1) @ u / exact.sqrt()
    require_z(along.mean(0) * math.sqrt(draws), "flow", "means of draws of the flow")
    require_z((along.square().mean(0) - 1) * math.sqrt(draws / 2), "flow", "variances of draws of the flow")


def _check_stored(prior: Any, kind: Storable, x: Tensor) -> None:
    try:
        again = kind.from_entry(kind.to_entry(prior))
    except Exception as error:  # whatever its parts raise
        raise CheckFailed("checkpoint", f"it cannot be written and read again ({error})") from error
    require_close(again.velocity(x, 0.5), prior.velocity(x, 0.5), 1e-6, "checkpoint", "velocities before and after")
    fields = prior.standardisation.to_units(x), again.standardisation.to_units(x)
    require_close(fields[1], fields[0], 1e-9, "checkpoint", "fields in units before and after")
