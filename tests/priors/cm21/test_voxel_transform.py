"""Temperatures to values and back: the paper's numbers, no digit lost, and no exact zero either."""

from __future__ import annotations

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.preprocessing import PowerTransformer

from infield import InfieldError
from infield.priors.cm21.voxel_transform import (
    FAINTEST,
    KINDS,
    VoxelTransform,
    curve,
    fit_voxel_transform,
    from_entry,
    to_entry,
)
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.field_space import FieldParametrisation

PAPER = VoxelTransform("yeo-johnson", mean=-10.649065, scale=19.063789, exponent=1.3158127, atom=False)
"""As fitted by Xia & Wise to 25,600 cones."""

SQUISHED = [(1.0, 0.0), (0.1, 0.0), (0.5, 2.0)]
RANGE = torch.cat([torch.linspace(-400, 60, 4601, dtype=torch.float64), torch.tensor([-1e-9, 0.0, 1e-9]).double()])


def cone(seed=0, shape=(12, 10, 24)):
    """Smooth temperatures of both signs, with what is ionised where another smooth field is high, across the seams."""
    generator = torch.Generator().manual_seed(seed)
    k = [torch.fft.fftfreq(n, dtype=torch.float64) for n in shape]
    square = k[0][:, None, None] ** 2 + k[1][:, None] ** 2 + k[2] ** 2
    noise = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    smooth = torch.fft.ifftn(torch.fft.fftn(noise, dim=(1, 2, 3)) * torch.exp(-60 * square), dim=(1, 2, 3)).real
    smooth = smooth / smooth.std((1, 2, 3), keepdim=True)
    return torch.where(smooth[0] > 0.3, 0.0, -30 + 40 * smooth[1])[None, None]


def real_cone():
    name = "native_v3.4.0_32x32_box128_z7.51-12_Tvir4.8_zeta131.341_seed1234.h5"
    path = Path(os.environ.get("INFIELD_DATA", "")) / "cm21" / name
    if not path.is_file():
        pytest.skip(f"INFIELD_DATA does not name the folder that holds cm21/{name}")
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        return torch.from_numpy(file["lightcones/brightness_temp"][:, :, 40:296])[None, None]


@pytest.mark.parametrize(
    ("temperature", "value"),
    [(-333, -3.45), (-150, -1.74), (-100, -1.17), (-50, -0.49), (0, 0.5586), (20, 2.71), (40, 5.80), (58, 9.044)],
)
def test_the_papers_numbers(temperature, value):
    found = float(PAPER.pointwise(torch.tensor(float(temperature), dtype=torch.float64)))
    assert found == pytest.approx(value, abs=0.006)
    assert PAPER.scale**2 == pytest.approx(363.42805, rel=1e-6)  # the variance that is stored beside it


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.3158127, 2.0])
def test_the_curve_is_that_of_scipy(exponent):
    np.testing.assert_allclose(
        curve("yeo-johnson", RANGE, exponent), stats.yeojohnson(RANGE.numpy(), lmbda=exponent), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize(("amplitude", "knee"), SQUISHED)
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind, amplitude, knee):
    transform = replace(PAPER, kind=kind, amplitude=amplitude, knee=knee)
    back = transform.pointwise_inverse(transform.pointwise(RANGE))
    assert float((back - RANGE).abs().max()) < 1e-8  # mK; 1e-5 is asked for
    single = RANGE.float()
    values = transform.forward(single.reshape(1, 1, 2, 2, -1))
    again = transform.inverse(values)
    assert values.dtype == again.dtype == torch.float64
    bright = single.abs() > 1e-5
    assert torch.equal(again.float().flatten()[bright], single[bright])  # the same to the last bit of single precision
    assert float((again.flatten() - single.double()).abs().max()) < 1e-8


