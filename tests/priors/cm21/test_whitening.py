"""Gaussian lightcones of given spectra and their innovations: exact inverse and transpose, and the spectra."""

import math

import pytest
import torch

from infield.priors.cm21.slice_spectra import KNOTS, Filters, hats
from infield.priors.cm21.whitening import BLOCK, WhiteningTransform, vecchia_whitening

SIDE, DEPTH = 8, 150  # two whole blocks and a part of one


def amplitudes(depth=DEPTH, evolving=True):
    """More power on large scales, less along the line of sight than across, and less of all from near to far."""
    knots = torch.arange(KNOTS, dtype=torch.float64)
    a = torch.cat([2 * (-0.3 * knots).exp(), 1.2 * (-0.35 * knots).exp()])[None, :, None].repeat(2, 1, depth)
    a[1] = 1.0  # white
    return a * (1.5 - torch.linspace(0, 1, depth, dtype=torch.float64)) if evolving else a


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_whitening_is_the_inverse_and_the_transpose_is_exact():
    S = vecchia_whitening(amplitudes(), (SIDE, SIDE))
    xi, y = normal(3, 2, SIDE, SIDE, DEPTH), normal(3, 2, SIDE, SIDE, DEPTH, seed=1)
    x = S.colour(xi)
    assert torch.allclose(S.whiten(x), xi, atol=1e-9)
    assert torch.allclose((x * y).sum(), (xi * S.transpose(y)).sum(), rtol=1e-10)
    assert float((x - xi).square().mean()) > 0.1  # a control: it is no identity
    xi.requires_grad_()
    (slope,) = torch.autograd.grad((S.colour(xi) * y).sum(), xi)
    assert torch.equal(slope, S.transpose(y))
    single = S.colour(xi.detach().float())
    assert single.dtype == torch.float32 and torch.allclose(single, x.float(), atol=1e-4)


def test_it_is_causal_and_each_field_is_its_own():
    S = vecchia_whitening(amplitudes(), (SIDE, SIDE))
    xi = normal(2, 2, SIDE, SIDE, DEPTH)
    x = S.colour(xi)
    assert torch.allclose(S.colour(xi[:1]), x[:1], atol=1e-12)
    changed = xi.clone()
    changed[..., 100:] += 1
    assert torch.allclose(S.colour(changed)[..., :100], x[..., :100], atol=1e-12)
    assert not torch.allclose(S.colour(changed)[..., 100:], x[..., 100:], atol=1e-3)


def test_the_covariance_along_the_line_of_sight_is_that_of_the_spectrum():
    """All of it in one block or in two, against a sum over wavenumbers written down directly."""
    depth = 2 * BLOCK
    a = amplitudes(depth, evolving=False)
    S = vecchia_whitening(a, (SIDE, SIDE))
    unit = torch.eye(depth, dtype=torch.float64)[:, None, None, None].expand(-1, 2, SIDE, SIDE, -1)
    # of the mode k = (1, 0) of the first channel, through cos(k x): one wavenumber, a real factor
    wave = torch.cos(2 * math.pi * torch.arange(SIDE, dtype=torch.float64) / SIDE)[:, None, None]
    factor = S.colour(unit * wave)[:, 0, 0, 0] / wave[0]  # rows: innovations at one slice
    found = factor.T @ factor
    kappa = 2 * math.pi * torch.arange(-20000, 20000, dtype=torch.float64) / 40000
    P = (a[0, :, 0] @ hats(torch.full_like(kappa, 2 * math.pi / SIDE), kappa)).square()
    for lag in (0, 1, 3, 10, 30):
        expected = float((P * torch.cos(kappa * lag)).mean())
        seen = torch.diagonal(found, lag)
        assert float((seen - expected).abs().max()) < 0.01 * float(P.mean()), lag
    assert float(P.mean()) > 1.5 * float((a[0, :, 0] @ hats(torch.full_like(kappa, 2.0), kappa)).square().mean())


def test_draws_have_the_power_that_filters_are_told_to_expect():
    a = amplitudes(evolving=True)
    S = vecchia_whitening(a, (SIDE, SIDE))
    filters = Filters((SIDE, SIDE, DEPTH))
    draws = S.colour(normal(200, 2, SIDE, SIDE, DEPTH))
    found = torch.stack([filters.powers(x) for x in draws]).double().mean(0)[..., 15:-15]
    expected = torch.einsum("cjz,ijl,clz->ciz", a, filters.expected, a)[..., 15:-15]
    seen = expected > 1e-3
    ratio = (found / expected).mean(-1)[seen.all(-1)]
    assert float((ratio - 1).abs().max()) < 0.04 and len(ratio) > 10
    # A control: of amplitudes that do not evolve, near slices have too little and far ones too much.
    still = torch.einsum("cj,ijl,cl->ci", a[..., DEPTH // 2], filters.expected, a[..., DEPTH // 2])[..., None]
    drift = (found / still)[seen.all(-1)]
    assert float(drift[:, :10].mean()) > 1.5 and float(drift[:, -10:].mean()) < 0.6


@pytest.mark.parametrize("points", [(8, 8), (8, 6), (5, 7)])
def test_white_spectra_leave_white_noise_as_it_is(points):
    ones = torch.ones(1, 2 * KNOTS, 20, dtype=torch.float64)
    S = vecchia_whitening(ones, points)
    xi = normal(1, 1, *points, 20)
    assert torch.allclose(S.colour(xi), xi, atol=1e-3)  # up to what is added for the sake of stability
    units = WhiteningTransform(torch.tensor(3.0), torch.tensor(2.0), ones, points)
    assert torch.allclose(units.from_units(units.to_units(xi)), xi, atol=1e-9)
    assert torch.allclose(units.to_units(xi), 3 + 2 * S.colour(xi))


@pytest.mark.parametrize("points", [(4, 4), (3, 5), (4, 3)])
def test_the_determinant_is_that_of_the_dense_map(points):
    """Of two lightcones at once, with two fields of the first and of the second."""
    a = torch.stack([amplitudes(5), 1.3 * amplitudes(5)])
    S, shape = vecchia_whitening(a, points), (2, *points, 5)
    size = math.prod(shape)
    unit = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    for one, found in zip(S.each(), S.log_abs_det(torch.Size((4, *shape)))[::2], strict=True):
        dense = one.colour(unit).reshape(size, size)
        torch.testing.assert_close(found, torch.linalg.slogdet(dense).logabsdet, rtol=1e-9, atol=1e-9)
    units = WhiteningTransform(torch.zeros(1, 1, 1, 5), torch.full((1, 1, 1, 5), 2.0), amplitudes(5), points)
    z = normal(2, *shape)
    torch.testing.assert_close(
        units.log_abs_det(z), (S.log_abs_det(torch.Size((2, *shape)))[0] + size * math.log(2)).expand(2)
    )
    torch.testing.assert_close(units.inverse(units.forward(z)), z, rtol=1e-6, atol=1e-6)
