"""Conditioning on integrals: the exact conditional law, the wrong ones beside it, and heat that is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.core.randomness import SampleStreams
from infield.core.transform import Affine
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import crps, gaussian_z_scores
from infield.posterior.inference.constraints import (
    ConstrainedSampler,
    LinearConstraints,
    PosteriorCovariance,
    SampleCovariance,
    integral_weights,
)
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Pixels
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

DRAWS = 4000
THRESHOLD = 4.5
LIKELY = 10.0
"""An integral that the data do not find surprising: a covariance of draws is off by more the further it has to move."""
RING = Grid.regular((12,), 3.0, names=("x",), units="m", periodic=True)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at_points(grid: Grid, index: np.ndarray, y: Tensor, noise: float) -> Measurement:
    arrays, description = {"indices": index}, {"name": "points", "arrays": {"indices": "indices"}}
    return Measurement(y=y[None, None], operator=build_operator(description, arrays, grid, 1),
                       noise=GaussianNoise(noise), grid=grid, description=description, arrays=arrays)  # fmt: skip


# quadrature


def test_weights_integrate_lines_exactly_and_waves_on_a_ring():
    stretched = Axis("y", (0.0, 0.5, 2.0, 3.0))
    grid = Grid((stretched, *RING.axes))
    y, x = grid.points().mT.reshape(2, 4, 12)
    f = (1 + 2 * y) * (3 + torch.cos(2 * math.pi * x / 3))
    assert float((integral_weights(grid) * f).sum()) == pytest.approx((3 + 9) * 9)
    along = (integral_weights(grid, ["x"]) * f).sum((1, 2))
    torch.testing.assert_close(along, 9 * (1 + 2 * y[:, 0]))
    across = (integral_weights(grid, ["y"]) * f).sum((1, 2))
    torch.testing.assert_close(across, 12 * (3 + torch.cos(2 * math.pi * x[0] / 3)))


def test_weights_need_a_grid_and_its_names():
    with pytest.raises(InfieldError, match="expected some of"):
        integral_weights(RING, ["time"])
    with pytest.raises(InfieldError, match="scattered points"):
        integral_weights(PointSet(((0.0,), (1.0,))))


# the conditional law


def ring_problem() -> tuple[GaussianPrior, Measurement]:
    """Data on one side of a ring, in units: the other side is uncertain."""
    prior = gaussian_prior(Matern(1.5, 0.6), RING, source=Matern(0.5, 0.1)).in_units(2.0, 3.0)
    return prior, at_points(RING, np.array([1, 2, 4]), torch.tensor([4.0, 1.0, 3.0], dtype=torch.float64), 0.2)


def law_given_all(
    prior: GaussianPrior, measurement: Measurement, conservation: LinearConstraints
) -> tuple[Tensor, Tensor]:
    """The exact posterior in units with the constraint as one more datum."""
    unit = torch.eye(12, dtype=torch.float64)[:, None]
    m, C = torch.full((12,), 2.0, dtype=torch.float64), 9 * prior.covariance.apply(unit).flatten(1)
    A = torch.cat([measurement.operator.A(unit).flatten(1).mT, conservation.weights.flatten(1)])
    y = torch.cat([measurement.y.flatten(), conservation.value])
    R = torch.tensor([0.2] * 3 + [conservation.variance] * len(conservation.value), dtype=torch.float64).diag()
    gain = torch.linalg.solve(A @ C @ A.mT + R, A @ C).mT
    return m + gain @ (y - A @ m), C - gain @ A @ C


def z_of(x: Tensor, law: tuple[Tensor, Tensor]) -> float:
    """Over the directions in which the law has any freedom."""
    m, S = law
    e, V = torch.linalg.eigh(S)
    free = V[:, e > 1e-9 * e[-1]]
    z = gaussian_z_scores(x.flatten(1) @ free, free.mT @ m, free.mT @ S @ free)
    return max(z.mean, z.covariance)


@pytest.mark.parametrize("sampler", [Exact(), FAPS(levels=3)], ids=str)
@pytest.mark.parametrize("variance", [0.0, 0.5])
def test_gaussian_draws_get_the_exact_conditional_law(sampler, variance):
    prior, measurement = ring_problem()
    conservation = LinearConstraints.integral(RING, 20.0, variance=variance)
    law = law_given_all(prior, measurement, conservation)
    posterior = ConstrainedSampler(sampler=sampler, conservation=conservation)(prior, measurement, DRAWS, rng(0))
    assert z_of(posterior.samples, law) < THRESHOLD
    if variance == 0:
        assert float(conservation.error(posterior.samples).abs().max()) < 1e-10
        assert posterior.diagnostics["conservation_after"] < 1e-10 < 1 < posterior.diagnostics["conservation_before"]
    assert z_of(sampler(prior, measurement, DRAWS, rng(0)).samples, law) > 2 * THRESHOLD


@pytest.mark.parametrize("variance", [0.0, 0.5])
def test_faps_keeps_constraints_at_every_level(variance):
    prior, measurement = ring_problem()
    conservation = LinearConstraints.integral(RING, 12.0, variance=variance)
    law = law_given_all(prior, measurement, conservation)
    x = FAPS(levels=3, conservation=conservation)(prior, measurement, DRAWS, rng(1)).samples
    assert z_of(x.flatten(1), law) < THRESHOLD
    if variance == 0:
        assert conservation.error(x).abs().max() < 1e-8
    without = FAPS(levels=3)(prior, measurement, DRAWS, rng(1)).samples  # negative control
    assert z_of(without.flatten(1), law) > 2 * THRESHOLD


def test_the_nearest_field_that_conserves_and_the_covariance_without_the_data_are_rejected():
    prior, measurement = ring_problem()
    conservation = LinearConstraints.integral(RING, LIKELY)
    law = law_given_all(prior, measurement, conservation)
    x = Exact()(prior, measurement, DRAWS, rng(0)).samples
    orthogonal = Covariance.diagonal_in(Pixels(), torch.ones((1, 12), dtype=torch.float64))
    for wrong in (orthogonal, prior.covariance):
        moved = conservation.project(x, wrong)
        assert float(conservation.error(moved).abs().max()) < 1e-10
        assert z_of(moved, law) > 2 * THRESHOLD  # both are the same shift of all values: the prior is stationary
    assert z_of(conservation.project(x, SampleCovariance(x)), law) < THRESHOLD  # what serves where nothing is closed


def test_a_soft_constraint_needs_its_noise():
    """Negative control: moving draws by the update of the mean gives too narrow a law."""
    prior, measurement = ring_problem()
    conservation = LinearConstraints.integral(RING, LIKELY, variance=3.0)
    law = law_given_all(prior, measurement, conservation)
    x = Exact()(prior, measurement, DRAWS, rng(0)).samples
    assert z_of(conservation.condition(x, SampleCovariance(x), rng(1)), law) < THRESHOLD
    assert z_of(conservation.project(x, SampleCovariance(x)), law) > 2 * THRESHOLD


def test_inside_a_sampler_the_local_law_is_conditioned_on_data_and_constraint():
    """The hook for samplers: after a draw of the local law given the data, its covariance given the data."""
    prior, measurement = ring_problem()
    units = prior.standardisation
    conservation = LinearConstraints.integral(RING, LIKELY)
    data = LinearGaussianData(measurement.pullback(Affine(units.shift, units.scale)), prior.source.modes)
    inner = conservation.standardised(units, prior.source.event_shape)
    K = prior.covariance
    u = data.draw(prior.mean.expand(DRAWS, 1, 12), K, rng(0))
    u = inner.condition(u, PosteriorCovariance(data, K), rng(1))
    assert z_of(units.to_units(u), law_given_all(prior, measurement, conservation)) < THRESHOLD


def test_counts_take_the_covariance_of_the_draws():
    prior, measurement = ring_problem()
    arrays, description = {"mask": np.arange(12) < 5}, {"name": "mask", "arrays": {"mask": "mask"}}
    counts = Measurement(
        y=torch.full((1, 1, 12), 4.0, dtype=torch.float64), operator=build_operator(description, arrays, RING, 1),
        noise=PoissonNoise(1.0), grid=RING, description=description, arrays=arrays,
    )  # fmt: skip

    class Anything(Exact):
        """Draws that have nothing to do with the counts: only their covariance matters here."""

        def draw(self, prior, ignored, n, generator):
            return Exact().draw(prior, measurement.pullback(Affine(torch.tensor(2.0), torch.tensor(3.0))), n, generator)

    conservation = LinearConstraints.integral(RING, LIKELY)
    sampler = ConstrainedSampler(sampler=Anything(), conservation=conservation)
    x = sampler(prior, counts, DRAWS, rng(0)).samples
    assert z_of(x, law_given_all(prior, measurement, conservation)) < THRESHOLD
    for n, generator in ((10, rng(0)), (30, SampleStreams(0, range(30)))):
        with pytest.raises(InfieldError, match="at least 20"):
            sampler(prior, counts, n, generator)
    two = LinearConstraints(torch.cat([conservation.weights, torch.eye(12).double()[:1, None]]), torch.ones(2).double())
    with pytest.raises(InfieldError, match="found 30 draws, expected at least 40"):  # as many for each constraint
        ConstrainedSampler(sampler=Anything(), conservation=two)(prior, counts, 30, rng(0))


# heat


def heat(cases: int, generator: torch.Generator) -> tuple[Grid, Tensor, Tensor]:
    """Solutions of u_t = nu u_xx on a ring and the heat of each, which stays what it was."""
    grid = Grid((Axis("time", tuple(0.1 * i for i in range(6)), "s"), Grid.regular((24,), 1.0, periodic=True).axes[0]))
    initial = 1 + Matern(1.5, 0.3).covariance(Grid.regular((24,), 1.0, periodic=True)).sample(cases, generator)
    k = 2 * math.pi * torch.fft.fftfreq(24, 1 / 24, dtype=torch.float64)
    decay = torch.exp(-0.02 * k**2 * torch.tensor(grid.axes[0].coordinates, dtype=torch.float64)[:, None])
    u = torch.fft.ifft(torch.fft.fft(initial[:, :, None]) * decay).real
    return grid, u, initial.mean((1, 2))


def test_heat_is_kept_and_the_field_is_nearer_to_the_truth():
    """A prior that knows nothing of the equation, 8 data, and the heat at each time: error 0 and a lower score."""
    grid, truths, heats = heat(10, rng(0))
    prior = gaussian_prior(Matern(1.5, 0.3, wrap=True), grid, source=Matern(0.5, 0.05, wrap=True)).in_units(1.0, 1.0)
    scores: dict[str, list[float]] = {"before": [], "after": [], "nearest": []}
    errors = []
    nearest = Covariance.diagonal_in(Pixels(), torch.ones((1, *grid.shape), dtype=torch.float64))
    for case, (truth, total) in enumerate(zip(truths, heats, strict=True)):
        index = torch.randperm(grid.size, generator=rng(case))[:8].numpy()
        measurement = at_points(grid, index, truth.flatten()[index], 1e-3)
        conservation = LinearConstraints.integral(grid, float(total), over=["x"])
        before = Exact()(prior, measurement, 200, rng(case))
        after = ConstrainedSampler(sampler=Exact(), conservation=conservation)(prior, measurement, 200, rng(case))
        scores["before"].append(crps(before.samples, truth))
        scores["after"].append(crps(after.samples, truth))
        scores["nearest"].append(crps(conservation.project(before.samples, nearest), truth))
        errors.append(float(conservation.error(before.samples).square().mean().sqrt()))
        assert float(conservation.error(after.samples).abs().max()) < 1e-10
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    assert np.mean(errors) > 0.1
    assert mean["after"] < 0.9 * mean["before"] and mean["after"] < mean["nearest"]


# what a user can get wrong


def test_wrong_constraints_are_refused():
    G = torch.ones((2, 1, 12), dtype=torch.float64)
    with pytest.raises(InfieldError, match="expected \\(constraints"):
        LinearConstraints(G, torch.zeros(3))
    with pytest.raises(InfieldError, match="negative variance"):
        LinearConstraints(G, torch.zeros(2), variance=-1.0)
    with pytest.raises(InfieldError, match="all zero"):
        LinearConstraints(0 * G, torch.zeros(2))
    with pytest.raises(InfieldError, match="found 3 integrals, expected 1 or 1"):
        LinearConstraints.integral(RING, torch.zeros(3))
    prior, measurement = ring_problem()
    twice = LinearConstraints(G, torch.zeros(2, dtype=torch.float64))
    with pytest.raises(InfieldError, match="depend on one another"):
        ConstrainedSampler(sampler=Exact(), conservation=twice)(prior, measurement, 4, rng(0))
    other = LinearConstraints(torch.ones((1, 1, 5), dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    with pytest.raises(InfieldError, match="weights for fields of shape"):
        ConstrainedSampler(sampler=Exact(), conservation=other)(prior, measurement, 4, rng(0))
