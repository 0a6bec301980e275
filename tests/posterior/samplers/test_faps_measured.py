"""FAPS with a measured local law: exact for Gaussian priors, better than the surrogate where errors have places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.inference.denoiser_errors import fit_denoiser_errors
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_measured import FAPSMeasured
from infield.priors.gaussian.bridge import Bridge
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

GRID = Grid.regular((32, 24), (4 / 3, 1.0), periodic=True)


def gaussian(channels=2):
    return gaussian_prior(Matern(1.5, 0.2), GRID, channels=channels)


def fourier_data(truth, std=0.1, share=0.3, seed=3):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(GRID.shape, generator=generator) < share
    operator = build_operator({"name": "fourier", "arrays": {"mask": "mask"}}, {"mask": mask.numpy()}, GRID, 2)
    noise = GaussianNoise(std**2)
    y = torch.where(operator.observed, noise.sample(operator.A(truth), generator), 0.0)
    return Measurement(y=y, operator=operator, noise=noise, grid=GRID, channels=("real", "imag"), truth=truth)


@pytest.fixture(scope="module")
def law():
    prior = gaussian()
    fields = prior.standardisation.to_units(prior.covariance.sample(400, torch.Generator().manual_seed(1)))
    return fit_denoiser_errors(prior, fields, [k / 4 for k in range(4)], torch.Generator().manual_seed(2))


def test_of_a_gaussian_prior_it_is_the_bridges_law(law):
    prior = gaussian()
    for k, t in enumerate(law.times):
        exact = Bridge(prior.covariance, prior.source, t).conditional().diagonal[0]
        fields = prior.covariance.sample(8, torch.Generator().manual_seed(5))
        found = law.at(k, fields, prior.covariance.modes)
        flat = (found.deviation.square().mean(0)[0]).log().std()
        assert float(flat) < 0.15  # the errors have no places
        scale = float(found.deviation.square().mean())
        off = (found.spectrum * scale / exact).log()
        assert float(off.abs().median()) < 0.25, t
        assert scale * float(found.spectrum.mean()) == pytest.approx(float(exact.mean()), rel=0.1)


def test_of_a_gaussian_prior_the_posterior_is_the_exact_one(law):
    prior = gaussian()
    truth = prior.standardisation.to_units(prior.covariance.sample(1, torch.Generator().manual_seed(7)))
    measurement = fourier_data(truth)
    n = 200
    ours = FAPSMeasured(law=law, tolerance=0.01)(prior, measurement, n, torch.Generator().manual_seed(0)).samples
    exact = Exact()(prior, measurement, n, torch.Generator().manual_seed(1)).samples
    spread = exact.std(0).square().mean().sqrt()
    assert float((ours.mean(0) - exact.mean(0)).square().mean().sqrt() / spread) < 0.15  # two means of 200: 0.1
    assert float(ours.var(0).mean() / exact.var(0).mean()) == pytest.approx(1, abs=0.08)


@dataclass(frozen=True)
class Islands:
    """A Gaussian prior's flow inside a square, and nothing outside: errors that have places."""

    inner: Any
    inside: torch.Tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "inner"), name)

    def velocity(self, x: torch.Tensor, t: float) -> torch.Tensor:
        clean = self.inside * (x + (1 - t) * self.inner.velocity(x, t))
        return (clean - x) / (1 - t)


def test_it_knows_where_an_image_ends():
    inner = gaussian_prior(Matern(0.5, 0.05), GRID, channels=2)
    inside = torch.zeros(GRID.shape, dtype=torch.float64)
    inside[8:24, 6:18] = 1.0
    inner = replace(inner, covariance=replace(inner.covariance, diagonal=inner.covariance.diagonal * 0.25))
    prior = Islands(replace(inner), inside)
    fields = inside * gaussian_prior(Matern(0.5, 0.05), GRID, channels=2).covariance.sample(
        33, torch.Generator().manual_seed(1)
    )
    law = fit_denoiser_errors(prior, fields[1:], [k / 8 for k in range(8)], torch.Generator().manual_seed(2))
    measurement = fourier_data(fields[:1])
    of_surrogate = FAPS(levels=8)(prior, measurement, 16, torch.Generator().manual_seed(0)).samples
    ours = FAPSMeasured(law=law)(prior, measurement, 16, torch.Generator().manual_seed(0)).samples

    def error(x):
        return float((x.mean(0) - fields[0]).norm() / fields[0].norm())

    def outside(x):
        return float((x.std(0) * (1 - inside)).square().mean())

    assert outside(ours) < 0.3 * outside(of_surrogate)
    assert error(ours) < error(of_surrogate)


