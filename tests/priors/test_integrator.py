"""The integrator of flows: exact for Gaussian priors, of third order for others, and its peers of the bench."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.pipelines.bench.integrators import close_at_ends, dpm_solver, heun, midpoint, uniform
from infield.pipelines.bench.steps_integrator import octaves
from infield.priors.base import flow
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior
from infield.priors.integrator import GaussianFlow, integrate

GRID = Grid.regular((16,), 1.0, periodic=True)


def gaussian(length: float, level: float = 0.5) -> GaussianPrior:
    prior = gaussian_prior(Matern(2.5, length), GRID, source=Matern(0.5, 0.05))
    return replace(prior, mean=torch.full((1, 16), level, dtype=torch.float64))


@pytest.fixture(scope="module")
def mixture() -> MixturePrior:
    return MixturePrior((gaussian(0.05, -0.5), gaussian(0.3)), torch.tensor([0.4, 0.6], dtype=torch.float64))


def source_fields(prior: GaussianPrior | MixturePrior) -> Tensor:
    return prior.source.sample(30, Generator().manual_seed(1))


def test_one_step_is_exact_for_a_gaussian_prior():
    prior = gaussian(0.2)
    x_0, modes = source_fields(prior), prior.source.modes
    expected = prior.mean + modes.synthesise(
        (prior.covariance.diagonal / prior.source.diagonal).sqrt() * modes.analyse(x_0)
    )
    torch.testing.assert_close(flow(prior, x_0, 1), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(flow(prior, x_0, 5), expected, rtol=0, atol=1e-10)
    assert float((heun(prior, x_0, uniform(20)) - expected).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("method", "order"),
    [
        (flow, 3),
        (lambda prior, x, n: heun(prior, x, uniform(n)), 2),
        (lambda prior, x, n: midpoint(prior, x, uniform(n)), 2),
        (lambda prior, x, n: dpm_solver(prior, x, close_at_ends(n)), 2),
        (lambda prior, x, n: x + sum_of_euler(prior, x, n), 1),
    ],
    ids=["Infield", "Heun", "midpoint", "DPM-Solver++(2M)", "Euler"],
)
def test_orders_of_convergence(mixture, method, order):
    x_0, counts = source_fields(mixture), np.array([40, 80, 160])
    fine = flow(mixture, x_0, 1500)
    errors = [float((method(mixture, x_0, int(n)) - fine).norm()) for n in counts]
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(order, abs=0.4)


def sum_of_euler(prior: MixturePrior, x_0: Tensor, steps: int) -> Tensor:
    x = x_0
    for k in range(steps):
        x = x + prior.velocity(x, k / steps) / steps
    return x - x_0


def test_half_of_the_calls_of_heun_leave_no_larger_error(mixture):
    x_0 = source_fields(mixture)
    fine = flow(mixture, x_0, 1500)

    def error(x: Tensor) -> float:
        return float((x - fine).norm())

    for calls in (8, 16, 32):
        assert error(flow(mixture, x_0, calls)) < error(heun(mixture, x_0, uniform(calls)))  # 2 calls - 1


def test_modes_without_variance_are_integrated_as_they_are():
    prior = gaussian(0.2, 0.0)
    c, d = prior.source.diagonal.clone(), prior.covariance.diagonal.clone()
    c[0, 1] = c[0, 2] = d[0, 2] = d[0, 3] = 0.0
    modes = Hartley(1)
    prior = replace(prior, source=Covariance.diagonal_in(modes, c), covariance=Covariance.diagonal_in(modes, d))
    x_0 = source_fields(prior)

    def velocity(x: Tensor, t: float) -> Tensor:  # that of the prior; a third of a unit where nothing varies
        z = modes.analyse(x)
        p = t**2 * d + (1 - t) ** 2 * c
        gain = torch.where((c > 0) & (d > 0), (t * d - (1 - t) * c) / p.clamp_min(1e-30), 0.0)
        return modes.synthesise(torch.where((c > 0) & (d > 0), gain * z, 1 / 3))

    x = modes.analyse(integrate(velocity, GaussianFlow.of(prior.source, prior.covariance, prior.mean), x_0, 3))
    assert torch.isfinite(x).all()
    z_0 = modes.analyse(x_0)
    torch.testing.assert_close(x[:, 0, 1:4], z_0[:, 0, 1:4] + 1 / 3)
    torch.testing.assert_close(x[:, 0, 4], (d[0, 4] / c[0, 4]).sqrt() * z_0[:, 0, 4])


def test_single_precision_and_calls(mixture):
    calls = []

    def velocity(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return mixture.velocity(x.double(), t).float()

    gaussian_part = GaussianFlow.of(mixture.source, mixture.covariance, mixture.mean)
    x = integrate(velocity, gaussian_part, source_fields(mixture).float(), 4)
    assert x.dtype == torch.float32 and calls == gaussian_part.times(4)[:-1] and len(calls) == 4


def test_a_known_first_velocity_saves_its_call(mixture):
    x_0, calls = source_fields(mixture), []

    def velocity(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return mixture.velocity(x, t)

    gaussian = GaussianFlow.of(mixture.source, mixture.covariance, mixture.mean)
    known = integrate(velocity, gaussian, x_0, 6, mixture.mean - x_0)
    assert len(calls) == 6 and min(calls) > 0
    torch.testing.assert_close(known, integrate(velocity, gaussian, x_0, 7), rtol=0, atol=1e-9)
    wrong = integrate(velocity, gaussian, x_0, 6, mixture.mean - x_0 + 1)
    assert float((wrong - known).abs().max()) > 1e-3


def test_power_of_every_octave_in_eight_and_sixteen_calls(mixture):
    x_0 = source_fields(mixture)
    fine = flow(mixture, x_0, 400)

    def off(x: Tensor) -> float:
        return float((octaves(mixture, x) / octaves(mixture, fine) - 1).abs().max())

    assert off(flow(mixture, x_0, 8)) < 0.1 < off(heun(mixture, x_0, uniform(4)))
    assert off(flow(mixture, x_0, 16)) < 0.05 < off(heun(mixture, x_0, uniform(4)))


def test_times_of_white_noise_are_tangents_of_their_share():
    s = np.arange(7) / 7
    tangent = np.tan(np.pi / 2 * (1 - (1 - s**2) ** 1.5))
    times = GaussianFlow.white(torch.zeros(1, 1, 4)).times(7)
    np.testing.assert_allclose(times, [*(tangent / (1 + tangent)), 1.0], rtol=0, atol=1e-12)


def test_times_follow_the_modes_that_vary():
    """Smooth priors of rough sources decide late, and as much earlier if the two change places; empty modes have no
    say."""
    d = torch.tensor([[1.0, 1e-2, 1e-4, 0.0]], dtype=torch.float64)
    c = torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)

    def times(c: Tensor, d: Tensor) -> list[float]:
        return GaussianFlow(Hartley(1), c, d, torch.zeros_like(c)).times(8)

    one = times(c[:, :1], d[:, :1])
    assert 1 - times(c, d)[-2] < 0.15 * (1 - one[-2]) and times(c, d)[1] > one[1]
    assert times(d, c)[1] < 0.15 * one[1]
    assert times(c, d) == times(c[:, :3], d[:, :3])


def test_moments_are_integrals_over_the_angle_of_each_mode():
    c = torch.tensor([[4.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    d = torch.tensor([[1.0, 1.0, 1e-3, 0.0]], dtype=torch.float64)
    gaussian_part, steps, parts = GaussianFlow(Hartley(1), c, d, torch.zeros_like(c)), 6, 2000
    t = np.array(gaussian_part.times(steps * parts))
    for k in range(steps):
        inside = t[k * parts : (k + 1) * parts + 1]
        theta = np.stack([*(np.arctan2(r * inside, 1 - inside) for r in (0.5, 1.0, 1e-3**0.5)), inside])
        u = (np.arange(parts) + 0.5) / parts
        expected = np.stack([(u**q * np.diff(theta)).sum(1) for q in range(3)])
        np.testing.assert_allclose(gaussian_part.moments(steps, k)[:, 0], expected, rtol=0, atol=3e-4)
    assert np.abs(gaussian_part.moments(steps, 2)[:, 0] - expected).max() > 0.05  # of another step


def test_what_is_constant_in_the_angle_is_exact_in_one_step():
    """v - v_G = a sqrt(c d / p) moves z by a pi / 2, of rough modes and of smooth ones alike."""
    c = torch.tensor([[1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    d = torch.tensor([[9.0, 1.0, 1e-2, 1e-5]], dtype=torch.float64)
    modes, a = Hartley(1), 0.3
    gaussian_part = GaussianFlow(modes, c, d, torch.zeros_like(c))

    def velocity(x: Tensor, t: float) -> Tensor:
        p = t**2 * d + (1 - t) ** 2 * c
        return modes.synthesise((t * d - (1 - t) * c) / p * modes.analyse(x) + a * (c * d / p).sqrt())

    x_0 = modes.synthesise(torch.randn((3, 1, 4), generator=Generator().manual_seed(0), dtype=torch.float64))
    expected = modes.synthesise(d.sqrt() * (modes.analyse(x_0) + a * np.pi / 2))
    for steps in (1, 2, 6):
        torch.testing.assert_close(integrate(velocity, gaussian_part, x_0, steps), expected, rtol=0, atol=1e-12)
    x = x_0
    for k in range(100):
        x = x + velocity(x, k / 100) / 100
    assert float((x - expected).abs().max()) > 1e-3
