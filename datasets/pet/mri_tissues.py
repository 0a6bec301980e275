"""Grey and white matter on the grid of a PET image: those of the template, or of the subject's own MRI in MNI152."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.datasets.anatomy.brain_template import load_template
from infield.datasets.anatomy.segmentation import segment, without_trend
from infield.datasets.pet.image import MNI, PETImage
from infield.datasets.pet.readers.open import open_image

REGISTRATION = (
    "register it: antsRegistrationSyN.sh -d 3 -f mni152_t1.nii.gz -m t1.nii.gz -o to_mni_, then antsApplyTransforms"
)

LIKE_TISSUES = 0.2
"""Least correlation, inside the brain of MNI152, of the logarithm of an MRI with its tissues, both less trends of the
second degree, as a field of sensitivity has them: 0.95 of a head in place, 0.29 moved 7 mm, up to 0.13 moved 20 mm."""

CONTRAST = (0.33, 0.66, 1.0)
"""Intensities of fluid, grey and white matter of a T1-weighted image, relative to the last."""

COVERED = 0.98
"""Least share of the brain in the PET image that the MRI has to hold."""


def places_of(image: PETImage) -> Tensor:
    """Places of the voxels, mm, `(z, y, x, 3)`."""
    z, y, x = np.indices(image.values.shape)
    return torch.from_numpy(np.stack([x, y, z, np.ones(x.shape)], -1) @ image.affine.T[:, :3])


def template_on(image: PETImage) -> np.ndarray:
    """Fractions of grey matter, white matter and brain of the template, `(3, z, y, x)`."""
    return np.asarray(load_template("").at(places_of(image)[None])[:3, 0].numpy())


def tissues_of_mri(path: Path, image: PETImage, brain: np.ndarray) -> np.ndarray:
    """Fractions of grey and white matter of a T1-weighted MRI, on the grid of the PET image, `(2, z, y, x)`.

    Arguments:
        path: The MRI in MNI152, on any grid.
        image: The PET image, in MNI152.
        brain: The template's brain on its grid, `(z, y, x)`.

    Raises:
        InfieldError: The MRI is not in MNI152, does not hold the brain in the PET image, or is no T1-weighted image.
    """
    mri = open_image(path, units="1").image()
    try:
        if mri.facts.get("space") != MNI:
            raise InfieldError(
                where="space",
                found="an MRI that is not marked as MNI152 (sform code 4, or _space-MNI152 in its name)",
                expected="one in MNI152, as the baseline",
                remedy=REGISTRATION,
            )
        index = np.einsum("ij,...j->i...", np.linalg.inv(mri.affine)[:3], _homogeneous(places_of(image)))[::-1]
        top = np.array(mri.values.shape).reshape(3, 1, 1, 1) - 1
        inside = ((index >= -0.5) & (index <= top + 0.5)).all(0)
        held = float(inside[brain > 0.5].mean()) if (brain > 0.5).any() else 1.0
        if held < COVERED:
            raise InfieldError(
                where="field of view",
                found=f"an MRI with {100 * held:.0f} % of the brain in the baseline",
                expected=f"at least {100 * COVERED:.0f} %: both in one space",
                remedy=REGISTRATION,
            )
        template = template_on(mri)
        points = places_of(mri).numpy()
        known = (template[2] > 0.5) & (mri.values > 0)
        if known.sum() < 1000 or mri.values[known].std() == 0:
            raise InfieldError(
                where="MRI",
                found=f"{int(known.sum())} voxels above 0 in the brain of MNI152, or one value in all of them",
                expected="a T1-weighted image in MNI152",
            )
        fluid = (1 - template[0] - template[1]).clip(0)
        expected = sum(c * v for c, v in zip(CONTRAST, (fluid, *template[:2]), strict=True))
        both = np.stack([np.log(mri.values[known]), np.asarray(expected)[known]])
        alike = float(np.corrcoef(without_trend(both, points[known]))[0, 1])
        if not abs(alike) >= LIKE_TISSUES:  # below 0 it is another contrast, which the segmentation refuses
            raise InfieldError(
                where="space",
                found=f"an MRI whose correlation with the tissues of MNI152 is {alike:.2f}",
                expected=f"at least {LIKE_TISSUES:g}: baseline and MRI in one space",
                remedy=REGISTRATION,
            )
        found = segment(mri.values, points, template)
    except InfieldError as error:
        raise error.within(path) from error
    return np.stack([scipy.ndimage.map_coordinates(v, index, order=1, mode="constant") for v in found])


def _homogeneous(places: Tensor) -> np.ndarray:
    return np.concatenate([places.numpy(), np.ones((*places.shape[:-1], 1))], -1)
