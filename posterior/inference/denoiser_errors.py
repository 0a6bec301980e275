r"""The law of x_1 given x_t as the errors of a prior's denoiser show it: a variance at every point, and a spectrum.

`posterior.samplers.faps` takes for the covariance of x_1 | x_t what a Gaussian with the prior's covariance would have:
the same at all points, whatever x_t holds. Images are not so. Their background is known almost at once, their borders
late, and the errors of an undertrained network exceed its own estimate. Here the covariance is measured: with fields
x_1 of the prior's law, x_t = t x_1 + (1 - t) x_0 and e = x_1 - E[x_1 | x_t],

    x_1 | x_t ~ N(m, D^{1/2} T^T diag(s_t) T D^{1/2}),    m = E[x_1 | x_t],    D = exp(w_t^T f(m)),

f(m) = (1, log |m|^2, log |grad m|^2), both smoothed over a few points. For each t, w_t is the most probable one where e
at every point is N(0, D) by itself (a generalised linear model of the Gamma family), and s_t the mean spectrum of
D^{-1/2} e over shells of wavenumber. Where e does not depend on m, D is constant and this is the law of `faps`.

It is a surrogate: what is right in the mean over fields need not be right for one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.spectra import Bins, wavenumbers
from infield.priors.base import FlowPrior, denoise
from infield.priors.covariance.modes import Hartley, Modes

SMOOTHED = 2.0
"""Standard deviation of the smoothing of f(m), in points."""

FLOOR = 1e-4
"""Added to |m|^2 and |grad m|^2 of standardised fields."""

MIN_ERROR_FRACTION = 1e-4
"""Squared errors count as this share of their mean at least: where there are none at all, D would be 0."""

ITERATIONS, BATCH_SIZE = 30, 4
"""Steps of the regression, and fields that are denoised together."""


@dataclass(frozen=True)
class ModulatedCovariance:
    """The covariance D^{1/2} T^T diag(s) T D^{1/2}, another one for each field of a batch.

    Arguments:
        modes: T.
        spectrum: s, shape `(*space)`.
        deviation: D^{1/2}, shape `(batch, 1, *space)`.
    """

    modes: Modes
    spectrum: Tensor
    deviation: Tensor

    def root(self, w: Tensor) -> Tensor:
        """S w with S S^T the covariance: fields from white numbers, both `(batch, channel, *space)`."""
        return self.deviation * self.modes.synthesise(self.spectrum.sqrt() * w)

    def root_transposed(self, x: Tensor) -> Tensor:
        """S^T x, that shape."""
        return self.spectrum.sqrt() * self.modes.analyse(self.deviation * x)


@dataclass(frozen=True)
class DenoiserErrorModel:
    """The covariance of x_1 | x_t at the times at which it was measured.

    Arguments:
        times: 0 <= t < 1.
        weights: w_t, shape `(times, 3)`.
        bounds: Least and largest log D among those fields, shape `(times, 2)`; further out D is not extrapolated.
        spectra: s_t over shells of wavenumber from 0 to the largest, sqrt(axes) / 2 cycles a point; `(times, shells)`.
    """

    times: tuple[float, ...]
    weights: Tensor
    bounds: Tensor
    spectra: Tensor

    def at(self, k: int, mean: Tensor, modes: Modes) -> ModulatedCovariance:
        """The covariance around fields m at time number k; on any grid of the spacing at which it was measured.

        Arguments:
            k: Number of the time.
            mean: m, shape `(batch, channel, *space)`.
            modes: Of the prior.
        """
        variance = (_features(mean) @ self.weights[k]).clamp(*self.bounds[k].tolist()).exp()
        place = _fraction_of_highest(tuple(mean.shape[2:])) * (self.spectra.shape[1] - 1)
        low = place.floor().long().clamp_max(self.spectra.shape[1] - 2)
        log_s = self.spectra[k].log()
        s = torch.lerp(log_s[low], log_s[low + 1], place - low).exp()
        return ModulatedCovariance(modes, s / s.mean(), variance.sqrt()[:, None])  # D^{-1/2} e has variance 1


def fit_denoiser_errors(
    prior: FlowPrior, fields: Tensor, times: Sequence[float], generator: Generator
) -> DenoiserErrorModel:
    """Measure the law on fields that the prior was trained for, but best not on.

    Arguments:
        prior: On a periodic grid, of one spacing along all axes.
        fields: In units, shape `(batch, channel, *space)`; a dozen images suffice.
        times: 0 <= t < 1, rising.
        generator: Draws x_0.

    Raises:
        InfieldError: The prior is on another domain.
    """
    modes, C_0 = prior.covariance.modes, prior.source
    if not isinstance(modes, Hartley):
        raise InfieldError(
            where=f"prior '{prior.name}'",
            found="a domain on which its denoiser errors cannot be measured",
            expected="a uniform periodic grid",
        )
    x_1 = prior.standardisation.from_units(fields.to(torch.float64))
    weights, bounds, spectra = [], [], []
    space = C_0.event_shape[1:]
    count = max(round(min(space) / 2**0.5) + 1, 4)  # a mode apart
    shells = Bins.nearest(_fraction_of_highest(space), 1 / (count - 1), count)
    for t in times:
        means = []
        for part in x_1.split(BATCH_SIZE):
            white = torch.randn(part.shape, generator=generator, dtype=torch.float64)
            x_t = t * part + (1 - t) * C_0.colour(white)
            means.append(denoise(prior, x_t, t))
        m = torch.cat(means)
        e, f = x_1 - m, _features(m)
        w = _gamma_regression(f.flatten(0, -2), e.square().mean(1).flatten())
        log_variance = f @ w
        power = modes.analyse(e / log_variance.exp().sqrt()[:, None]).square().mean((0, 1))
        weights.append(w)
        bounds.append(torch.stack([log_variance.min(), log_variance.max()]))
        spectra.append(_mean_over_shells(power, shells))
    return DenoiserErrorModel(tuple(times), torch.stack(weights), torch.stack(bounds), torch.stack(spectra))


def _features(m: Tensor) -> Tensor:
    """f(m), shape `(batch, *space, 3)`."""
    axes = range(2, m.ndim)
    size = m.square().sum(1)
    slope = torch.stack([(m.roll(-1, a) - m.roll(1, a)).square().sum(1) / 4 for a in axes]).sum(0)
    logs = [(_smooth(x).clamp_min(0) + FLOOR).log() for x in (size, slope)]
    return torch.stack([torch.ones_like(size), *logs], dim=-1)


def _smooth(x: Tensor) -> Tensor:
    """A Gaussian average of `(batch, *space)`, periodic."""
    axes = tuple(range(1, x.ndim))
    k_squared = wavenumbers(x.shape[1:], dtype=x.dtype).square()
    return torch.fft.ifftn(
        torch.fft.fftn(x, dim=axes) * (-2 * (math.pi * SMOOTHED) ** 2 * k_squared).exp(), dim=axes
    ).real


def _fraction_of_highest(space: tuple[int, ...]) -> Tensor:
    """Wavenumber of each mode over the highest there is, shape `space`."""
    return wavenumbers(space) / (0.5 * len(space) ** 0.5)


def _mean_over_shells(power: Tensor, shells: Bins) -> Tensor:
    """Mean power of each shell; of an empty one, that of the next below."""
    mean = shells.mean(power)
    for i in (shells.modes == 0).nonzero()[:, 0].tolist():
        mean[i] = mean[i - 1]
    return mean


def _gamma_regression(f: Tensor, e_squared: Tensor) -> Tensor:
    """w that maximises -e^2 / D - log D, D = exp(f w), by Fisher's scoring (McCullagh & Nelder 1989); shape `(3,)`."""
    w = torch.zeros(f.shape[1], dtype=f.dtype)
    e_squared = e_squared.clamp_min(MIN_ERROR_FRACTION * float(e_squared.mean()))
    w[0] = e_squared.mean().log()
    information = f.mT @ f / len(f) + 1e-6 * torch.eye(f.shape[1], dtype=f.dtype)
    for _ in range(ITERATIONS):
        excess = (e_squared / (f @ w).exp() - 1).clamp(-1, 5)  # from far off, no further than a step can reach
        w = w + torch.linalg.solve(information, f.mT @ excess / len(f)).clamp(-1, 1)
    return w
