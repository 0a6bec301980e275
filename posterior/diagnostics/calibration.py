"""Is a posterior right? Distances to exact draws, z-scores, ranks, coverage and scores. All in plain tensors.

Draws are `(n, *event)` and a truth is `(*event)`, in the units of the field; many cases are `(cases, n, *event)` and
`(cases, *event)`. Each function documents what it computes, its range, and its best value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from infield.core.spectra import Bins, wave_axes, wavenumbers


def sliced_wasserstein(x: Tensor, y: Tensor, generator: Generator, *, projections: int = 256) -> float:
    """Sliced 2-Wasserstein distance between two sets of as many draws (Bonneel et al. 2015).

    Arguments:
        x, y: Draws, shape `(n, *event)`, the same n.
        generator: Draws the directions, uniform on the sphere.

    Returns:
        The root mean square over directions of the 1-D distances, in the units of the field.
    """
    x, y = x.flatten(1), y.flatten(1)
    directions = torch.randn((x.shape[1], projections), generator=generator, dtype=x.dtype)
    directions = directions / directions.norm(dim=0)
    gap = (x @ directions).sort(dim=0).values - (y @ directions).sort(dim=0).values
    return float(gap.square().mean().sqrt())


def std_ratio(x: Tensor, exact: Tensor) -> float:
    """Root of the ratio of mean variances, draws over exact draws; 1 where the spread is right."""
    return float((x.var(0).mean() / exact.var(0).mean()).sqrt())


def mean_error(x: Tensor, exact_mean: Tensor, exact_std: Tensor) -> float:
    """Root mean square error of the draws' mean, in posterior standard deviations."""
    return float((x.mean(0) - exact_mean).square().mean().sqrt() / exact_std.square().mean().sqrt())


@dataclass(frozen=True)
class ZScores:
    """Largest absolute z-score of the mean and of the covariance over all directions that were looked at."""

    mean: float
    covariance: float


def gaussian_z_scores(x: Tensor, mean: Tensor, covariance: Tensor) -> ZScores:
    """z-scores of the moments of draws against a known Gaussian, in the coordinates that whiten it.

    With z = L^{-1} (x - mean), covariance = L L^T, the n draws should have mean 0 +- 1/sqrt(n) and second moments
    delta_ij +- sqrt((1 + delta_ij) / n).

    Arguments:
        x: Draws, shape `(n, d)`.
        mean: Shape `(d,)`.
        covariance: Shape `(d, d)`, positive definite.
    """
    n, d = x.shape
    z = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (x - mean).mT, upper=False).mT
    z_mean = z.mean(0) * math.sqrt(n)
    eye = torch.eye(d, dtype=x.dtype)
    z_covariance = (z.mT @ z / n - eye) * math.sqrt(n) / (1 + eye).sqrt()
    return ZScores(float(z_mean.abs().max()), float(z_covariance.abs().max()))


@dataclass(frozen=True)
class SpectralError:
    """Relative error of a spectrum, mean and largest over shells of wavenumber."""

    mean: float
    largest: float


def ranks(samples: Tensor, truth: Tensor, ties: Generator | None = None) -> Tensor:
    """How many of the n draws lie below the truth, value by value: 0 ... n, uniform where the posterior is right.

    Arguments:
        samples: Shape `(n, *event)`.
        truth: Shape `(*event)`.
        ties: Places the truth at random among the draws that are equal to it. Without it they count as above, which is
            right only where values are never equal, and wrong for fields of few values, such as those of two phases.
    """
    below = (samples < truth).sum(0)
    if ties is None:
        return below
    equal = (samples == truth).sum(0)
    return below + ((equal + 1) * torch.rand(below.shape, generator=ties, dtype=torch.float64)).floor().long()


def coverage(rank: Tensor, n: int, level: float, generator: Generator) -> float:
    """Share of truths inside the central credible interval of a level, from their ranks among n draws.

    A rank r stands for the interval (r, r + 1) / (n + 1) of posterior probability; a uniform number places the truth
    in it, so that the expected share is exactly `level` for a right posterior whatever n is.
    """
    u = (rank + torch.rand(rank.shape, generator=generator, dtype=torch.float64)) / (n + 1)
    return float(((u - 0.5).abs() <= level / 2).to(torch.float64).mean())


