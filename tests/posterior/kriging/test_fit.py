"""The fit of a stationary law: its optimum, errors, units, axes that share no length, what is refused, what is said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import PointSet
from infield.posterior.kriging.family import LOG_LENGTH, LOG_NOISE, LOG_VARIANCE, Family, extents
from infield.posterior.kriging.fit import Fitting, Settings, fit
from infield.posterior.kriging.law import Geometry, StationaryLaw
from infield.posterior.kriging.observations import Observations, Trend

PLANE = Geometry(("y", "x"), ("m", "m"), (None, None))
LINE = Geometry(("t",), ("s",), (None,))


def uniform(n: int, geometry: Geometry, seed: int) -> Tensor:
    return torch.rand((n, geometry.ndim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def observed(law: StationaryLaw, x: Tensor, noise: float, seed: int, told: float | None = None, kind="constant"):
    """A constant and a field of this law at x, with noise; its variance told, or that of another standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    z = law.embed(x)
    K = law.between(z, z) + 1e-10 * law.variance * torch.eye(len(x), dtype=torch.float64)
    white = torch.randn(2, len(x), generator=generator, dtype=torch.float64)
    y = 4.0 + torch.linalg.cholesky(K) @ white[0] + noise * white[1]
    return Observations(
        x, y, torch.full_like(y, (noise if told is None else told) ** 2), Trend.of(kind, law.geometry, x)(x)
    )


def law(lengths, geometry=PLANE, nu=1.5, variance=1.0, azimuth=None) -> StationaryLaw:
    return StationaryLaw(geometry, nu, variance, tuple(lengths), azimuth)


# hyperpriors and the optimum


def test_hyperpriors_are_those_that_are_stated():
    x = uniform(20, PLANE, 0) * torch.tensor([1.0, 3.0])
    span = x.amax(0) - x.amin(0)
    family = Family(PLANE, 0.5, "axes", extents(PLANE, x), True)
    theta = torch.tensor([0.3, -1.0, 0.5, -3.0], dtype=torch.float64)
    stated = [LOG_VARIANCE, *((LOG_LENGTH[0] + math.log(float(s)), LOG_LENGTH[1]) for s in span), LOG_NOISE]
    expected = sum(torch.distributions.Normal(*row).log_prob(t) for row, t in zip(stated, theta.float(), strict=True))
    assert float(family.log_prior(theta)) == pytest.approx(float(expected), abs=1e-5)


def test_turned_axes_exchanged_and_turned_by_a_quarter_are_one_law_and_one_hyperprior():
    x = uniform(20, PLANE, 0) * torch.tensor([1.0, 3.0])
    family = Family(PLANE, 1.5, "turned", extents(PLANE, x), False)
    one = torch.tensor([0.2, -1.0, -2.0, 0.3], dtype=torch.float64)
    other = torch.tensor([0.2, -2.0, -1.0, 0.3 + math.pi / 2], dtype=torch.float64)
    torch.testing.assert_close(family.log_prior(one), family.log_prior(other))
    a, b = family.kernel(one, x)[0], family.kernel(other, x)[0]
    torch.testing.assert_close(torch.cdist(a, a), torch.cdist(b, b))


@pytest.mark.parametrize("noise_known", [True, False])
def test_no_other_search_finds_a_better_optimum(noise_known):
    """Nelder & Mead from seven starts."""
    data = observed(law((0.15, 0.15)), uniform(80, PLANE, 1), 0.3, 1)
    settings = Settings(orders=(1.5,), shapes=("isotropic",))
    found = fit([data], PLANE, noise_known=noise_known, settings=settings)
    search = Fitting([data], PLANE, noise_known, settings)
    density = search.evidence(found.family, found.theta, None)
    mean, sd = found.family.prior
    generator = torch.Generator().manual_seed(0)
    best = -math.inf
    for _ in range(7):
        start = mean + 0.7 * sd * torch.randn(len(mean), generator=generator, dtype=torch.float64)
        ended = minimize(lambda t: -density.value(torch.from_numpy(t)), start.numpy(), method="Nelder-Mead",
                         options={"maxiter": 150})  # fmt: skip
        best = max(best, -ended.fun)
    assert density.value(found.theta) > best - 0.02


@pytest.mark.parametrize("n", [1500, pytest.param(8192, marks=pytest.mark.slow)])
def test_a_long_series_of_short_correlation_has_an_optimum_inside(n):
    """Two points of correlation, far from where lengths are expected: no less evidence than that of the true law."""
    x = torch.arange(n, dtype=torch.float64)[:, None]
    generator = torch.Generator().manual_seed(3)
    white = torch.randn(2, n, generator=generator, dtype=torch.float64)
    decay, f = math.exp(-1 / 2), [float(white[0, 0])]
    for w in white[0, 1:].tolist():
        f.append(decay * f[-1] + math.sqrt(1 - decay**2) * w)
    y = torch.tensor(f, dtype=torch.float64) + 0.3 * white[1]
    data = Observations(x, y, torch.full_like(y, 0.09), torch.ones((n, 1), dtype=torch.float64))
    settings = Settings(orders=(0.5,), shapes=("isotropic",))
    found = fit([data], LINE, noise_known=True, settings=settings)
    search = Fitting([data], LINE, True, settings)
    truth = torch.tensor([-2 * math.log(found.scale), math.log(2.0)], dtype=torch.float64)
    density = search.evidence(found.family, truth, None)
    assert density.value(found.theta) > density.value(truth) - 0.5
    z = (found.theta - truth) / torch.tensor(found.errors)
    assert float(z.abs().max()) < 4
    assert not found.warnings


