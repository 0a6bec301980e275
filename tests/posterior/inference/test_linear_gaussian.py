"""Conditioning in closed form: against dense algebra, and its two ways of solving against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import gaussian_z_scores
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley, Pixels

DRAWS = 4000
THRESHOLD = 4.5


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def measure(
    description: dict, arrays: dict, grid: Grid, noise, channels: int = 1, seed: int = 0, **more
) -> Measurement:
    operator = build_operator(description, arrays, grid, channels)
    truth = 2 * normal(1, channels, *grid.shape, seed=seed)
    return Measurement(
        y=noise.sample(operator.A(truth), rng(seed + 1)),
        operator=operator,
        noise=noise,
        grid=grid,
        channels=tuple(f"channel {i}" for i in range(channels)),
        description=description,
        arrays=arrays,
        **more,
    )


def points_scalar_noise() -> Measurement:
    coordinates = np.array([[0.05], [0.33], [0.34], [0.8]])
    description = {"name": "points", "arrays": {"coordinates": "where"}}
    return measure(description, {"where": coordinates}, Grid.regular((6,)), GaussianNoise(0.1))


def mask_noise_per_datum() -> Measurement:
    mask = np.array([[True, False, True, True], [False, True, True, False]])
    noise = GaussianNoise(0.02 + torch.rand((1, 2, 4), generator=rng(3), dtype=torch.float64))
    return measure({"name": "mask", "arrays": {"mask": "seen"}}, {"seen": mask}, Grid.regular((2, 4)), noise)


def some_data_missing() -> Measurement:
    grid, seen = Grid.regular((7,), periodic=True), torch.tensor([[True, True, False, True, False, True, True]])
    description = {"name": "convolution", "arrays": {"kernel": "kernel"}}
    return measure(description, {"kernel": np.array([0.2, 0.5, 0.3])}, grid, GaussianNoise(0.05), observed=seen)


def coils() -> Measurement:
    random = np.random.default_rng(4)
    maps = random.normal(size=(3, 2, 2)) + 1j * random.normal(size=(3, 2, 2))
    root = normal(3, 3, 2, seed=5)
    root = torch.view_as_complex(root)
    noise = CoilGaussianNoise(0.3 * root @ root.mH + 0.1 * torch.eye(3))
    description = {"name": "multicoil-mri", "arrays": {"coil_maps": "maps", "mask": "mask"}}
    arrays = {"maps": maps, "mask": np.array([[True, False], [True, True]])}
    return measure(description, arrays, Grid.regular((2, 2)), noise, channels=2)


MEASUREMENTS = {f.__name__: f for f in (points_scalar_noise, mask_noise_per_datum, some_data_missing, coils)}
every_measurement = pytest.mark.parametrize("make", MEASUREMENTS.values(), ids=MEASUREMENTS)


def prior_of(measurement: Measurement, rank: int = 2) -> tuple[torch.Tensor, Covariance]:
    shape = measurement.event_shape
    diagonal = 0.2 + torch.rand(shape, generator=rng(11), dtype=torch.float64)
    covariance = Covariance(Hartley(measurement.grid.ndim), diagonal, normal(rank, *shape, seed=12))
    return normal(*shape, seed=13), covariance


def unit_fields(shape: tuple[int, ...]) -> torch.Tensor:
    n = int(np.prod(shape))
    return torch.eye(n, dtype=torch.float64).reshape(n, *shape)


def dense_parts(measurement: Measurement, covariance: Covariance):
    """A, R and K as matrices, restricted to the observed data; made without adjoints or the laws' code."""
    y = measurement.y[0]
    seen = torch.ones_like(y, dtype=torch.bool) if measurement.observed is None else measurement.observed
    A = measurement.operator.A(unit_fields(measurement.event_shape)).flatten(1).mT
    if isinstance(measurement.noise, CoilGaussianNoise):
        psi, eye = measurement.noise.covariance / 2, torch.eye(y[0, 0].numel(), dtype=torch.float64)
        real = torch.cat([torch.cat([psi.real, -psi.imag], 1), torch.cat([psi.imag, psi.real], 1)])
        R = torch.kron(real, eye)
    else:
        R = (measurement.noise.variance * torch.ones_like(y)).flatten().diag()
    keep = seen.flatten()
    K = covariance.apply(unit_fields(covariance.event_shape)).flatten(1)
    return A[keep], R[keep][:, keep], K, y.flatten()[keep]


