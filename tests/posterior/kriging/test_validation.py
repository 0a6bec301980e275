"""Leaving data out, in closed form beside brute force; verdicts on right and on wrong files."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from examples.kriging_example import GRID, data_on

from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise, UnknownGaussianNoise
from infield.physics.operators.sensors import PointSensors
from infield.posterior.kriging.adequacy import laplace_of_white, warnings_of
from infield.posterior.kriging.family import LOG_NOISE, Family
from infield.posterior.kriging.fit import Settings
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.kriging.law import Geometry
from infield.posterior.kriging.observations import Observations
from infield.posterior.kriging.outliers import far_apart, left_out_in_turn, outlying
from infield.posterior.kriging.rivals import rivals
from infield.posterior.kriging.validation import (
    leave_one_out,
    prior_covariance_of_data,
    validate,
    verdict,
    whitened,
)
from infield.posterior.kriging.variogram import variogram


def fitted(seed=0, *, n=60, true_noise=0.05, stated=0.05):
    _, y, operator = data_on(GRID, n=n, noise=true_noise, seed=seed)
    noise = GaussianNoise(torch.tensor(stated, dtype=torch.float64))
    measurement = Measurement(y=y[None, None], operator=operator, noise=noise, grid=GRID)
    return FittedField.of(measurement, hyper="plug-in", settings=Settings(orders=(1.5,)))


def test_leaving_one_out_is_kriging_from_the_others():
    field = fitted()
    data = field.measured(0, field.states[0])
    error, sd = leave_one_out(field, data)
    K = prior_covariance_of_data(field, data).numpy()
    y = data.y.numpy()
    for i in (0, 17, 59):
        rest = np.delete(np.arange(60), i)
        weights = np.linalg.solve(K[np.ix_(rest, rest)], K[rest, i])
        assert float(error[i]) == pytest.approx(y[i] - weights @ y[rest], rel=1e-6)
        assert float(sd[i]) ** 2 == pytest.approx(K[i, i] - weights @ K[rest, i], rel=1e-6)


def test_predictions_hold_what_they_promise():
    field = fitted(n=400)
    found = validate(field)
    assert found.count == 400 and found.how.startswith("one datum")
    assert abs(found.coverage[0.9] - 0.9) < 4.5 * (0.09 / 400) ** 0.5
    assert found.rmse == pytest.approx(
        float((leave_one_out(field, field.measured(0, field.states[0]))[0] ** 2).mean() ** 0.5)
    )
    assert 0.5 < found.blocked_rmse / found.rmse < 2 and abs(found.blocked_coverage[0.9] - 0.9) < 0.15
    assert float(whitened(field, field.measured(0, field.states[0])).square().mean()) == pytest.approx(1, abs=0.25)


def test_right_files_are_trusted_and_wrong_ones_are_not():
    right = [verdict(f, validate(f)).trusted for f in (fitted(seed) for seed in range(12))]
    assert sum(t == 0 for t in right) <= 1
    wrong = [fitted(seed, stated=0.45, n=120) for seed in range(4)]  # nine times the noise: no law can make up for it
    judged = [verdict(f, validate(f)) for f in wrong]
    assert all(v.trusted == 0 and v.because for v in judged)
    assert verdict(fitted(), None).trusted == "unchecked"


def test_one_wrong_datum_that_makes_the_law_is_named():
    """No law predicts it, but a law with its variance covers all others; a peak that its neighbours share is none."""
    x, y, operator = data_on(GRID)
    noise = UnknownGaussianNoise(torch.ones((), dtype=torch.float64))

    def judged(values):
        m = Measurement(y=values[None, None], operator=operator, noise=noise, grid=GRID)
        field = FittedField.of(m, hyper="plug-in", settings=Settings(orders=(1.5,)))
        return outlying(field, validate(field).z)

    wrong, peak = y.clone(), y + 20 * torch.exp(-0.5 * ((torch.from_numpy(x) - x[30]) / 2) ** 2)
    wrong[20] = 500.0
    (found,) = judged(wrong)
    assert "one datum, 500 " in found and "is it an error?" in found
    assert judged(y) == judged(peak) == []


def with_errors(n, seed):
    """A field of length 0.2 at random places with errors of 0.2; its operator and grid."""
    random = np.random.default_rng(seed)
    axis = tuple(i / 7 for i in range(8))
    grid, x = Grid((Axis("y", axis, "m"), Axis("x", axis, "m"))), random.random((n, 2))
    r = np.sqrt(3) * np.linalg.norm(x[:, None] - x, axis=-1) / 0.2
    f = np.linalg.cholesky((1 + r) * np.exp(-r) + 1e-9 * np.eye(n)) @ random.standard_normal(n)
    return f + 0.2 * random.standard_normal(n), PointSensors.at_coordinates(grid, 1, torch.from_numpy(x)), grid


@pytest.mark.parametrize("known", [True, False])
def test_three_gross_errors_among_eighty_data_are_said(known):
    """The noise level swallows them where it is fitted, and no single one holds half of the variance."""
    y, operator, grid = with_errors(80, 1)
    wrong = y.copy()
    wrong[[5, 40, 77]] += [12.0, -10.0, 11.0]

    def judged(values):
        noise = GaussianNoise(torch.tensor(0.04)) if known else UnknownGaussianNoise.of_data(values)
        m = Measurement(y=torch.from_numpy(values)[None, None], operator=operator, noise=noise, grid=grid)
        field = FittedField.of(m, hyper="plug-in", settings=Settings(orders=(1.5,), shapes=("isotropic",)))
        return verdict(field, validate(field))

    found, right = judged(wrong), judged(y)
    assert found.trusted == 0 and "3 data lie " in found.because, found
    assert right.trusted == 1, right


def test_gross_errors_are_counted_and_tails_are_none():
    """Independent numbers: of 200 Gaussian samples, and of heavy tails without a gap, none has exceptions."""
    random = torch.Generator().manual_seed(0)
    for n in (30, 300, 2000):
        assert not any(far_apart(torch.randn(n, generator=random)).sizes for _ in range(200) if n > 30)
    z = torch.randn(300, generator=random)
    z[:4] = torch.tensor([9.0, -8.0, 12.0, 7.5])
    assert far_apart(z).sizes == (12.0, 9.0, 8.0, 7.5)
    z[:100] = 9.0 + 0.1 * z[:100]  # a third of the data are no exceptions
    assert far_apart(z).sizes == ()
    levels = (torch.arange(1, 2001, dtype=torch.float64) - 0.5) / 2000
    student = torch.from_numpy(scipy.stats.t(4).ppf(levels.numpy()))
    assert float(student.abs().max()) > 6 and far_apart(student).sizes == ()


def test_an_error_left_out_spoils_nothing_any_more():
    """Beside brute force: inverses of what is left, one datum after another; without errors nothing stands out."""
    random = np.random.default_rng(3)
    x = np.sort(random.random(60))
    K = np.exp(-np.abs(x[:, None] - x) / 0.3) + 0.04 * np.eye(60)
    y = np.linalg.cholesky(K) @ random.standard_normal(60)
    assert left_out_in_turn(torch.from_numpy(np.linalg.inv(K)), torch.from_numpy(y)).sizes == ()
    y[[20, 22, 45]] += [6.0, 6.0, -9.0]  # two of them are neighbours
    rest, sizes = np.arange(60), []
    for _ in range(3):
        P = np.linalg.inv(K[np.ix_(rest, rest)])
        z = np.abs(P @ y[rest]) / np.sqrt(np.diag(P))
        sizes.append(float(z.max()))
        rest = np.delete(rest, z.argmax())
    found = left_out_in_turn(torch.from_numpy(np.linalg.inv(K)), torch.from_numpy(y))
    assert found.sizes == pytest.approx(tuple(sizes), rel=1e-6) and set(range(60)) - set(rest) == {20, 22, 45}


def short_or_white(n, seed, white):
    """Data of unknown noise level on the unit square: a field as short as 30 data are apart, or nothing but noise."""
    random = np.random.default_rng(seed)
    axis = tuple(i / 7 for i in range(8))
    grid, x = Grid((Axis("y", axis, "m"), Axis("x", axis, "m"))), random.random((n, 2))
    r = np.sqrt(3) * np.linalg.norm(x[:, None] - x, axis=-1) / 0.1
    f = np.linalg.cholesky((1 + r) * np.exp(-r) + 1e-9 * np.eye(n)) @ random.standard_normal(n)
    y = (0.0 if white else f) + 0.2 * random.standard_normal(n)
    operator = PointSensors.at_coordinates(grid, 1, torch.from_numpy(x))
    return Measurement(
        y=torch.from_numpy(y)[None, None], operator=operator, noise=UnknownGaussianNoise.of_data(y), grid=grid
    )


def white_noise(log_bayes_factor):
    """Warnings of a fit that has nothing else wrong."""
    _, y, _ = data_on(GRID)
    x = torch.linspace(0, 15, len(y), dtype=torch.float64)[:, None]
    data = Observations(x, y, torch.ones_like(y), torch.ones_like(x))
    family = Family(Geometry(("x",), ("m",), (None,)), 1.5, "isotropic", x.amax(0), True)
    mean, sd = family.prior
    return warnings_of(family, mean, sd / 10, log_bayes_factor, [data], False)


def test_short_fields_are_not_called_white_noise_and_white_noise_is():
    """Thirty data may favour white noise a little: that is said in words, and the file is trusted."""
    right = [FittedField.of(short_or_white(30, seed, False), hyper="plug-in") for seed in range(12)]
    assert sum(verdict(field, validate(field)).trusted == 0 for field in right) <= 1
    for favour, trusted in ((-0.9, 1), (-1.2, 0)):
        field = replace(right[0], fit=replace(right[0].fit, log_bayes_factor=favour, warnings=white_noise(favour)))
        found = verdict(field, validate(field))
        assert found.trusted == trusted and "white noise" in found.because
    white = [FittedField.of(short_or_white(200, seed, True), hyper="plug-in") for seed in range(3)]
    assert all(verdict(field, validate(field)).trusted == 0 for field in white)


def test_the_fitted_variogram_is_the_laws_and_data_follow_it():
    field = fitted(n=400)
    data = field.measured(0, field.states[0])
    found = variogram(field.fit.law, data)
    r = np.sqrt(3) * found.distance.numpy()
    law = 0.05 + field.fit.law.variance * (1 - (1 + r) * np.exp(-r))
    np.testing.assert_allclose(found.fitted.numpy(), law, rtol=1e-6)
    assert int(found.pairs.sum()) > 10_000
    short = found.distance < 0.5
    assert float((found.empirical[short] / found.fitted[short]).log().abs().max()) < 0.5


def on_the_square(noise, stated, periodic=False, n=120, seed=4):
    """Matern 3/2 data of the unit square, length 0.3, with noise of one variance where the file states another."""
    random = np.random.default_rng(seed)
    axis = tuple(i / 8 for i in range(8)) if periodic else tuple(i / 7 for i in range(8))
    grid = Grid(tuple(Axis(name, axis, "m", periodic) for name in "yx"))
    x = 0.999 * random.random((n, 2))
    r = np.sqrt(3) * np.linalg.norm(x[:, None] - x, axis=-1) / 0.3
    f = np.linalg.cholesky((1 + r) * np.exp(-r) + 1e-9 * np.eye(n)) @ random.standard_normal(n)
    y = torch.from_numpy(f + np.sqrt(noise) * random.standard_normal(n))
    operator = PointSensors.at_coordinates(grid, 1, torch.from_numpy(x))
    law = GaussianNoise(torch.tensor(stated, dtype=torch.float64))
    measurement = Measurement(y=y[None, None], operator=operator, noise=law, grid=grid)
    return FittedField.of(measurement, hyper="plug-in")


def test_what_a_file_states_wrongly_is_seen_by_its_rivals():
    """Noise that is stated too small passes for a rough field; an axis that is said to close, for a rougher one."""
    right = on_the_square(0.09, 0.09)
    assert rivals(right) == [] and verdict(right, validate(right)).trusted == 1
    louder = on_the_square(0.09, 0.09 / 25)
    assert any("favour noise" in words for words in rivals(louder))
    seam = on_the_square(0.01, 0.01, periodic=True)
    assert any("is periodic" in words for words in rivals(seam))
    assert all(verdict(field, validate(field)).trusted == 0 for field in (louder, seam))


def test_the_evidence_of_white_noise_integrates_over_its_level():
    """Beside a sum over the log variance s: data whose mean square is one have exp(-n/2 (s + e^-s - 1)) of the best."""
    counts, (mean, sd) = (3000, 20000), LOG_NOISE
    s = np.linspace(-1, 1, 200_001)
    expected = 0.0
    for n in counts:
        relative = np.exp(-n / 2 * (s + np.exp(-s) - 1)) * scipy.stats.norm.pdf(s, mean, sd)
        expected += np.log(np.trapezoid(relative, s))

    def channel(noise):
        n = len(noise)
        return Observations(torch.zeros(n, 1), torch.zeros(n), noise, torch.zeros(n, 0), torch.zeros(0))

    channels = [channel(torch.ones(n)) for n in counts[:1]]
    several = torch.zeros(sum(counts), 3)
    several[: counts[0], 0], several[counts[0] :, 1], several[:, 2] = 1.0, 1.0, 9.0
    assert laplace_of_white([channel(several)], False) == pytest.approx(expected, abs=5e-3)
    assert laplace_of_white([channel(torch.ones(n)) for n in (1000, 2000)], False) == laplace_of_white(channels, False)
    assert laplace_of_white(channels, True) == 0.0
