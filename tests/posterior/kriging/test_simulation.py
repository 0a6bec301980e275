"""Joint draws against the dense posterior: the covariance that the weights imply, z-scores, limits, the same draws."""

import dataclasses

import numpy as np
import pytest
import torch
from examples.kriging_draws import dense, errors

from infield.posterior.kriging.law import Geometry, StationaryLaw
from infield.posterior.kriging.observations import Observations
from infield.posterior.kriging.simulation import Neighbourhood, Simulator, levels


def problem(nu=1.5, length=0.2, noise=0.3, N=100, side=24, period=None, lengths=None, azimuth=None, variance=1.0):
    law = StationaryLaw(
        Geometry(("y", "x"), ("m", "m"), (period, None)), nu, variance, lengths or (length, length), azimuth
    )
    x = torch.from_numpy(np.random.default_rng(0).random((N, 2)))
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    ones = torch.ones(N, dtype=torch.float64)
    return law, Observations(x, 0 * ones, noise**2 * ones, ones[:, None]), torch.cartesian_prod(axis, axis)


CASES = {
    "few data": {"N": 30, "noise": 0.1},
    "much noise": {"N": 150, "noise": 2.0},
    "rough": {"nu": 0.5, "length": 0.1},
    "smooth": {"nu": 2.5},
    "smooth and long": {"nu": 2.5, "length": 0.5},
    "periodic": {"period": 1.0, "noise": 0.1},
    "anisotropic, turned": {"lengths": (0.5, 0.05), "azimuth": 0.5, "noise": 0.1},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_draws_have_the_exact_moments(case):
    law, data, targets = problem(**case)
    std, correlation, mean = errors(Simulator(law, data, targets), law, data, targets)
    assert std < 0.02 and correlation < 0.02 and mean < 0.05


@pytest.mark.parametrize("period", [None, 1.0])
def test_the_plan_of_another_law_serves(period):
    """Order and neighbours by one law, weights by another; a plan of other data is not taken."""
    law, data, targets = problem(N=60, noise=0.1, period=period)
    other, _, _ = problem(length=0.35, variance=2.0, period=period)
    plan = Simulator.planned(law, data, targets, Neighbourhood.of(law))
    planned = Simulator(other, data, targets, plan=plan)
    std, correlation, mean = errors(planned, other, data, targets)
    assert std < 0.02 and correlation < 0.02 and mean < 0.05
    white = torch.randn((2, len(targets)), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    anew = Simulator(other, data, targets, memory=0.0, plan=plan)  # step by step
    torch.testing.assert_close(anew.draw(torch.zeros(2, 60), white), planned.draw(torch.zeros(2, 60), white))
    fewer = data.at(torch.arange(1, 60))
    assert Simulator(other, fewer, targets, plan=plan).draw(torch.zeros(2, 59), white).shape == white.shape


def test_all_neighbours_are_exact():
    """With every datum and every target before, the only approximation left are the targets drawn at once."""
    law, data, targets = problem(N=20, side=6)
    std, correlation, mean = errors(Simulator(law, data, targets), law, data, targets)
    assert max(std, correlation, mean) < 1e-3


def test_large_levels_are_near():
    """Numbers of neighbours as for more targets than a test can hold densely."""
    law, data, targets = problem(N=100, side=24, length=0.5)
    large = dataclasses.replace(Neighbourhood.of(law), few=20, many=0)
    std, correlation, mean = errors(Simulator(law, data, targets, large), law, data, targets)
    assert std < 0.02 and correlation < 0.04 and mean < 0.05


@pytest.mark.parametrize("few", [{"drawn": 3, "drawn_most": 3}, {"most": 4, "fewest": 1, "reach": 0.1}])
def test_too_few_neighbours_fail(few):
    """Negative control: the measure sees three targets before, or four data."""
    law, data, targets = problem(nu=1.5, length=0.3)
    hood = dataclasses.replace(Neighbourhood.of(law), **few)
    assert max(errors(Simulator(law, data, targets, hood), law, data, targets)) > 0.1


def test_draws_are_of_the_posterior():
    """z-scores: means and second moments of 2,000 draws against the dense posterior."""
    law, data, targets = problem(N=40, side=10, variance=4.0)
    random = torch.Generator().manual_seed(0)
    residual = torch.randn(40, generator=random, dtype=torch.float64)
    n = 2000
    white = torch.randn(n, 100, generator=random, dtype=torch.float64)
    drawn = Simulator(law, data, targets).draw(residual.expand(n, 40), white).numpy()
    mean, covariance = dense(law, data, targets)
    z = (drawn.mean(0) - mean @ residual.numpy()) / np.sqrt(np.diag(covariance) / n)
    assert np.abs(z).max() < 4.5
    centred = drawn - mean @ residual.numpy()
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sd, sd)
    second = centred.T @ centred / n / np.outer(sd, sd)
    assert np.abs((second - correlation) / np.sqrt((1 + correlation**2) / n)).max() < 6
    assert np.mean(((second - correlation) / np.sqrt((1 + correlation**2) / n)) ** 2) == pytest.approx(1, abs=0.1)


def test_no_data_is_the_prior():
    law, data, targets = problem(side=16)
    none = data.at(torch.arange(0))
    root = Simulator(law, none, targets).draw(torch.zeros(256, 0), torch.eye(256)).numpy()
    prior = np.asarray(law.between(law.embed(targets), law.embed(targets)))
    np.testing.assert_allclose(root.T @ root, prior, atol=0.02)


def test_at_exact_data_the_draws_are_the_data():
    law, data, _ = problem(noise=0.0, N=60)
    residual = torch.randn(2, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    white = torch.randn(2, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = Simulator(law, data, data.x).draw(residual, white)
    torch.testing.assert_close(drawn, residual, rtol=0, atol=1e-3)


def test_a_draw_depends_on_its_own_numbers_alone():
    law, data, targets = problem()
    random = torch.Generator().manual_seed(0)
    residual = torch.randn(5, 100, generator=random, dtype=torch.float64)
    white = torch.randn(5, 576, generator=random, dtype=torch.float64)
    simulator = Simulator(law, data, targets)
    together = simulator.draw(residual, white)
    alone = torch.cat([simulator.draw(residual[i : i + 1], white[i : i + 1]) for i in range(5)])
    assert torch.equal(together, alone)
    anew = Simulator(law, data, targets, memory=0.0)
    assert torch.equal(anew.draw(residual, white), together)


def test_order_and_rounding_do_not_matter():
    """Data and targets listed otherwise, and a grid moved by a unit in the last place, give the same draws."""
    law, data, targets = problem()
    random = torch.Generator().manual_seed(0)
    residual = torch.randn(2, 100, generator=random, dtype=torch.float64)
    white = torch.randn(2, 576, generator=random, dtype=torch.float64)
    first = Simulator(law, data, targets).draw(residual, white)
    i, j = torch.randperm(100, generator=random), torch.randperm(576, generator=random)
    second = Simulator(law, data.at(i), targets[j]).draw(residual[:, i], white[:, j])
    torch.testing.assert_close(second, first[:, j], rtol=1e-9, atol=1e-9)
    third = Simulator(law, data, targets * (1 + 2**-52)).draw(residual, white)
    torch.testing.assert_close(third, first, rtol=1e-9, atol=1e-9)


def test_targets_at_one_place_are_one():
    law, data, targets = problem(side=6)
    twice = torch.cat([targets, targets[:3]])
    white = torch.randn(4, 39, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = Simulator(law, data, twice).draw(torch.zeros(4, 100), white)
    torch.testing.assert_close(drawn[:, 36:], drawn[:, :3], rtol=0, atol=1e-3)


@pytest.mark.parametrize("D", [1, 2, 3])
def test_levels_hold_every_target_once_and_apart(D):
    search = np.random.default_rng(0).random((700, D))
    found = list(levels(search))
    assert np.array_equal(np.sort(np.concatenate([c for level, _ in found for c in level])), np.arange(700))
    for level, width in found:
        for together in level:
            distance = np.abs(search[together, None] - search[None, together]).max(-1)
            distance[np.diag_indices(len(together))] = np.inf
            assert distance.min(initial=np.inf) >= 7 * width


@pytest.mark.parametrize("domain", ["globe", "space and time", "scattered"])
def test_other_domains(domain):
    random = np.random.default_rng(0)
    if domain == "globe":
        units = ("degrees_east", "degrees_north")
        law = StationaryLaw(Geometry(("lon", "lat"), units, (None, None), (0, 1)), 1.5, 1.0, (2000.0, 2000.0))
        lon, lat = torch.arange(0, 360, 15, dtype=torch.float64), torch.linspace(-85, 85, 16, dtype=torch.float64)
        targets, box, low = torch.cartesian_prod(lon, lat), [360, 160], [0, -80]
    elif domain == "space and time":
        law = StationaryLaw(Geometry(("t", "y", "x"), ("d", "m", "m"), (None,) * 3), 1.5, 1.0, (3.0, 0.2, 0.2))
        axis = (torch.arange(9, dtype=torch.float64) + 0.5) / 9
        targets, box, low = torch.cartesian_prod(8 * axis[:6], axis, axis), [8, 1, 1], [0, 0, 0]
    else:
        law = StationaryLaw(Geometry(("y", "x"), ("m", "m"), (None, None)), 1.5, 1.0, (0.2, 0.2))
        targets, box, low = torch.from_numpy(random.random((500, 2)) ** 2), [1, 1], [0, 0]
    x = torch.from_numpy(random.random((100, len(box))) * box + low)
    ones = torch.ones(100, dtype=torch.float64)
    data = Observations(x, ones, 0.04 * ones, ones[:, None])
    std, correlation, mean = errors(Simulator(law, data, targets), law, data, targets)
    assert std < 0.02 and correlation < 0.03 and mean < 0.05
