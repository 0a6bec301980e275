r"""Follow-up images whose regional means a bridge draws: a law of the voxels given these means.

A bridge of regions (`region_bridge`) draws the means m over regions of a follow-up, shared by all slices of a subject.
What is left of the image is near Gaussian, and is drawn in closed form. With the weights W of the regional means and
images P of the regions (each the region's tissue, blurred as the scanner does),

.. math::
    Q &= P\,(W P)^{-1}, \qquad
    \mu(m) = \sum_k c_k (f_k - Q W f_k) + Q m, \tag{13} \\
    x_f &= \mu\, \exp(\sigma z - \sigma^2 / 2)\,(1 + s), \qquad
    \ln \sigma^2 = \sum_l d_l\, g_l, \quad z \sim N(0, F), \tag{14}

where :math:`f_k` are images that the baseline and the MRI give (the baseline itself, smoothed, tissues), so that the
first sum is a denoised baseline without its regional means, and :math:`W \mu(m) = m`. z is stationary in a slice and
independent between slices; noise of expectation maximisation is log-normal (Barrett, Wilson & Tsui 1994, Phys. Med.
Biol. 39, 833), so that no voxel falls below 0. s spreads what the noise adds to the regional means over the regions'
images and removes it: the means are those that were drawn. c, d and the spectrum F are fitted to pairs by least
squares. The construction is Infield's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError

LEAST = 1e-3
"""Least mean of a voxel, in units of the image: a rate is positive."""

THINNED, SCORING_STEPS = 7, 12
"""Every so many voxels are enough for the size of what is left; steps of its fit."""

RINGS = 10
"""Of the wave number, in which the power of draws is matched."""

OUTLIER = 25.0
"""Squares are cut off at so many times their mean: a voxel whose mean is near 0 has any logarithm."""

MAX_LOG_SD = 1.0
"""Largest sigma of a voxel."""


def blurring_matrix(n: int, fwhm: float, spacing: float) -> Tensor:
    """A Gaussian filter along an axis of n points, rows of sum 1, `(n, n)`; widths in units of `spacing`."""
    sigma = fwhm / math.sqrt(8 * math.log(2)) / spacing
    distance = torch.arange(n, dtype=torch.float64)[:, None] - torch.arange(n)
    kernel = torch.exp(-distance.square() / (2 * sigma**2))
    return kernel / kernel.sum(1, keepdim=True)


def blur(images: Tensor, fwhm: float, spacing: float) -> Tensor:
    """A Gaussian filter of the last two axes of `(..., y, x)`."""
    rows, columns = (blurring_matrix(n, fwhm, spacing).to(images) for n in images.shape[-2:])
    return rows @ images @ columns.T


@dataclass(frozen=True)
class Painting:
    """Regions of one subject: weights of their means, and their images.

    Arguments:
        weights: W, `(regions, *space)`, each of sum 1.
        images: P, `(regions, *space)`, at least 0.
    """

    weights: Tensor
    images: Tensor

    def __post_init__(self) -> None:
        mixed = self.means(self.images)
        if not torch.linalg.matrix_rank(mixed) == len(mixed):
            raise InfieldError(where="regions of an image", found="a region without a voxel", expected="all of them")
        object.__setattr__(self, "_unmixed", torch.linalg.inv(mixed.T))

    def means(self, images: Tensor) -> Tensor:
        """W x of `(..., *space)`, `(..., regions)`."""
        return images.flatten(-self.weights.ndim + 1) @ self.weights.flatten(1).T

    def paint(self, means: Tensor) -> Tensor:
        """Q m of `(..., regions)`: the image `(..., *space)` in the span of P that has these means."""
        found: Tensor = (means @ self._unmixed.T) @ self.images.flatten(1)  # type: ignore[attr-defined]
        return found.unflatten(-1, self.weights.shape[1:])

    def without_means(self, images: Tensor) -> Tensor:
        """(1 - Q W) x."""
        return images - self.paint(self.means(images))

    def corrected(self, images: Tensor, means: Tensor) -> Tensor:
        """Positive images with these means: each region is scaled, its factor blurred as its image is."""
        share = self.images / self.images.sum(0).clamp_min(1e-6)
        for _ in range(4):
            factor = means / self.means(images) - 1
            images = images * (1 + (factor @ share.flatten(1)).clamp(-0.5, 0.5).unflatten(-1, images.shape[-3:]))
        return images


@dataclass(frozen=True)
class VoxelLaw:
    """c, d and F of equations (13) and (14).

    Arguments:
        coefficients: c, `(features,)`.
        log_variance: d, `(covariates,)`.
        spectrum: Power of z over the waves of a slice, `(y, x)`, of mean 1.
    """

    coefficients: Tensor
    log_variance: Tensor
    spectrum: Tensor

    def anatomy(self, features: Tensor, painting: Painting) -> Tensor:
        """The first sum of equation (13): an image without regional means, `(*space)`."""
        return painting.without_means(torch.einsum("k,k...->...", self.coefficients.to(features), features))

    def mean_of(self, anatomy: Tensor, painting: Painting, means: Tensor) -> Tensor:
        """mu(m) of equation (13), kept above 0, from `anatomy` and m `(..., regions)`, `(..., *space)`."""
        return (anatomy + painting.paint(means)).clamp_min(LEAST)

    def mean(self, features: Tensor, painting: Painting, means: Tensor) -> Tensor:
        """mu(m) of equation (13), kept above 0.

        Arguments:
            features: f, `(features, *space)`.
            painting: W and P.
            means: m, `(..., regions)`.

        Returns:
            `(..., *space)`.
        """
        return self.mean_of(self.anatomy(features, painting), painting, means)

    def log_sd(self, covariates: Tensor) -> Tensor:
        """sigma of equation (14) from g `(covariates, *space)`."""
        log = torch.einsum("k,k...->...", self.log_variance.to(covariates), covariates)
        return (log / 2).exp().clamp_max(MAX_LOG_SD)

    def sample(
        self, features: Tensor, covariates: Tensor, painting: Painting, means: Tensor, generator: Generator
    ) -> Tensor:
        """Follow-ups `(draws, *space)` with the regional means `(draws, regions)`."""
        mu = self.mean(features, painting, means)
        return self.noisy(mu, self.log_sd(covariates), painting, means, generator)

    def noisy(self, mu: Tensor, sigma: Tensor, painting: Painting, means: Tensor, generator: Generator) -> Tensor:
        """Equation (14): images about mu `(draws, *space)` that have the regional means `(draws, regions)`."""
        white = torch.randn(mu.shape, generator=generator, dtype=mu.dtype)
        z = torch.fft.ifft2(torch.fft.fft2(white) * self.spectrum.to(mu).sqrt()).real
        return painting.corrected(mu * (sigma * z - sigma.square() / 2).exp(), means)

    def with_power(self, measured: Tensor, drawn: Tensor) -> VoxelLaw:
        """The same with F scaled, ring by ring of the wave number, by the ratio of two powers `(y, x)`: what a mask and
        the product with sigma mu do to the spectrum is corrected."""
        y, x = (torch.fft.fftfreq(k, dtype=torch.float64).abs() for k in self.spectrum.shape)
        ring = ((y[:, None].square() + x.square()).sqrt() * 2 * RINGS).long().clamp_max(RINGS - 1).flatten()
        count = torch.bincount(ring, minlength=RINGS).double()
        powers = (torch.bincount(ring, v.double().flatten(), minlength=RINGS) / count for v in (measured, drawn))
        ratio = torch.div(*powers)[ring].reshape(self.spectrum.shape)
        spectrum = self.spectrum * ratio
        return VoxelLaw(self.coefficients, self.log_variance, spectrum / spectrum.mean())


@dataclass
class VoxelFit:
    """Sums over subjects from which a `VoxelLaw` is fitted, in two passes.

    Arguments:
        seen: Voxels that count, bool `(*space)`.
    """

    seen: Tensor
    _first: list[Tensor] | None = None
    _covariates: list[Tensor] = field(default_factory=list)
    _squares: list[Tensor] = field(default_factory=list)
    _correlation: Tensor | None = None
    coefficients: Tensor | None = None

    def add(self, features: Tensor, painting: Painting, x_f: Tensor) -> None:
        """First pass: normal equations of c."""
        design = painting.without_means(features)[:, self.seen].double()
        wanted = painting.without_means(x_f)[self.seen].double()
        new = [design @ design.T, design @ wanted]
        self._first = new if self._first is None else [a + b for a, b in zip(self._first, new, strict=True)]

    def solve(self) -> None:
        """c, after all subjects were added."""
        assert self._first is not None
        gram, wanted = self._first
        ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        self.coefficients = torch.linalg.solve(gram + ridge, wanted)

    def add_residual(self, features: Tensor, covariates: Tensor, painting: Painting, x_f: Tensor) -> None:
        """Second pass: the logarithm of what is left, by covariates, and its correlation in a slice."""
        assert self.coefficients is not None
        law = VoxelLaw(self.coefficients, torch.zeros(len(covariates)), torch.ones(()))
        left = (x_f.clamp_min(LEAST) / law.mean(features, painting, painting.means(x_f))).log()
        some = slice(None, None, THINNED)
        self._covariates.append(covariates[:, self.seen][:, some].double())
        self._squares.append(left[self.seen][some].double().square())
        new = masked_correlation(left / left[self.seen].std(), self.seen)
        self._correlation = new if self._correlation is None else self._correlation + new

    def law(self) -> VoxelLaw:
        """The law, after both passes; d by the likelihood of a Gaussian with the variance exp(d g)."""
        assert self._correlation is not None and self.coefficients is not None
        g, square = torch.cat(self._covariates, 1), torch.cat(self._squares)
        square = square.clamp(max=OUTLIER * float(square.mean()))
        gram = g @ g.T + 1e-9 * len(square) * torch.eye(len(g), dtype=g.dtype)
        d = torch.linalg.solve(gram, g @ square.mean().log().expand(len(square)))
        for _ in range(SCORING_STEPS):  # Fisher scoring
            excess = (square * (-(d @ g)).exp() - 1).clamp_max(OUTLIER)
            d = d + torch.linalg.solve(gram, g @ excess)
        n, m = self.seen.shape[-2:]
        y, x = (torch.minimum(torch.arange(k), k - torch.arange(k)).double() for k in (n, m))
        taper = torch.exp(-((y[:, None] / (n / 5)) ** 2 + (x / (m / 5)) ** 2) / 2)
        spectrum = torch.fft.fft2(self._correlation * taper).real.clamp_min(0)
        return VoxelLaw(self.coefficients, d, spectrum / spectrum.mean())


def masked_correlation(values: Tensor, seen: Tensor) -> Tensor:
    """Mean product of values `(slices, y, x)` of a slice by lag, over pairs of voxels that are both seen, `(y, x)`."""
    size = [2 * n for n in values.shape[-2:]]
    inside = (values * seen).double()
    products, pairs = (
        torch.fft.irfft2(torch.fft.rfft2(v, s=size).abs().square(), s=size).sum(0) for v in (inside, seen.double())
    )
    found = products / pairs.clamp_min(1)
    rows, columns = ([min(i, n - i) for i in range(n)] for n in values.shape[-2:])
    folded = found[rows][:, columns]
    mirrored = found[rows][:, [-c for c in columns]]
    return (folded + mirrored) / 2
