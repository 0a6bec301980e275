r"""Is D(x) = E[x_1 | x_t = x] the denoiser of any distribution at all?

For x_t = t x_1 + (1 - t) x_0 with x_0 ~ N(0, C_0), Tweedie's formula of second order reads

    Cov(x_1 | x_t) = ((1 - t)^2 / t) (dD/dx) C_0,

so that (dD/dx) C_0 is symmetric and positive. A velocity with a part that circulates on the levels of p_t leaves every
draw of the prior as it is, and ruins every posterior: draws of the prior do not show it, this does. With pairs of white
fields xi, eta and a weight W, two vector-Jacobian products each give

    a = xi^T S eta,  b = eta^T S xi,    S = W (dD/dx) C_0 W,    asymmetry^2 = 2 sum (a - b)^2 / sum (a^2 + b^2),

an estimate of |S - S^T| / |S| (Frobenius norms): 0 for a denoiser, sqrt(2) where errors that are independent of each
other outweigh it, 2 where S is antisymmetric. W = C_0^{-1/2} weights all scales alike; W = 1 by their variance. The
errors of networks are of the second kind and at small scales; a circulation is of the third.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from infield.priors.base import FlowPrior, denoise, flow

TIMES = (0.1, 0.3)
"""Early: there a circulation is large beside the conditional covariance."""

MAX_ASYMMETRY = 1.8
"""Of W = C_0^{-1/2}: above it the square of the antisymmetric part is more than four times that of the symmetric one,
2.7 standard errors of 16 pairs beyond independent errors. Set from shipped priors, at most 1.05, and planted
circulations, at least 1.9 (`infield bench steps`)."""

MAX_NEGATIVE = 0.25

KEY = "denoiser"
"""Entry of a checkpoint's provenance that holds the figures."""


@dataclass(frozen=True)
class DenoiserCheck:
    """Results of the probes of a denoiser.

    Arguments:
        asymmetry: For W = C_0^{-1/2}, largest over the times.
        field_asymmetry: For W = 1.
        negative: Fraction of probes with xi^T (dD/dx) C_0 xi < 0, largest over the times.
    """

    asymmetry: float
    field_asymmetry: float
    negative: float

    @property
    def passed(self) -> bool:
        """Whether there is no circulation. Negative probes alone are no failure: a network that was hardly trained has
        them, and its draws show it."""
        return self.asymmetry <= MAX_ASYMMETRY

    @property
    def positive(self) -> bool:
        """Whether hardly a probe is negative."""
        return self.negative <= MAX_NEGATIVE

    def to_json(self) -> dict[str, float]:
        """The figures, for the provenance of a checkpoint."""
        return {name: round(value, 4) for name, value in vars(self).items()}

    def __str__(self) -> str:
        return (
            f"asymmetry {self.asymmetry:.2f} (at most {MAX_ASYMMETRY}; of fields {self.field_asymmetry:.2f}), "
            f"{100 * self.negative:.0f} % negative"
        )


def warn_of_denoiser(name: str, provenance: Mapping[str, Any]) -> None:
    """Warn of a prior whose denoiser failed the check when it was trained."""
    if KEY not in provenance:
        return
    check = DenoiserCheck(**provenance[KEY])
    if not check.passed:
        warnings.warn(
            f"prior '{name}': its denoiser is that of no distribution, {check}; its own draws may be right, posteriors "
            "under it are not: train it longer",
            UserWarning,
            stacklevel=2,
        )


def check_denoiser(
    prior: FlowPrior, fields: Tensor | None = None, *, probes: int = 16, seed: int = 0, times: tuple[float, ...] = TIMES
) -> DenoiserCheck:
    """Probe symmetry and positivity of (dD/dx) C_0.

    Arguments:
        prior: The prior.
        fields: Standardised fields x_1, shape `(some, channel, *space)`; draws of its flow in 8 steps where not given.
        probes: Pairs of probes, each at a field of its own.
        seed: Of fields and probes.
        times: At which it is probed.
    """
    rng = Generator().manual_seed(seed)
    source, c = prior.source, prior.source.diagonal
    x_0 = source.sample(probes, rng)
    x_1 = flow(prior, source.sample(probes, rng), 8) if fields is None else fields[torch.arange(probes) % len(fields)]
    xi, eta = torch.randn((2, *x_0.shape), generator=rng, dtype=x_0.dtype) / c.numel() ** 0.5
    found = []
    for t in times:
        x_t = t * x_1.to(x_0) + (1 - t) * x_0
        whole, _ = _probe(prior, x_t, t, xi, eta, c.clamp_min(1e-300).rsqrt())
        found.append((whole, *_probe(prior, x_t, t, xi, eta, torch.ones_like(c))))
    return DenoiserCheck(*(max(values) for values in zip(*found, strict=True)))


def _probe(prior: FlowPrior, x: Tensor, t: float, xi: Tensor, eta: Tensor, W: Tensor) -> tuple[float, float]:
    """Asymmetry of S, and fraction of negative quotients."""
    modes, c = prior.source.modes, prior.source.diagonal
    S_xi, S_eta = (W * c * modes.analyse(_vjp(prior, x, modes.synthesise(W * w), t)) for w in (xi, eta))  # S^T w
    a, b = (S_xi * eta).flatten(1).sum(1), (S_eta * xi).flatten(1).sum(1)
    quotients = torch.cat([(S_xi * xi).flatten(1).sum(1), (S_eta * eta).flatten(1).sum(1)])
    asymmetry = (2 * (a - b).square().sum() / (a.square() + b.square()).sum()).sqrt()
    return float(asymmetry), float((quotients < 0).double().mean())


def _vjp(prior: FlowPrior, x: Tensor, w: Tensor, t: float) -> Tensor:
    """(dD/dx)^T w, shape of x."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        D = denoise(prior, x, t)
        (product,) = torch.autograd.grad((D * w).sum(), x)
    return product.detach()
