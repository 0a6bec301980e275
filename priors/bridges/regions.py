r"""The mean of a bridge of regional vectors: a Gaussian model of the change that a network corrects.

With :math:`m = x_b + A\,(1, x_b, y, y\,x_b)` (a linear regression of the change, y the years) and a covariance of what
is left of it, :math:`(\alpha + \beta y^2)\, C`, the channel, whose noise has the variance R per unit of tau, has in the
eigenvectors Q of :math:`R^{-1/2} C R^{-1/2}` with eigenvalues :math:`\lambda(y)` the Gaussian posterior

.. math::
    \ell = \frac{\lambda}{1 + \lambda \tau}\, Q^T R^{-1/2} (B - \tau m), \qquad
    D = m + R^{1/2} Q \Bigl(\ell + \sqrt{\tfrac{\lambda}{1 + \lambda \tau}}\; F\Bigr), \tag{11}

which is equation (8) of `priors.bridges.bridge` for correlated values: at tau = 0 the regression, at large tau the
counts. The network F takes :math:`\ell / \sqrt\lambda`, the baseline, the years and tau, and starts at 0. Regional
means are what a U-Net of voxels finds last: the few directions of C in which regions change together get their counts
early.

A network of two channels also learns the dispersion, ln s of each mode, so that the covariance of the follow-up given
the counts is

.. math:: V = U U^T, \qquad U = R^{1/2} Q\, \mathrm{diag}\Bigl(\sqrt{\tfrac{\lambda}{1 + \lambda \tau}}\; s\Bigr),
    \tag{12}

which compound steps (6) draw from. s is fitted to the errors of D itself, so that what D misses widens the draws; plain
steps lack it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from infield.core.errors import InfieldError
from infield.priors.bridges.channels import Channel, Moments

MAX_LOG_DISPERSION = 6.0

SMALLEST = 1e-4
"""Least mean of a follow-up, SUVR: counts have no negative rate."""


@dataclass(frozen=True)
class ChangeModel:
    """The Gaussian model of the change, fitted to pairs; float64.

    Arguments:
        regression: A, `(2 + 2 regions, regions)`.
        alpha, beta: Growth of the covariance with the years.
        modes: Q, `(regions, regions)`.
        eigenvalues: Of R^-1/2 C R^-1/2, descending, `(regions,)`.
        noise: R, `(regions,)`.
        centre, scale: Mean and standard deviation of the baseline, `(regions,)`.
        years: Least and most years of the pairs.
    """

    regression: Tensor
    alpha: float
    beta: float
    modes: Tensor
    eigenvalues: Tensor
    noise: Tensor
    centre: Tensor
    scale: Tensor
    years: tuple[float, float]

    @classmethod
    def fit(cls, x_b: Tensor, x_f: Tensor, years: Tensor, channel: Channel) -> ChangeModel:
        """Fit to pairs `(pairs, regions)` and their years `(pairs,)`.

        Raises:
            InfieldError: There are fewer pairs than what is fitted needs.
        """
        x_b, x_f, years = x_b.double(), x_f.double(), years.double()
        n, regions = x_b.shape
        if n < 4 * (2 + 2 * regions):
            raise InfieldError(where="pairs of a bridge", found=f"{n}", expected=f"at least {4 * (2 + 2 * regions)}")
        features = _features(x_b, years)
        regression = torch.linalg.lstsq(features, x_f - x_b).solution.clone()  # not a part of a tensor of all pairs
        left = x_f - x_b - features @ regression
        square = left.square().mean(1)
        basis = torch.stack([torch.ones_like(years), years.square()], 1)
        alpha, beta = torch.linalg.lstsq(basis, square[:, None]).solution[:, 0].clamp_min(0).tolist()
        growth = (alpha + beta * years.square()).clamp_min(1e-12)
        noise = channel.noise_variance(x_b.mean(0))
        white = left / (growth[:, None] * noise).sqrt()
        eigenvalues, modes = torch.linalg.eigh(white.T @ white / n)
        modes = modes.flip(1) * modes.flip(1).sum(0).sign()  # signs that no LAPACK chooses
        centre, scale = x_b.mean(0), x_b.std(0).clamp_min(1e-6)
        span = (float(years.min()), float(years.max()))
        return cls(regression, alpha, beta, modes, eigenvalues.flip(0).clamp_min(1e-9), noise, centre, scale, span)

    def mean(self, x_b: Tensor, years: Tensor) -> Tensor:
        """m, shape of `x_b`."""
        return x_b + _features(x_b, years) @ self.regression.to(x_b)

    def prior_variance(self, years: Tensor) -> Tensor:
        """lambda(y), `(batch, regions)`."""
        growth = (self.alpha + self.beta * years.square()).clamp_min(1e-12)
        return growth[:, None] * self.eigenvalues.to(years)

    def to_modes(self, x: Tensor) -> Tensor:
        """Q^T R^-1/2 x."""
        return (x / self.noise.to(x).sqrt()) @ self.modes.to(x)

    def from_modes(self, z: Tensor) -> Tensor:
        """R^1/2 Q z."""
        return (z @ self.modes.to(z).T) * self.noise.to(z).sqrt()

    def posterior(self, state: Tensor, tau: Tensor, x_b: Tensor, years: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """m, and in modes: the mean of x_f - m given the state, and its standard deviation; each `(batch, regions)`."""
        m, variance = self.mean(x_b, years), self.prior_variance(years)
        left = variance / (1 + variance * tau[:, None])
        return m, left * self.to_modes(state - tau[:, None] * m), left.sqrt()


def _features(x_b: Tensor, years: Tensor) -> Tensor:
    one = torch.cat([torch.ones_like(x_b[:, :1]), x_b], 1)
    return torch.cat([one, one * years[:, None]], 1)


@dataclass(frozen=True)
class RegionContext:
    """What a follow-up is conditioned on.

    Arguments:
        x_b: Baseline, `(batch, regions)`.
        years: To the follow-up, `(batch,)`.
    """

    x_b: Tensor
    years: Tensor

    def repeat(self, n: int) -> RegionContext:
        """Each row n times, one after the other."""
        return RegionContext(self.x_b.repeat_interleave(n, 0), self.years.repeat_interleave(n, 0))


@dataclass(frozen=True)
class RegionDenoiser:
    """D of equation (11).

    Arguments:
        change: The Gaussian model.
        network: Maps `(batch, 2, regions)` and `(batch, 2)` to `(batch, channels, regions)`, e.g. a `Perceptron`; its
            first channel is F, the second, if it has one, ln s of equation (12).
        positive: Whether the mean is kept above 0, as counts need it.
    """

    change: ChangeModel
    network: nn.Module
    positive: bool = True

    @property
    def disperses(self) -> bool:
        """Whether the network has a dispersion beside the mean."""
        return int(getattr(self.network, "channels", 1)) > 1

    def parts(self, state: Tensor, tau: Tensor, context: RegionContext) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """m, then in modes: l, the standard deviation that is left, and what the network returns.

        Arguments:
            state: B, `(batch, regions)`.
            tau: `(batch,)`.
            context: Baseline and years.
        """
        change, (low, high) = self.change, self.change.years
        m, towards, left = change.posterior(state, tau, context.x_b, context.years)
        weight = next(self.network.parameters())
        seen = towards / change.prior_variance(context.years).sqrt()
        baseline = (context.x_b - change.centre.to(m)) / change.scale.to(m)
        largest = self.change.eigenvalues[0].to(m)
        clock = torch.log1p(largest * (change.alpha + change.beta * high**2) * tau) / 3
        years = 2 * (context.years - low) / max(high - low, 1e-6) - 1
        numbers = torch.stack([clock, years], 1)
        found = self.network(torch.stack([seen, baseline], 1).to(weight), numbers.to(weight))
        return m, towards, left, found.to(m)

    def __call__(self, state: Tensor, tau: float, context: RegionContext) -> Moments:
        m, towards, left, found = self.parts(state, torch.full_like(context.years, tau), context)
        mean = m + self.change.from_modes(towards + left * found[:, 0])
        mean = mean.clamp_min(SMALLEST) if self.positive else mean
        if found.shape[1] < 2:
            return Moments(mean)
        sd = left * log_dispersion(found).exp()
        directions = self.change.noise.to(mean).sqrt() * self.change.modes.to(mean).T  # a mode a row
        return Moments(mean, torch.zeros_like(mean), sd[:, :, None] * directions)  # (12)


def log_dispersion(found: Tensor) -> Tensor:
    """ln s of equation (12) from what the network returns, `(batch, regions)`."""
    return found[:, 1].clamp(-MAX_LOG_DISPERSION, MAX_LOG_DISPERSION)


def bridge_loss(
    denoiser: RegionDenoiser, state: Tensor, tau: Tensor, x_f: Tensor, context: Any, balance: float = 0.0
) -> Tensor:
    """Mean square error of D in modes, over the variance that the Gaussian model leaves: one number per pair.

    With a dispersion, minus the log-likelihood of these errors under it is added; its gradient does not reach D, which
    stays the conditional mean. `balance` is the share of an error of regions in place of that of modes: each region's
    square over the variance that is left of it, so that all regions count alike. Its minimum is the same mean.
    """
    m, towards, left, found = denoiser.parts(state, tau, context)
    wanted = (denoiser.change.to_modes(x_f - m) - towards) / left
    error = (found[:, 0] - wanted).square()
    if balance:
        directions = denoiser.change.modes.to(m).T  # a mode a row; the unit of a region cancels
        regional = ((left * (found[:, 0] - wanted)) @ directions).square() / (left.square() @ directions.square())
        mixed = (1 - balance) * error + balance * regional
    else:
        mixed = error
    if found.shape[1] < 2:
        return mixed.mean(1)
    log_s = log_dispersion(found)
    return (mixed + error.detach() * (-2 * log_s).exp() / 2 + log_s).mean(1)
