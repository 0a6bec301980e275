"""The linear model of the cohort's scans: recovered from subjects that it drew, and the anatomy is shared by both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infield.core.errors import InfieldError
from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.region_scans import RegionScans

LAW = AmyloidLaw(groups=(0, 0, 1, 2, -1))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def scans():
    eye = torch.eye(5, dtype=torch.float64)
    matrix = 0.8 * eye + 0.1 * eye.roll(1, 0)
    return RegionScans(matrix, torch.full((5,), 0.3).double(), 0.04 * eye + 0.01, 0.02 * eye)


def fitted(n, model, shared=True):
    """The model that is fitted to n subjects of another."""
    subjects, z = LAW.subjects(n, rng(1)), torch.randn(6, n, 5, generator=rng(2), dtype=torch.float64)
    suvr = torch.stack([subjects.suvr(t, LAW.accumulates) for t in (0.0, 3.0)])
    anatomy = z[[0, 0]] if shared else z[[0, 1]]
    noise_free = suvr @ model.matrix + model.offset + anatomy @ model.anatomy
    reference = torch.exp(0.02 * z[4:6, :, 0])
    return RegionScans.fit(suvr, noise_free, reference[..., None] * (noise_free + z[2:4] @ model.noise), reference)


def test_a_fit_recovers_the_model_and_draws_its_pairs():
    model, found = scans(), fitted(20000, scans())
    assert torch.allclose(found.matrix, model.matrix, atol=0.02) and torch.allclose(
        found.offset, model.offset, atol=0.02
    )
    assert torch.allclose(found.anatomy, model.anatomy, atol=2e-3) and torch.allclose(
        found.noise, model.noise, atol=2e-3
    )
    changes = []
    for one in (model, found, replace(found, anatomy=0 * found.anatomy)):
        x_b, x_f, truth = one.pairs(LAW, 20000, 3.0, rng(5))
        changes.append((torch.cov(torch.cat([x_b, x_f], 1).T), truth))
    assert torch.allclose(changes[1][0], changes[0][0], atol=3e-3)
    assert not torch.allclose(changes[2][0], changes[0][0], atol=1e-3)  # without anatomy
    assert torch.equal(changes[0][1], changes[1][1])


def test_anatomy_that_the_scans_do_not_share_is_noise():
    found = fitted(4000, scans(), shared=False)
    assert float(found.anatomy.diagonal().mean()) < 0.02 < float(found.noise.diagonal().mean())


def test_too_few_subjects():
    with pytest.raises(InfieldError, match="at least 200 to fit to"):
        fitted(50, scans())
