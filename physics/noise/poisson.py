"""Noise models of counts: Poisson, and Poisson with Gaussian read-out noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.noise.base import (
    NoiseDescription,
    NoiseModel,
    positive_number,
    positive_tensor,
    standard_normal_like,
    sum_observed,
)


@dataclass(frozen=True)
class PoissonNoise(NoiseModel):
    r"""Counts, y = gain N with N ~ Poisson(z / gain); mean z, variance gain z.

    The density is the probability mass of the count :math:`N = y / gain`, with Gamma(N + 1) for N! if y is not an
    integer number of counts. The model requires z >= 0: below, `log_prob` is -inf and the gradient +inf.

    Arguments:
        gain: Units of the data per count.

    Raises:
        InfieldError: If the gain is not one finite number above zero.
    """

    gain: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", positive_number(self.gain, "poisson", "gain"))

    @classmethod
    def from_description(cls, description: NoiseDescription) -> PoissonNoise:
        """The model that a file describes."""
        description.expect("gain")
        return cls(description.entries["gain"])

    def check(self, y: Tensor, observed: Tensor | None = None) -> None:
        negative = int(((y if observed is None else y[observed]) < 0).sum())
        if negative:
            raise InfieldError(where="measurement", found=f"{negative} negative counts", expected="none below zero")

    def of_mean(self, count: float) -> PoissonNoise:
        """Of the mean of several data: their counts add up, each worth so many times less."""
        return PoissonNoise(self.gain / count)

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        count, rate = y / self.gain, z / self.gain
        terms = torch.xlogy(count, rate) - rate - torch.lgamma(count + 1)
        impossible = (z < 0) | (z == math.inf)  # no count is expected to be infinite: inf - inf would be NaN
        return sum_observed(torch.where(impossible, -math.inf, terms), observed)

    def gradient(self, y: Tensor, z: Tensor) -> Tensor:
        ratio = torch.where(y == 0, 0.0, y / z)  # 0 / 0 is 0: no count where none is expected
        return torch.where(z < 0, math.inf, (ratio - 1) / self.gain)

    def fisher(self, z: Tensor) -> Tensor:
        """Fisher information of each datum about its mean, 1 / (gain z), shape of `z`."""
        return 1 / (self.gain * z)

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        """Pearson's: sum of (y - z)^2 / (gain z)."""
        return sum_observed(torch.where(y == z, 0.0, (y - z) ** 2 / (self.gain * z)), observed)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts; rates below zero, as rounding leaves them, count as zero."""
        rate = (z / self.gain).clamp(min=0).to(generator.device)
        return self.gain * torch.poisson(rate, generator=generator).to(z.device)

    def to_json(self) -> dict[str, Any]:
        return {"law": "poisson", "gain": self.gain}

    def arrays(self) -> dict[str, np.ndarray]:
        return {}


@dataclass(frozen=True, eq=False)
class PoissonGaussianNoise(NoiseModel):
    r"""Counts read out with Gaussian noise, y = gain N + e with N ~ Poisson(z / gain) and e ~ N(0, variance).

    The density is exact, :math:`p(y | z) = \sum_n Poisson(n; z / gain) N(y; gain\, n, variance)`, summed over a window
    of counts outside of which less than 1e-12 of the sum lies (see `_half_width`). The gradient follows from the
    posterior mean of the count, :math:`(E[N | y] gain / z - 1) / gain`, where
    :math:`E[N | y] gain / z = p(y - gain | z) / p(y | z)` needs no division by z. Below z = 0, as for `PoissonNoise`.

    Arguments:
        gain: Units of the data per count.
        variance: Variance of the read-out noise, in squared units of the data: a number, or a tensor of the data's
            shape.

    Raises:
        InfieldError: If the gain or a variance is not finite and above zero.
    """

    gain: float
    variance: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", positive_number(self.gain, "poisson-gaussian", "gain"))
        object.__setattr__(self, "variance", positive_tensor(self.variance, "poisson-gaussian", "variance"))

    @classmethod
    def from_description(cls, description: NoiseDescription) -> PoissonGaussianNoise:
        """The model that a file describes."""
        description.expect("gain", "variance")
        return cls(description.entries["gain"], description.value("variance"))

    def log_density(self, y: Tensor, z: Tensor) -> Tensor:
        """Log density of each datum, shape of `z`; z >= 0."""
        dtype, gain = z.dtype, self.gain  # in float64 throughout: float32 has no whole numbers above 2^24
        y, rate, variance = torch.broadcast_tensors(y.double(), z.double() / gain, self.variance.to(z.device))

        def log_weight(n: Tensor) -> Tensor:
            """Log of the n-th term of the sum, without the constants."""
            count = n.clamp(min=0)
            term = torch.xlogy(count, rate) - torch.lgamma(count + 1) - (y - gain * n) ** 2 / (2 * variance)
            return torch.where(n < 0, -math.inf, term)

        with torch.no_grad():
            mode = _mode(y, rate, gain, variance)
            width = _half_width(mode, gain, variance)
            # the largest term is one of these three, since mode <= true mode < mode + 1.5
            peak = torch.stack([log_weight(mode + k) for k in range(3)]).amax(0)
        total_weight = torch.zeros_like(rate)
        for offset in range(-int(width.max()), int(width.max()) + 3):
            # each datum has its own window, so that it is independent of the rest of the batch
            inside = (offset >= -width) & (offset <= width + 2)
            total_weight = total_weight + torch.where(inside, torch.exp(log_weight(mode + offset) - peak), 0.0)
        log_density = peak + total_weight.log() - rate - 0.5 * torch.log(2 * math.pi * variance)
        return log_density.to(dtype)

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        return sum_observed(torch.where(z < 0, -math.inf, self.log_density(y, z.clamp(min=0))), observed)

    def gradient(self, y: Tensor, z: Tensor) -> Tensor:
        rate = z.clamp(min=0)
        count_over_rate = torch.exp(self.log_density(y - self.gain, rate) - self.log_density(y, rate))
        return torch.where(z < 0, math.inf, (count_over_rate - 1) / self.gain)

    def fisher(self, z: Tensor) -> Tensor:
        """Fisher information of each datum about its mean: at most, and nearly, 1 / (gain z + variance); that of z."""
        return 1 / (self.gain * z.clamp(min=0) + self.variance.to(z))

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        """Pearson's: sum of (y - z)^2 / (gain z + variance)."""
        return sum_observed((y - z) ** 2 / (self.gain * z.clamp(min=0) + self.variance.to(z)), observed)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        counts = PoissonNoise(self.gain).sample(z, generator)
        return counts + self.variance.to(z).sqrt() * standard_normal_like(z, generator)

    def to_json(self) -> dict[str, Any]:
        scalar = self.variance.ndim == 0
        variance = self.variance.item() if scalar else "noise_variance"
        return {"law": "poisson-gaussian", "gain": self.gain, "variance": variance}

    def arrays(self) -> dict[str, np.ndarray]:
        return {} if self.variance.ndim == 0 else {"noise_variance": self.variance.numpy(force=True)}


