"""Volumes from slices: differences and their adjoint, the proximal step, ADMM's fixed point, DDS and DiffusionMBIR."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.inference.conjugate_gradients import conjugate_gradient_steps
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.inference.total_variation import SliceTotalVariation, difference, difference_adjoint, shrink
from infield.posterior.samplers.base import Posterior
from infield.posterior.samplers.dds import DDS
from infield.posterior.samplers.diffusion_mbir import DiffusionMBIR
from infield.posterior.samplers.exact import Exact, posterior_mean
from infield.priors.flows.slices import SlicePrior
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import gaussian_prior

DEPTH, SIDE = 12, 24


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def grid_of(depth, side):
    plane = Grid.regular((side, side), 1.0, periodic=True)
    return Grid((Grid.regular((depth,), 1.0, names=("z",)).axes[0], *plane.axes)), plane


def phantom(depth=DEPTH, side=SIDE, correlation=0.98, share=0.1, std=0.05, seed=1):
    """A volume whose slices have the law of the prior and change little from one to the next, seen at few points."""
    grid, plane = grid_of(depth, side)
    slices = gaussian_prior(Matern(1.5, 0.3), plane)
    fresh = slices.covariance.sample(depth, rng(seed))
    volume = [fresh[0]]
    for z in range(1, depth):
        volume.append(correlation * volume[-1] + (1 - correlation**2) ** 0.5 * fresh[z])
    truth = torch.stack(volume, dim=1)[None]
    mask = torch.rand(grid.shape, generator=rng(seed + 1)) < share
    operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask.numpy()}, grid, 1)
    noise = GaussianNoise(std**2)
    y = noise.sample(operator.A(truth), rng(seed + 2))
    return SlicePrior(slices=slices, depth=depth), Measurement(
        y=y, operator=operator, noise=noise, grid=grid, truth=truth
    )


def flicker(x, truth):
    """Mean jump from slice to slice, over that of the truth."""
    return float(difference(x).abs().mean() / difference(truth).abs().mean())


def error(x, truth):
    return float((x - truth).square().mean().sqrt() / truth.square().mean().sqrt())


def test_differences_end_where_the_slices_end():
    x, d = randn(2, 1, 5, 3, 4), randn(2, 1, 4, 3, 4, seed=1)
    torch.testing.assert_close((difference(x) * d).sum(), (x * difference_adjoint(d)).sum())
    constant = torch.ones(1, 1, 5, 3, 4, dtype=torch.float64)
    assert not difference(constant).any() and difference(x).shape[2] == 4
    ramp = torch.arange(5.0, dtype=torch.float64).reshape(1, 1, 5, 1, 1)
    laplacian = difference_adjoint(difference(ramp)).flatten()
    torch.testing.assert_close(laplacian, torch.tensor([-1.0, 0, 0, 0, 1.0], dtype=torch.float64))  # no wrap
    matrix = difference(torch.eye(5, dtype=torch.float64).reshape(5, 1, 5, 1, 1)).reshape(5, 4).mT
    eigenvalues = torch.linalg.eigvalsh(matrix.mT @ matrix)
    expected = 2 - 2 * torch.cos(torch.pi * torch.arange(5, dtype=torch.float64) / 5)  # Neumann
    torch.testing.assert_close(eigenvalues, expected)


def test_the_proximal_step_is_the_least_by_brute_force():
    x, threshold = torch.linspace(-2, 2, 41, dtype=torch.float64), 0.7
    candidates = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    for value in x:
        best = candidates[(threshold * candidates.abs() + (candidates - value) ** 2 / 2).argmin()]
        torch.testing.assert_close(shrink(value, threshold), best, atol=2e-4, rtol=0)
    torch.testing.assert_close(shrink(x, 0.0), x)


def test_conjugate_gradients_against_a_dense_solve():
    root = randn(3, 20, 20)
    M = root @ root.mT + torch.eye(20, dtype=torch.float64)
    b, start = randn(3, 20, seed=1), randn(3, 20, seed=2)
    expected = torch.linalg.solve(M, b)

    def operator(x):
        return (M @ x[..., None])[..., 0]

    def energy(x):
        return ((x - expected) * operator(x - expected)).sum(1)

    torch.testing.assert_close(conjugate_gradient_steps(operator, b, start, 60), expected, rtol=1e-6, atol=1e-6)
    energies = torch.stack([energy(conjugate_gradient_steps(operator, b, start, k)) for k in range(8)])
    assert (energies.diff(dim=0) < 0).all()  # each step lowers the energy of each system
    one = conjugate_gradient_steps(operator, b, start, 1)
    r = b - operator(start)
    steepest = start + (r * r).sum(1, keepdim=True) / (r * operator(r)).sum(1, keepdim=True) * r
    torch.testing.assert_close(one, steepest)
    together = conjugate_gradient_steps(lambda x: x @ M[0], b, start, 4)
    alone = conjugate_gradient_steps(lambda x: x @ M[0], b[1:2], start[1:2], 4)
    torch.testing.assert_close(together[1:2], alone)


def test_a_singular_system_is_left_where_it_started():
    """Sampled frequencies are fitted in one step, all others stay: more steps must not amplify rounding."""
    seen = torch.rand(50, generator=rng(1)) < 0.3
    b, start = torch.where(seen, randn(1, 50, seed=2), 0.0), randn(1, 50, seed=3)
    x = conjugate_gradient_steps(lambda p: torch.where(seen, p, 0.0), b, start, 50)
    torch.testing.assert_close(x, torch.where(seen, b, start))


@pytest.mark.parametrize("anchored", [False, True])
def test_the_fixed_point_of_admm_is_the_minimum(anchored):
    """Against a general minimiser of the smooth form with |D x| = min over p, m >= 0 of p + m, D x = p - m."""
    prior, measurement = phantom(depth=4, side=3, share=0.6, std=0.5)
    tv, anchor, variance = 1.5, randn(1, 1, 4, 3, 3, seed=9), 0.8
    volume = SliceTotalVariation(LinearGaussianData(measurement, prior.source.modes), tv, 2.0)
    settings = {"anchor": anchor, "variance": variance} if anchored else {}
    x = torch.zeros(1, 1, 4, 3, 3, dtype=torch.float64)
    for _ in range(2000):
        x = volume.sweep(x, 3, **settings)
    seen, y = measurement.operator.observed[None], measurement.y

    def objective(x):
        misfit = torch.where(seen, (x - y) ** 2, 0.0).sum() / (2 * 0.25)
        return misfit + ((x - anchor) ** 2).sum() / (2 * variance) * anchored

    def smooth(values):
        """x of the first slice and the positive and negative parts of the jumps."""
        values = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        first, up, down = values[:9], values[9:36].reshape(3, 9), values[36:].reshape(3, 9)
        volume = torch.cat([first[None], first + (up - down).cumsum(0)]).reshape(1, 1, 4, 3, 3)
        value = objective(volume) + tv * (up + down).sum()
        value.backward()
        return float(value.detach()), values.grad.numpy()

    bounds = [(None, None)] * 9 + [(0, None)] * 54
    best = minimize(
        smooth,
        [0.1] * 63,
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9, "maxfun": 20000},
    )
    reached = float(objective(x) + tv * difference(x).abs().sum())
    assert reached == pytest.approx(best.fun, rel=1e-6)
    assert (difference(x).abs() < 1e-6).float().mean() > 0.2  # jumps that are exactly none
    smoother = float(objective(0.9 * x) + tv * difference(0.9 * x).abs().sum())
    assert smoother > reached + 1e-3


def test_the_variables_of_admm_outlive_a_sweep():
    prior, measurement = phantom(depth=4, side=3, share=0.6)
    volume = SliceTotalVariation(LinearGaussianData(measurement, prior.source.modes), 1.0, 2.0)
    x = randn(1, 1, 4, 3, 3)
    first = volume.sweep(x, 5)
    assert volume.w.abs().max() > 0
    assert not torch.allclose(volume.sweep(x, 5), first)


@pytest.fixture(scope="module")
def seen():
    return phantom()


def draw(sampler, problem, n=3) -> Posterior:
    return sampler(*problem, n, SampleStreams(0, range(n)))


def test_dds_flickers_less_and_errs_less_than_slice_by_slice(seen):
    """Less than its own form without total variation, and than exact draws slice by slice, which know no neighbours."""
    prior, measurement = seen
    truth = measurement.truth
    tied, alone = draw(DDS(), seen), draw(DDS(tv=0.0), seen)
    exact = Exact()(prior, measurement, 3, rng()).samples
    assert flicker(tied.samples, truth) < 1.1 < 1.5 < min(flicker(alone.samples, truth), flicker(exact, truth))
    assert error(tied.samples, truth) < 0.85 * min(error(alone.samples, truth), error(exact, truth))
    assert tied.cost["velocity_calls"] == 50
    assert flicker(posterior_mean(prior, measurement)[None], truth) > 1.2


def test_its_spread_is_too_small_and_that_is_said(seen):
    tied, truth = draw(DDS(), seen, 4), seen[1].truth
    spread, miss = tied.samples.std(0).square().mean().sqrt(), (tied.samples.mean(0) - truth[0]).square().mean().sqrt()
    assert spread < 0.6 * miss and "too small" in tied.caveat


def test_diffusion_mbir_flickers_less_and_errs_less_than_slice_by_slice(seen):
    truth = seen[1].truth
    tied, alone = (draw(DiffusionMBIR(levels=150, tv=tv), seen, 1) for tv in (0.005, 0.0))
    assert flicker(tied.samples, truth) < 1.1 < flicker(alone.samples, truth)
    assert error(tied.samples, truth) < 0.8 * error(alone.samples, truth)
    assert tied.cost["velocity_calls"] == 2 * 150 - 1


@pytest.mark.parametrize("sampler", [DDS(levels=5), DiffusionMBIR(levels=5)])
def test_a_volume_depends_on_seed_and_number_alone(sampler):
    problem = phantom(depth=3, side=6, share=0.4)
    together = sampler(*problem, 3, SampleStreams(3, range(3))).samples
    alone = sampler(*problem, 1, SampleStreams(3, [2])).samples
    torch.testing.assert_close(together[2:], alone, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(together[:1], alone)


@pytest.mark.parametrize("sampler", [DDS(levels=5), DiffusionMBIR(levels=5)])
def test_what_they_do_not_serve(sampler):
    prior, measurement = phantom(depth=3, side=6)
    counts = replace(measurement, y=measurement.y.abs(), noise=PoissonNoise(1.0))
    with pytest.raises(InfieldError, match="linear operator and Gaussian noise"):
        sampler(prior, counts, 1, rng())
    plane = gaussian_prior(Matern(1.5, 0.3), Grid.regular((6, 6), periodic=True), source=White())
    grid = Grid.regular((6, 6), periodic=True)
    mask = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": torch.ones(6, 6).bool().numpy()}, grid, 1)
    flat = Measurement(y=randn(1, 1, 6, 6), operator=mask, noise=GaussianNoise(1.0), grid=grid)
    with pytest.raises(InfieldError, match="expected a volume"):
        sampler(plane, flat, 1, rng())


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        *((DDS, w) for w in ({"levels": 0}, {"eta": 1.1}, {"tv": -1.0}, {"penalty": 0.0}, {"spread": 0.0})),
        *((DiffusionMBIR, w) for w in ({"levels": 1}, {"sigma_min": 0.0}, {"snr": -1.0}, {"tv": -1.0})),
    ],
)
def test_wrong_parameters_are_refused(kind, wrong):
    with pytest.raises(InfieldError, match=next(iter(wrong))):
        kind(**wrong)