def dense_posterior(measurement: Measurement, mean: torch.Tensor, covariance: Covariance):
    A, R, K, y = dense_parts(measurement, covariance)
    gain = torch.linalg.solve(A @ K @ A.mT + R, A @ K).mT
    return mean.flatten() + gain @ (y - A @ mean.flatten()), K - gain @ A @ K


def by_iterations(measurement: Measurement, **options) -> LinearGaussianData:
    data = LinearGaussianData(measurement, Hartley(measurement.grid.ndim), **options)
    data.__dict__["dense"] = False
    return data


@every_measurement
@pytest.mark.parametrize("rank", [0, 2])
def test_mean_is_that_of_dense_algebra_by_both_ways(make, rank):
    measurement = make()
    mean, covariance = prior_of(measurement, rank)
    expected, _ = dense_posterior(measurement, mean, covariance)
    dense = LinearGaussianData(measurement, covariance.modes)
    assert dense.dense
    torch.testing.assert_close(dense.mean(mean[None], covariance).flatten(), expected, rtol=1e-9, atol=1e-9)
    exact = by_iterations(measurement, tolerance=1e-12)
    torch.testing.assert_close(exact.mean(mean[None], covariance).flatten(), expected, rtol=1e-9, atol=1e-9)
    nothing_learned = mean.flatten()
    assert (nothing_learned - expected).norm() > 0.1 * expected.norm()


@every_measurement
def test_iterations_stop_within_their_tolerance_of_a_posterior_standard_deviation(make):
    measurement = make()
    mean, covariance = prior_of(measurement)
    means = mean.expand(200, *mean.shape)
    exact = LinearGaussianData(measurement, covariance.modes).draw(means, covariance, rng(1)).flatten(1)
    L = torch.linalg.cholesky(dense_posterior(measurement, mean, covariance)[1])

    def worst(**options) -> float:
        """Largest error of a draw in posterior standard deviations, root mean square over modes and factors."""
        draws = by_iterations(measurement, **options).draw(means, covariance, rng(1)).flatten(1)
        error = torch.linalg.solve_triangular(L, (draws - exact).mT, upper=False)
        return float(error.square().sum(0).max() / (mean.numel() + covariance.rank)) ** 0.5

    assert worst() <= LinearGaussianData(measurement, covariance.modes).tolerance
    assert worst(tolerance=1e-3) <= 1e-3
    assert 1e-3 < worst(tolerance=0.5) <= 0.5


@every_measurement
def test_both_ways_draw_the_same_samples(make):
    measurement = make()
    mean, covariance = prior_of(measurement)
    means = mean.expand(5, *mean.shape)
    dense = LinearGaussianData(measurement, covariance.modes).draw(means, covariance, rng(1))
    iterated = by_iterations(measurement, tolerance=1e-11).draw(means, covariance, rng(1))
    torch.testing.assert_close(dense, iterated, rtol=1e-8, atol=1e-8)
    other = LinearGaussianData(measurement, covariance.modes).draw(means, covariance, rng(2))
    assert (other - dense).abs().max() > 0.1


@every_measurement
@pytest.mark.parametrize("way", [LinearGaussianData, by_iterations], ids=["dense", "iterated"])
def test_draws_have_the_posterior_law(make, way):
    measurement = make()
    mean, covariance = prior_of(measurement)
    data = way(measurement) if way is by_iterations else way(measurement, covariance.modes)
    x = data.draw(mean.expand(DRAWS, *mean.shape), covariance, rng(21)).flatten(1)
    law = dense_posterior(measurement, mean, covariance)
    z = gaussian_z_scores(x, *law)
    assert z.mean < THRESHOLD and z.covariance < THRESHOLD, z
    # negative controls: draws with the data unused, and without the noise that Matheron's rule adds to them
    unused = mean + covariance.sample(DRAWS, rng(22))
    assert gaussian_z_scores(unused.flatten(1), *law).mean > 2 * THRESHOLD
    noiseless = mean + covariance.sample(DRAWS, rng(23))
    noiseless = noiseless + data.correction(data.misfit(noiseless), covariance)
    assert gaussian_z_scores(noiseless.flatten(1), *law).covariance > 2 * THRESHOLD


