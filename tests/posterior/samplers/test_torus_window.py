"""Posteriors of fields on domains that do not close, by laws on a torus seen through a window."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.core.transform import Window
from infield.datasets.formats.measurement import write_measurement
from infield.datasets.formats.posterior import open_posterior
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.crop import Crop, torus_around
from infield.physics.operators.registry import build_operator
from infield.pipelines.commands.reconstruct import reconstruct
from infield.posterior.diagnostics.calibration import gaussian_z_scores
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_published import FAPSPublished
from infield.priors.gaussian import kernels as source
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior
from infield.priors.storage.from_yaml import prior_from_description

THRESHOLD, DRAWS = 4.5, 6000
GRID, LAW = Grid.regular((5, 7), (1.0, 1.4)), Matern(1.5, 0.6)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def embed_all(monkeypatch):
    monkeypatch.setattr(source, "EMBED_ABOVE", 20)


def windowed(law: Matern = LAW) -> GaussianPrior:
    prior = gaussian_prior(law, GRID, source=Matern(0.5, 0.2))
    assert "torus" in prior.provenance
    return prior.in_units(3.0, 2.0)


def measurement(name: str) -> Measurement:
    """About every second value, or six sensors between the points; the noise differs from datum to datum."""
    rest = np.random.default_rng(3)
    mask = rest.random(GRID.shape) < 0.5
    cases: dict[str, tuple[dict, dict]] = {
        "mask": ({"name": "mask", "arrays": {"mask": "m"}}, {"m": mask}),
        "points": (
            {"name": "points", "arrays": {"coordinates": "s"}},
            {"s": rest.random((6, 2)) * np.array([1.0, 1.4])},
        ),
    }
    description, arrays = cases[name]
    operator = build_operator(description, arrays, GRID, 1)
    z = operator.A(3 + 2 * torch.randn(1, 1, 5, 7, generator=rng(0), dtype=torch.float64))
    noise = GaussianNoise(0.05 + 0.2 * torch.rand(z.shape[1:], generator=rng(1), dtype=torch.float64))
    return Measurement(
        y=noise.sample(z, rng(2)), operator=operator, noise=noise, grid=GRID, description=description, arrays=arrays
    )


def dense_posterior(
    m: Measurement, law: Matern = LAW, *, periods: tuple[float, ...] | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and covariance in units, by dense algebra on the domain alone."""
    C = 4 * matern_matrix(GRID.points(), nu=law.nu, length=law.length, variance=1.0, periods=periods)
    A = m.operator.A(torch.eye(GRID.size, dtype=torch.float64).reshape(-1, 1, *GRID.shape)).flatten(1).mT
    keep = torch.ones(len(A), dtype=torch.bool) if m.observed is None else m.observed.flatten()
    A, y, R = A[keep], m.y.flatten()[keep], torch.diag(m.noise.variance.flatten()[keep])
    gain = torch.linalg.solve(A @ C @ A.mT + R, A @ C).mT
    return 3 + gain @ (y - 3 * A.sum(1)), C - gain @ A @ C


every_case = pytest.mark.parametrize("name", ["mask", "points"])


@every_case
def test_the_mean_is_that_of_dense_algebra_on_the_domain(name):
    """With matrices of few data, with those of many sensors, and with the conjugate gradients of many data."""
    m, prior = measurement(name), windowed()
    mean, _ = dense_posterior(m)
    data = LinearGaussianData(m.pullback(prior.standardisation), prior.source.modes, tolerance=1e-11)

    def error() -> float:
        found = prior.standardisation.to_units(data.mean(prior.mean[None], prior.covariance))
        assert found.shape == (1, 1, 5, 7)
        return float((found.flatten() - mean).abs().max())

    assert data.dense and error() < 1e-8
    data.__dict__ |= {"dense": False}
    data.__dict__.pop("sensors")
    assert data.by_sensors(prior.covariance) == (name == "points") and error() < 1e-8
    data.__dict__["sensors"] = None
    assert error() < 1e-8
    wrapped, _ = dense_posterior(m, periods=(1.25, 1.4 * 7 / 6))
    assert float((wrapped - mean).abs().max()) > 0.1


@every_case
@pytest.mark.parametrize("sampler", [Exact(), FAPS(), FAPS(levels=4)], ids=["exact", "faps", "faps-4"])
def test_draws_have_the_posterior_of_the_domain(name, sampler):
    m, prior = measurement(name), windowed()
    posterior = sampler(prior, m, DRAWS, rng(0))
    assert posterior.samples.shape == (DRAWS, 1, 5, 7)
    z = gaussian_z_scores(posterior.samples.flatten(1), *dense_posterior(m))
    assert z.mean < THRESHOLD and z.covariance < THRESHOLD
    if sampler == FAPS():
        wrong = gaussian_z_scores(posterior.samples.flatten(1), *dense_posterior(m, periods=(1.25, 1.4 * 7 / 6)))
        assert max(wrong.mean, wrong.covariance) > 2 * THRESHOLD
        chi_square = float(m.chi_square(posterior.samples).mean())
        assert posterior.diagnostics["chi_square"] == pytest.approx(chi_square)


def test_samples_are_the_same_alone_and_in_company():
    m, prior = measurement("mask"), windowed()
    together = FAPS()(prior, m, 4, SampleStreams(1, range(4))).samples
    for i in range(4):
        torch.testing.assert_close(FAPS()(prior, m, 1, SampleStreams(1, [i])).samples[0], together[i])


