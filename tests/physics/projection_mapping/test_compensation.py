"""Compensation judged by the renderer, another program than the operator, and beside peers and optimality."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from examples.projection import picture, psnr, scene, shown
from scipy import ndimage

from infield.physics.projection_mapping.compensate import compensate, drives_to_rasters, pixelwise_light, quantise
from infield.physics.projection_mapping.joint import majorant, solve_jointly
from infield.physics.projection_mapping.pixelwise import (
    cost_of,
    least_squares_clipped,
    linear_clipped,
    solve_pixels,
)
from infield.physics.projection_mapping.response import drive_of_light
from infield.physics.projection_mapping.scale import scale_target


@pytest.fixture(scope="module")
def plane():
    rendered = scene(albedo=0.7)
    return rendered, rendered.truth()


def inner(setup):
    return ndimage.binary_erosion(setup.covered, iterations=3)


def test_the_operator_agrees_with_the_renderer(plane):
    rendered, setup = plane
    rng = np.random.default_rng(0)
    drives = [ndimage.gaussian_filter(rng.random((3, *pose.raster)), (0, 3, 3)) for pose in rendered.poses]
    light = np.stack([d**g for d, g in zip(drives, rendered.gammas, strict=True)], 1)
    predicted = setup.background + setup.operator.A(torch.from_numpy(light).float()[None])[0].double().numpy()
    expected, inside = rendered.light(list(drives)), ndimage.binary_erosion(setup.seen.all(0), iterations=3)
    error = lambda a: np.sqrt(((a - expected)[:, inside] ** 2).mean() / (expected[:, inside] ** 2).mean())  # noqa: E731
    assert error(predicted) < 0.01 < error(1.03 * predicted)


@pytest.mark.slow
def test_the_joint_solution_beats_its_peers_within_the_gamut(plane):
    rendered, setup = plane
    target, inside = picture(setup.shape), inner(setup)
    found = compensate(setup, target)
    assert found.outside(setup.covered) < 0.05
    joint = psnr(shown(rendered, found.codes), target, inside)
    columns, b = setup.columns(), (target - setup.background)[:, setup.covered].T
    weights = np.repeat(setup.feather(), 3, 1)
    for s in (linear_clipped(columns, b, weights), least_squares_clipped(columns, b)):
        codes, _ = quantise(setup, drives_to_rasters(setup, s).numpy())
        assert joint > psnr(shown(rendered, codes), target, inside) + 3
    assert joint > psnr(shown(rendered, [0 * c + 90 for c in found.codes]), target, inside) + 10
    assert psnr(found.appearance, target, inside) > joint - 0.5  # the prediction is not pessimistic


def test_indirect_light_is_compensated_where_geometry_is_known():
    from dataclasses import replace

    rendered = scene("corner", albedo=0.6)
    setup = rendered.truth()
    assert 0.04 < rendered.indirect_share() < 0.12
    target, inside = picture(setup.shape, 0.08), inner(setup)
    with_geometry = compensate(setup, target, iterations=30)
    without = compensate(replace(setup, form_factors=None, reflectance=None), target, iterations=30)
    scores = [psnr(shown(rendered, c.codes), target, inside) for c in (with_geometry, without)]
    assert scores[0] > scores[1] + 3


@pytest.mark.parametrize("error", ["linear", "coded", "lab"])
def test_no_pixel_is_worse_than_its_peers(plane, error):
    _, setup = plane
    target = picture(setup.shape, 0.0, 0.7)  # much of it outside
    columns, weights = setup.columns()[::7], np.repeat(setup.feather(), 3, 1)[::7]
    ground, wanted = setup.background[:, setup.covered].T[::7], target[:, setup.covered].T[::7]
    cost = cost_of(columns, ground, wanted, error)
    s = solve_pixels(columns, ground, wanted, weights, error)
    assert s.min() >= 0 and s.max() <= 1
    slack = {"linear": 1e-7, "coded": 1e-5, "lab": 1e-2}[error]
    assert (cost(s) <= cost(linear_clipped(columns, wanted - ground, weights)) * 1.001 + slack).all()
    if error == "linear":
        assert (cost(s) <= cost(least_squares_clipped(columns, wanted - ground)) * 1.001 + slack).all()
    assert cost(s).mean() < 0.99 * cost(linear_clipped(columns, wanted - ground, weights)).mean()


def test_the_joint_solve_ends_where_no_step_helps(plane):
    """At a minimum under bounds the gradient is 0, or points out of the box; and the diagonal majorises."""
    _, setup = plane
    operator, target = setup.make_operator(np.float64), torch.from_numpy(picture(setup.shape))
    covered, background = torch.from_numpy(setup.covered), torch.from_numpy(setup.background)
    start = pixelwise_light(setup, target.numpy(), "linear").double()
    values: list[float] = []
    s = solve_jointly(
        operator, background, target, covered, start, error="linear", iterations=150,
        callback=lambda k, v: values.append(v),
    )  # fmt: skip
    gradient = operator.A_adjoint((operator.A(s[None]) + background - target) * covered)[0]
    first = operator.A_adjoint((operator.A(start[None]) + background - target) * covered)[0]
    project = lambda g, x: torch.where(((x <= 0) & (g > 0)) | ((x >= 1) & (g < 0)), 0.0, g).norm()  # noqa: E731
    assert project(gradient, s) < 0.02 * project(first, start)
    assert values[-1] < 0.3 * values[0]
    mask, eye = covered.double()[None, None], torch.eye(3, dtype=torch.float64)
    D = majorant(operator, target[None], target[None], mask, eye, "linear")
    D = torch.where(torch.isfinite(D), D, 0.0)
    x = torch.randn(D.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for probe in (x, x.abs(), torch.ones_like(x)):
        probe = torch.where(D > 0, probe, 0.0)
        assert (operator.A(probe) ** 2 * mask).sum() <= (D * probe**2).sum() * (1 + 1e-9)


def test_a_seam_fades(plane):
    """One projector drifts by 5 %: no step between neighbours of a uniform target beyond 0.5 % of it."""
    _, setup = plane
    target = np.full((3, *setup.shape), 0.1)
    light = pixelwise_light(setup, target, "linear").double()
    light[:, 1] *= 1.05
    change = setup.operator.A(light.float()[None])[0].double().numpy()
    light[:, 1] /= 1.05
    change = (change - setup.operator.A(light.float()[None])[0].double().numpy()) / 0.1
    inside = inner(setup)
    steps = np.abs(np.diff(change, axis=2))[:, inside[:, 1:] & inside[:, :-1]]
    assert np.quantile(steps, 0.999) < 0.011  # 36 pixels of height: the ridge fades over few of them
    assert change[:, inside].max() - change[:, inside].min() > 0.025  # without fading, this would be the step


def test_scales(plane):
    _, setup = plane
    columns, target = setup.columns(), picture(setup.shape, 0.25, 0.9)
    assert scale_target(setup, columns, target, "none").target is target
    whole, smooth = (scale_target(setup, columns, target, kind) for kind in ("global", "smooth"))
    assert np.ptp(whole.gain) == 0 and 0 <= whole.gain[0, 0] < 1
    assert np.abs(np.diff(smooth.gain, axis=0)).max() < 0.1 and smooth.gain.std() > 0.01
    outside = [compensate(setup, target, scale=k, iterations=0).outside(setup.covered) for k in ("none", "smooth")]
    assert outside[1] < 0.5 * outside[0]


def test_rounding_and_dither(plane):
    _, setup = plane
    light = np.full((3, *setup.grid.shape), 0.2)
    for dither, tolerance in ((False, 0.004), (True, 2e-4)):
        codes, emitted = quantise(setup, light, 8, dither)
        assert codes[0].dtype == np.uint8 and codes[0].shape == (*setup.projectors[0].raster, 3)
        drive = drive_of_light(setup.responses, light)[:, 0].mean()
        assert abs(codes[0].mean() / 255 - drive) < tolerance
    assert np.abs(quantise(setup, light, 16)[1] - light).max() < 1e-4 < np.abs(emitted - light).max()


@pytest.mark.parametrize("p", [0, 1])
def test_the_true_warp_ends_at_the_centres_of_the_outermost_pixels(p):
    rendered = scene(albedo=0.7)
    warp, raster = rendered.truth().projectors[p].warp, rendered.poses[p].raster
    seen = np.isfinite(warp).all(0)
    for at, n in zip(warp, raster, strict=True):
        assert at[seen].min() >= 0 and at[seen].max() <= n - 1
    fine = rendered.fine_warp[p]
    between = [(at > n - 1) & (at < n - 0.5) | (at < 0) & (at > -0.5) for at, n in zip(fine, raster, strict=True)]
    assert (between[0] | between[1]).any()  # light falls there, too