def rank_uniformity(rank: Tensor, n: int, *, bins: int = 20) -> float:
    """p-value of the chi-square test that independent ranks among n draws are uniform on 0 ... n.

    Arguments:
        rank: One rank an independent case (simulation-based calibration; Talts et al. 2018, arXiv 1804.06788).
        n: Number of draws behind each rank.
        bins: Bins of the histogram; at most n + 1 are used.
    """
    bins = min(bins, n + 1)
    edges = torch.linspace(0, n + 1, bins + 1, dtype=torch.float64).round()
    counts = torch.histogram(rank.to(torch.float64) + 0.5, edges).hist
    expected = edges.diff() / (n + 1) * rank.numel()
    from scipy.stats import chisquare  # half a second of a processor

    return float(chisquare(counts.numpy(), expected.numpy()).pvalue)


def tarp_ranks(samples: Tensor, truth: Tensor, reference: Tensor) -> Tensor:
    """How many of the n draws of each case lie nearer to a reference point than the truth does: 0 ... n.

    Uniform for the right posterior whatever the reference points are, so long as they do not look at the truth (Lemos
    et al. 2023, "Sampling-based accuracy testing of posterior estimators", arXiv 2302.03026): other fields of the
    prior serve. Give the raw ranks to `uniformity`; a binned coverage curve hides errors. Distances see the spread of
    all values together, and little of one value's.

    Arguments:
        samples: Shape `(cases, n, *event)`.
        truth: Shape `(cases, *event)`.
        reference: Shape `(cases, *event)`, one independent point a case.

    Returns:
        Shape `(cases,)`.
    """
    flat, point = samples.flatten(2), reference.flatten(1)
    nearer = (flat - point[:, None]).norm(dim=2) < (truth.flatten(1) - point).norm(dim=1)[:, None]
    return nearer.sum(1)


def uniformity(rank: Tensor, n: int, generator: Generator) -> float:
    """p-value of the Kolmogorov-Smirnov test that independent ranks among n draws are uniform on 0 ... n.

    A uniform number places each truth within its rank, as in `coverage`. In (0, 1); small where the ranks are not
    uniform. It detects shifts of the ranks that the chi-square of `rank_uniformity` misses, and the reverse.

    Arguments:
        rank: One rank an independent case, of `ranks` of one value or of `tarp_ranks`.
        n: Number of draws behind each rank.
        generator: Draws the uniform numbers.
    """
    from scipy.stats import kstest  # half a second of a processor

    u = (rank + torch.rand(rank.shape, generator=generator, dtype=torch.float64)) / (n + 1)
    return float(kstest(u.flatten().numpy(), "uniform").pvalue)


def crps(samples: Tensor, truth: Tensor) -> float:
    """Continuous ranked probability score, mean over values, in the units of the field (fair estimator; Ferro 2014).

    Arguments:
        samples: Shape `(n, *event)`, n >= 2.
        truth: Shape `event`.

    Examples:
        >>> crps(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0]))
        0.0
        >>> crps(torch.tensor([[0.0], [2.0]]), torch.tensor([3.0]))
        1.0
    """
    n = len(samples)
    ordered = samples.sort(dim=0).values
    weights = (2 * torch.arange(1, n + 1, dtype=samples.dtype) - n - 1).reshape(-1, *[1] * (samples.ndim - 1))
    spread = (weights * ordered).sum(0) / (n * (n - 1))
    return float(((samples - truth).abs().mean(0) - spread).mean())


def energy_score(samples: Tensor, truth: Tensor) -> float:
    """Energy score, CRPS of the whole field: E|X - truth| - E|X - X'| / 2 (fair estimator).

    Gneiting & Raftery 2007, JASA 102, 359. |.| is the root mean square over values: the score is in the units of the
    field, >= 0 on average, and least for the right posterior. It costs n^2 / 2 distances.

    Arguments:
        samples: Shape `(n, *event)`, n >= 2.
        truth: Shape `(*event)`.
    """
    flat, n = samples.flatten(1), len(samples)
    spread = 2 * torch.nn.functional.pdist(flat).sum() / (n * (n - 1))
    return float(((flat - truth.flatten()).norm(dim=1).mean() - spread / 2) / flat.shape[1] ** 0.5)