def test_hyperparameters_scatter_as_their_errors_say():
    """20 fields of 150 data: length, variance and noise within their errors, which are neither small nor large."""
    rows = []
    for seed in range(20):
        data = observed(law((0.12, 0.12)), uniform(150, PLANE, seed), 0.3, seed + 100, told=1.0)
        settings = Settings(orders=(1.5,), shapes=("isotropic",))
        found = fit([data], PLANE, noise_known=False, settings=settings)
        truth = torch.tensor([-2 * math.log(found.scale), math.log(0.12), math.log(0.09 / found.scale**2)])
        rows.append((found.theta - truth) / torch.tensor(found.errors))
    z = torch.stack(rows)
    assert float(z.mean(0).abs().max()) < 4 / math.sqrt(20), z.mean(0)
    assert ((z.std(0) > 0.5) & (z.std(0) < 1.6)).all(), z.std(0)


@pytest.mark.slow
def test_turned_axes_are_found():
    """15 fields of 400 data with lengths 1 to 4, turned by 30 degrees."""
    rows = []
    for seed in range(15):
        data = observed(law((0.08, 0.32), azimuth=math.pi / 6), uniform(400, PLANE, seed), 0.2, seed)
        found = fit([data], PLANE, noise_known=True)
        assert found.family.shape == "turned"
        (_, longer), azimuth = sorted(found.law.lengths), found.law.azimuth
        azimuth = azimuth if found.law.lengths[1] == longer else azimuth + math.pi / 2
        off = (azimuth - math.pi / 6 + math.pi / 2) % math.pi - math.pi / 2
        rows.append(off / found.errors[-1])
    z = torch.tensor(rows)
    assert float(z.mean().abs()) < 4 / math.sqrt(15) and 0.4 < float(z.std()) < 1.7, z


# units and axes


def test_units_of_positions_and_values_change_nothing():
    data = observed(law((0.1, 0.3)), uniform(120, PLANE, 5), 0.3, 5, told=1.0)
    plain = fit([data], PLANE, noise_known=False)
    km = Geometry(("y", "x"), ("mm", "mm"), (None, None))
    moved = Observations(1e6 * data.x, 1e3 * data.y, 1e6 * data.noise, data.design)
    other = fit([moved], km, noise_known=False)
    assert (other.family.shape, other.family.nu) == (plain.family.shape, plain.family.nu)
    assert other.law.variance == pytest.approx(1e6 * plain.law.variance, rel=1e-4)
    assert other.law.lengths == pytest.approx([1e6 * length for length in plain.law.lengths], rel=1e-4)
    assert other.noise_factor == pytest.approx(plain.noise_factor, rel=1e-4)
    assert other.log_evidence == pytest.approx(plain.log_evidence - 120 * math.log(1e3), abs=1e-3)


@pytest.mark.parametrize("per_day", [1.0, 86400.0])
def test_days_beside_metres_never_share_a_length(per_day):
    """Two days of correlation over ten, 400 m over 2,000, in any unit of time."""
    geometry = Geometry(("t", "y", "x"), ("days" if per_day == 1 else "s", "m", "m"), (None, None, None))
    x = uniform(200, geometry, 2) * torch.tensor([10.0 * per_day, 2000.0, 2000.0], dtype=torch.float64)
    data = observed(law((2.0 * per_day, 400.0, 400.0), geometry), x, 0.2, 7)
    found = fit([data], geometry, noise_known=True)
    assert found.law.lengths[0] == pytest.approx(2.0 * per_day, rel=0.5)
    assert found.law.lengths[1] == pytest.approx(400.0, rel=0.5)
    isotropic = Family(geometry, 1.5, "isotropic", extents(geometry, x), False)
    assert isotropic.names == ("variance", "length t", "length y x")


@pytest.mark.parametrize("units", [("m", "m"), ("m", "s")])
def test_a_periodic_axis_beside_an_open_one(units):
    geometry = Geometry(("y", "x"), units, (None, 1.0))
    found = fit([observed(law((0.2, 0.2), geometry), uniform(100, geometry, 1), 0.2, 1)], geometry, noise_known=True)
    assert found.law.lengths == pytest.approx((0.2, 0.2), rel=1.0)


def test_time_before_the_sphere():
    geometry = Geometry(("t", "lat", "lon"), ("days", "degrees_north", "degrees_east"), (None, None, None), (2, 1))
    x = uniform(150, geometry, 4) * torch.tensor([10.0, 20.0, 20.0], dtype=torch.float64)
    found = fit([observed(law((3.0, 500.0, 500.0), geometry), x, 0.2, 4)], geometry, noise_known=True)
    assert found.law.lengths[1] == found.law.lengths[2] == pytest.approx(500.0, rel=0.7)
    assert list(found.candidates) == ["nu 1.5, isotropic", "nu 0.5, isotropic", "nu 2.5, isotropic"]