def test_each_row_is_conditioned_on_its_own_mean():
    measurement = mask_noise_per_datum()
    _, covariance = prior_of(measurement)
    means = normal(3, *measurement.event_shape, seed=31)
    data = LinearGaussianData(measurement, covariance.modes)
    for i, row in enumerate(data.mean(means, covariance)):
        torch.testing.assert_close(row.flatten(), dense_posterior(measurement, means[i], covariance)[0])


@pytest.mark.parametrize("way", [LinearGaussianData, by_iterations], ids=["dense", "iterated"])
def test_a_sample_does_not_depend_on_its_company(way):
    measurement = coils()
    mean, covariance = prior_of(measurement)
    data = way(measurement) if way is by_iterations else way(measurement, covariance.modes)
    means = normal(4, *mean.shape, seed=32)
    together = data.draw(means, covariance, SampleStreams(7, range(4)))
    for i in range(4):
        alone = data.draw(means[i : i + 1], covariance, SampleStreams(7, [i]))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-8, atol=1e-8)  # rounding, through the iterations


def test_few_data_and_many_data_take_different_ways(monkeypatch):
    measurement = mask_noise_per_datum()
    monkeypatch.setattr("infield.posterior.inference.linear_gaussian.DENSE_DATA", measurement.count)
    assert LinearGaussianData(measurement, Hartley(2)).dense
    monkeypatch.setattr("infield.posterior.inference.linear_gaussian.DENSE_DATA", measurement.count - 1)
    assert not LinearGaussianData(measurement, Hartley(2)).dense
    monkeypatch.setattr("infield.posterior.inference.linear_gaussian.DENSE_DATA", measurement.count)
    monkeypatch.setattr("infield.posterior.inference.linear_gaussian.DENSE_ENTRIES", 1)
    assert not LinearGaussianData(measurement, Hartley(2)).dense


@every_measurement
def test_evidence_is_that_of_scipy(make):
    measurement = make()
    mean, covariance = prior_of(measurement)
    A, R, K, y = dense_parts(measurement, covariance)
    found = LinearGaussianData(measurement, covariance.modes).log_evidence(mean, covariance)
    law = multivariate_normal((A @ mean.flatten()).numpy(), (A @ K @ A.mT + R).numpy())
    np.testing.assert_allclose(float(found), law.logpdf(y.numpy()), rtol=1e-10)
    without_noise = multivariate_normal((A @ mean.flatten()).numpy(), (A @ K @ A.mT).numpy(), allow_singular=True)
    assert abs(float(found) - without_noise.logpdf(y.numpy())) > 0.1


def test_entries_that_are_no_data_do_not_matter():
    measurement = some_data_missing()
    mean, covariance = prior_of(measurement)
    spoiled = measure(
        measurement.description,
        dict(measurement.arrays),
        measurement.grid,
        measurement.noise,
        observed=measurement.observed,
    )
    spoiled.y[0][~measurement.observed] = float("nan")
    for make in (lambda m: LinearGaussianData(m, covariance.modes), by_iterations):
        clean = make(measurement).draw(mean[None], covariance, rng(1))
        assert torch.equal(make(spoiled).draw(mean[None], covariance, rng(1)), clean)


def test_errors_are_one_line_each(monkeypatch):
    counts = measure(
        {"name": "mask", "arrays": {"mask": "seen"}},
        {"seen": np.ones((2, 2), bool)},
        Grid.regular((2, 2)),
        GaussianNoise(1.0),
    )
    poisson = Measurement(y=counts.y.abs(), operator=counts.operator, noise=PoissonNoise(1.0), grid=counts.grid)
    with pytest.raises(InfieldError, match="expected a linear operator and Gaussian noise"):
        LinearGaussianData(poisson, Pixels())
    mean, covariance = prior_of(counts)
    with pytest.raises(InfieldError, match="expected at most"):
        by_iterations(counts).log_evidence(mean, covariance)
    with pytest.raises(InfieldError, match="conjugate gradients"):
        by_iterations(counts, tolerance=1e-14, max_iterations=1).mean(mean[None], covariance)
