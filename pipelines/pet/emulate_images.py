"""Images of a predicted follow-up: draws with the regional means of the bridge, on the baseline's grid; NIfTI."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.datasets.pet.baseline import Baseline
from infield.datasets.pet.brain_regions import NAMES, nearest_region
from infield.datasets.pet.image import MNI_CODE, from_world_axes
from infield.datasets.pet.mri_tissues import places_of
from infield.posterior.diagnostics.order_statistics import order_interval
from infield.priors.bridges.image_law import FollowUpImages, image_conditions
from infield.priors.bridges.region_bridge import RegionBridge

SAME_SPACING = 0.01
"""Relative difference of the spacings of y and x up to which they are one."""

MOST_VOXELS, MOST_VALUES = 2_500_000, 500_000_000
"""Of an image, and of all draws: a head of 2 mm has 0.9 million, 59 draws of it take 0.2 GB."""

NAMES_OF_FILES = ("baseline", "mean", "change", "sd", "low", "high", "draw")


@dataclass(frozen=True, eq=False)
class PredictedImages:
    """Draws of the follow-up on the baseline's grid.

    Arguments:
        draws: SUVR, `(samples, z, y, x)`, float32.
        low, high: Ends of the interval of each voxel, by order statistics, `(z, y, x)`.
        level: Its probability.
    """

    draws: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self.draws.mean(0, dtype=np.float64))

    @property
    def sd(self) -> np.ndarray:
        return np.asarray(self.draws.std(0, ddof=1, dtype=np.float64))


def missing_for_images(bridge: RegionBridge, baseline: Baseline) -> str | None:
    """What is missing for images; None where they can be drawn."""
    if bridge.images is None:
        return "a bridge of regional means alone (`images: 304` of its training adds a law of voxels)"
    if baseline.tissues is None:
        return "a cohort without its tissues"
    return None


def draw_images(
    bridge: RegionBridge, baseline: Baseline, means: Tensor, streams: Sequence[Generator], level: float
) -> PredictedImages:
    """Draw an image for each row of regional means.

    Arguments:
        bridge: With a law of voxels.
        baseline: With tissues.
        means: Drawn regional means, `(samples, regions)`.
        streams: A generator for each draw, after its regional means.
        level: Of the intervals, at least.

    Raises:
        InfieldError: y and x have different spacings, or there are too many voxels.
    """
    law, image, weights, tissues = bridge.images, baseline.image, baseline.weights, baseline.tissues
    assert law is not None and weights is not None and tissues is not None
    shape = image.values.shape
    _, dy, dx = image.voxel
    if abs(dy - dx) > SAME_SPACING * dx:
        raise InfieldError(
            where=baseline.source,
            found=f"voxels of {dx:.4g} x {dy:.4g} mm in a slice",
            expected="square ones, for images of the follow-up",
            remedy="resample it with nilearn.image.resample_img, or predict regional means alone ({regions_only})",
            parameters=["regions_only"],
        )
    voxels = int(np.prod(shape))
    if voxels > MOST_VOXELS or voxels * len(means) > MOST_VALUES:
        raise InfieldError(
            where=baseline.source,
            found=f"{len(means)} draws of {voxels:,} voxels",
            expected=f"images of at most {MOST_VOXELS:,} voxels and {MOST_VALUES:,} in all",
            remedy="resample it to 2 mm, ask for fewer draws, or predict regional means alone ({regions_only})",
            parameters=["regions_only"],
        )
    places = places_of(image)
    labels = nearest_region(places)
    x, y = (image.affine[k, 3] + image.affine[k, k] * torch.arange(shape[2 - k], dtype=torch.float64) for k in (0, 1))
    w = torch.zeros((len(NAMES), *shape))
    w.scatter_(0, labels[None], torch.from_numpy(weights).float()[None])
    grey, white = torch.from_numpy(tissues).float()
    conditions = image_conditions(torch.from_numpy(image.values).float(), grey, white, w, labels, dx, law.radius(y, x))
    images = FollowUpImages(law.on_grid(shape[1:], dx), conditions)
    draws = np.empty((len(means), *shape), np.float32)
    for i, (m, generator) in enumerate(zip(means.float(), streams, strict=True)):
        draws[i] = images.draw(m, generator).numpy()
    low, high, exact = np.empty(shape, np.float32), np.empty(shape, np.float32), Fraction(0)
    for k in range(shape[0]):  # a slice at a time: it sorts
        ends = order_interval(torch.from_numpy(draws[:, k]), level)
        low[k], high[k], exact = ends[0].numpy(), ends[1].numpy(), ends[2]
    return PredictedImages(draws, low, high, float(exact))


def nifti_files(prefix: Path) -> list[Path]:
    """Names of what `write_nifti` writes."""
    return [prefix.with_name(f"{prefix.name}_{name}.nii.gz") for name in NAMES_OF_FILES]


def check_new_nifti(prefix: Path, overwrite: bool) -> None:
    """Refuse a prefix whose files exist, or whose folder does not.

    Raises:
        InfieldError: One of them.
    """
    if not prefix.parent.is_dir():
        raise InfieldError(where=prefix, found="no folder of that name", expected="a prefix of files in one",
                           remedy="create it")  # fmt: skip
    for path in nifti_files(prefix):
        if path.exists() and not overwrite:
            raise InfieldError(where=path, found="a file", expected="none", remedy="use {overwrite}",
                               parameters=["overwrite"])  # fmt: skip


def write_nifti(prefix: Path, baseline: Baseline, images: PredictedImages, caution: str) -> list[Path]:
    """Write baseline, mean, change, sd, ends of the interval and one draw as PREFIX_NAME.nii.gz, SUVR.

    Voxels lie in the order and with the affine of the baseline's own file, so that they overlay it; MNI152 is marked.
    """
    import nibabel

    before, affine = baseline.image.values, baseline.original
    affine = baseline.image.affine if affine is None else affine
    found: dict[str, Any] = {
        "baseline": before,
        "mean": images.mean,
        "change": images.mean - before,
        "sd": images.sd,
        "low": images.low,
        "high": images.high,
        "draw": images.draws[0],
    }
    paths = nifti_files(prefix)
    for path, name in zip(paths, NAMES_OF_FILES, strict=True):
        volume = nibabel.Nifti1Image(from_world_axes(found[name], affine).astype(np.float32), affine)
        volume.set_sform(affine, code=MNI_CODE)
        volume.set_qform(affine, code=MNI_CODE)
        volume.header.set_xyzt_units("mm")
        volume.header["descrip"] = f"SUVR {name}; {caution}".encode()[:79]
        part = path.with_name(f"{path.name.removesuffix('.nii.gz')}.part.nii.gz")
        nibabel.save(volume, part)
        os.replace(part, path)
    return paths
