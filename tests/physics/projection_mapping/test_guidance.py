"""Guides of pictures: operators by adjoints and by hand, the stacked law beside differences, and files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.measurement import open_measurement, write_measurement
from infield.datasets.projection_mapping.setup_file import open_setup, write_setup
from infield.physics.operators.registry import build_operator
from infield.physics.projection_mapping.gamut_measurement import Guides, gamut_measurement
from infield.physics.projection_mapping.guidance import block_means, edges_of, shading
from infield.physics.projection_mapping.setup import Projector, Setup
from infield.posterior.inference.likelihood import information, value_and_gradient
from infield.testing import check_operator

SHAPE = (10, 14)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def setup():
    """One projector on a wavy surface, dark on its left half."""
    y, x = np.meshgrid(np.arange(10.0), np.arange(14.0), indexing="ij")
    reflectance = np.where(x < 7, 0.2, 0.8)
    warp = np.where((y > 0) & (x > 0), np.stack([y, x]), np.nan)
    mixing = (0.4 * np.eye(3) + 0.05)[..., None, None] * reflectance
    ramp = np.tile(np.linspace(0, 1, 5), (3, 1))
    one = Projector("left", SHAPE, warp, mixing, ramp)
    depth = 2 + 0.3 * np.sin(y / 2) + 0.1 * np.cos(x / 3)
    return Setup(np.full((3, *SHAPE), 0.02), (one,), depth=depth, focal=20.0)


def guides(**weights):
    return Guides(**weights, picture=torch.rand(3, *SHAPE, generator=rng(7)).double().numpy())


def test_operators_by_adjoint_and_by_hand():
    grid = Grid.regular((5, 7))
    x = torch.rand(2, 3, 5, 7, generator=rng(), dtype=torch.float64)
    xi = np.zeros((2, 5, 7))
    xi[1] = 1.0  # edges run down: what changes across them is free
    across = {"name": "across-edges", "arrays": {"direction": "xi"}}
    A = build_operator(across, {"xi": xi}, grid, 3)
    check_operator(A, x, description=across, arrays={"xi": xi})
    g = A.A(x).reshape(2, 2, 3, 5, 7)
    torch.testing.assert_close(g[:, 0, :, :-1], torch.diff(x, dim=2))
    assert g[:, 1].abs().max() == 0 and g[:, 0, :, -1].abs().max() == 0
    edge = {"name": "edge-gradient", "arrays": {"direction": "xi"}}
    B = build_operator(edge, {"xi": xi}, grid, 3)
    check_operator(B, x, description=edge, arrays={"xi": xi})
    luma = 0.2126 * x[:, 0] + 0.7152 * x[:, 1] + 0.0722 * x[:, 2]
    torch.testing.assert_close(B.A(x)[:, 0, :, :-1], torch.diff(luma, dim=2))
    with pytest.raises(InfieldError, match="2 channels"):
        build_operator(edge, {"xi": xi}, grid, 2)
    for luma in (False, True):
        low = {"name": "low-pass", "parameters": {"blocks": [2, 3], "luma": luma}}
        check_operator(build_operator(low, {}, grid, 3), x, description=low)
    means = build_operator({"name": "low-pass", "parameters": {"blocks": [5, 1]}}, {}, grid, 3).A(x)
    torch.testing.assert_close(means[..., 0], x.mean(-1))
    np.testing.assert_allclose(block_means(7, 3).sum(1), 1)
    np.testing.assert_allclose(block_means(7, 3)[0], np.array([3, 3, 1, 0, 0, 0, 0]) / 7)
    for wrong in ({"blocks": [0, 2]}, {"blocks": 3}, {"blocks": [2, 2], "luma": 1}):
        with pytest.raises(InfieldError, match="low-pass"):
            build_operator({"name": "low-pass", "parameters": wrong}, {}, grid, 3)
    with pytest.raises(InfieldError, match="longer than 1"):
        build_operator(across, {"xi": 2 * xi}, grid, 3)


def test_edges_and_shading_of_known_surfaces():
    surface = np.zeros((8, 8))
    surface[:, 4:] = 1.0
    xi, _ = edges_of(surface, np.ones((8, 8), bool))
    assert np.abs(xi[0]).max() < 1e-9 and xi[1][:, 3].min() > 0.7 and np.abs(xi[1][:, 0]).max() < 0.2
    y, x = np.meshgrid(np.arange(6.0), np.arange(6.0), indexing="ij")
    steps = edges_of(surface, np.ones((8, 8), bool))[1]
    assert steps[:, 3].min() > 0.2 and steps[:, 0].max() < 0.05
    facing = shading(np.stack([x, y, np.full_like(x, 5.0)]))
    np.testing.assert_allclose(facing, 2 / np.sqrt(6))
    tilted = shading(np.stack([x, y, 5 - y]))  # its upper part farther away: it faces up
    np.testing.assert_allclose(tilted, 3 / np.sqrt(12))
    assert shading(np.stack([x, y, 5 + 3 * y]))[2, 2] == 0  # faces down, away from the light


def test_the_stacked_law_beside_differences(setup):
    """Value by hand, gradient and curvature by differences; control: the curvature's diagonal."""
    m = gamut_measurement(setup, 0.6, 0.05, guides=guides(edges=0.5, depth=2.0, like=1.5))
    u = torch.rand(1, 3, *SHAPE, generator=rng(1), dtype=torch.float64)
    alone = gamut_measurement(setup, 0.6, 0.05)
    _, slope = value_and_gradient(m, u)
    z, seen = m.operator.A(u), m.observed.reshape(1, 1, -1)

    def by_hand(x):
        rest = torch.where(seen, m.operator.A(x) - m.y, 0.0)[0, 0, m.noise.sizes[0] :]
        e, d, p = (part.square().sum() for part in rest.split(list(m.noise.sizes[1:])))
        return alone.log_likelihood(x) - 0.5 * (0.5 * e / 0.15**2 + 2.0 * d / 0.1**2 + 1.5 * p / 0.1**2)

    other = torch.rand(u.shape, generator=rng(5), dtype=torch.float64)
    apart = m.log_likelihood(u) - m.log_likelihood(other)
    torch.testing.assert_close(apart, by_hand(u) - by_hand(other))
    assert abs(float(apart - (alone.log_likelihood(u) - alone.log_likelihood(other)))) > 1
    v, step = torch.randn(u.shape, generator=rng(2), dtype=torch.float64), 1e-5
    up, down = (value_and_gradient(m, u + s * step * v) for s in (1, -1))
    change = float(up[0] - down[0]) / (2 * step)
    assert abs(change - float((slope * v).sum())) < 1e-4 * abs(change)
    dz = m.operator.A_jvp(u, v)
    expected = -(m.noise.gradient(m.y, z + step * dz) - m.noise.gradient(m.y, z - step * dz)) / (2 * step)
    expected = torch.where(seen, expected, 0.0)
    found = information(m, z, dz)
    assert (found - expected).norm() < 0.02 * expected.norm()
    two = torch.cat([z, m.operator.A(0.5 * u)])
    both = information(m, two, torch.cat([dz, dz]))
    torch.testing.assert_close(both[:1], found)
    torch.testing.assert_close(both[1:], information(m, two[1:], dz))
    diagonal = information(m, z, torch.ones_like(dz)) * dz
    assert (diagonal - expected).norm() > 0.1 * expected.norm()


