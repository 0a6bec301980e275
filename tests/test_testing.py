"""The batteries of `infield.testing`: they accept what is right, and each rejects planted faults by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

import infield
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams, normal
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.noise.poisson import PoissonGaussianNoise, PoissonNoise
from infield.physics.operators.convolution import Convolution
from infield.physics.operators.level_set import TwoPhaseLevelSet
from infield.physics.operators.sensors import Mask
from infield.posterior.samplers.base import Draws, Posterior, Sampler
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.priors.covariance.modes import Eigenbasis
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior
from infield.testing import CheckFailed, check_noise_model, check_operator, check_prior, check_sampler
from infield.testing.samplers import _prior

GRID = Grid.regular((7,), 1.0)
SEEN = torch.arange(7) % 2 == 0
KERNEL = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)


def rejected(check, *arguments, by: str, **settings) -> None:
    with pytest.raises(CheckFailed) as failed:
        check(*arguments, **settings)
    assert failed.value.check == by, failed.value
    assert "\n" not in str(failed.value)


# --- operators ---


def test_right_operators_pass():
    check_operator(Mask(GRID, 2, SEEN))
    check_operator(Convolution(GRID, 1, KERNEL))
    check_operator(infield.operator("points", Grid.regular((5, 6)), coordinates=np.array([[0.1, 0.2], [0.7, 0.9]])))
    check_operator(infield.operator("exp", GRID), jacobian_tolerance=1e-6)
    check_operator(lambda x: torch.exp(x), grid=GRID, channels=1, pickled=False)


class NotTransposed(Convolution):
    def A_adjoint(self, y):
        return self.A(y)


class Rectified(Mask):
    def A(self, x):
        return super().A(x.abs())


class Centred(Mask):
    def A(self, x):
        return super().A(x - x.mean(0, keepdim=True))


class InDoublePrecision(Convolution):
    def A(self, x):
        return super().A(x).double()


class WrongDerivative(TwoPhaseLevelSet):
    def A_vjp(self, x, v):
        return 1.1 * super().A_vjp(x, v)


class Spoiling(Mask):
    def A(self, x):
        return super().A(x.mul_(1.0)) + 0 * x.add_(1.0).sum()


class SeesTheUnseen(Mask):
    def A(self, x):
        return x


@pytest.mark.parametrize(
    ("operator", "by"),
    [
        (NotTransposed(GRID, 1, KERNEL), "adjoint"),
        (Rectified(GRID, 1, SEEN), "linear"),
        (Centred(GRID, 1, SEEN), "batch"),
        (InDoublePrecision(GRID, 1, KERNEL), "single precision"),
        (WrongDerivative(GRID, 1.0, 2.0, 0.5), "vjp"),
        (Spoiling(GRID, 1, SEEN), "field"),
        (SeesTheUnseen(GRID, 1, SEEN), "observed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_faults_of_operators_are_rejected(operator, by):
    rejected(check_operator, operator, by=by)


def test_a_description_of_another_operator_is_rejected():
    described = infield.operator("mask", GRID, mask=SEEN.numpy())
    description, arrays = described.described
    other = {name: 1 - array for name, array in arrays.items()}
    rejected(check_operator, described, by="description", description=description, arrays=other)


# --- noise models ---

Z = 0.5 + 5 * torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    "noise",
    [
        GaussianNoise(0.3),
        PoissonNoise(0.5),
        PoissonGaussianNoise(1.0, 0.5),
        LowRankGaussianNoise(0.4, 0.5 * torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2))),
    ],
    ids=lambda noise: type(noise).__name__,
)
def test_right_noise_models_pass(noise):
    check_noise_model(noise, Z, draws=2000)


class StdForVariance(GaussianNoise):
    def sample(self, z, generator):
        return z + self.variance * torch.randn(z.shape, generator=generator, dtype=z.dtype)


class OffByGain(PoissonNoise):
    def gradient(self, y, z):
        return self.gain * super().gradient(y, z)


class SignForgotten(GaussianNoise):
    def gradient(self, y, z):
        return -super().gradient(y, z)


class BlindToTheMask(GaussianNoise):
    def log_prob(self, y, z, observed=None):
        return super().log_prob(y, z)


@dataclass(frozen=True, eq=False)
class Multiplicative(GaussianNoise):
    """Variance proportional to z squared, whose logarithm log_prob forgets."""

    def _std(self, z):
        return self.variance.sqrt() * z

    def sample(self, z, generator):
        return z + self._std(z) * torch.randn(z.shape, generator=generator, dtype=z.dtype)

    def log_prob(self, y, z, observed=None):
        terms = -0.5 * ((y - z) / self._std(z)) ** 2
        terms = terms if observed is None else torch.where(observed, terms, 0.0)
        return terms.flatten(1).sum(1)

    def gradient(self, y, z):
        return (y - z) * y / (self.variance * z**3)

    def chi_square(self, y, z, observed=None):
        return ((y - z) / self._std(z)).square().flatten(1).sum(1)


class GlobalDraws(GaussianNoise):
    def sample(self, z, generator):
        return z + self.variance.sqrt() * torch.randn(z.shape, dtype=z.dtype)


class ForgetsItsVariance(GaussianNoise):
    def to_json(self):
        return {"law": "gaussian", "variance": 1.0}


@pytest.mark.parametrize(
    ("noise", "by"),
    [
        (StdForVariance(0.3), "information"),
        (OffByGain(0.5), "gradient"),
        (SignForgotten(0.3), "gradient"),
        (BlindToTheMask(0.3), "observed"),
        (Multiplicative(0.04), "score"),
        (GlobalDraws(0.3), "sample"),
        (ForgetsItsVariance(0.3), "description"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_faults_of_noise_models_are_rejected(noise, by):
    rejected(check_noise_model, noise, Z, draws=2000, by=by)


# --- priors ---

LINE = Grid.regular((12,), 1.0)
GAUSSIAN = gaussian_prior(Matern(1.5, 0.3), LINE, source=Matern(0.5, 0.1)).in_units(2.0, 3.0)
TWO = MixturePrior(
    (GAUSSIAN, replace(GAUSSIAN, mean=torch.full((1, 12), 2.0, dtype=torch.float64))), torch.tensor([0.3, 0.7])
)


def test_right_priors_pass():
    check_prior(GAUSSIAN, draws=1500)
    check_prior(TWO, draws=1500)


class Hasty(GaussianPrior):
    def velocity(self, x, t):
        return 1.05 * super().velocity(x, t)


class Sideways(GaussianPrior):
    """Right on average over the field, wrong at each point."""

    def velocity(self, x, t):
        return super().velocity(x, t).roll(1, -1)


class Crowded(GaussianPrior):
    def velocity(self, x, t):
        return super().velocity(x, t) + 0.1 * (x.mean(0, keepdim=True) - x)


class AlwaysSingle(GaussianPrior):
    def velocity(self, x, t):
        return super().velocity(x, t).float()


class WithoutDerivative(GaussianPrior):
    def velocity(self, x, t):
        return super().velocity(x.detach(), t)


def as_kind(kind: type, **changes):
    return kind(**{name: getattr(GAUSSIAN, name) for name in GAUSSIAN.__dataclass_fields__} | changes)


def skewed_source():
    modes = GAUSSIAN.source.modes
    vectors = modes.vectors.clone()
    vectors[:, 0] *= 1.2
    return replace(GAUSSIAN.source, modes=Eigenbasis(vectors, modes.shape))


@pytest.mark.parametrize(
    ("prior", "by"),
    [
        (lambda: as_kind(Hasty), "conditional mean"),
        (lambda: as_kind(Sideways), "conditional mean"),
        (lambda: as_kind(Crowded), "batch"),
        (lambda: as_kind(AlwaysSingle), "precision"),
        (lambda: as_kind(WithoutDerivative), "derivative"),
        (lambda: as_kind(GaussianPrior, source=skewed_source()), "modes"),
    ],
    ids=["Hasty", "Sideways", "Crowded", "AlwaysSingle", "WithoutDerivative", "SkewedModes"],
)
def test_faults_of_priors_are_rejected(prior, by):
    rejected(check_prior, prior(), by=by)


def test_a_learned_prior_is_written_and_read_again(tmp_path):
    from examples.example_files import checkpoint

    from infield.priors.storage import flow_entry

    prior = infield.load_prior(checkpoint(tmp_path / "p.ckpt"))
    check_prior(prior, stored_as=flow_entry.STORED, tolerance=1e-4, draws=100)


# --- samplers ---


def test_right_samplers_pass():
    check_sampler(Exact())
    check_sampler(FAPS(), draws=1000)


@dataclass(frozen=True)
class Wrong(Exact):
    """The exact sampler, spoilt."""

    method: ClassVar[str] = "wrong"

    def spoil(self, prior, measurement, fields, generator):
        raise NotImplementedError

    def draw(self, prior, measurement, n, generator):
        return Draws(self.spoil(prior, measurement, super().draw(prior, measurement, n, generator).fields, generator))


class IgnoresData(Wrong):
    def spoil(self, prior, measurement, fields, generator):
        return prior.mean + prior.covariance.colour(normal(generator, len(fields), fields.shape[1:]))


class TooNarrow(Wrong):
    def spoil(self, prior, measurement, fields, generator):
        mean = fields.mean(0)
        return mean + 0.9 * (fields - mean)


class Biased(Wrong):
    def spoil(self, prior, measurement, fields, generator):
        return fields + 0.05


class Global(Wrong):
    def spoil(self, prior, measurement, fields, generator):
        return fields + 0 * torch.randn(1)


class AtTheMean(Wrong):
    def spoil(self, prior, measurement, fields, generator):
        return fields.mean(0, keepdim=True).expand(fields.shape)


class Unrelated(Wrong):
    """The right mean and variance at each point, without correlation between points."""

    def spoil(self, prior, measurement, fields, generator):
        mixed = [fields[:, :, i].roll(i, 0) for i in range(fields.shape[-1])]
        return torch.stack(mixed, -1)


@dataclass(frozen=True)
class IgnoresUnits(Sampler):
    method: ClassVar[str] = "ignores-units"

    def draw(self, prior, measurement, n, generator):
        return Exact().draw(prior, measurement, n, generator)

    def __call__(self, prior, measurement, n, generator):
        found = Exact()(prior, measurement, n, generator)
        return Posterior(prior.standardisation.from_units(found.samples), found.cost, found.diagnostics)


@pytest.mark.parametrize(
    ("sampler", "by"),
    [
        (IgnoresData(), "mean"),
        (TooNarrow(), "covariance"),
        (Biased(), "mean"),
        (Global(), "generator"),
        (AtTheMean(), "spread"),
        (Unrelated(), "covariance"),
        (IgnoresUnits(), "mean"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_faults_of_samplers_are_rejected(sampler, by):
    rejected(check_sampler, sampler, draws=800, by=by)


def test_the_threshold_is_met_by_chance_alone():
    """Over seeds, a right sampler's largest z-score is what that of so many normal numbers is."""
    from infield.posterior.diagnostics.calibration import gaussian_z_scores
    from infield.testing.samplers import _measurement, exact_posterior

    prior = _prior()
    measurement = _measurement(prior)
    mean, covariance = exact_posterior(prior, measurement)
    largest = []
    for seed in range(8):
        x = Exact()(prior, measurement, 300, SampleStreams(seed, range(300))).samples.flatten(1)
        z = gaussian_z_scores(x, mean, covariance)
        largest.append(max(z.mean, z.covariance))
    assert max(largest) < 4.5 and math.fsum(largest) / 8 > 2.0
