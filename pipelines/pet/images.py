"""What images of follow-ups are conditioned on: a baseline, its grey and white matter, and regions.

`priors.bridges.voxels` has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infield.priors.bridges.voxels import Painting, blur

BLUR = 8.0
"""Full width at half maximum of scanner and reconstruction, mm."""

WIDTHS = (6.0, 10.0, 16.0)
"""Of the smoothed baselines, mm."""

BRAIN = 0.2
"""Least fraction of grey and white matter, blurred, of a voxel that is judged."""


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
    x_b: Tensor, grey: Tensor, white: Tensor, weights: Tensor, labels: Tensor, spacing: float
) -> ImageConditions:
    """Conditions of one subject.

    Arguments:
        x_b: Baseline, `(z, y, x)`, SUVR.
        grey, white: Fractions of tissue, of the same shape.
        weights: W, `(regions, z, y, x)`.
        labels: Region that each voxel belongs to, `(z, y, x)`.
        spacing: Of y and x, mm.
    """
    regions = torch.nn.functional.one_hot(labels, len(weights)).movedim(-1, 0).to(grey)
    painting = Painting(weights, blur(regions * grey, BLUR, spacing))
    tissue, fibres = blur(grey, BLUR, spacing), blur(white, BLUR, spacing)
    smooth = [blur(x_b, width, spacing) for width in WIDTHS]
    deep = fibres / fibres.sum()
    uptake = (deep.square() * x_b).sum() / deep.square().sum()
    brain = tissue + fibres
    base = [fibres, uptake * fibres, tissue * fibres, brain * (1 - brain)]
    local = [x_b * tissue, smooth[0] * tissue, x_b * fibres, smooth[0] * fibres]
    features = torch.stack([torch.ones_like(x_b), *base, x_b, *smooth, *local])
    y, x = (torch.linspace(-1, 1, n, dtype=x_b.dtype) for n in x_b.shape[1:])
    radius = (y[:, None].square() + x.square()).expand_as(x_b)
    level = smooth[1].clamp_min(0.05).log()
    covariates = torch.stack([torch.ones_like(x_b), radius, radius.square(), brain, level, tissue])
    return ImageConditions(features, covariates, painting)


def brain_mask(grey: Tensor, white: Tensor, spacing: float) -> Tensor:
    """Voxels that are judged, of the mean tissue of some subjects, bool `(z, y, x)`."""
    return blur(grey + white, BLUR, spacing) > BRAIN