def test_files_hold_it(setup, tmp_path):
    m = gamut_measurement(setup, 0.6, 0.05, guides=guides(edges=1.0, depth=1.0, like=1.0))
    write_measurement(tmp_path / "m.zarr", m)
    again = open_measurement(tmp_path / "m.zarr")
    u = torch.rand(2, 3, *SHAPE, generator=rng(1), dtype=torch.float64)
    torch.testing.assert_close(again.log_likelihood(u), m.log_likelihood(u), rtol=1e-6, atol=0)
    write_setup(tmp_path / "s.zarr", setup)
    back = open_setup(tmp_path / "s.zarr")
    np.testing.assert_allclose(back.depth, setup.depth, rtol=1e-6)
    assert back.focal == 20.0


def test_what_is_refused(setup):
    flat = replace(setup, depth=np.full(SHAPE, 2.0))
    for one, weights, words in (
        (replace(setup, depth=None), {"depth": 1.0}, "no depth"),
        (flat, {"depth": 1.0}, "a plane"),
        (setup, {"like": 1.0}, "shape"),
    ):
        with pytest.raises(InfieldError, match=words):
            gamut_measurement(one, 0.6, 0.05, guides=Guides(**weights))
    with pytest.raises(InfieldError, match="weight of -1"):
        Guides(edges=-1.0)
