"""A stack of multi-coil slices: each slice for itself, through the operator, its pseudo-inverse, and the noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infield.core.grid import Grid
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import noise_from_json
from infield.physics.operators.registry import build_operator

DEPTH, SHAPE, COILS = 3, (7, 6), 4
GRID = Grid.regular(SHAPE)
MAPS_RNG = np.random.default_rng(0)
MAPS = MAPS_RNG.normal(size=(COILS, DEPTH, *SHAPE)) + 1j * MAPS_RNG.normal(size=(COILS, DEPTH, *SHAPE))
MASKS = MAPS_RNG.random((DEPTH, *SHAPE)) > 0.3


def volume_of(mask=MASKS):
    description = {"name": "multicoil-mri-slices", "arrays": {"coil_maps": "s", "mask": "m"}}
    return build_operator(description, {"s": MAPS, "m": mask}, Grid.regular((DEPTH, *SHAPE)), 2)


def slice_of(z, mask=MASKS):
    description = {"name": "multicoil-mri", "arrays": {"coil_maps": "s", "mask": "m"}}
    return build_operator(description, {"s": MAPS[:, z], "m": np.broadcast_to(mask, MASKS.shape)[z]}, GRID, 2)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("mask", [MASKS, MASKS[1]], ids=["a mask a slice", "one mask"])
def test_every_slice_is_measured_by_itself(mask):
    A, x, y = volume_of(mask), normal(2, 2, DEPTH, *SHAPE), normal(2, 2, COILS, DEPTH, *SHAPE, seed=1)
    found, back, inverse = A.A(x), A.A_adjoint(y), A.A_dagger(A.A(x) + 0.1 * A.A(A.A_adjoint(y)))
    for z in range(DEPTH):
        of_slice = slice_of(z, mask)
        torch.testing.assert_close(found[:, :, :, z], of_slice.A(x[:, :, z]))
        torch.testing.assert_close(back[:, :, z], of_slice.A_adjoint(y[:, :, :, z]))
        expected = of_slice.A_dagger(of_slice.A(x[:, :, z]) + 0.1 * of_slice.A(of_slice.A_adjoint(y[:, :, :, z])))
        torch.testing.assert_close(inverse[:, :, z], expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(A.observed[1, 2, 1], slice_of(1, mask).observed[0, 0])
    assert not torch.allclose(found[:, :, :, 0], slice_of(1, mask).A(x[:, :, 0]))


def test_the_pseudo_inverse_gives_the_volume_back_where_there_are_data_enough():
    A, x = volume_of(), normal(1, 2, DEPTH, *SHAPE)
    torch.testing.assert_close(A.A_dagger(A.A(x)), x, rtol=1e-6, atol=1e-6)
    dropped = volume_of(np.zeros(SHAPE, dtype=bool))
    assert not dropped.A_dagger(dropped.A(x)).any()


def test_the_noise_of_all_slices_is_that_of_each():
    root = torch.view_as_complex(normal(COILS, COILS, 2, seed=2))
    psi = root @ root.mH + torch.eye(COILS)
    volume, one = CoilGaussianNoise(psi, 3), CoilGaussianNoise(psi)
    y, z = normal(2, 2, COILS, DEPTH, *SHAPE, seed=3), normal(2, 2, COILS, DEPTH, *SHAPE, seed=4)
    for s in range(DEPTH):
        torch.testing.assert_close(volume.solve(y)[:, :, :, s], one.solve(y[:, :, :, s]))
        torch.testing.assert_close(volume.root(y)[:, :, :, s], one.root(y[:, :, :, s]))
    observed = volume_of().observed
    by_slice = [one.chi_square(y[:, :, :, s], z[:, :, :, s], slice_of(s).observed) for s in range(DEPTH)]
    torch.testing.assert_close(volume.chi_square(y, z, observed), torch.stack(by_slice).sum(0))
    again = noise_from_json(volume.to_json(), volume.arrays())
    torch.testing.assert_close(again.variance * torch.ones_like(y), volume.variance * torch.ones_like(y))
    assert again.variance.shape == (COILS, 1, 1, 1)
    assert volume.to_json() == {**one.to_json(), "k_dimensions": 3}


@pytest.mark.parametrize("operator", [volume_of(), slice_of(1)], ids=["slices", "a slice"])
def test_short_cuts_are_what_they_stand_for(operator, monkeypatch):
    """A^T of unit data, the noise between a few data, A^T R^{-1} A, and coils one by one."""
    shape = operator.data_shape
    index = operator.observed.flatten().nonzero()[::17, 0]
    unit = torch.zeros(len(index), math.prod(shape), dtype=torch.float64)
    unit[torch.arange(len(index)), index] = 1
    expected = operator.A_adjoint(unit.reshape(-1, *shape))
    torch.testing.assert_close(operator.adjoint_of_units(index), expected)
    assert not torch.allclose(operator.adjoint_of_units(index.flip(0)), expected)
    root = torch.view_as_complex(normal(COILS, COILS, 2, seed=2))
    noise = CoilGaussianNoise(root @ root.mH + torch.eye(COILS), len(shape) - 2)
    x = normal(2, 2, *shape[2:], seed=5)
    expected = operator.A_adjoint(noise.solve(operator.A(x)))
    torch.testing.assert_close(operator.normal(x, noise.precision), expected)
    assert not torch.allclose(operator.normal(x, noise.precision.conj()), expected)
    monkeypatch.setattr("infield.physics.mri.multicoil.CACHED_PIXELS", 1)  # coil by coil
    torch.testing.assert_close(operator.A_adjoint(noise.solve(operator.A(x))), expected)
    places = torch.cat([index[:5], torch.arange(0, math.prod(shape), math.prod(shape[2:]))])  # the latter of one sample
    unit = torch.eye(math.prod(shape), dtype=torch.float64)[places].reshape(-1, *shape)
    torch.testing.assert_close(noise.block(places, shape), noise.apply(unit).flatten(1)[:, places])
