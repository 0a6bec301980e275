"""Parallel-beam projections: exact adjoints, a disc against its analytic projection, and what a file may say."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from infield.core._deepinv import LinearPhysics
from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.operators.registry import build_operator
from infield.physics.pet.joseph import joseph_matrix

FIELD_OF_VIEW = 256.0


def image(n, depth=None, units="mm"):
    axes = [Axis(name, tuple((np.arange(n) - (n - 1) / 2) * FIELD_OF_VIEW / n), units) for name in "yx"]
    return Grid((*([Axis("z", tuple(4.0 * np.arange(depth)), units)] if depth else []), *axes))


def project(grid, arrays=None, **parameters):
    arrays = arrays or {}
    named = {"angles": 20, "bins": 24, "bin_width": FIELD_OF_VIEW / 16} | parameters
    named = {name: value for name, value in named.items() if value is not None and name not in arrays}
    description = {"name": "projection", "parameters": named, "arrays": {name: name for name in arrays}}
    return build_operator(description, arrays, grid, 1)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative_error_of_a_disc(n, angles, shift=0.0):
    """Of the projections of a disc, sampled on n x n pixels, against the lengths of its chords."""
    radius, y_0, x_0, fine = 100.0, 8.0, -13.0, 8
    coordinates = (np.arange(fine * n) - (fine * n - 1) / 2) * FIELD_OF_VIEW / (fine * n)
    inside = (coordinates[:, None] - y_0) ** 2 + (coordinates - x_0) ** 2 < radius**2
    disc = torch.from_numpy(inside.reshape(n, fine, n, fine).mean((1, 3)))[None, None]
    A = project(image(n), angles=angles, bins=n, bin_width=FIELD_OF_VIEW / n)
    theta, s = np.pi / angles * np.arange(angles)[:, None], A.data_grid.axes[1].coordinates
    distance = np.asarray(s) - x_0 * np.cos(theta) - y_0 * np.sin(theta) - shift
    chords = 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    return np.linalg.norm(A.A(disc)[0, 0].numpy() - chords) / np.linalg.norm(chords)


def test_a_disc_is_projected_onto_its_chords():
    assert relative_error_of_a_disc(64, 60) < 0.012
    assert relative_error_of_a_disc(128, 30) < 0.006
    assert relative_error_of_a_disc(128, 30, shift=1.0) > 0.012  # half a bin aside: the negative control


@pytest.mark.parametrize("depth", [None, 3])
@pytest.mark.parametrize("more", [{}, {"psf_fwhm": 20.0, "seconds": 7.0, "centre": [3.0, -5.0]}])
def test_the_adjoint_is_exact(depth, more):
    A = project(image(16, depth), **more)
    x, y = normal(2, 1, *A.grid.shape), normal(2, *A.data_shape, seed=1)
    forward, backward = (A.A(x) * y).sum(), (x * A.A_adjoint(y)).sum()
    assert abs(forward / backward - 1) < 1e-12
    z = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(A.A(z), z, y)
    torch.testing.assert_close(gradient, A.A_adjoint(y), rtol=1e-12, atol=1e-12)
    for again in (copy.deepcopy(A), pickle.loads(pickle.dumps(A))):
        assert torch.equal(again.A(x), A.A(x))
    torch.testing.assert_close(
        copy.deepcopy(A).to(dtype=torch.float32).A(x.float()).double(), A.A(x), rtol=1e-4, atol=1e-2
    )


def test_a_volume_is_projected_slice_by_slice():
    A, one, x = project(image(16, 3), seconds=2.0), project(image(16), seconds=2.0), normal(2, 1, 3, 16, 16)
    for z in range(3):
        torch.testing.assert_close(A.A(x)[:, :, z], one.A(x[:, :, z]))
    assert A.data_grid.names == ("z", "angle", "radial")


def test_rays_keep_to_millimetres_and_to_their_bins():
    c = np.arange(5.0) - 2
    rows = joseph_matrix(3 * c, 2 * c, np.array([0.0, np.pi / 2]), np.array([-3.0, 1.5])).toarray().reshape(2, 2, 5, 5)
    np.testing.assert_allclose(rows[0, 0], 2 * np.outer(np.ones(5), [0, 1, 0, 0, 0]), atol=1e-12)  # x = -3, along y
    np.testing.assert_allclose(rows[0, 1], 2 * np.outer(np.ones(5), [0, 0, 0.5, 0.5, 0]), atol=1e-12)
    np.testing.assert_allclose(rows[1, 1], 3 * np.outer([0, 0, 0.25, 0.75, 0], np.ones(5)), atol=1e-12)  # y = 1.5
    uneven = project(image(16), {"positions": np.array([-70.0, -10.0, 35.0])}, bins=None, bin_width=None)
    even = project(image(16), bins=29, bin_width=5.0)  # at every 5 mm from -70 to 70
    x = normal(1, 1, 16, 16)
    torch.testing.assert_close(uneven.A(x), even.A(x)[..., [0, 12, 21]])
    centimetres = project(Grid(tuple(Axis(a.name, tuple(np.array(a.coordinates) / 10), "cm") for a in image(16).axes)))
    torch.testing.assert_close(centimetres.A(x), project(image(16)).A(x))


def test_what_stands_between_a_ray_and_its_counts():
    mu = np.full((16, 16), 0.0096)

    def sinogram(value):
        return np.full((20, 24), value)

    x, bare = normal(1, 1, 16, 16), project(image(16))
    lengths = bare.A(torch.from_numpy(mu)[None, None])
    arrays = {"attenuation_map": mu, "normalisation": sinogram(0.5), "randoms": sinogram(3.0)}
    A = project(image(16), arrays, seconds=10.0, scatter=2.0)
    assert not isinstance(A, LinearPhysics)
    torch.testing.assert_close(A.A(x), 5 * torch.exp(-lengths) * bare.A(x) + 5)
    known = project(image(16), {"attenuation": torch.exp(-lengths)[0, 0].numpy()}, seconds=5.0)
    torch.testing.assert_close(known.A(x), 5 * torch.exp(-lengths) * bare.A(x))
    dead = sinogram(1.0)
    dead[:, 3] = 0
    assert project(image(16), {"normalisation": dead}).observed.sum() == 20 * 23


@pytest.mark.parametrize(
    ("arrays", "parameters", "said"),
    [
        ({}, {"angles": None}, "neither of parameter 'angles' and array 'angles'"),
        ({}, {"bin_width": 0}, "bin_width 0, expected a finite number above zero"),
        ({}, {"angles": 2.5}, "angles 2.5, expected a whole number"),
        ({}, {"psf_fwhm": -1}, "psf_fwhm -1"),
        ({}, {"fwhm": 4}, "found parameter fwhm"),
        ({"attenuation": np.full((20, 24), 1.2)}, {}, "attenuation factors up to 1.2"),
        ({"attenuation_map": np.full((16, 16), 0.096)}, {}, "expected 1/mm"),
        ({"normalisation": np.full((24, 20), 1.0)}, {}, "normalisation of shape (24, 20), expected (20, 24)"),
        ({"randoms": np.full((20, 24), -1.0)}, {}, "480 values of randoms below 0"),
        ({"positions": np.array([1.0, 0.0])}, {"bins": None, "bin_width": None}, "positions that do not increase"),
    ],
)
def test_what_a_file_may_not_say(arrays, parameters, said):
    with pytest.raises(InfieldError) as refusal:
        project(image(16), arrays, **parameters)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_field_without_lengths_is_refused():
    with pytest.raises(InfieldError, match="units '1', expected a length"):
        project(image(16, units="1"))
