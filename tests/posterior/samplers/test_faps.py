"""Every sampler against the exact posterior of small linear-Gaussian problems, with samplers that must be rejected."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Grid, PointSet
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import gaussian_z_scores
from infield.posterior.samplers import faps
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_published import FAPSPublished, euler
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.gaussian.bridge import Bridge
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import GaussianPrior, empirical_prior, gaussian_prior

DRAWS = 4000
THRESHOLD = 4.5
Problem = tuple[GaussianPrior, Measurement]


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observe(prior: GaussianPrior, description: dict, arrays: dict, grid: Grid, noise, channels: int = 1) -> Measurement:
    """A measurement of a field in its units, drawn far enough from the prior's mean for the data to matter."""
    operator = build_operator(description, arrays, grid, channels)
    x = prior.mean + 1.5 * prior.covariance.sample(1, rng(5))
    truth = prior.standardisation.to_units(x)
    return Measurement(
        y=noise.sample(operator.A(truth), rng(6)),
        operator=operator,
        noise=noise,
        grid=grid,
        channels=("real", "imaginary")[:channels],
        description=description,
        arrays=arrays,
    )


def points_in_units() -> Problem:
    """Sensors between the points of a line, prior with shift and scale, dense modes, white source."""
    grid = Grid.regular((8,), 1.0)
    prior = gaussian_prior(Matern(1.5, 0.3), grid).in_units(2.0, 3.0)
    where = np.array([[0.1], [0.45], [0.9]])
    description = {"name": "points", "arrays": {"coordinates": "where"}}
    return prior, observe(prior, description, {"where": where}, grid, GaussianNoise(0.2))