@pytest.mark.parametrize(("amplitude", "knee"), SQUISHED)
@pytest.mark.parametrize("kind", KINDS)
def test_monotone_and_smooth_at_zero(kind, amplitude, knee):
    transform = replace(PAPER, kind=kind, amplitude=amplitude, knee=knee)
    assert bool((transform.pointwise(RANGE[:-3]).diff() > 0).all())
    at = torch.tensor([-1e-7, 0.0, 1e-7], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(transform.pointwise(at).sum(), at)
    step = transform.pointwise(torch.tensor([-1e-4, 1e-4], dtype=torch.float64)).diff() / 2e-4
    torch.testing.assert_close(slope, step.expand(3), rtol=1e-5, atol=0)
    z = transform.pointwise(at.detach()).requires_grad_()
    (back,) = torch.autograd.grad(transform.pointwise_inverse(z).sum(), z)
    torch.testing.assert_close(back, 1 / slope, rtol=1e-9, atol=0)


def test_whatever_a_flow_draws_is_a_temperature():
    drawn = torch.linspace(-30, 30, 61, dtype=torch.float64)
    for exponent in (0.5, 1.3158127, 1.7):
        assert bool(torch.isfinite(replace(PAPER, exponent=exponent).pointwise_inverse(drawn)).all())


@pytest.mark.parametrize("atom", [True, False])
def test_fit_is_that_of_scikit_learn(atom):
    fields = cone()
    transform = fit_voxel_transform(fields, atom=atom)
    kept = fields[fields != 0] if atom else fields.flatten()
    theirs = PowerTransformer("yeo-johnson", standardize=True)
    values = theirs.fit_transform(kept.numpy()[:, None])[:, 0]
    assert transform.exponent == pytest.approx(theirs.lambdas_[0], abs=1e-4)
    np.testing.assert_allclose(transform.pointwise(kept), values, atol=1e-3)
    assert (transform.exponent > 1) == bool(stats.skew(kept) < 0)  # it mends the skew


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_standardised(kind):
    fields = cone()
    transform = fit_voxel_transform(fields, kind, amplitude=0.1)
    values = transform.forward(fields)[:, 0][fields[:, 0] != 0]
    assert abs(float(values.mean())) < 1e-12 and float(values.std(correction=0)) == pytest.approx(0.1)


def test_a_checkpoint_holds_it():
    transform = fit_voxel_transform(cone(), amplitude=0.1, knee=3.0, width=1.5)
    file = io.BytesIO()
    torch.save({"voxels": to_entry(transform)}, file)
    file.seek(0)
    assert from_entry(torch.load(file, weights_only=True)["voxels"]) == transform
    assert from_entry(json.loads(json.dumps(to_entry(transform)))) == transform


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_zeros_come_back_exactly(precision):
    fields = torch.cat([cone(seed) for seed in range(2)]).to(precision)
    neutral = (fields != 0).nonzero()
    for row, faint in zip(neutral[:5], [1e-40, -1e-40, 1e-12, -1e-7, 1e-5], strict=True):
        fields[tuple(row)] = faint  # neutral, and 0 within rounding only
    fields[tuple((fields == 0).nonzero()[0])] = -0.0  # of either sign
    transform = fit_voxel_transform(fields, amplitude=0.1)
    values = transform.forward(fields)
    assert values.shape == (2, 2, 12, 10, 24) and 0.2 < (fields == 0).double().mean() < 0.6
    for drawn in (values, values.float()):  # a network's own precision
        back = transform.inverse(drawn)
        assert torch.equal(back == 0, fields == 0)
        assert torch.equal((back == 0).double().mean((2, 3)), (fields == 0).double().mean((2, 3)))  # of each slice
        assert float((back - fields).abs().max()) < (1e-5 if drawn is values else 1e-3)
    assert torch.equal(transform.inverse(transform.forward(transform.inverse(values))) == 0, fields == 0)


def test_a_neutral_voxel_is_never_zero():
    transform = VoxelTransform("linear", mean=0.0, scale=1.0)
    values = torch.tensor([[0.0, -0.5], [0.0, 0.5]], dtype=torch.float64).reshape(2, 2, 1, 1, 1)
    assert transform.inverse(values).flatten().tolist() == [FAINTEST, 0.0]


def test_distance_is_that_to_the_nearest_voxel_of_the_other_kind():
    """By trying all pairs, on the sky a torus and along the line of sight not."""
    shape = (7, 5, 9)
    ionised = np.random.default_rng(0).random(shape) < 0.04
    ionised[2:6, :, 6:] = True
    points = np.argwhere(np.ones(shape, bool))
    apart = np.abs(points[:, None] - points[None]).astype(float)
    for axis in (0, 1):
        apart[..., axis] = np.minimum(apart[..., axis], shape[axis] - apart[..., axis])
    length, flat = np.sqrt((apart**2).sum(-1)), ionised.ravel()
    nearest = np.where(flat[:, None] != flat[None], length, np.inf).min(1) - 0.5
    transform = VoxelTransform("linear", 0.0, 1.0)
    values = transform.forward(torch.from_numpy(np.where(ionised, 0.0, 5.0))[None, None])
    np.testing.assert_allclose(values[0, 1].flatten(), np.tanh(np.where(flat, 1, -1) * nearest / 2), atol=1e-12)


def test_values_move_with_the_sky_and_need_no_more_than_a_halo():
    fields = cone(shape=(12, 10, 40))
    transform = fit_voxel_transform(fields, width=1.0)
    values = transform.forward(fields)
    moved = transform.forward(fields.roll((5, 3), (2, 3)))
    torch.testing.assert_close(moved, values.roll((5, 3), (2, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(transform.forward(fields.flip(2)), values.flip(2), rtol=0, atol=1e-12)
    halo = transform.reach
    stretch = transform.forward(fields[..., 10 - halo : 30 + halo])[..., halo:-halo]
    torch.testing.assert_close(stretch, values[..., 10:30], rtol=0, atol=1e-12)


def test_no_jump_is_left_where_the_ionised_begin():
    """Steps of the values between neighbours across the boundary, beside those between neutral neighbours."""
    fields = cone(shape=(24, 24, 24))
    transform = fit_voxel_transform(fields)
    values, ionised = transform.forward(fields)[:, 0], fields[:, 0] == 0
    across, neutral = ionised[..., 1:] != ionised[..., :-1], ~ionised[..., 1:] & ~ionised[..., :-1]

    def steps(field):
        step = field.diff(dim=-1).square()
        return float((step[across].mean() / step[neutral].mean()).sqrt())

    assert steps(values) < 1.1 and steps(transform.pointwise(fields)[:, 0]) > 3  # the control: as they are, at 0 mK


def test_all_ionised_and_all_neutral():
    transform = VoxelTransform("linear", mean=10.0, scale=5.0, amplitude=0.1)
    fields = torch.zeros(2, 1, 6, 6, 8, dtype=torch.float64)
    fields[1] += 20
    values = transform.forward(fields)
    edge = math.tanh(transform.reach / transform.width)
    torch.testing.assert_close(values[0, 1], torch.full_like(values[0, 1], edge))
    torch.testing.assert_close(values[1, 1], torch.full_like(values[1, 1], -edge))
    assert bool((values[0, 0] == 0).all())  # the middle of the values
    assert torch.equal(transform.inverse(values), fields)


def noisy(transform, fields):
    """Shares of exact zeros after noise of 1e-3 in the values: of those that there were, and of those that are new."""
    values = transform.forward(fields)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
    zero, before = transform.inverse(values + 1e-3 * noise) == 0, fields == 0
    return float(zero[before].double().mean()), float(zero[~before].double().mean())


def test_without_the_atom_noise_loses_every_zero():
    fields = cone()
    assert noisy(fit_voxel_transform(fields, atom=False), fields) == (0.0, 0.0)
    assert noisy(fit_voxel_transform(fields), fields) == (1.0, 0.0)  # half a cell is 0.24 in the second channel


def test_a_cone_of_the_real_simulator():
    fields = real_cone()
    transform = fit_voxel_transform(fields, amplitude=0.1)
    share = (fields == 0).double().mean((2, 3))
    values = transform.forward(fields)
    back = transform.inverse(values)
    assert 1.0 < transform.exponent < 1.8 and 0.2 < float(share.mean()) < 0.6
    assert torch.equal(back.float(), fields) and torch.equal((back == 0).double().mean((2, 3)), share)
    assert float((back - fields).abs().max()) < 1e-8
    assert noisy(replace(transform, atom=False), fields)[0] == 0.0
    assert noisy(transform, fields) == (1.0, 0.0)


def test_the_source_has_no_trace_of_the_mean():
    """What is told of a cube's mean where sampling starts: 13 standard errors a unit in the paper, and here nothing."""
    kept = math.sqrt(np.prod(1 - np.linspace(1e-4, 0.02, 1000)))
    assert kept * math.sqrt(64 * 64 * 1024) == pytest.approx(13.0, abs=0.05)

    seen = []

    def network(x, t):
        seen.append(x.clone())
        return torch.zeros_like(x)

    shape = (2, 4, 4, 8)
    path = FieldParametrisation(Covariance.diagonal_in(Hartley(3), torch.ones(shape)))
    generator = torch.Generator().manual_seed(0)
    x_1, white = (torch.randn(3, *shape, generator=generator) for _ in range(2))
    for t in (0.0, 0.01):
        for mean in (0.0, 100.0):
            path.field_loss(network, x_1 + mean, white, torch.full((3,), t))
    assert torch.equal(seen[0], seen[1])  # at t = 0, to the last bit
    assert float((seen[3] - seen[2]).mean()) > 0.9  # the control: at t = 0.01 there is one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "box-cox"}, "found kind 'box-cox', expected one of yeo-johnson, linear, log"),
        ({"amplitude": 0.0}, "found amplitude 0.0, expected a finite number > 0"),
        ({"knee": -1.0}, "found knee -1.0"),
        ({"width": math.nan}, "found width nan"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InfieldError, match=message):
        fit_voxel_transform(cone(), **arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (torch.tensor([1.0, math.nan, math.inf]), "found 2 of 3 voxels that are NaN or infinite"),
        (torch.full((8,), 7.0), "found 7 mK everywhere"),
        (torch.zeros(8), "found nothing but exact zeros everywhere"),
        (torch.exp(3 * torch.randn(500, generator=torch.Generator().manual_seed(0))), "lambda .* does not converge"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(InfieldError, match=message) as error:
        fit_voxel_transform(fields)
    assert "\n" not in str(error.value)


def test_nan_is_not_transformed():
    fields = cone()
    fields[0, 0, 1, 2, 3] = math.nan
    with pytest.raises(InfieldError, match="found 1 of 2880 voxels"):
        PAPER.forward(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "found version 9"),
        ({"kind": "sqrt"}, "kind 'sqrt'"),
        ({"scale": 0.0}, "scale 0.0"),
        ({"lambda": 2.5}, "found exponent 2.5, expected 0 to 2"),
    ],
)
def test_wrong_entries_are_refused(change, message):
    with pytest.raises(InfieldError, match=message):
        from_entry({**to_entry(PAPER), **change})
    with pytest.raises(InfieldError, match="found no mean in the checkpoint"):
        from_entry({name: value for name, value in to_entry(PAPER).items() if name != "mean"})
