"""Mending: widths by scale and place are recovered, right draws stay as they are, conformal intervals hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from infield.core.grid import Grid, PointSet
from infield.posterior.calibration.recalibration import Pyramid, Recalibration, conformal_factors
from infield.posterior.diagnostics.calibration import coverage, energy_score, ranks, variance_and_error

GRID = Grid.regular((64,), periodic=True)
N, CASES = 16, 60


def cases(faulty, seed=0):
    """Truths and draws of white noise on a smooth field; `faulty` acts on the deviations of the draws."""
    generator = Generator().manual_seed(seed)

    def field(n):
        white = torch.randn((n, 1, 64), generator=generator, dtype=torch.float64)
        smooth = 4 * Pyramid((), ("wrap",)).blurred(torch.randn((n, 1, 64), generator=generator).double(), 6.0)
        return 0.5 * white + smooth

    return [(field(1)[0], faulty(field(N))) for _ in range(CASES)]


def scores(pairs):
    sums = np.array([variance_and_error(draws, truth) for truth, draws in pairs]).sum(0)
    rank = torch.stack([ranks(draws, truth) for truth, draws in pairs])
    held = coverage(rank, N, 0.9, Generator().manual_seed(0))
    return sums[0] / sums[1], held, np.mean([energy_score(draws, truth) for truth, draws in pairs])


def narrow_small_scales(x):
    smooth = Pyramid.of(GRID).blurred(x, 4.0)
    return smooth + 0.4 * (x - smooth)


def narrow_on_the_left(x):
    return x * torch.where(torch.arange(64) < 32, 0.5, 1.0)


@pytest.mark.parametrize("faulty", [narrow_small_scales, narrow_on_the_left, lambda x: 1.5 * x])
def test_faults_of_scale_and_place_are_mended_on_other_cases(faulty):
    fit = Recalibration.fit(GRID, lambda: iter(cases(faulty)))
    unseen = cases(faulty, seed=1)
    before, after = scores(unseen), scores([(truth, fit.apply(draws)) for truth, draws in unseen])
    assert abs(before[0] - 1) > 0.25
    assert after[0] == pytest.approx(1, abs=0.12) and after[1] == pytest.approx(0.9, abs=0.02)
    assert after[2] <= before[2]


def test_widths_are_those_of_the_fault():
    fit = Recalibration.fit(GRID, lambda: iter(cases(narrow_on_the_left)))
    total = fit.overall * fit.widths[0]
    assert float(total[0, 8:24].mean()) == pytest.approx(2, abs=0.35)
    assert float(total[0, 40:56].mean()) == pytest.approx(1, abs=0.2)


def test_right_draws_stay_nearly_as_they_are_and_their_mean_exactly():
    fit = Recalibration.fit(GRID, lambda: iter(cases(lambda x: x)))
    draws = cases(lambda x: x, seed=2)[0][1]
    mended = fit.apply(draws)
    assert torch.allclose(mended.mean(0), draws.mean(0))
    assert float(mended.std(0).mean() / draws.std(0).mean()) == pytest.approx(1, abs=0.06)
    assert torch.allclose(fit.apply(draws + 7), mended + 7)


def varying(x, generator, power):
    """Deviations of a posterior whose spread is c, while its errors are those of c^power."""
    c = math.exp(0.3 * float(torch.randn(1, generator=generator, dtype=torch.float64)))
    return c * x, c**power


def pairs_of_varying_spread(seed, power):
    generator, found = Generator().manual_seed(seed), []
    for _ in range(CASES):
        white = torch.randn((1 + N, 1, 64), generator=generator, dtype=torch.float64)
        spread, size = varying(white[1:], generator, power)
        found.append((size * white[0], spread))
    return found


def test_errors_that_follow_the_spread_by_a_power_are_mended_posterior_by_posterior():
    """Truths of deviations c^2 where draws have c: each posterior is narrow or wide until c^2 / c is given back."""
    fit = Recalibration.fit(GRID, lambda: iter(pairs_of_varying_spread(0, 2)))
    assert fit.exponent == pytest.approx(1, abs=0.35)
    unseen = pairs_of_varying_spread(1, 2)
    plain = replace(fit, exponent=0.0, overall=fit.overall)
    mended, without = ([(t, one.apply(d)) for t, d in unseen] for one in (fit, plain))

    def by_posterior(pairs):
        return np.std([math.log(v / e) for v, e in (variance_and_error(d, t) for t, d in pairs)])

    assert by_posterior(mended) < 0.75 * by_posterior(without)
    assert scores(mended)[0] == pytest.approx(1, abs=0.15) and scores(mended)[2] < scores(without)[2]
    alone = Recalibration.fit(GRID, lambda: iter(pairs_of_varying_spread(0, 1)))
    assert alone.exponent < 0.3  # control: errors in proportion to the spread


def pairs_of_uncertain_scale(seed, tail):
    """Truths whose scale varies from place to place as exp(tail g), with a mean square of 1; the draws do not know."""
    generator = Generator().manual_seed(seed)
    found = []
    for truth, draws in cases(lambda x: x, seed):
        g = Pyramid.of(GRID).blurred(torch.randn((1, 64), generator=generator, dtype=torch.float64), 1.0)
        found.append((truth * torch.exp(tail * g / g.std() - tail**2), draws))
    return found


def test_errors_of_uncertain_scale_are_mended_in_ranks_and_variance_alike():
    """With the right variance, 50 and 90 % intervals hold too much; only longer tails of the draws mend all three."""
    fit = Recalibration.fit(GRID, lambda: iter(pairs_of_uncertain_scale(0, 0.6)))
    assert 0.3 < fit.tail < 0.9
    unseen = pairs_of_uncertain_scale(1, 0.6)
    short = [(t, replace(fit, tail=0.0).apply(d)) for t, d in unseen]
    mended = [(t, fit.apply(d, s)) for s, (t, d) in enumerate(unseen)]

    def half(pairs):
        rank = torch.stack([ranks(draws, truth) for truth, draws in pairs])
        return coverage(rank, N, 0.5, Generator().manual_seed(0))

    assert half(mended) == pytest.approx(0.5, abs=0.03) and scores(mended)[1] == pytest.approx(0.9, abs=0.015)
    assert scores(mended)[0] == pytest.approx(1, abs=0.12)
    assert half(short) > 0.55 and scores(short)[1] > scores(mended)[1]  # control: no tail
    assert Recalibration.fit(GRID, lambda: iter(cases(lambda x: x, 3))).tail == 0  # control: draws of the right law
    for _, draws in unseen[:3]:
        torch.testing.assert_close(fit.apply(draws).mean(0), draws.mean(0), rtol=0, atol=1e-12)
        assert torch.equal(fit.apply(draws, 1), fit.apply(draws, 1)) and not torch.equal(
            fit.apply(draws, 1), fit.apply(draws)
        )


@pytest.mark.parametrize("grid", [GRID, Grid.regular((20, 40)), PointSet(((0.0,), (0.3,), (1.0,)))])
def test_scales_sum_to_the_field(grid):
    x = torch.randn((3, 2, *grid.shape), generator=Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(Pyramid.of(grid).split(x).sum(0), x)


def test_conformal_intervals_hold_what_they_promise_whatever_the_law():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(800):
        values = rng.standard_cauchy((30, 3)) ** 2
        held.append(values[-1] <= conformal_factors(values[:-1], 0.9))
    assert 0.9 - 0.015 <= np.mean(held) <= 0.9 + 1 / 30 + 0.015
    assert np.isinf(conformal_factors(np.ones((5, 2)), 0.9)).all()
