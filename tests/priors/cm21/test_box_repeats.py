"""Boxes that come again along a lightcone: their covariance, innovations, and the rates that cones tell."""

from __future__ import annotations

import math

import pytest
import torch

from infield.priors.cm21.box_repeats import BANDS, BoxRepeatNetwork, BoxRepeats, bands, correlations, fit_box_repeats
from infield.priors.cm21.slice_spectra import KNOTS, hats
from infield.priors.cm21.whitening import BLOCK, vecchia_whitening

SIDE, PERIOD, DEPTH = 8, 8, 160


def amplitudes(depth: int = DEPTH) -> torch.Tensor:
    """Red, and fainter from near to far."""
    a = (-0.3 * torch.arange(KNOTS, dtype=torch.float64)).exp().repeat(2)[None, :, None]
    return 2 * a * (1.5 - torch.linspace(0, 1, depth, dtype=torch.float64))


def rates(depth: int = DEPTH) -> torch.Tensor:
    """Small structures change faster, all of them faster at the far end."""
    of_bands = torch.linspace(0.3, 1.0, BANDS, dtype=torch.float64)[None, :, None] / PERIOD
    return of_bands * torch.linspace(0.5, 1.5, depth, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_covariance_is_the_sum_over_waves_of_the_box():
    """Within two blocks, where nothing is left out; by cosine waves of one wavenumber across, one after the other."""
    depth = 2 * BLOCK
    a, c = amplitudes(depth), rates(depth)
    S = vecchia_whitening(a, (SIDE, SIDE), BoxRepeats(c, PERIOD))
    wave = torch.cos(2 * math.pi * torch.arange(SIDE, dtype=torch.float64) / SIDE)[:, None, None]
    unit = torch.eye(depth, dtype=torch.float64)[:, None, None, None].expand(-1, 1, SIDE, SIDE, -1)
    factor = S.colour(unit * wave)[:, 0, 0, 0]
    found = factor.T @ factor
    kappa = 2 * math.pi * torch.fft.fftfreq(PERIOD, dtype=torch.float64)
    across = torch.full_like(kappa, 2 * math.pi / SIDE)
    root = torch.einsum("jz,jk->kz", a[0], hats(across, kappa.abs()))
    tau = c[0].cumsum(-1)
    R = (-(tau[:, :, None] - tau[:, None]).abs().pow(1.5)).exp()
    lag = torch.arange(depth, dtype=torch.float64)
    lag = lag[:, None] - lag
    expected = torch.zeros(depth, depth, dtype=torch.float64)
    for k in range(PERIOD):
        same = torch.einsum("b,bzy->zy", bands(torch.hypot(across, kappa))[:, k], R)
        expected += root[k][:, None] * root[k] * same * torch.cos(kappa[k] * lag) / PERIOD
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.diagonal().max())
    # Controls: a box later much is the same, and without repeats nothing is.
    box = float((found.diagonal(PERIOD) / expected.diagonal()[:-PERIOD]).mean())
    free = vecchia_whitening(a, (SIDE, SIDE)).colour(unit * wave)[:, 0, 0, 0]
    free = float(((free.T @ free).diagonal(PERIOD) / expected.diagonal()[:-PERIOD]).mean())
    assert box > 0.4 and abs(free) < 0.1


def test_innovations_of_several_cones_at_once_are_those_of_each():
    a = torch.stack([amplitudes(), 2 * amplitudes().flip(-1)])
    c = torch.stack([rates(), 0.5 * rates()])
    both = vecchia_whitening(a, (SIDE, SIDE), BoxRepeats(c, PERIOD))
    each = [vecchia_whitening(a[i], (SIDE, SIDE), BoxRepeats(c[i], PERIOD)) for i in (0, 1)]
    xi, y = normal(4, 1, SIDE, SIDE, DEPTH), normal(4, 1, SIDE, SIDE, DEPTH, seed=1)
    x = both.colour(xi)
    assert torch.allclose(x, torch.cat([each[0].colour(xi[:2]), each[1].colour(xi[2:])]), atol=1e-10)
    assert not torch.allclose(x[2:], each[0].colour(xi[2:]), atol=0.1)  # a control
    assert torch.allclose(both.whiten(x), xi, atol=1e-6)
    assert torch.allclose((x * y).sum(), (xi * both.transpose(y)).sum(), rtol=1e-10)
    assert both.before.tolist() == [*range(BLOCK), *range(BLOCK, 2 * BLOCK), *range(BLOCK, BLOCK + DEPTH - 2 * BLOCK)]


@pytest.mark.slow
def test_rates_are_found_again():
    cones = 48
    theta = torch.rand(cones, 1, generator=torch.Generator().manual_seed(2))
    s = torch.linspace(0, 1, DEPTH)
    told = [BoxRepeats(rates() * (0.5 + at), PERIOD) for at in theta]
    fields = [
        vecchia_whitening(amplitudes(), (SIDE, SIDE), one).colour(normal(1, 1, SIDE, SIDE, DEPTH, seed=i))[0]
        for i, one in enumerate(told)
    ]
    model = fit_box_repeats(fields, theta, s, PERIOD, seed=0, steps=600)
    at = torch.tensor([[0.2], [0.8]])
    middle = slice(20, DEPTH - 20)
    seen = range(2, BANDS - 1)  # in a box of 8 cells the widest bands hold hardly a wave
    found = model(at, s.expand(2, -1))[:, 0, seen, middle]
    expected = rates()[0, seen, middle] * (0.5 + at[:, None])
    assert float((found / expected).log().abs().mean()) < 0.15
    before = BoxRepeatNetwork(1, 1, PERIOD).requires_grad_(False)(at, s.expand(2, -1))[:, 0, seen, middle]
    assert float((before / expected).log().abs().mean()) > 0.4  # a control
    assert float((found[1] / found[0]).log().mean()) > 0.3


def test_cones_that_do_not_repeat_have_no_correlations():
    S = vecchia_whitening(amplitudes(), (SIDE, SIDE))
    r, tells = correlations(S.colour(normal(1, 1, SIDE, SIDE, DEPTH))[0], PERIOD)
    assert r.shape == tells.shape == (1, BANDS, DEPTH - PERIOD)
    assert float(r[:, 2:].mean().abs()) < 0.05 and tells[:, 2:].all()
    again = normal(1, SIDE, SIDE, PERIOD).repeat(1, 1, 1, 20)
    r, tells = correlations(again, PERIOD)
    assert tells[:, 2:].all() and torch.allclose(r[tells], torch.ones(()), atol=1e-3)
    r, tells = correlations(torch.zeros(1, SIDE, SIDE, DEPTH), PERIOD)
    assert not r.any() and not tells.any()
