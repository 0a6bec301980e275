"""Simulation-based calibration in memory: the exact posterior passes, and each fault is seen by the right truths."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.base import NoiseModel
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.noise.poisson import PoissonGaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.calibration.assessment import Simulation, assess
from infield.posterior.calibration.functionals import _regions, functional_of, predeclared
from infield.posterior.calibration.places import distance_to_data, groups_of_places
from infield.posterior.calibration.truths import draw_from_prior, joined, simulated, with_data_of
from infield.posterior.samplers.exact import Exact
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import gaussian_prior

SIMULATIONS, DRAWS = 24, 24


@pytest.fixture(scope="module")
def case():
    grid = Grid.regular((8, 8))
    mask = (torch.rand((8, 8), generator=Generator().manual_seed(0)) < 0.4).numpy()
    operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask}, grid, 1)
    prior = gaussian_prior(Matern(nu=1.5, length=0.3), grid)
    generator = Generator().manual_seed(1)
    truth = draw_from_prior(prior, 1, generator)
    noise = GaussianNoise(torch.tensor(0.05))
    y = torch.where(operator.observed, noise.sample(operator.A(truth), generator), 0.0)
    return prior, Measurement(y=y, operator=operator, noise=noise, grid=grid, description={"name": "mask"})


def calibrated(prior, measurement, source, *, uses=1, of=None, width=1.0):
    """Verdict on the exact sampler under `prior`, truths drawn from the prior `of`."""
    found = []
    for s in range(SIMULATIONS):
        generator = Generator().manual_seed(10 + s)
        field = None if of is None else draw_from_prior(of, 1, generator)
        new, replicate = simulated(
            "file" if of is not None else source,
            prior,
            Exact(),
            measurement,
            generator,
            generator,
            field=field,
            uses=uses,
        )
        draws = Exact()(prior, new, DRAWS, generator).samples
        draws = draws.mean(0) + width * (draws - draws.mean(0))
        fields = torch.cat([replicate.truth, draws])
        data = [replicate, measurement] if source == "posterior" else [replicate]
        found.append(Simulation(fields[0], draws, torch.stack([one.log_likelihood(fields) for one in data], 1)))
    places = groups_of_places(measurement)
    names = ("replicated data", "observed data")[: found[0].misfits.shape[1]]
    return assess(
        found.__getitem__, SIMULATIONS, predeclared(measurement.grid, ("field",)), places, source, misfits=names
    )


def test_exact_posteriors_pass_and_their_intervals_hold_what_they_promise(case):
    for source in ("prior", "posterior"):
        verdict = calibrated(*case, source)
        assert verdict.right, verdict.verdict
        assert all(abs(one.off) < 4 for one in verdict.coverage)
        assert verdict.width == pytest.approx(1, abs=0.1)
        assert {"all", "edge", "near data", "far from data"} <= {one.place for one in verdict.coverage}
        assert verdict.to_json()["smallest_faults"]["shift"] < 1


@pytest.mark.parametrize("uses", [0, 2])
def test_observed_data_left_out_or_used_twice_are_found(case, uses):
    verdict = calibrated(*case, "posterior", uses=uses)
    assert not verdict.right and "data" in verdict.verdict


def test_narrow_draws_are_said_to_be_narrow(case):
    verdict = calibrated(*case, "prior", width=0.6)
    assert not verdict.right and "too narrow" in verdict.verdict
    assert verdict.width == pytest.approx(0.6, abs=0.08)
    covered = {(one.place, one.level): one.share for one in verdict.coverage}
    assert covered["all", 0.8] < 0.65


def test_a_wrong_prior_is_seen_by_other_fields_alone(case):
    right, measurement = case
    wrong = gaussian_prior(Matern(nu=1.5, length=0.6), measurement.grid)
    assert calibrated(wrong, measurement, "prior").right
    assert not calibrated(wrong, measurement, "file", of=right).right
    assert calibrated(right, measurement, "file", of=right).right


@pytest.mark.parametrize(
    ("noise", "z"),
    [
        (GaussianNoise(torch.tensor(0.3)), torch.ones(1, 2, 3, 4, 4, dtype=torch.float64)),
        (LowRankGaussianNoise(torch.tensor(0.1), torch.ones(1, 4) * 0.5), torch.ones(1, 4, dtype=torch.float64)),
        (PoissonNoise(0.5), torch.full((1, 4), 3.0, dtype=torch.float64)),
        (
            CoilGaussianNoise(torch.tensor([[1, 0.3j, 0], [-0.3j, 1, 0.1], [0, 0.1, 2]])),
            torch.ones(1, 2, 3, 4, 4, dtype=torch.float64),
        ),
    ],
)
def test_the_mean_of_several_data_says_what_they_say_together(noise: NoiseModel, z):
    y = [noise.sample(z, Generator().manual_seed(i)) for i in range(3)]
    other = 1.5 * z
    apart = sum(noise.log_prob(one, other) - noise.log_prob(one, z) for one in y)
    mean = noise.of_mean(3)
    together = mean.log_prob(sum(y) / 3, other) - mean.log_prob(sum(y) / 3, z)
    assert torch.allclose(apart, together)
    assert not torch.allclose(apart, noise.log_prob(sum(y) / 3, other) - noise.log_prob(sum(y) / 3, z))


def test_counts_with_read_out_noise_are_not_joined(case):
    measurement = case[1]
    counts = replace(measurement, y=measurement.y.abs(), noise=PoissonGaussianNoise(0.1, torch.tensor(0.1)))
    with pytest.raises(InfieldError, match="cannot be joined"):
        joined(counts, counts)


def test_data_of_a_truth_are_zero_where_nothing_is_observed(case):
    prior, measurement = case
    new = with_data_of(measurement, draw_from_prior(prior, 1, Generator().manual_seed(0)), Generator().manual_seed(1))
    assert not new.y[0][~measurement.observed].any() and new.y[0][measurement.observed].all()
    assert new.chi_square(new.truth) == pytest.approx(1, abs=0.6)


def test_draws_of_a_mixture_are_of_its_components():
    grid = Grid.regular((4,))
    source = Matern(nu=0.5, length=0.05)
    parts = [gaussian_prior(Matern(nu=1.5, length=0.3), grid, source=source) for _ in range(2)]
    parts[1] = replace(parts[1], mean=parts[1].mean + 50)
    drawn = draw_from_prior(MixturePrior(tuple(parts), torch.tensor([0.25, 0.75])), 400, Generator().manual_seed(0))
    assert float((drawn.mean((1, 2)) > 25).double().mean()) == pytest.approx(0.75, abs=0.09)


def test_distance_to_data_is_zero_at_data(case):
    measurement = case[1]
    distance = distance_to_data(measurement)
    assert torch.equal(distance == 0, measurement.observed[0])
    assert float(distance.max()) < 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean:z=0:1", "axis 'z'"),
        ("mean:y=2:3", "no point of the grid"),
        ("mean:y=a:b", "two numbers"),
        ("mean:channel=c", "channel 'c'"),
        ("nothing", "found 'nothing'"),
    ],
)
def test_functionals_that_are_none_are_refused(case, text, words):
    with pytest.raises(InfieldError, match=words):
        functional_of(text, case[1].grid, ("field",))


def test_a_region_is_given_in_coordinates(case):
    grid = case[1].grid
    x = torch.randn((3, 1, 8, 8), generator=Generator().manual_seed(0), dtype=torch.float64)
    first = grid.axes[0].coordinates
    found = functional_of(f"mean:y={first[1]}:{first[2]}", grid, ("field",)).values(x)
    assert torch.allclose(found, x[:, 0, 1:3].mean((1, 2)))


@pytest.mark.parametrize("shape", [(5,), (40,), (7, 5), (3, 4, 5)])
def test_regions_are_each_cell_once_in_boxes_of_nearly_one_size(shape):
    regions = dict(_regions(Grid.regular(shape)))
    assert len(regions) == math.prod(min({1: 8, 2: 3, 3: 2}[len(shape)], n) for n in shape)
    assert bool((torch.stack(list(regions.values())).sum(0) == 1).all())
    for where in regions.values():
        at = where.nonzero()
        widths = (at.amax(0) - at.amin(0) + 1).tolist()
        assert math.prod(widths) == len(at)
        for n, width in zip(shape, widths, strict=True):
            assert width - n / min({1: 8, 2: 3, 3: 2}[len(shape)], n) < 1


def test_regions_of_points_are_ranges_of_their_first_coordinate():
    x = torch.randperm(19, generator=Generator().manual_seed(0)).double()
    points = PointSet(tuple((float(a), 0.0) for a in x), ("x", "y"), "m", "point")
    masks = torch.stack([where for _, where in _regions(points)])
    assert masks.sum(1).tolist() == [3, 3, 3, 2, 2, 2, 2, 2]
    assert masks.double().argmax(0)[x.argsort()].tolist() == sorted([0, 1, 2] * 3 + [3, 4, 5, 6, 7] * 2)


def test_distance_to_a_single_datum_and_to_data_everywhere(case):
    def seen(observed):
        operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": observed}, case[1].grid, 1)
        return distance_to_data(replace(case[1], operator=operator, observed=operator.observed))

    one = torch.zeros(8, 8, dtype=torch.bool)
    one[2, 5] = True
    y, x = torch.meshgrid(*(torch.tensor(axis.coordinates) for axis in case[1].grid.axes), indexing="ij")
    torch.testing.assert_close(seen(one.numpy()), torch.hypot(y - y[2, 5], x - x[2, 5]), check_dtype=False)
    assert seen(torch.ones_like(one).numpy()) is None