def test_a_mixture_is_weighed_by_what_the_window_shows():
    """Exact draws of a mixture of two lengths: the share of each is that of dense evidence."""
    m = measurement("mask")
    laws = [Matern(1.5, 0.1), Matern(1.5, 0.6)]
    description = {
        "prior": "mixture",
        "components": [{"law": {"law": "matern", "length": law.length}} for law in laws],
        "source": {"law": "white"},
        "mean": 3.0,
        "scale": 2.0,
    }
    prior = prior_from_description(description, GRID, 1)
    parts = [dense_posterior(m, law) for law in laws]
    evidence = []
    A = m.operator.A(torch.eye(GRID.size, dtype=torch.float64).reshape(-1, 1, *GRID.shape)).flatten(1).mT
    keep = m.observed.flatten()
    for law in laws:
        C = 4 * matern_matrix(GRID.points(), nu=1.5, length=law.length, variance=1.0)
        G = (A @ C @ A.mT)[keep][:, keep] + torch.diag(m.noise.variance.flatten()[keep])
        normal = torch.distributions.MultivariateNormal(3 * A[keep].sum(1), G)
        evidence.append(normal.log_prob(m.y.flatten()[keep]))
    weights = torch.softmax(torch.stack(evidence), 0)
    mean = sum(w * part[0] for w, part in zip(weights, parts, strict=True))
    x = Exact()(prior, m, DRAWS, rng(4)).samples.flatten(1)
    assert float(((x.mean(0) - mean) / (x.std(0) / math.sqrt(DRAWS))).abs().max()) < THRESHOLD


def test_operators_that_are_not_linear_look_through_the_window_too():
    """Counts: the affine change of units, then the window; gradients by the transposed chain."""
    prior = windowed()
    operator = build_operator(
        {"name": "mask", "arrays": {"mask": "m"}}, {"m": np.ones(GRID.shape, dtype=bool)}, GRID, 1
    )
    y = torch.full((1, 1, 5, 7), 4.0).double()
    described = {"name": "mask", "arrays": {"mask": "m"}}
    m = Measurement(y=y, operator=operator, noise=PoissonNoise(1.0), grid=GRID, description=described)
    inner = m.pullback(prior.standardisation)
    x = (0.1 * torch.randn(2, *prior.mean.shape, generator=rng(0), dtype=torch.float64)).requires_grad_()
    torch.testing.assert_close(inner.log_likelihood(x), m.log_likelihood(prior.standardisation.to_units(x)))
    (expected,) = torch.autograd.grad(inner.log_likelihood(x).sum(), x)
    torch.testing.assert_close(inner.gradient(x.detach()), expected)
    short = FAPSPublished(levels=2, flow_steps=2, langevin_steps=2, rank=0, step=1e-5)
    assert short(prior, m, 2, rng(0)).samples.shape == (2, 1, 5, 7)
    with pytest.raises(InfieldError, match="found operator 'mask'"):
        Exact()(prior, m, 2, rng(0))


def test_the_window_is_a_linear_operator_with_its_adjoint():
    torus = torus_around(GRID, (8, 9))
    assert torus.shape == (8, 9) and all(axis.periodic for axis in torus.axes)
    np.testing.assert_allclose(torus.spacing, GRID.spacing)
    assert torus.axes[0].coordinates[:5] == GRID.axes[0].coordinates and torus.names == GRID.names
    crop = Crop(torus, GRID, 2)
    x, y = (torch.randn(3, 2, *shape, generator=rng(i)) for i, shape in enumerate([(8, 9), (5, 7)]))
    assert float((crop.A(x) * y).sum()) == pytest.approx(float((x * crop.A_adjoint(y)).sum()), rel=1e-5)
    seen = measurement("mask").pullback(Window(measurement("mask").grid.shape, (8, 9)))
    assert seen.event_shape == (1, 8, 9) and seen.linear_gaussian
    assert [part["name"] for part in seen.description["operators"]] == ["mask", "window"]


def test_a_prior_of_another_domain_is_refused_by_the_shape_of_the_domain():
    other = gaussian_prior(LAW, Grid.regular((6, 7)))
    with pytest.raises(InfieldError, match=r"of a field of shape \(1, 5, 7\), expected \(1, 6, 7\)"):
        FAPS()(other, measurement("mask"), 2, rng(0))


def test_reconstruct_takes_a_law_on_a_grid_that_does_not_close(tmp_path):
    """No `wrap`, no dense matrix: the whole road of a measurement, of more data than matrices are formed for."""
    grid = Grid.regular((72, 60))
    mask = np.random.default_rng(0).random(grid.shape) < 0.4
    description, arrays = {"name": "mask", "arrays": {"mask": "m"}}, {"m": mask}
    operator = build_operator(description, arrays, grid, 1)
    prior = gaussian_prior(Matern(1.5, 0.15), grid)
    truth = prior.standardisation.to_units(prior.covariance.sample(1, rng(0)))
    noise = GaussianNoise(torch.tensor(0.01, dtype=torch.float64))
    y = torch.from_numpy(mask) * noise.sample(operator.A(truth), rng(1))
    m = Measurement(y=y, operator=operator, noise=noise, grid=grid, description=description, arrays=arrays)
    write_measurement(tmp_path / "m.zarr", m)
    (tmp_path / "prior.yaml").write_text("{prior: gaussian, law: {law: matern, nu: 1.5, length: 0.15}}")
    summary = reconstruct(
        tmp_path / "m.zarr", tmp_path / "p.zarr", prior=str(tmp_path / "prior.yaml"), samples=8, quiet=True, workers=1
    )
    assert 0.85 < summary["chi_square"] < 1.15
    with open_posterior(tmp_path / "p.zarr") as posterior:
        x = torch.from_numpy(posterior["samples"].values).double()
    assert x.shape == (8, 72, 60)
    spread = x.var(0) * 9 / 8
    squared = ((x.mean(0) - truth[0, 0]).square() / spread).mean()
    assert 0.7 < float(squared) < 2.0  # the truth is one more draw: of 8, 7/5 is expected