def spread_skill(samples: Tensor, truth: Tensor) -> float:
    """Spread over skill of an ensemble: 1 where the posterior is right, below 1 where it is too sure.

    The root of (n + 1) / n times the mean variance of the n draws, over the root mean square error of their mean
    (Fortin et al. 2014, J. Hydrometeorology 15, 1708). Both means are over all values and cases: one field is a small
    sample, of which the ratio may be far from 1 by chance.

    Arguments:
        samples: Shape `(n, *event)`, or `(cases, n, *event)`.
        truth: Shape `(*event)`, or `(cases, *event)`.
    """
    axis = 0 if samples.shape[1:] == truth.shape else 1  # of the draws
    n = samples.shape[axis]
    skill = (samples.mean(axis) - truth).square().mean()
    return float(((n + 1) / n * samples.var(axis).mean() / skill).sqrt())


def variance_and_error(samples: Tensor, truth: Tensor) -> tuple[float, float]:
    """Variance of n draws, and squared error of their mean less what n adds to it; sums over values.

    Sums over cases of the two have the ratio 1 where the posterior is right, below 1 where it is too sure (SNaP,
    equation 17). It is the square of `spread_skill`, for cases of different n.

    Arguments:
        samples: Shape `(n, *event)`, n at least 2.
        truth: Shape `(*event)`.
    """
    variance = float(samples.var(0).sum())
    return variance, float((samples.mean(0) - truth).square().sum()) - variance / len(samples)


def predictive_chi_square(samples: Tensor, noise_variance: Tensor, y: Tensor) -> float:
    """Chi-square per datum of held-out data under the posterior predictive: spread of the draws plus noise.

    Arguments:
        samples: Noiseless data of the draws at the held-out places, shape `(n, *data)`.
        noise_variance: Variance of the noise of each datum, broadcastable to the data.
        y: The held-out data, shape `(*data)`.

    Returns:
        Mean of (y - mean)^2 / ((1 + 1/n) spread + noise variance); 1 where the predictive is right.
    """
    n = len(samples)
    variance = (1 + 1 / n) * samples.var(0) + noise_variance
    return float(((y - samples.mean(0)).square() / variance).mean())


def relative_l2(estimate: Tensor, truth: Tensor) -> float:
    """|estimate - truth| / |truth|."""
    return float((estimate - truth).norm() / truth.norm())


def radial_spectrum(x: Tensor, spacing: tuple[float, ...], *, bins: int | None = None) -> tuple[Tensor, Tensor]:
    """Isotropic power spectrum: variance a mode, |F x|^2 / N, averaged over channels and shells of wavenumber.

    Arguments:
        x: Fields, shape `(batch, channel, *space)`, on a uniform grid.
        spacing: Distances between neighbours.
        bins: Number of shells between k = 0 and the lowest Nyquist wavenumber, which the last one holds; by default
            half the shortest side. The mean of the field, at k = 0, is in none.

    Returns:
        Mean wavenumbers in cycles per unit of the coordinates, shape `(bins,)`, and power, shape `(batch, bins)`; both
        0 in a shell that holds no mode.
    """
    space = x.shape[2:]
    k = wavenumbers(space, spacing)
    bins = bins or max(min(space) // 2, 2)
    highest = min(float(axis.abs().max()) for axis in wave_axes(space, spacing))
    shells = Bins.between(k, torch.linspace(0, highest, bins + 1, dtype=torch.float64), closed="both")
    shells = replace(shells, index=shells.index.masked_fill(k == 0, -1))
    power = torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="ortho").abs().square().mean(1)
    return shells.mean(k, empty=0.0), shells.mean(power, empty=0.0)


def spectral_error(
    samples: Tensor, reference: Tensor, spacing: tuple[float, ...], *, bins: int | None = None
) -> SpectralError:
    """How far the mean spectrum of one set of fields is from that of another: |P / P_reference - 1| a shell.

    Arguments:
        samples: Fields, shape `(n, channel, *space)`, on a uniform grid.
        reference: Fields of the right law, or the one truth, shape `(m, channel, *space)`.
        spacing: Distances between neighbours.
        bins: Shells of wavenumber, as in `radial_spectrum`.

    Returns:
        Mean and largest error over the shells that hold modes, the one of the constant mode left out; >= 0.
    """
    k, power = radial_spectrum(samples, spacing, bins=bins)
    _, expected = radial_spectrum(reference, spacing, bins=bins)
    holds = (k > 0) & (expected.mean(0) > 0)
    errors = (power.mean(0)[holds] / expected.mean(0)[holds] - 1).abs()
    return SpectralError(float(errors.mean()), float(errors.max()))