def _mode(y: Tensor, rate: Tensor, gain: float, variance: Tensor) -> Tensor:
    """A whole number at most 1.5 below the mode of the (log-concave) weights of the counts, by bisection."""

    def slope(n: Tensor) -> Tensor:
        return rate.log() - torch.digamma(n + 1) + gain * (y - gain * n) / variance

    low = (torch.minimum(rate, y / gain) - 1).clamp(min=0)  # the slope is positive here, or the mode is at 0
    high = torch.maximum(rate, y / gain).clamp(min=0)  # and negative here
    for _ in range(64):  # more than float64 can halve
        wide = high - low > 0.5
        if not wide.any():
            break
        middle = (low + high) / 2
        rising = slope(middle) > 0
        low, high = torch.where(wide & rising, middle, low), torch.where(wide & ~rising, middle, high)
    return low.floor()


def _half_width(mode: Tensor, gain: float, variance: Tensor, log_ratio: float = 32.0) -> Tensor:
    r"""Distance from the mode at which the weights have fallen by exp(-log_ratio), rounded up.

    At distance k the log of the Poisson factor alone has fallen at least by Bernstein's
    :math:`k^2 / (2 (\mu + k / 3))`, with :math:`\mu` the mode plus one, and that of the Gaussian one alone by
    :math:`gain^2 k^2 / (2 variance)`; the nearer of both distances suffices.
    """
    mu = mode + 2.5
    poisson = log_ratio / 3 + (log_ratio**2 / 9 + 2 * log_ratio * mu).sqrt()
    gaussian = (2 * log_ratio * variance).sqrt() / gain
    return torch.minimum(poisson, gaussian).ceil().nan_to_num(0.0, 0.0)  # a field that is not finite gets no window
