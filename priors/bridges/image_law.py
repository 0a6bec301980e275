"""Images of follow-ups on any grid: what a bridge of regional means stores beside its network to draw them.

The law of voxels (`priors.bridges.voxels`, equations 13 and 14) is fitted to slices of one spacing. Its features and
blurs are in mm, and its spectrum is a function of the wave number in 1/mm, so that other grids of the same space take
it by interpolation. Slices are independent of each other, as those of the training are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy.interpolate import RegularGridInterpolator
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.priors.bridges.voxels import Painting, VoxelFit, VoxelLaw, blur

BLUR = 8.0
"""Full width at half maximum of scanner and reconstruction, mm."""

WIDTHS = (6.0, 10.0, 16.0)
"""Of the smoothed baselines, mm."""

BRAIN = 0.2
"""Least fraction of grey and white matter, blurred, of a voxel that is judged."""

CORNER = 2.0
"""Square of the radius of the corners of the training's field of view; what is farther out is taken as they are."""

MATCHED, MATCHING = 2, 60
"""Times that the power of draws is matched, and the subjects of which."""


@dataclass(frozen=True)
class ImageConditions:
    """Of one subject.

    Arguments:
        features: f of equation (13), `(features, z, y, x)`.
        covariates: g of equation (14), `(covariates, z, y, x)`.
        painting: W and P.
    """

    features: Tensor
    covariates: Tensor
    painting: Painting


def image_conditions(
    x_b: Tensor,
    grey: Tensor,
    white: Tensor,
    weights: Tensor,
    labels: Tensor,
    spacing: float,
    radius: Tensor | None = None,
) -> ImageConditions:
    """Conditions of one subject.

    Arguments:
        x_b: Baseline, `(z, y, x)`, SUVR.
        grey, white: Fractions of tissue, of the same shape.
        weights: W, `(regions, z, y, x)`.
        labels: Region that each voxel belongs to, `(z, y, x)`.
        spacing: Of y and x, mm.
        radius: Square of the distance from the middle of a slice, `(y, x)`, 1 at the middle of its edges; by default
            of a grid that is the whole field of view.
    """
    pieces = torch.zeros((len(weights), *grey.shape), dtype=grey.dtype)
    pieces.scatter_(0, labels[None], grey[None])
    painting = Painting(weights, blur(pieces, BLUR, spacing))
    tissue, fibres = blur(grey, BLUR, spacing), blur(white, BLUR, spacing)
    smooth = [blur(x_b, width, spacing) for width in WIDTHS]
    deep = fibres / fibres.sum()
    uptake = (deep.square() * x_b).sum() / deep.square().sum()
    brain = tissue + fibres
    base = [fibres, uptake * fibres, tissue * fibres, brain * (1 - brain)]
    local = [x_b * tissue, smooth[0] * tissue, x_b * fibres, smooth[0] * fibres]
    features = torch.stack([torch.ones_like(x_b), *base, x_b, *smooth, *local])
    if radius is None:
        y, x = (torch.linspace(-1, 1, n, dtype=x_b.dtype) for n in x_b.shape[1:])
        radius = y[:, None].square() + x.square()
    radius = radius.to(x_b).expand_as(x_b)
    level = smooth[1].clamp_min(0.05).log()
    covariates = torch.stack([torch.ones_like(x_b), radius, radius.square(), brain, level, tissue])
    return ImageConditions(features, covariates, painting)


def brain_mask(grey: Tensor, white: Tensor, spacing: float) -> Tensor:
    """Voxels that are judged, of the mean tissue of some subjects, bool `(z, y, x)`."""
    return blur(grey + white, BLUR, spacing) > BRAIN


