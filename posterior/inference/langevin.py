r"""Metropolis-corrected Langevin chains for a Gaussian field under any likelihood, preconditioned by the data.

Target: pi(u) ~ N(u; m, K) p(y | u). In coordinates w that whiten K, with H the Gauss-Newton Hessian of the data at a
fixed field and Gamma = (1 + H)^{-1} (`posterior.inference.laplace`),

    pi(w) ~ N(w; 0, Gamma) exp Phi(w),    Phi(w) = log p(y | m + S w) + w^T H w / 2,

and the preconditioned Crank-Nicolson Langevin proposal (Cotter, Roberts, Stuart & White 2013, arXiv 1202.0709, eq. 4.8)
for this reference measure is

    w' = rho w + (1 - rho) Gamma g(w) + sqrt(1 - rho^2) Gamma^{1/2} xi,    rho = (2 - h) / (2 + h).

g is grad Phi, but for a share of the gradient that is cut where it is far longer than under the linearised posterior
(the truncated drift of Roberts & Tweedie 1996): there the data are far from linear, and the whole of it would overshoot
to where no solver works. The proposal is defined on functions: refining the grid does not lower its acceptance. That
Gamma holds the informed directions is the likelihood-informed proposal of Cui, Law & Marzouk (2016, arXiv 1411.3688).
For linear data with Gaussian noise Phi is linear, every proposal is accepted, and h = 2 draws independent samples; the
step measures how far from linear they are.

| paper (Cotter et al.) | here |
| --- | --- |
| delta | h, `step`, 0 < h <= 2, one a chain |
| C, Phi | Gamma, -Phi |
| rho(u, v) of eq. 4.11 | `_Drift.log_weight` |
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, SampleStreams, normal
from infield.physics.measurement import Measurement
from infield.physics.operators.refusal import ForwardModelError
from infield.posterior.inference.laplace import LaplaceApproximation
from infield.posterior.inference.likelihood import value_and_gradient

TARGET = 0.574
"""Acceptance at which Langevin chains in many dimensions move fastest (Roberts & Rosenthal 1998)."""

GAIN = 0.5
"""Change of log h for each unit of acceptance above or below the target."""

LARGEST, SMALLEST = 2.0, 1e-6
"""Range of h."""

MAX_HALVINGS = 40
"""How often a start that the data exclude is moved half the way to the field of the linearisation."""


@dataclass(frozen=True)
class ChainState:
    """One chain a sample, and what it has been through.

    Arguments:
        u: Where it is, shape `(chains, channel, *space)`.
        value: log p(y | u), shape `(chains,)`.
        gradient: Its derivative, shape of `u`.
        step: h, shape `(chains,)`.
        acceptance: Acceptance probability of each step so far, mean over the chains.
        impossible: Share of the proposals of each step that the likelihood excluded or could not evaluate.
    """

    u: Tensor
    value: Tensor
    gradient: Tensor
    step: Tensor
    acceptance: list[float] = field(default_factory=list)
    impossible: list[float] = field(default_factory=list)


def start(measurement: Measurement, u: Tensor, safe: Tensor, generator: Randomness, *, step: float = 1.0) -> ChainState:
    """Start chains at given fields, or, if the data exclude one, on the way from it to a safe field.

    Arguments:
        measurement: Any operator, any noise model.
        u: Shape `(chains, channel, *space)`.
        safe: A field of finite likelihood, shape `(1, channel, *space)`.
        generator: Whose streams name the samples.
        step: First h.

    Raises:
        InfieldError: If a field is not finite, or no field on its way has a finite likelihood.
    """
    check_finite(u, generator, "where its chain starts")
    value, gradient = value_and_gradient(measurement, u)
    for _ in range(MAX_HALVINGS):
        bad = ~torch.isfinite(value)
        if not bad.any():
            return ChainState(u, value, gradient, torch.full_like(value, step))
        u = u.clone()
        u[bad] = (u[bad] + safe) / 2
        value[bad], gradient[bad] = value_and_gradient(measurement, u[bad])
    sample = _names(generator, bad)
    reason = ""
    try:
        measurement.log_likelihood(u[bad][:1])
    except ForwardModelError as refusal:
        reason = f" ({refusal})"
    raise InfieldError(
        where=f"sample {sample}",
        found=f"the log-likelihood {float(value[bad][0])} at every start up to the MAP field{reason}",
        expected="a finite number",
        remedy="check the operator and the noise model",
    )


def langevin(
    chains: ChainState,
    measurement: Measurement,
    mean: Tensor,
    posterior: LaplaceApproximation,
    steps: int,
    generator: Randomness,
) -> ChainState:
    """Take `steps` steps in every chain; h adapts over the first half of them and is held over the second.

    Arguments:
        chains: Where the chains are.
        measurement: Any operator, any noise model.
        mean: m, shape `(chains, channel, *space)`.
        posterior: Gamma, H and S.
        steps: Number of steps; each costs one forward and one backward pass.
        generator: Source of the random numbers.
    """
    S, h = posterior.whitening, chains.step
    u, value, gradient, w = chains.u, chains.value, chains.gradient, S.whiten(chains.u - mean)
    n, d = w.shape
    accepted, impossible = [], []
    for j in range(steps):
        xi = S.white(normal(generator, n, (d,), w.device))
        here = _Drift.at(w, value, S.transpose(gradient), posterior)
        rho, sigma = _autoregression(h)
        w_new = rho * w + (1 - rho) * here.gamma_g + sigma * posterior.root(xi)
        u_new = mean + S.colour(w_new)
        value_new, gradient_new = value_and_gradient(measurement, u_new)
        there = _Drift.at(w_new, value_new, S.transpose(gradient_new), posterior)
        log_ratio = there.log_weight(w_new, w, h) - here.log_weight(w, w_new, h)
        possible = torch.isfinite(value_new)
        probability = torch.where(possible, log_ratio.clamp_max(0).exp(), 0.0)
        accept = torch.special.ndtr(normal(generator, n, (), w.device)) < probability
        wide = accept.reshape(-1, *[1] * (u.ndim - 1))
        w, value = torch.where(accept[:, None], w_new, w), torch.where(accept, value_new, value)
        u, gradient = torch.where(wide, u_new, u), torch.where(wide, gradient_new, gradient)
        if j < (steps + 1) // 2:
            h = (h * (GAIN * (probability - TARGET)).exp()).clamp(SMALLEST, LARGEST)
        accepted.append(float(probability.mean()))
        impossible.append(float((~possible).to(probability).mean()))
    return replace(
        chains,
        u=u,
        value=value,
        gradient=gradient,
        step=h,
        acceptance=chains.acceptance + accepted,
        impossible=chains.impossible + impossible,
    )


@dataclass(frozen=True)
class _Drift:
    """Phi, g and Gamma g at a point of every chain."""

    phi: Tensor
    g: Tensor
    gamma_g: Tensor

    @classmethod
    def at(cls, w: Tensor, value: Tensor, gradient: Tensor, posterior: LaplaceApproximation) -> _Drift:
        """From the log-likelihood and its gradient with respect to w.

        With w_V the part of w in the directions of H, the slope of log pi there, and of the likelihood elsewhere, is
        gradient - w_V: of length sqrt(rank) in the metric of Gamma under the linearised posterior.
        """
        Hw, w_V = posterior.hessian(w), posterior.within(w)
        slope = gradient - w_V
        length = (slope * posterior.covariance(slope)).sum(1, keepdim=True).sqrt()
        g = Hw + w_V + slope * (posterior.longest / length).clamp_max(1.0)
        return cls(value + (w * Hw).sum(1) / 2, g, posterior.covariance(g))

    def log_weight(self, w: Tensor, w_new: Tensor, h: Tensor) -> Tensor:
        """log pi(w) q(w -> w') up to a function that is symmetric in w and w', shape `(chains,)`.

        q(w -> w') is the law of v = (w' - rho w) / sqrt(1 - rho^2) ~ N(beta Gamma g, Gamma), beta^2 = h / 2, and
        N(w; 0, Gamma) N(v; 0, Gamma) is symmetric.
        """
        rho, sigma = _autoregression(h)
        v = (w_new - rho * w) / sigma
        return self.phi + (h / 2).sqrt() * (self.g * v).sum(1) - h / 4 * (self.g * self.gamma_g).sum(1)


def _autoregression(h: Tensor) -> tuple[Tensor, Tensor]:
    """rho and sqrt(1 - rho^2), shape `(chains, 1)`."""
    return ((2 - h) / (2 + h))[:, None], ((8 * h).sqrt() / (2 + h))[:, None]


def check_finite(u: Tensor, generator: Randomness, what: str) -> None:
    """Refuse fields that are not finite.

    Raises:
        InfieldError: Naming the first such sample.
    """
    bad = ~torch.isfinite(u).flatten(1).all(1)
    if bad.any():
        raise InfieldError(
            where=f"sample {_names(generator, bad)}",
            found=f"NaN or infinity {what}",
            expected="finite numbers",
            remedy="the prior or the operator diverged",
        )


def _names(generator: Randomness, bad: Tensor) -> int:
    """Number of the first bad sample: in the run if the streams hold it, else in the batch."""
    first = int(bad.nonzero()[0])
    return generator.indices[first] if isinstance(generator, SampleStreams) else first
