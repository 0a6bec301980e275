"""Tissues of a T1-weighted MRI: a head made from the template, moved, warmed on one side, and wrong ones."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.datasets.anatomy.brain_template import load_template
from infield.datasets.pet.image import PETImage
from infield.datasets.pet.mri_tissues import template_on, tissues_of_mri

pytest.importorskip("nilearn", reason="the template is that of nilearn (extra `pet`)")
SPACING = 4.0
MOVED = np.array([0.0, 6.0, 3.0])
"""mm by which this head lies from the template's."""


def grid(shape=(36, 46, 40), spacing=SPACING, start=(-78.0, -110.0, -62.0)):
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = start
    index = np.stack(np.indices(shape), -1)
    return affine, index @ affine[:3, :3].T + affine[:3, 3]


def head(places, moved=MOVED, contrast=(0.3, 0.65, 1.0)):
    """Intensities and tissues: a field of sensitivity of 50 % and noise of 3 %."""
    grey, white, brain = load_template("").at(torch.from_numpy(places + moved)[None])[:3, 0].numpy()
    fluid = (brain - grey - white).clip(0)
    signal = contrast[0] * fluid + contrast[1] * grey + contrast[2] * white
    signal = signal * np.exp(0.4 * places[..., 0] / 70)
    noise = np.random.default_rng(0).normal(0, 0.03, signal.shape)
    return 800 * (signal + noise).clip(0.001), grey, white, brain


def save(path, values, affine, code=4):
    file = nibabel.Nifti1Image(values.astype(np.float32), affine)
    file.set_sform(affine, code=code)
    nibabel.save(file, path)
    return path


def pet():
    affine, _ = grid((18, 23, 20), 8.0, (-76.0, -108.0, -60.0))
    return PETImage(np.ones((20, 23, 18)), affine, "1", {"space": "MNI152"})


def overlap(a, b):
    return 2 * np.minimum(a, b).sum() / (a.sum() + b.sum())


def test_tissues_are_those_of_the_head_and_not_of_the_template(tmp_path):
    affine, places = grid()
    values = head(places)[0]
    flipped = affine.copy()
    flipped[0] = -affine[0, 0], 0, 0, affine[0, 3] + affine[0, 0] * (len(values) - 1)
    image, template = pet(), template_on(pet())
    true = load_template("").at(torch.from_numpy(grid((18, 23, 20), 8.0, (-76.0, -108.0, -60.0))[1] + MOVED)[None])
    true = true[:2, 0].numpy().transpose(0, 3, 2, 1)
    plain = tissues_of_mri(save(tmp_path / "a.nii.gz", values, affine), image, template[2])
    again = tissues_of_mri(save(tmp_path / "b.nii.gz", values[::-1], flipped), image, template[2])
    np.testing.assert_allclose(plain, again, atol=1e-6)  # the affine decides where left is
    for k in (0, 1):
        assert overlap(plain[k], true[k]) > overlap(template[k], true[k]) + 0.05
        assert overlap(plain[k], true[k]) > 0.75


def test_wrong_mri(tmp_path):
    affine, places = grid()
    values, image, brain = head(places)[0], pet(), template_on(pet())[2]

    def refused(words, values=values, affine=affine, code=4):
        with pytest.raises(InfieldError, match=words):
            tissues_of_mri(save(tmp_path / "w.nii.gz", values, affine, code), image, brain)

    refused(r"not marked as MNI152.*antsRegistration", code=1)
    refused(r"tissues of MNI152.*one space.*antsRegistration", head(places, np.array([0, 20.0, 10]))[0])
    refused(r"mean intensities.*T1-weighted", head(places, 0 * MOVED, contrast=(1.0, 0.65, 0.3))[0])
    refused("% of the brain in the baseline", values[:20])
    refused("one value", np.full_like(values, 5.0))