def mask_noise_per_datum() -> Problem:
    """A mask on a torus, another variance for each datum, Matern source."""
    grid = Grid.regular((3, 4), 1.0, periodic=True)
    prior = gaussian_prior(Matern(1.5, 0.4), grid, source=Matern(0.5, 0.1))
    mask = np.arange(12).reshape(3, 4) % 3 > 0
    noise = GaussianNoise(0.01 + 0.2 * torch.rand((1, 3, 4), generator=rng(1), dtype=torch.float64))
    return prior, observe(prior, {"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask}, grid, noise)


def convolution_with_a_mean() -> Problem:
    """A blur on a ring, prior mean that varies, units."""
    grid = Grid.regular((7,), 2.0, periodic=True)
    prior = gaussian_prior(Matern(0.5, 0.8), grid, source=Matern(0.5, 0.05))
    mean = torch.linspace(-2, 2, 7, dtype=torch.float64)[None]
    prior = replace(prior, mean=mean).in_units(-1.0, 0.5)
    description = {"name": "convolution", "arrays": {"kernel": "kernel"}}
    kernel = {"kernel": np.array([0.25, 0.5, 0.25])}
    return prior, observe(prior, description, kernel, grid, GaussianNoise(0.01))


def fourier_two_channels() -> Problem:
    """Some Fourier coefficients of a complex field, each channel with its own shift and scale."""
    grid = Grid.regular((2, 3), 1.0, periodic=True)
    prior = gaussian_prior(Matern(2.5, 0.5), grid, channels=2)
    shift = torch.tensor([1.0, -2.0], dtype=torch.float64).reshape(2, 1, 1)
    prior = prior.in_units(shift, torch.tensor([2.0, 0.7], dtype=torch.float64).reshape(2, 1, 1))
    mask = {"mask": np.array([[True, False, True], [False, True, True]])}
    return prior, observe(
        prior, {"name": "fourier", "arrays": {"mask": "mask"}}, mask, grid, GaussianNoise(0.1), channels=2
    )


def low_rank_prior() -> Problem:
    """A prior of low rank plus diagonal, as it is estimated from examples."""
    grid = Grid.regular((6,), 1.0)
    examples = 4 + gaussian_prior(Matern(1.5, 0.4), grid).covariance.sample(60, rng(2))
    prior = empirical_prior(examples, grid, rank=3)
    where = {"indices": np.array([1, 4])}
    description = {"name": "points", "arrays": {"indices": "indices"}}
    return prior, observe(prior, description, where, grid, GaussianNoise(0.05))


PROBLEMS = {
    f.__name__: f
    for f in (points_in_units, mask_noise_per_datum, convolution_with_a_mean, fourier_two_channels, low_rank_prior)
}
every_problem = pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
BY_CHAINS = [FAPS(levels=K, steps=4 * K, closed_form=False) for K in (1, 3)]
EXACT_SAMPLERS = [Exact(), FAPS(), *(FAPS(levels=K) for K in (1, 2, 8, 40)), *BY_CHAINS]
every_sampler = pytest.mark.parametrize("sampler", EXACT_SAMPLERS, ids=str)


def matrix(C: Covariance) -> Tensor:
    n = math.prod(C.event_shape)
    return C.apply(torch.eye(n, dtype=torch.float64).reshape(n, *C.event_shape)).flatten(1)


def prior_law(prior: GaussianPrior) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the field in its units, as a vector and a matrix."""
    s = prior.standardisation.scale.expand(prior.mean.shape).flatten()
    return prior.standardisation.to_units(prior.mean).flatten(), s[:, None] * matrix(prior.covariance) * s


def dense_data(measurement: Measurement) -> tuple[Tensor, Tensor, Tensor]:
    """A, R and y of the observed data."""
    y, n = measurement.y[0], math.prod(measurement.event_shape)
    seen = torch.ones_like(y, dtype=torch.bool) if measurement.observed is None else measurement.observed
    A = measurement.operator.A(torch.eye(n, dtype=torch.float64).reshape(n, *measurement.event_shape)).flatten(1).mT
    R = (measurement.noise.variance * torch.ones_like(y)).flatten().diag()
    keep = seen.flatten()
    return A[keep], R[keep][:, keep], y.flatten()[keep]


def posterior_law(prior: GaussianPrior, measurement: Measurement) -> tuple[Tensor, Tensor]:
    (m, C), (A, R, y) = prior_law(prior), dense_data(measurement)
    gain = torch.linalg.solve(A @ C @ A.mT + R, A @ C).mT
    return m + gain @ (y - A @ m), C - gain @ A @ C


def z_scores(samples: Tensor, prior: GaussianPrior, measurement: Measurement) -> tuple[float, float]:
    z = gaussian_z_scores(samples.flatten(1), *posterior_law(prior, measurement))
    return z.mean, z.covariance


# what must be rejected: the same sampler on other data


def no_guidance(prior: GaussianPrior, measurement: Measurement) -> Measurement:
    return replace(measurement, noise=GaussianNoise(measurement.noise.variance * 1e12))


def half_guidance(prior: GaussianPrior, measurement: Measurement) -> Measurement:
    return replace(measurement, noise=GaussianNoise(measurement.noise.variance * 2))


def wrong_sign(prior: GaussianPrior, measurement: Measurement) -> Measurement:
    """Data mirrored at what the prior expects of them: the correction by the data points the other way."""
    expected = measurement.operator.A(prior.standardisation.to_units(prior.mean)[None])
    return replace(measurement, y=2 * expected - measurement.y)


@every_problem
@every_sampler
def test_moments_are_those_of_the_exact_posterior(make, sampler):
    prior, measurement = make()
    samples = sampler(prior, measurement, DRAWS, rng(0)).samples
    assert samples.shape == (DRAWS, *measurement.event_shape) and samples.dtype == torch.float64
    assert max(z := z_scores(samples, prior, measurement)) < THRESHOLD, z


@every_problem
@pytest.mark.parametrize("control", [no_guidance, half_guidance, wrong_sign], ids=lambda f: f.__name__)
@pytest.mark.parametrize("sampler", [Exact(), FAPS(), FAPS(levels=8), BY_CHAINS[1]], ids=str)
def test_wrong_guidance_is_rejected(make, control, sampler):
    prior, measurement = make()
    samples = sampler(prior, control(prior, measurement), DRAWS, rng(0)).samples
    assert max(z := z_scores(samples, prior, measurement)) > 2 * THRESHOLD, z


class PriorCovarianceAtEveryLevel(Bridge):
    """A wrong local law: the covariance of the prior where that of u_1 given u_t belongs."""

    def conditional(self) -> Covariance:
        return self.covariance


class SpreadTooSmall(Bridge):
    """A wrong local law: 0.8 of its standard deviation."""

    def conditional(self) -> Covariance:
        C = super().conditional()
        return Covariance(C.modes, 0.64 * C.diagonal, 0.8 * C.factors)


@pytest.mark.parametrize("sampler", [FAPS(levels=8), FAPS(levels=8, steps=40, closed_form=False)], ids=str)
@pytest.mark.parametrize("wrong", [PriorCovarianceAtEveryLevel, SpreadTooSmall])
def test_a_wrong_local_law_is_rejected(monkeypatch, wrong, sampler):
    prior, measurement = points_in_units()
    monkeypatch.setattr(faps, "Bridge", wrong)
    samples = sampler(prior, measurement, DRAWS, rng(0)).samples
    assert max(z := z_scores(samples, prior, measurement)) > 2 * THRESHOLD, z


def test_units_that_are_forgotten_are_rejected():
    prior, measurement = points_in_units()
    unaware = replace(prior, standardisation=Standardisation.identity(prior.covariance.event_shape))
    samples = FAPS()(unaware, measurement, DRAWS, rng(0)).samples
    assert max(z_scores(samples, prior, measurement)) > 2 * THRESHOLD


def test_cost_and_diagnostics():
    prior, measurement = mask_noise_per_datum()
    assert FAPS()(prior, measurement, 3, rng(0)).cost["velocity_calls"] == 1
    assert FAPS(levels=8)(prior, measurement, 3, rng(0)).cost["velocity_calls"] == 8
    assert Exact()(prior, measurement, 3, rng(0)).cost["velocity_calls"] == 0
    result = FAPS(levels=2)(prior, measurement, 500, rng(0))
    assert result.cost["operator_calls"] > 0 and result.cost["seconds"] > 0
    expected = float(measurement.chi_square(result.samples).mean())
    assert result.diagnostics["chi_square"] == pytest.approx(expected)
    chains = FAPS(closed_form=False, steps=5)(prior, measurement, 100, rng(0))
    assert chains.diagnostics["acceptance"] > 1 - 1e-3 and chains.diagnostics["step"] > 1.5
    published = FAPSPublished(levels=3, flow_steps=4, langevin_steps=5, rank=2, rank_draws=10, rank_steps=7)
    cost = published(prior, measurement, 3, rng(0)).cost
    assert cost["velocity_calls"] == pytest.approx(3 * 4 + 7 * 10 / 3)  # ten draws for C, shared
    assert cost["operator_calls"] == 3 * 5 * 2  # A and its transpose in each Langevin step


def test_misuse_is_refused():
    prior, measurement = mask_noise_per_datum()
    with pytest.raises(InfieldError, match="found levels 0, expected at least 1"):
        FAPS(levels=0)
    with pytest.raises(InfieldError, match="found units 'K'"):
        FAPS()(replace(prior, units="K"), measurement, 2, rng(0))
    with pytest.raises(InfieldError, match=r"found a measurement of a field of shape \(1, 3, 4\), expected \(1, 8\)"):
        FAPS()(points_in_units()[0], measurement, 2, rng(0))
    for wrong in ({"steps": 0}, {"rank": 0}, {"ramp": 0.0}, {"tolerance": 0.0}):
        with pytest.raises(InfieldError, match="sampler faps: found steps="):
            FAPS(**wrong)
    counts = replace(measurement, y=measurement.y.abs().round(), noise=PoissonNoise(1.0))
    with pytest.raises(InfieldError, match="linear operator and Gaussian noise"):
        Exact()(prior, counts, 2, rng(0))


@pytest.mark.parametrize("sampler", [Exact(), FAPS(), FAPS(levels=3), FAPSPublished(levels=2, rank=3)], ids=str)
def test_a_sample_depends_on_its_stream_alone(sampler):
    prior, measurement = points_in_units()
    together = sampler(prior, measurement, 4, SampleStreams(9, [0, 1, 2, 3])).samples
    for i in (0, 2):
        alone = sampler(prior, measurement, 1, SampleStreams(9, [i])).samples
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-10)
    assert (together[0] - together[1]).abs().max() > 1e-3
    assert (sampler(prior, measurement, 1, SampleStreams(10, [0])).samples - together[:1]).abs().max() > 1e-3


# FAPS as published: on a linear-Gaussian problem all of its steps are affine, so that its law can be computed


def affine_of_euler(prior: GaussianPrior, t: float, steps: int) -> tuple[Tensor, Tensor]:
    """The Euler flow from t to 1 as an affine map: matrix and offset."""
    n, shape = prior.mean.numel(), prior.mean.shape
    offset = euler(prior, torch.zeros((1, *shape), dtype=torch.float64), t, steps)
    columns = euler(prior, torch.eye(n, dtype=torch.float64).reshape(n, *shape), t, steps) - offset
    return columns.flatten(1).mT, offset.flatten()


def published_law(sampler: FAPSPublished, prior: GaussianPrior, measurement: Measurement) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what the published algorithm draws, by recursion over its steps (arXiv 2606.22346)."""
    A, R, y = dense_data(measurement)
    n = prior.mean.numel()
    I, C, C_0 = torch.eye(n, dtype=torch.float64), matrix(sampler.preconditioner(prior)), matrix(prior.source)
    information = sampler.temperature * A.mT @ torch.linalg.solve(R, A)
    pull = sampler.temperature * A.mT @ torch.linalg.solve(R, y)
    s = [math.sqrt((1 - k / sampler.levels) ** 2 + sampler.sigma_min**2) for k in range(sampler.levels)]
    mean, covariance = torch.zeros(n, dtype=torch.float64), s[0] ** 2 * C_0
    for k in range(sampler.levels):
        t, h = k / sampler.levels, sampler.step
        E, offset = affine_of_euler(prior, t, sampler.flow_steps)
        lam = max(sampler.spread_floor, sampler.spread * (1 - t))
        M = I - h * (I / lam**2 + C @ information)  # c' = M c + h (u_hat / lam^2 + C pull) + sqrt(2 h) C^{1/2} xi
        G, constant, noise = I, torch.zeros(n, dtype=torch.float64), torch.zeros_like(C)
        for _ in range(sampler.langevin_steps):  # c = G u_hat + constant + noise
            G, constant = M @ G + h * I / lam**2, M @ constant + h * C @ pull
            noise = M @ noise @ M.mT + 2 * h * C
        G, constant = G @ E, G @ offset + constant
        mean, covariance = G @ mean + constant, G @ covariance @ G.mT + noise
        if k + 1 < sampler.levels:
            t_next = (k + 1) / sampler.levels
            mean, covariance = t_next * mean, t_next**2 * covariance + s[k + 1] ** 2 * C_0
    return mean, covariance


def unit_problem() -> Problem:
    grid = Grid.regular((5,), 1.0, periodic=True)
    prior = gaussian_prior(Matern(1.5, 0.4), grid, source=Matern(0.5, 0.1))
    where = {"indices": np.array([0, 3])}
    return prior, observe(
        prior,
        {"name": "points", "arrays": {"indices": "indices"}},
        where,
        grid,
        GaussianNoise(torch.tensor([0.1, 0.3])),
    )


@pytest.mark.parametrize(
    "sampler",
    [
        FAPSPublished(levels=1, flow_steps=5, langevin_steps=40, step=0.02, rank=2),
        FAPSPublished(levels=6, flow_steps=5, langevin_steps=20, step=2e-3, rank=2, spread=0.7),
        FAPSPublished(levels=4, flow_steps=5, langevin_steps=40, step=0.02, rank=0, temperature=0.5, spread_floor=0.4),
    ],
    ids=["one level", "levels", "no preconditioner"],
)
def test_published_law_is_that_of_the_paper_step_by_step(sampler):
    prior, measurement = unit_problem()
    x = sampler(prior, measurement, DRAWS, rng(0)).samples.flatten(1)
    z = gaussian_z_scores(x, *published_law(sampler, prior, measurement))
    assert z.mean < THRESHOLD and z.covariance < THRESHOLD, z
    for name, other in (("spread", 2.0), ("temperature", 2.0), ("langevin_steps", 8)):
        changed = replace(sampler, **{name: other})
        z = gaussian_z_scores(x, *published_law(changed, prior, measurement))
        assert max(z.mean, z.covariance) > 2 * THRESHOLD, name


def test_langevin_steps_of_the_published_law_reach_their_invariant_law():
    """With J large and h small, one level draws from N(c; u_hat, lam^2 C) p(y | c), normalised, for each u_hat."""
    prior, measurement = unit_problem()
    sampler = FAPSPublished(levels=1, flow_steps=5, langevin_steps=800, step=0.01, rank=2)
    A, R, y = dense_data(measurement)
    C = matrix(sampler.preconditioner(prior))  # lam = 1 at t = 0
    S = torch.linalg.inv(torch.linalg.inv(C) + A.mT @ torch.linalg.solve(R, A))
    E, offset = affine_of_euler(prior, 0.0, 5)
    G = S @ torch.linalg.inv(C)
    source = (1 + sampler.sigma_min**2) * matrix(prior.source)
    mean = G @ offset + S @ A.mT @ torch.linalg.solve(R, y)
    covariance = S + G @ E @ source @ E.mT @ G.mT
    found_mean, found_covariance = published_law(sampler, prior, measurement)
    assert (found_mean - mean).norm() < 1e-3 * mean.norm()
    # Euler-Maruyama: the stiffest direction of (1 + C A^T R^-1 A) h = 0.1 is too wide by a twentieth, others by less
    assert (found_covariance - covariance).norm() < 0.05 * covariance.norm()
    x = sampler(prior, measurement, 1000, rng(0)).samples.flatten(1)
    z = gaussian_z_scores(x, found_mean, found_covariance)
    assert z.mean < THRESHOLD and z.covariance < THRESHOLD
    short = published_law(replace(sampler, langevin_steps=20), prior, measurement)[1]
    assert (short - covariance).norm() > 0.1 * covariance.norm()


def test_preconditioner_of_the_published_law_is_its_formula():
    prior, _ = mask_noise_per_datum()
    sampler = FAPSPublished(rank=4, rank_draws=50, rank_steps=6, rank_seed=3)
    u = euler(prior, prior.source.sample(50, rng(3)), 0.0, 6).flatten(1)
    e, V = np.linalg.eigh(np.cov(u.numpy().T))
    e, V = e[::-1], V[:, ::-1]
    expected = V[:, :4] @ np.diag(e[:4]) @ V[:, :4].T + (e[4:].mean() + 1e-5) * np.eye(12)
    np.testing.assert_allclose(matrix(sampler.preconditioner(prior)).numpy(), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(matrix(replace(sampler, rank=0).preconditioner(prior)), torch.eye(12, dtype=torch.float64))


def gp_regression() -> Problem:
    """The setting of the published experiment: 128 points, 7 observations, noise variance 0.01."""
    points = torch.linspace(0, 1, 128, dtype=torch.float64)
    grid = PointSet(tuple((float(p),) for p in points))
    prior = gaussian_prior(Matern(1.5, 0.3), grid, source=Matern(0.5, 0.01))
    where = {"indices": torch.randperm(128, generator=rng(4))[:7].numpy()}
    description = {"name": "points", "arrays": {"indices": "indices"}}
    return prior, observe(prior, description, where, grid, GaussianNoise(0.01))


@pytest.mark.slow
def test_faps_as_published_is_rejected_where_the_flow_consistent_law_is_not():
    """Biased although its prior is perfect: mean off by about 0.3 posterior standard deviations, spread too wide."""
    prior, measurement = gp_regression()
    m, S = posterior_law(prior, measurement)
    e, V = torch.linalg.eigh(S)
    lead = V[:, -10:]  # the directions that hold nearly all of the posterior's variance
    assert e[-10:].sum() > 0.97 * e.sum()

    def z_of(samples: Tensor) -> float:
        z = gaussian_z_scores(samples.flatten(1) @ lead, lead.mT @ m, lead.mT @ S @ lead)
        return max(z.mean, z.covariance)

    published = FAPSPublished()(prior, measurement, 1024, rng(0)).samples
    assert z_of(published) > 2 * THRESHOLD
    spread = float((published.flatten(1).var(0).mean() / S.diagonal().mean()).sqrt())
    assert 1.02 < spread < 1.3
    for sampler in (Exact(), FAPS(), FAPS(levels=40)):
        assert z_of(sampler(prior, measurement, 1024, rng(0)).samples) < THRESHOLD


def test_white_source_by_pixels_serves_too():
    grid = Grid.regular((6,), 1.0, periodic=True)
    prior = gaussian_prior(Matern(1.5, 0.3), grid, source=White(2.0))
    mask = {"mask": np.array([True, False, True, False, False, True])}
    measurement = observe(prior, {"name": "mask", "arrays": {"mask": "mask"}}, mask, grid, GaussianNoise(0.02))
    for sampler in (Exact(), FAPS(levels=5)):
        assert max(z_scores(sampler(prior, measurement, DRAWS, rng(1)).samples, prior, measurement)) < THRESHOLD