@dataclass(frozen=True)
class ImageLaw:
    """The law of voxels with the grid of the slices that it was fitted to.

    Arguments:
        law: Of voxels given regional means.
        spacing: Of y and x, mm.
        centre: y and x of the middle of a slice, mm.
    """

    law: VoxelLaw
    spacing: float
    centre: tuple[float, float]

    def radius(self, y: Tensor, x: Tensor) -> Tensor:
        """Argument `radius` of `image_conditions` at places in mm, `(y, x)`."""
        half = ((n - 1) / 2 * self.spacing for n in self.law.spectrum.shape)
        unit = ((v - c) / h for v, c, h in zip((y, x), self.centre, half, strict=True))
        rows, columns = unit
        return (rows[:, None].square() + columns.square()).clamp_max(CORNER)

    def on_grid(self, shape: tuple[int, int], spacing: float) -> VoxelLaw:
        """The law on slices `(y, x)` of another grid: the spectrum by interpolation over the wave number in 1/mm.

        Waves that the training's grid does not hold have no power; the variance of a voxel stays what it is.
        """
        own = self.law.spectrum.double()
        if tuple(own.shape) == tuple(shape) and abs(spacing - self.spacing) < 1e-6 * self.spacing:
            return self.law
        waves = [np.fft.fftshift(np.fft.fftfreq(n, self.spacing)) for n in own.shape]
        power = np.fft.fftshift(own.numpy())
        for axis in (0, 1):  # the wave at -1/2 is that at 1/2
            if len(waves[axis]) % 2 == 0:
                waves[axis] = np.append(waves[axis], -waves[axis][0])
                power = np.append(power, power.take([0], axis), axis)
        wanted = np.meshgrid(*(np.fft.fftfreq(n, spacing) for n in shape), indexing="ij")
        found = RegularGridInterpolator(tuple(waves), power, bounds_error=False, fill_value=0.0)(np.stack(wanted, -1))
        spectrum = torch.from_numpy(found).clamp_min(0)
        return VoxelLaw(self.law.coefficients, self.law.log_variance, spectrum / spectrum.mean())

    def to_entry(self) -> dict[str, Any]:
        """Plain tensors and numbers for a checkpoint."""
        parts = {name: getattr(self.law, name) for name in ("coefficients", "log_variance", "spectrum")}
        return {**parts, "spacing": self.spacing, "centre": list(self.centre)}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> ImageLaw:
        """The inverse of `to_entry`."""
        law = VoxelLaw(entry["coefficients"], entry["log_variance"], entry["spectrum"])
        return cls(law, float(entry["spacing"]), (float(entry["centre"][0]), float(entry["centre"][1])))


class FollowUpImages:
    """Draws of one subject's follow-up images.

    Arguments:
        law: On the grid of the images.
        conditions: Of the subject.
    """

    def __init__(self, law: VoxelLaw, conditions: ImageConditions) -> None:
        self.law, self.painting = law, conditions.painting
        self._anatomy = law.anatomy(conditions.features, conditions.painting)
        self._log_sd = law.log_sd(conditions.covariates)

    def mean(self, means: Tensor) -> Tensor:
        """mu of equation (13) for regional means `(regions,)`, `(z, y, x)`."""
        return self.law.mean_of(self._anatomy, self.painting, means)

    def draw(self, means: Tensor, generator: Generator) -> Tensor:
        """An image `(z, y, x)` that has the regional means `(regions,)`, equation (14)."""
        mu = self.mean(means)[None]
        return self.law.noisy(mu, self._log_sd, self.painting, means[None], generator)[0]


class ImagePairs(Protocol):
    """Pairs of images that a law is fitted to; images are `(subjects, z, y, x)`."""

    @property
    def baseline(self) -> Tensor:
        """SUVR."""

    @property
    def follow_up(self) -> Tensor:
        """SUVR."""

    @property
    def grey(self) -> Tensor:
        """Fractions of grey matter."""

    @property
    def white(self) -> Tensor:
        """Fractions of white matter."""

    @property
    def weights(self) -> Tensor:
        """Of the regional means, `(regions, z, y, x)`."""

    @property
    def labels(self) -> Tensor:
        """Region of each voxel, `(z, y, x)`."""

    @property
    def spacing(self) -> float:
        """Of y and x, mm."""

    @property
    def centre(self) -> tuple[float, float]:
        """y and x of the middle of a slice, mm."""


def fit_image_law(pairs: ImagePairs) -> ImageLaw:
    """Fit c, d and F of equations (13) and (14), in passes over the pairs.

    Raises:
        InfieldError: There is no pair.
    """
    n = len(pairs.baseline)
    if not n:
        raise InfieldError(where="law of voxels", found="no pair of images", expected="some")
    seen = brain_mask(pairs.grey.mean(0), pairs.white.mean(0), pairs.spacing)
    fit = VoxelFit(seen)

    def first(m: int) -> Iterator[tuple[ImageConditions, Tensor]]:
        for i in range(m):
            tissues = pairs.grey[i], pairs.white[i], pairs.weights, pairs.labels, pairs.spacing
            yield image_conditions(pairs.baseline[i], *tissues), pairs.follow_up[i]

    for one, x_f in first(n):
        fit.add(one.features, one.painting, x_f)
    fit.solve()
    for one, x_f in first(n):
        fit.add_residual(one.features, one.covariates, one.painting, x_f)
    law, generator = fit.law(), Generator().manual_seed(0)
    for _ in range(MATCHED):
        power = torch.zeros(2, *law.spectrum.shape)
        for one, x_f in first(min(n, MATCHING)):
            m = one.painting.means(x_f)
            x = law.sample(one.features, one.covariates, one.painting, m[None], generator)[0]
            left = torch.stack([x_f, x]) - law.mean(one.features, one.painting, m)
            power += torch.fft.fft2(left * seen).abs().square().sum(1)
        law = law.with_power(power[0], power[1])
    return ImageLaw(law, pairs.spacing, pairs.centre)
