"""Data that do not see all of the domain: the preconditioner's windows, and how many products a draw takes."""

from __future__ import annotations

import math

import pytest
import torch

from infield.core.grid import Grid
from infield.core.spectra import wavenumbers
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.inference.unseen_regions import CONDITION, UnseenRegions, _Waves, applies_to
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley, Pixels

pytestmark = pytest.mark.field


def prior(shape, slope=3.0):
    k = wavenumbers(shape)
    power = k.clamp_min(1 / max(shape)) ** -slope
    return Covariance.diagonal_in(Hartley(len(shape)), (power / power.mean())[None])


def ellipse(shape, a=0.7, b=0.6):
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    return (y / a) ** 2 + (x / b) ** 2 < 1


def strip(shape):
    seen = torch.ones(shape, dtype=torch.bool)
    seen[10:19] = False
    return seen


def rim(shape):
    return ~ellipse(shape, 0.5, 0.4)


class Counted(LinearGaussianData):
    calls = 0

    def _data(self, x):
        type(self).calls += 1
        return super()._data(x)


def measured(seen, snr, seed=0):
    shape = tuple(seen.shape)
    rng = torch.Generator().manual_seed(seed)
    K, noise = prior(shape), GaussianNoise(1 / snr**2)
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": seen.numpy()}, Grid.regular(shape), 1)
    truth = K.sample(1, rng)
    y = noise.sample(operator.A(truth), rng)
    return Measurement(y=y, operator=operator, noise=noise, grid=Grid.regular(shape), observed=operator.observed), K


@pytest.fixture
def iterative(monkeypatch):
    monkeypatch.setattr("infield.posterior.inference.linear_gaussian.DENSE_DATA", 0)
    monkeypatch.setattr("infield.posterior.inference.linear_gaussian.SENSORS", 0)


@pytest.mark.parametrize("region", [ellipse, strip, rim])
def test_products_do_not_grow_with_the_signal_to_noise_ratio(iterative, monkeypatch, region):
    """At most 20 at signal-to-noise ratios of 10 to 3,000; without the windows they grow beyond all bounds."""
    seen, found = region((48, 40)), {}
    for windows in (True, False):
        if not windows:
            monkeypatch.setattr(UnseenRegions, "of", classmethod(lambda cls, seen: None))
        for snr in (10, 300, 3000):
            measurement, K = measured(seen, snr)
            data = Counted(measurement, K.modes)
            assert (data.unseen is not None) == windows and data.information is not None
            Counted.calls = 0
            data.mean(torch.zeros((1, 1, 48, 40), dtype=torch.float64), K)
            found[windows, snr] = Counted.calls
    assert max(found[True, snr] for snr in (10, 300, 3000)) <= 20, found
    assert found[False, 3000] > 3 * found[True, 3000], found


def test_the_mean_is_that_of_dense_algebra(iterative):
    seen = ellipse((20, 16))
    measurement, K = measured(seen, 100)
    data = LinearGaussianData(measurement, K.modes, tolerance=1e-8)
    mean = data.mean(torch.zeros((1, 1, 20, 16), dtype=torch.float64), K).flatten()
    unit = torch.eye(320, dtype=torch.float64).reshape(320, 1, 20, 16)
    dense = K.apply(unit).reshape(320, 320)
    D = seen.flatten()
    right = torch.linalg.solve(dense[D][:, D] + 1e-4 * torch.eye(int(D.sum())), measurement.y.flatten()[D])
    torch.testing.assert_close(mean, dense[:, D] @ right, atol=1e-6, rtol=0)


def test_the_error_is_within_the_tolerance_where_it_is_estimated(iterative, monkeypatch):
    """In posterior standard deviations, root mean square; with a share of 1000 it stops too early: the control."""
    seen, snr = ellipse((20, 16)), 3000
    measurement, K = measured(seen, snr)
    start, errors = torch.zeros((1, 1, 20, 16), dtype=torch.float64), {}
    unit = torch.eye(320, dtype=torch.float64).reshape(320, 1, 20, 16)
    precision = torch.linalg.inv(K.apply(unit).reshape(320, 320)) + torch.diag(seen.flatten() * float(snr) ** 2)
    exact = LinearGaussianData(measurement, K.modes, tolerance=1e-7).mean(start, K).flatten()
    for share in (0.1, 1000.0):
        monkeypatch.setattr("infield.posterior.inference.conjugate_gradients.SHARE", share)
        e = LinearGaussianData(measurement, K.modes).mean(start, K).flatten() - exact
        errors[share] = float((e @ precision @ e / 320).sqrt())
    assert errors[0.1] < 0.02 < errors[1000.0], errors


def test_the_preconditioner_is_symmetric_and_positive():
    seen, K = ellipse((24, 20)), prior((24, 20))
    regions = UnseenRegions.of(seen)
    assert regions is not None and applies_to(K) and not applies_to(Covariance.diagonal_in(Pixels(), K.diagonal))
    assert not (regions.windows * seen).any()  # they vanish on what is seen
    c = torch.full_like(K.diagonal, 1e4)
    matrix = regions.preconditioner(K, c)(torch.eye(480, dtype=torch.float64))
    torch.testing.assert_close(matrix, matrix.mT, atol=1e-5 * float(matrix.abs().max()), rtol=0)  # single precision
    assert float(torch.linalg.eigvalsh(matrix)[0]) > 0


@pytest.mark.parametrize("c", [1e2, 1e4, 1e7])
def test_chebyshev_steps_are_made_for_the_spectrum(c):
    """Eigenvalues of B M: their ratio is near the one that the polynomial is made for; none is above its bound."""
    seen, K = ellipse((24, 20)), prior((24, 20))
    regions, S = UnseenRegions.of(seen), K.diagonal.sqrt()
    assert regions is not None
    unit = torch.eye(480, dtype=torch.float64).reshape(480, 1, 24, 20)
    waves = _Waves.of(K, torch.full_like(S, c))
    half = waves.spectrum(K.modes.synthesise(unit).to(waves.dtype))
    B = K.modes.analyse(waves.fields(regions.schwarz(K, torch.full_like(S, c), waves)(half))).double().reshape(480, 480)
    fields = K.modes.synthesise(S * unit)
    M = torch.eye(480) + (c * S * K.modes.analyse(seen * fields)).reshape(480, 480)
    L = torch.linalg.cholesky(M)
    spectrum = torch.linalg.eigvalsh(L.mT @ B @ L)
    assert float(spectrum[-1] / spectrum[0]) < 2 * CONDITION
    P = regions.preconditioner(K, torch.full_like(S, c))(unit.flatten(1))
    after = torch.linalg.eigvalsh(L.mT @ P @ L)
    assert 0 < float(after[0]) and float(after[-1]) < 2 and float(after[-1] / after[0]) < 10


def test_scattered_sensors_and_whole_domains_have_none():
    scattered = torch.rand((32, 32), generator=torch.Generator().manual_seed(0)) < 0.3
    assert UnseenRegions.of(scattered) is None
    assert UnseenRegions.of(torch.ones((8, 8), dtype=torch.bool)) is None
    assert UnseenRegions.of(torch.zeros((8, 8), dtype=torch.bool)) is None


def test_distances_go_round_the_torus():
    """A point just beyond the border of the array is near to what is seen on the other side."""
    seen = torch.ones((40, 40), dtype=torch.bool)
    seen[:12] = False
    regions = UnseenRegions.of(seen)
    assert regions is not None
    furthest = regions.windows[-1].sum(1)
    assert int(furthest.argmax()) in (5, 6) and math.isclose(float(furthest[0]), float(furthest[11]))
