"""Measurements: likelihood, gradient and chi-square over the observed data, and the change of units."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core._deepinv import LinearPhysics, Physics
from infield.core.grid import Grid
from infield.core.transform import Affine
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import GaussianNoise, PoissonGaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator

GRID = Grid.regular((4, 5))
CHANNELS = ("a", "b")
ARRAYS = {
    "mask": np.random.default_rng(0).random((4, 5)) > 0.4,
    "maps": np.random.default_rng(1).normal(size=(3, 4, 5)) + 1j * np.random.default_rng(2).normal(size=(3, 4, 5)),
    "kernel": np.array([[0.1, 0.2, 0.05], [0.1, 0.4, 0.15]]),
}
MASK = {"name": "mask", "arrays": {"mask": "mask"}}
BLUR = {"name": "convolution", "arrays": {"kernel": "kernel"}}
MRI = {"name": "multicoil-mri", "arrays": {"coil_maps": "maps", "mask": "mask"}}
MASKED_BLUR = {"name": "compose", "operators": [MASK, BLUR]}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fields(batch: int, seed: int = 1) -> torch.Tensor:
    """Positive fields, so that counts are possible."""
    return 0.5 + 3 * torch.rand(batch, 2, 4, 5, generator=generator(seed), dtype=torch.float64)


def measure(description: dict, noise, **changes) -> Measurement:
    operator = build_operator(description, ARRAYS, GRID, 2)
    truth = fields(1, seed=7)
    given = dict(
        y=changes["y"] if "y" in changes else noise.sample(operator.A(truth), generator(2)),
        operator=operator,
        noise=noise,
        grid=GRID,
        channels=CHANNELS,
        units="K",
        truth=truth,
        description=description,
        arrays=ARRAYS,
    )
    return Measurement(**(given | changes))


def coil_noise() -> CoilGaussianNoise:
    root = torch.randn(3, 3, generator=generator(3), dtype=torch.complex128)
    return CoilGaussianNoise(root @ root.mH + 0.5 * torch.eye(3))


MEASUREMENTS = {
    "mask, gaussian": lambda: measure(MASK, GaussianNoise(0.1)),
    "blur, per datum": lambda: measure(BLUR, GaussianNoise(torch.rand(2, 4, 5, generator=generator()) + 0.1)),
    "masked blur, gaussian": lambda: measure(MASKED_BLUR, GaussianNoise(0.1)),
    "mri, coil noise": lambda: measure(MRI, coil_noise()),
    "masked blur, poisson": lambda: measure(MASKED_BLUR, PoissonNoise(0.2)),
    "mask, poisson-gaussian": lambda: measure(MASK, PoissonGaussianNoise(0.2, 0.05)),
}
every_measurement = pytest.mark.parametrize("measurement", [m() for m in MEASUREMENTS.values()], ids=MEASUREMENTS)


def gradient_error(measurement: Measurement, gradient: torch.Tensor, x: torch.Tensor) -> float:
    x = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(measurement.log_likelihood(x).sum(), x)
    return ((gradient - expected).norm() / expected.norm()).item()


@every_measurement
def test_gradient_is_that_of_the_likelihood(measurement):
    x = fields(3)
    assert gradient_error(measurement, measurement.gradient(x), x) < 1e-10
    assert gradient_error(measurement, -measurement.gradient(x), x) > 1
    assert gradient_error(measurement, 0.5 * measurement.gradient(x), x) > 0.4


@pytest.mark.parametrize("name", [name for name in MEASUREMENTS if name != "blur, per datum"])
def test_unobserved_data_contribute_exactly_nothing(name):
    measurement = MEASUREMENTS[name]()
    x = fields(2)
    spoiled = measure(
        measurement.description,
        measurement.noise,
        y=torch.where(measurement.observed, measurement.y, torch.nan),
        observed=measurement.observed,
    )
    for method in ("log_likelihood", "gradient", "chi_square", "residual"):
        clean, found = getattr(measurement, method)(x), getattr(spoiled, method)(x)
        assert torch.isfinite(found).all() and torch.equal(clean, found), method
    assert (spoiled.residual(x)[:, ~measurement.observed] == 0).all()
    assert measurement.count == int(measurement.observed.sum()) < measurement.y.numel()
    everything = measure(measurement.description, measurement.noise, observed=torch.ones_like(measurement.observed))
    assert everything.count == measurement.y.numel()


def test_likelihood_is_that_of_the_observed_data_alone():
    measurement, x = measure(MASK, GaussianNoise(0.1)), fields(2)
    seen = measurement.observed
    r = (measurement.y - x)[:, seen]
    expected = -0.5 * (r**2 / 0.1 + math.log(2 * math.pi * 0.1)).sum(1)
    torch.testing.assert_close(measurement.log_likelihood(x), expected)
    torch.testing.assert_close(measurement.chi_square(x), (r**2).mean(1) / 0.1)
    torch.testing.assert_close(measurement.residual(x)[:, seen], r)


@every_measurement
def test_chi_square_at_the_truth_is_one(measurement):
    z = measurement.operator.A(measurement.truth)
    values = []
    for seed in range(300):
        drawn = measure(measurement.description, measurement.noise, y=measurement.noise.sample(z, generator(seed)))
        values.append(drawn.chi_square(measurement.truth))
    values = torch.cat(values)
    assert abs((values.mean() - 1) / (values.std() / math.sqrt(300))) < 4.5
    assert abs((2 * values.mean() - 1) / (2 * values.std() / math.sqrt(300))) > 20  # a complex datum counted once


@every_measurement
def test_rows_of_a_batch_stand_alone(measurement):
    x = fields(3)
    for method in ("log_likelihood", "gradient", "chi_square", "residual"):
        together = getattr(measurement, method)(x)
        for i in range(3):
            torch.testing.assert_close(
                together[i], getattr(measurement, method)(x[i : i + 1])[0], rtol=1e-12, atol=1e-12
            )


@every_measurement
def test_standardised_measurement_says_the_same(measurement):
    shift = torch.tensor([0.3, -0.1]).double().reshape(2, 1, 1)
    scale = torch.tensor([2.0, 0.5]).double().reshape(2, 1, 1)
    x = fields(2)
    u = (x - shift) / scale
    standard = measurement.pullback(Affine(shift, scale))
    torch.testing.assert_close(standard.log_likelihood(u), measurement.log_likelihood(x))
    torch.testing.assert_close(standard.gradient(u), measurement.gradient(x) * scale)
    torch.testing.assert_close(standard.chi_square(u), measurement.chi_square(x))
    torch.testing.assert_close(standard.truth * scale + shift, measurement.truth)
    assert standard.linear_gaussian == measurement.linear_gaussian
    assert (standard.count, standard.units, standard.channels) == (measurement.count, "1", CHANNELS)
    rebuilt = build_operator(standard.description, standard.arrays, GRID, 2)
    assert torch.equal(rebuilt.A(u), standard.operator.A(u))
    twice = standard.pullback(Affine(shift, scale))
    torch.testing.assert_close(twice.log_likelihood((u - shift) / scale), measurement.log_likelihood(x))
    again = build_operator(twice.description, twice.arrays, GRID, 2)
    assert torch.equal(again.A(u), twice.operator.A(u))
    forgotten = measurement.pullback(Affine(torch.zeros_like(shift), scale))
    assert not torch.allclose(forgotten.log_likelihood(u), measurement.log_likelihood(x))


class Square(Physics):
    """A non-linear instrument of somebody else, with nothing but `A`."""

    def A(self, x):
        return x**2 + x.roll(1, -1)


def test_nonlinear_operator_of_somebody_else():
    y = torch.rand(1, 2, 4, 5, generator=generator(4), dtype=torch.float64)
    observed = torch.from_numpy(ARRAYS["mask"]).expand(2, 4, 5)
    measurement = Measurement(
        y=y, operator=Square(), noise=GaussianNoise(0.1), grid=GRID, channels=CHANNELS, observed=observed
    )
    x, shift, scale = fields(2), torch.full((2, 1, 1), 0.3).double(), torch.full((2, 1, 1), 2.0).double()
    assert not measurement.linear_gaussian
    assert gradient_error(measurement, measurement.gradient(x), x) < 1e-10
    standard, u = measurement.pullback(Affine(shift, scale)), (x - shift) / scale
    torch.testing.assert_close(standard.log_likelihood(u), measurement.log_likelihood(x))
    torch.testing.assert_close(standard.gradient(u), measurement.gradient(x) * scale)
    assert not standard.linear_gaussian and standard.description == {}


def test_linear_gaussian():
    assert measure(MASK, GaussianNoise(0.1)).linear_gaussian and measure(MRI, coil_noise()).linear_gaussian
    assert not measure(MASK, PoissonNoise(0.1)).linear_gaussian
    assert not measure(MASK, PoissonGaussianNoise(0.1, 0.1)).linear_gaussian
    assert isinstance(measure(MASKED_BLUR, GaussianNoise(0.1)).operator, LinearPhysics)


def test_poisson_where_no_light_was_observed():
    y = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    measurement = measure(MASK, PoissonNoise(0.5), y=y)
    x = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    assert measurement.log_likelihood(x).item() == 0 and measurement.chi_square(x).item() == 0
    seen = measurement.observed
    gradient = measurement.gradient(x)[0]
    assert (gradient[seen] == -2).all() and (gradient[~seen] == 0).all()


@every_measurement
def test_copies(measurement):
    x = fields(2)
    other = pickle.loads(pickle.dumps(measurement))
    assert torch.equal(other.log_likelihood(x), measurement.log_likelihood(x))
    before = measurement.log_likelihood(x)
    single = measurement.to("cpu", torch.float32)
    assert single.gradient(x.float()).dtype == torch.float32
    torch.testing.assert_close(single.log_likelihood(x.float()).double(), before, rtol=1e-4, atol=1e-3)
    assert torch.equal(measurement.log_likelihood(x), before)  # the original stays as it was


Y = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
NAN = Y.clone()
NAN[0, 0, 0, 0] = math.nan
SOME_COILS = torch.ones(2, 3, 4, 5, dtype=torch.bool)
SOME_COILS[:, 0, 0, 0] = False


@pytest.mark.parametrize(
    ("description", "noise", "changes", "message"),
    [
        (
            BLUR,
            GaussianNoise(1.0),
            {"y": Y.expand(2, 2, 4, 5)},
            r"found y of shape \(2, 2, 4, 5\), expected \(1, \*data\)",
        ),
        (BLUR, GaussianNoise(1.0), {"y": Y[..., :1]}, r"found y of shape \(2, 4, 1\), expected \(2, 4, 5\)"),
        (BLUR, GaussianNoise(1.0), {"y": NAN}, "found 1 NaN or Inf among 40 observed data"),
        (BLUR, GaussianNoise(1.0), {"y": Y / 0}, "found 40 NaN or Inf"),
        (BLUR, GaussianNoise(1.0), {"truth": Y[..., :2]}, "found truth of shape"),
        (BLUR, GaussianNoise(1.0), {"observed": torch.ones(4, 5).bool()}, "found observed of shape"),
        (BLUR, GaussianNoise(1.0), {"observed": torch.ones(2, 4, 5)}, "found observed of type torch.float32"),
        (BLUR, GaussianNoise(1.0), {"observed": torch.zeros(2, 4, 5).bool()}, "found no observed datum"),
        (BLUR, GaussianNoise(torch.ones(3, 4, 5)), {"y": Y}, "found noise variance of shape"),
        (BLUR, GaussianNoise(torch.ones(1, 1, 2, 4, 5)), {"y": Y}, "found noise variance of shape"),
        (BLUR, PoissonNoise(1.0), {"y": Y - 1}, "found 40 negative counts"),
        (MRI, coil_noise(), {"observed": SOME_COILS}, "observed in some coils only"),
    ],
)
def test_bad_measurements(description, noise, changes, message):
    with pytest.raises(InfieldError, match=message) as error:
        measure(description, noise, **changes)
    assert "\n" not in str(error.value)


def test_an_operator_that_gives_other_data_is_refused():
    class Half(Physics):
        def A(self, x):
            return x[..., ::2]

    with pytest.raises(InfieldError, match=r"found y of shape \(2, 4, 5\), expected \(2, 4, 3\)"):
        Measurement(y=Y, operator=Half(), noise=GaussianNoise(1.0), grid=GRID, channels=CHANNELS)


class _Even(GaussianNoise):
    """A model that knows only even data."""

    def check(self, y, observed=None):
        super().check(y, observed)
        if ((y if observed is None else y[observed]) % 2 != 0).any():
            raise InfieldError(where="measurement", found="an odd datum", expected="even ones")


def test_a_noise_model_says_which_data_it_can_have_produced():
    y = torch.full((1, 2, 4, 5), 2.0, dtype=torch.float64)
    seen = torch.ones(2, 4, 5, dtype=torch.bool)
    seen[0, 0, 0], y[0, 0, 0, 0] = False, 3.0
    blur = {"y": y, "truth": None}
    assert measure(BLUR, _Even(0.1), observed=seen, **blur).noise.to("cpu").variance == 0.1
    with pytest.raises(InfieldError, match="found an odd datum"):
        measure(BLUR, _Even(0.1), **blur)
    with pytest.raises(InfieldError, match="noise variance of shape"):
        measure(BLUR, _Even(torch.ones(2)), observed=seen, **blur)