def test_several_channels_share_a_law_and_its_noise():
    x = uniform(150, PLANE, 3)
    channels = [observed(law((0.2, 0.2)), x, 0.3, seed, told=told) for seed, told in ((1, 1.0), (2, 1.0))]
    found = fit(channels, PLANE, noise_known=False)
    assert len(found.coefficients) == 2
    assert found.noise_factor == pytest.approx(0.09, rel=0.5)


# what is refused, and what is said


def test_white_noise_is_said():
    """In most cases: evidence for noise grows slowly, and a field is taken for noise in none (below)."""
    said = 0
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        x = uniform(60, PLANE, seed)
        y = torch.randn(60, generator=generator, dtype=torch.float64)
        data = Observations(x, y, torch.ones_like(y), torch.ones((60, 1), dtype=torch.float64))
        found = fit([data], PLANE, noise_known=False, settings=Settings(orders=(1.5,), shapes=("isotropic",)))
        said += any("white noise" in warning for warning in found.warnings)
    assert said >= 4


def test_a_field_is_not_taken_for_white_noise():
    for seed in range(4):
        data = observed(law((0.2, 0.2)), uniform(60, PLANE, seed), 0.3, seed, told=1.0)
        found = fit([data], PLANE, noise_known=False)
        assert not found.warnings and found.log_bayes_factor > 0


@pytest.mark.parametrize("values", ["equal", "on the trend"])
def test_data_that_do_not_vary_are_refused(values):
    x = uniform(30, PLANE, 0)
    y = torch.full((30,), 7.1, dtype=torch.float64) if values == "equal" else 2 + x @ torch.tensor([3.0, 1.0]).double()
    kind = "constant" if values == "equal" else "linear"
    data = Observations(x, y, torch.ones_like(y), Trend.of(kind, PLANE, x)(x))
    with pytest.raises(InfieldError, match="all equal"):
        fit([data], PLANE, noise_known=False)


def test_fewer_data_than_terms_of_the_trend_are_refused():
    data = observed(law((0.2, 0.2)), uniform(3, PLANE, 0), 0.3, 0, kind="linear")
    with pytest.raises(InfieldError, match="3 data, expected more than the 3 terms"):
        fit([data], PLANE, noise_known=True)


def degenerate(case: str) -> tuple[Tensor, Tensor, bool]:
    x = uniform(60, PLANE, 0)
    if case == "coincident":
        x[30:] = x[:30]
    elif case == "collinear":
        x[:, 1] = 2 * x[:, 0]
    elif case == "a constant coordinate":
        x[:, 1] = 3.0
    elif case == "three data":
        x = x[:3]
    y = torch.sin(4 * x).sum(1)
    return x, y, case in ("no noise", "three data")


@pytest.mark.parametrize("case", ["coincident", "collinear", "a constant coordinate", "three data", "no noise"])
def test_positions_that_degenerate_are_fitted(case):
    x, y, known = degenerate(case)
    generator = torch.Generator().manual_seed(1)
    noise = torch.zeros_like(y) if case == "no noise" else torch.full_like(y, 0.01)
    y = y + noise.sqrt() * torch.randn(len(y), generator=generator, dtype=torch.float64)
    data = Observations(x, y, noise if known else torch.ones_like(y), Trend.of("constant", PLANE, x)(x))
    found = fit([data], PLANE, noise_known=known)
    assert all(map(math.isfinite, (found.law.variance, *found.law.lengths, found.log_evidence, *found.errors)))
    assert found.log_evidence > found.log_evidence_white


@pytest.mark.parametrize(("off", "shift"), [(0.0, 0.0), (-0.75, 0.7), (-1.4, 1.4), (0.4, -0.4)])
def test_another_order_starts_from_the_best_of_some_longer_and_shorter_lengths(off, shift):
    """All data see the field well: the optimum is that of the law itself, from which theta is off."""
    data = observed(law([0.05], LINE), uniform(150, LINE, 2), 0.01, 3)
    search = Fitting([data], LINE, True, Settings())
    family = Family(LINE, 1.5, "isotropic", search.extents, False)
    best = search.climb(family, search.first_guess(family), None)[0]
    theta = best + torch.tensor([0.0, off])
    found = search.lengthened(family, theta)
    torch.testing.assert_close(found, theta + torch.tensor([0.0, shift]).double())


def test_points_have_the_units_of_all_or_of_each_coordinate():
    points = PointSet(((0.0, 1.0), (2.0, 3.0)), ("x", "y"), "km")
    assert Geometry.of(points) == Geometry(("x", "y"), ("km", "km"), (None, None))
    degrees = ("degrees_east", "degrees_north")
    assert Geometry.of(replace(points, axis_units=degrees)) == Geometry(("x", "y"), degrees, (None, None), (0, 1))