def test_a_sample_does_not_depend_on_its_company(law):
    prior = gaussian()
    truth = prior.standardisation.to_units(prior.covariance.sample(1, torch.Generator().manual_seed(7)))
    measurement = fourier_data(truth)
    both = FAPSMeasured(law=law)(prior, measurement, 2, SampleStreams(0, [0, 1])).samples
    alone = FAPSMeasured(law=law)(prior, measurement, 1, SampleStreams(0, [1])).samples
    torch.testing.assert_close(both[1:], alone, rtol=1e-6, atol=1e-7)


def test_what_is_refused(law):
    with pytest.raises(InfieldError, match="widening"):
        FAPSMeasured(law=law, widening=0.0)
    with pytest.raises(InfieldError, match="t = 0"):
        FAPSMeasured(law=replace(law, times=(0.5, 0.75)))
    open_grid = gaussian_prior(Matern(1.5, 0.2), Grid.regular((12, 12), 1.0), channels=1)
    with pytest.raises(InfieldError, match="expected a uniform periodic grid"):
        fit_denoiser_errors(open_grid, torch.zeros(2, 1, 12, 12), [0.0], torch.Generator())


@pytest.mark.parametrize("widening", [1.0, 2.5])
def test_its_steps_are_those_of_dense_matrices(widening):
    """With the same random numbers: u ~ N(m, widening K), then towards the data by the gain of that covariance."""
    grid = Grid.regular((8, 6), (4 / 3, 1.0), periodic=True)
    prior = gaussian_prior(Matern(1.5, 0.3), grid, channels=2)
    fields = prior.covariance.sample(8, torch.Generator().manual_seed(1))
    law = fit_denoiser_errors(prior, fields, [0.0, 0.6], torch.Generator().manual_seed(2))
    mask = torch.rand(grid.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    operator = build_operator({"name": "fourier", "arrays": {"mask": "mask"}}, {"mask": mask.numpy()}, grid, 2)
    y = torch.where(operator.observed, 3 * operator.A(fields[:1]), 0.0)
    measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(0.04), grid=grid, channels=("real", "imag"))
    sampler, shape = FAPSMeasured(law=law, widening=widening, tolerance=1e-7), (2, *grid.shape)
    found = sampler.draw(prior, measurement, 2, torch.Generator().manual_seed(4)).fields

    unit = torch.eye(96, dtype=torch.float64).reshape(96, *shape)
    seen = operator.observed.expand(shape).flatten()
    A = operator.A(unit).flatten(1).mT[seen]
    generator = torch.Generator().manual_seed(4)

    def white():
        return torch.randn((2, *shape), generator=generator, dtype=torch.float64).flatten(1)

    def source():
        return prior.source.colour(white().reshape(2, *shape), torch.zeros(2, 0, dtype=torch.float64)).flatten(1)

    def expected(widening):
        u_t = source()
        for k, (t, t_next) in enumerate([(0.0, 0.6), (0.6, 1.0)]):
            m = u_t + (1 - t) * prior.velocity(u_t.reshape(2, *shape), t).flatten(1)
            w, eta = white(), 0.2 * white()[:, seen]
            ends = []
            for i in range(2):
                K = law.at(k, m[i].reshape(1, *shape), prior.covariance.modes)
                S = widening**0.5 * K.root(unit).flatten(1).mT
                u = m[i] + S @ w[i]
                gain = S @ S.mT @ A.mT @ torch.linalg.inv(A @ S @ S.mT @ A.mT + 0.04 * torch.eye(len(A)).to(A))
                ends.append(u + gain @ (y.flatten()[seen] + eta[i] - A @ u))
            u_1 = torch.stack(ends)
            u_t = t_next * u_1 + (1 - t_next) * source() if t_next < 1 else u_1
        return u_t.reshape(2, *shape)

    torch.testing.assert_close(found, expected(widening), rtol=1e-5, atol=1e-5)
    generator.manual_seed(4)
    assert (found - expected(2 * widening)).abs().max() > 1e-2  # negative control
