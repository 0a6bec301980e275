"""The chains of FAPS and their parts, against dense algebra and quadrature, with wrong variants that must fail."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from infield import InfieldError
from infield.core._deepinv import Physics
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import GaussianNoise, NoiseModel, PoissonNoise
from infield.physics.operators.base import plain_physics
from infield.physics.operators.composition import compose, is_affine
from infield.physics.operators.refusal import ForwardModelError
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import gaussian_z_scores
from infield.posterior.inference import langevin as module
from infield.posterior.inference.langevin import langevin, start
from infield.posterior.inference.laplace import LaplaceApproximation, Linearisation, find_map, linearise
from infield.posterior.inference.likelihood import value_and_gradient
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.inference.whitening import FLOOR, Whitening
from infield.posterior.samplers.faps import FAPS
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

CHAINS, THRESHOLD = 2000, 4.5
POINTS = 8


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


class Pointwise(Physics):
    """A function of each value of the field."""

    def __init__(self, function) -> None:
        super().__init__(**plain_physics())
        self.function = function

    def A(self, x: Tensor) -> Tensor:
        return self.function(x)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.A(x), x, v)[0]


FUNCTIONS = {"exp": torch.exp, "cube": lambda u: u**3, "square": lambda u: u**2, "identity": lambda u: u * 1.0}


def line(points: int = POINTS) -> GaussianPrior:
    return gaussian_prior(Matern(1.5, 0.4), Grid.regular((points,), 1.0), source=Matern(0.5, 0.05, wrap=True))


def observe(function, noise: NoiseModel, where: tuple[int, ...] = (1, 5), seed: int = 0, y=None) -> Measurement:
    """A function of the field at some of 8 points."""
    prior, grid = line(), Grid.regular((POINTS,), 1.0)
    description = {"name": "points", "arrays": {"indices": "indices"}}
    points = build_operator(description, {"indices": np.array(where)}, grid, 1)
    operator = compose(points, Pointwise(function))
    truth = prior.covariance.sample(1, rng(seed))
    y = noise.sample(operator.A(truth), rng(seed + 1)) if y is None else torch.tensor([[y]], dtype=torch.float64)
    return Measurement(y=y, operator=operator, noise=noise, grid=grid)


def linear_problem() -> tuple[GaussianPrior, Measurement]:
    prior, grid = line(), Grid.regular((POINTS,), 1.0)
    description = {"name": "points", "arrays": {"indices": "indices"}}
    operator = build_operator(description, {"indices": np.array([0, 2, 3])}, grid, 1)
    noise = GaussianNoise(torch.tensor([0.02, 0.1, 0.05], dtype=torch.float64))
    y = torch.tensor([[[1.0, -0.5, 0.3]]], dtype=torch.float64)
    return prior, Measurement(y=y, operator=operator, noise=noise, grid=grid)


def units(shape: tuple[int, ...]) -> Tensor:
    n = int(np.prod(shape))
    return torch.eye(n, dtype=torch.float64).reshape(n, *shape)


def matrix(C: Covariance) -> Tensor:
    return C.apply(units(C.event_shape)).flatten(1)


COVARIANCES = {
    "diagonal": Covariance.diagonal_in(Hartley(2), 0.1 + normal(2, 3, 4, seed=1).square()),
    "low rank": Covariance(Hartley(2), 0.1 + normal(2, 3, 4, seed=1).square(), normal(3, 2, 3, 4, seed=2)),
    "many factors": Covariance(Hartley(1), torch.full((1, 5), 1e-4).double(), normal(9, 1, 5, seed=3)),
}


@pytest.mark.parametrize("name", COVARIANCES)
def test_whitening_is_a_root_with_an_inverse(name):
    K = COVARIANCES[name]
    S, n = Whitening(K), K.diagonal.numel()
    root = S.colour(torch.eye(n, dtype=torch.float64)).flatten(1).mT
    torch.testing.assert_close(root @ root.mT, matrix(K))
    x = normal(4, *K.event_shape, seed=4)
    torch.testing.assert_close(S.colour(S.whiten(x)), x)
    torch.testing.assert_close(S.transpose(x), x.flatten(1) @ root)
    rows = normal(3, n, seed=5)
    torch.testing.assert_close(S.push_forward(S.pull_back(rows)), rows)
    w = normal(1, n, seed=6)
    torch.testing.assert_close(S.pull_back(rows) @ w[0], rows @ K.modes.analyse(S.colour(w)).flatten())


def test_a_mode_without_variance_stays_finite():
    K = Covariance.diagonal_in(Hartley(1), torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64))
    x = Whitening(K).colour(normal(5, 3, seed=0))
    assert torch.isfinite(Whitening(K).whiten(x)).all() and K.modes.analyse(x)[:, 0, 0].abs().max() < 10 * FLOOR**0.5


def missing_data() -> Measurement:
    full = observe(torch.exp, GaussianNoise(0.1), where=(1, 4, 5))
    y = full.y.clone()
    y[0, 0, 1] = float("nan")
    return replace(full, y=y, observed=torch.tensor([[True, False, True]]))


def coils() -> Measurement:
    grid = Grid.regular((2, 2))
    root = torch.view_as_complex(normal(3, 3, 2, seed=5))
    noise = CoilGaussianNoise(0.3 * root @ root.mH + 0.1 * torch.eye(3))
    maps = torch.view_as_complex(normal(3, 2, 2, 2, seed=6)).numpy()
    description = {"name": "multicoil-mri", "arrays": {"coil_maps": "maps", "mask": "mask"}}
    operator = build_operator(description, {"maps": maps, "mask": np.array([[True, False], [True, True]])}, grid, 2)
    y = noise.sample(operator.A(normal(1, 2, 2, 2, seed=7)), rng(8))
    return Measurement(y=y, operator=operator, noise=noise, grid=grid, channels=("real", "imaginary"))


MEASUREMENTS = {
    "linear": lambda: linear_problem()[1],
    "nonlinear": lambda: observe(torch.exp, GaussianNoise(0.1)),
    "counts": lambda: observe(torch.exp, PoissonNoise(0.5)),
    "missing data": missing_data,
    "coils": coils,
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_value_and_gradient_are_those_of_the_measurement(name):
    measurement = MEASUREMENTS[name]()
    u = normal(4, *measurement.event_shape, seed=9)
    value, gradient = value_and_gradient(measurement, u)
    torch.testing.assert_close(value, measurement.log_likelihood(u))
    torch.testing.assert_close(gradient, measurement.gradient(u))
    direction, h = normal(*u.shape, seed=10), 1e-5
    slope = (measurement.log_likelihood(u + h * direction) - measurement.log_likelihood(u - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), slope, rtol=1e-6, atol=1e-6)


def test_one_impossible_field_spoils_no_other():
    measurement = observe(torch.log, PoissonNoise(1.0), y=[2.0, 3.0])
    u = torch.full((4, 1, POINTS), 3.0, dtype=torch.float64)
    u[1], u[2] = 0.5, -1.0  # log u negative, not a number
    value, gradient = value_and_gradient(measurement, u)
    assert torch.isfinite(value).tolist() == [True, False, False, True]
    assert torch.isfinite(gradient).all() and gradient[1:3].abs().max() == 0 < gradient[0].abs().max()


def gauss_newton(measurement: Measurement, u: Tensor) -> Tensor:
    """J^T W J in the field's coordinates, by dense derivatives."""
    J = torch.autograd.functional.jacobian(lambda x: measurement.operator.A(x).flatten(), u)
    J, z = J.reshape(-1, u.numel()), measurement.operator.A(u)
    if isinstance(measurement.noise, PoissonNoise):
        affine = is_affine(measurement.operator)  # behind others, Fisher's information
        weight = ((measurement.y / z if affine else 1.0) / (measurement.noise.gain * z)).flatten().diag()
    elif isinstance(measurement.noise, CoilGaussianNoise):
        weight = measurement.noise.solve(units(measurement.y.shape[1:])).flatten(1)
        if (seen := measurement.observed) is not None:
            weight = weight * seen.flatten()
    else:
        weight = (1 / (measurement.noise.variance * torch.ones_like(z))).flatten().diag()
        if (seen := measurement.observed) is not None:
            weight = weight * seen.flatten()
    return J.mT @ weight @ J


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_linearisation_is_gauss_newtons(name):
    measurement = MEASUREMENTS[name]()
    shape = measurement.event_shape
    K = Covariance(Hartley(len(shape) - 1), 0.2 + normal(*shape, seed=11).square(), normal(2, *shape, seed=12))
    u = 0.3 * normal(1, *shape, seed=13)
    _, gradient = value_and_gradient(measurement, u)
    found = linearise(measurement, u, gradient, Whitening(K), rank=30)
    T = K.modes.analyse(units(shape)).flatten(1)
    torch.testing.assert_close(
        T @ found.rows.mT @ found.rows @ T.mT, gauss_newton(measurement, u), rtol=5e-3, atol=5e-3
    )


def test_the_search_turns_back_where_the_solver_fails():
    def fragile(u: Tensor) -> Tensor:
        if float(u.detach().abs().max()) > 4:
            raise ForwardModelError("operator 'toy': did not converge")
        return u.exp()

    prior, measurement = line(), observe(fragile, GaussianNoise(1e-4), y=[9.0, 0.5])
    found = find_map(measurement, prior.mean[None], Whitening(prior.covariance), rank=8)
    torch.testing.assert_close(found.at[0, 0, [1, 5]].exp(), measurement.y[0, 0], rtol=0.02, atol=0.02)
    with pytest.raises(InfieldError, match="did not converge"):  # a whole first step would have left
        fragile(measurement.y - 1)


def test_many_data_are_linearised_in_few_directions():
    grid = Grid.regular((64,), 1.0, periodic=True)
    prior = gaussian_prior(Matern(2.5, 0.3), grid, source=Matern(0.5, 0.05))
    operator, noise = Pointwise(torch.exp), GaussianNoise(0.5)
    y = operator.A(prior.covariance.sample(1, rng(0)))
    measurement = Measurement(y=y, operator=operator, noise=noise, grid=grid)
    S, u = Whitening(prior.covariance), prior.covariance.sample(1, rng(1))
    root = S.colour(torch.eye(64, dtype=torch.float64)).flatten(1).mT
    exact = torch.linalg.eigvalsh(root.mT @ gauss_newton(measurement, u) @ root).flip(0)

    def spectrum(rank: int) -> Tensor:
        data = linearise(measurement, u, torch.zeros_like(u), S, rank)
        return torch.linalg.svdvals(S.pull_back(data.rows)) ** 2

    torch.testing.assert_close(spectrum(24)[:8], exact[:8], rtol=0.02, atol=0.0)
    assert len(spectrum(4)) == 4


def test_linearised_posterior_is_that_of_linear_data():
    prior, measurement = linear_problem()
    K = prior.covariance
    S, m = Whitening(K), normal(3, *K.event_shape, seed=14)
    at = normal(1, *K.event_shape, seed=15)
    posterior = LaplaceApproximation(linearise(measurement, at, measurement.gradient(at), S, 8), S)
    expected = LinearGaussianData(measurement, K.modes).mean(m, K)
    torch.testing.assert_close(m + S.colour(posterior.mean(m)), expected, rtol=1e-6, atol=1e-6)
    w = normal(4, POINTS, seed=16)
    torch.testing.assert_close(posterior.covariance(w), posterior.root(posterior.root(w)))
    torch.testing.assert_close(posterior.covariance(w + posterior.hessian(w)), w)


@pytest.mark.parametrize("function", ["exp", "cube"])
def test_most_probable_field_has_no_slope(function):
    prior, measurement = line(), observe(FUNCTIONS[function], GaussianNoise(0.01), seed=3)
    S = Whitening(prior.covariance)
    found = find_map(measurement, prior.mean[None] + 0.1, S, rank=8)
    w = S.whiten(found.at - prior.mean[None] - 0.1)
    value = measurement.log_likelihood(found.at) - 0.5 * w.square().sum()
    for direction in normal(20, 1, POINTS, seed=17):
        other = w + 0.5 * direction / direction.norm()
        beside = measurement.log_likelihood(prior.mean[None] + 0.1 + S.colour(other)) - 0.5 * other.square().sum()
        assert beside < value + 0.5
    torch.testing.assert_close(found.gradient, measurement.gradient(found.at))


# one level: N(u; m, K) p(y | u)


@dataclass(frozen=True)
class Setting:
    """A chain's target with its exact marginal laws at the observed points."""

    prior: GaussianPrior
    measurement: Measurement

    def chains(self, steps: int, *, information: float = 1.0, from_prior: bool = False, seed: int = 0, n: int = CHAINS):
        """Chains from draws of the linearised posterior, which also preconditions them, its information scaled."""
        S, mean, g = Whitening(self.prior.covariance), self.prior.mean[None], rng(seed)
        data = find_map(self.measurement, mean, S, rank=8)
        posterior = LaplaceApproximation(Linearisation(data.at, data.gradient, information**0.5 * data.rows), S)
        white = torch.randn((n, POINTS), generator=g, dtype=torch.float64)
        u = mean + S.colour(white if from_prior else posterior.mean(mean) + posterior.root(white))
        chains = start(self.measurement, u, data.at, g)
        return langevin(chains, self.measurement, mean.expand(n, *mean.shape[1:]), posterior, steps, g)

    @property
    def louder(self) -> Setting:
        """The same with other data."""
        return Setting(self.prior, replace(self.measurement, y=1.25 * self.measurement.y))

    def marginals(self, reach: float = 4.0, cells: int = 641) -> list:
        """Distribution functions at the two observed points by quadrature of p(y | u) over the prior of both."""
        where = (
            self.measurement.operator.operators[0]
            .A(torch.arange(POINTS, dtype=torch.float64).reshape(1, 1, -1))
            .flatten()
        )
        index = [int(i) for i in where]
        C = matrix(self.prior.covariance)[index][:, index]
        axis = torch.linspace(-reach, reach, cells, dtype=torch.float64)
        u = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        field = torch.zeros((len(u), 1, POINTS), dtype=torch.float64)
        field[:, 0, index] = u
        log_p = self.measurement.log_likelihood(field).nan_to_num(-torch.inf, neginf=-torch.inf)
        log_p = log_p - 0.5 * (u * torch.linalg.solve(C, u.mT).mT).sum(1)
        p = (log_p - log_p.max()).exp().reshape(cells, cells)
        laws = []
        for place, density in zip(index, (p.sum(1), p.sum(0)), strict=True):
            cdf = (density.cumsum(0) - density / 2) / density.sum()
            laws.append((place, lambda x, cdf=cdf: np.interp(x, axis.numpy(), cdf.numpy())))
        return laws

    @cached_property
    def laws(self) -> list:
        return self.marginals()

    def p_value(self, u: Tensor) -> float:
        """Smallest p-value of Kolmogorov and Smirnov's test over the observed points."""
        return min(stats.kstest(u[:, 0, place].numpy(), cdf).pvalue for place, cdf in self.laws)


def setting(function: str, noise: NoiseModel, **more) -> Setting:
    return Setting(line(), observe(FUNCTIONS[function], noise, **more))


SETTINGS = {
    "exp": lambda: setting("exp", GaussianNoise(0.05)),
    "cube": lambda: setting("cube", GaussianNoise(0.05), seed=3),
    "counts": lambda: setting("exp", PoissonNoise(0.5), seed=4),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_chains_reach_the_posterior_of_nonlinear_data(name):
    problem = SETTINGS[name]()
    chains = problem.chains(120)
    assert problem.p_value(chains.u) > 1e-3
    late = float(np.mean(chains.acceptance[60:]))
    assert 0.45 < late < 0.95, late
    assert problem.p_value(problem.louder.chains(20).u) < 1e-6  # the test sees data that are off by a quarter


def test_chains_reach_the_closed_form_of_linear_data():
    prior, measurement = linear_problem()
    problem = Setting(prior, measurement)
    K = matrix(prior.covariance)
    A = torch.zeros((3, POINTS), dtype=torch.float64)
    A[[0, 1, 2], [0, 2, 3]] = 1.0
    gain = torch.linalg.solve(A @ K @ A.mT + measurement.noise.variance.diag(), A @ K).mT
    law = gain @ measurement.y.flatten(), K - gain @ A @ K

    def z(u: Tensor) -> float:
        scores = gaussian_z_scores(u.flatten(1), *law)
        return max(scores.mean, scores.covariance)

    right = problem.chains(40, from_prior=True)
    assert z(right.u) < THRESHOLD
    assert min(right.acceptance[20:]) > 1 - 1e-4 and float(right.step.min()) > 1.5
    misled = problem.chains(120, information=0.1, from_prior=True)  # a preconditioner that is wrong tenfold
    assert z(misled.u) < THRESHOLD and max(misled.acceptance[60:]) < 0.95
    assert z(problem.chains(0, from_prior=True).u) > 2 * THRESHOLD


def uncorrected(monkeypatch) -> None:
    monkeypatch.setattr(module._Drift, "log_weight", lambda self, w, w_new, h: torch.zeros_like(h))


def forgotten_hessian(monkeypatch) -> None:
    """Phi without its quadratic part: the proposal is no longer the one of the correction."""
    at = module._Drift.at.__func__

    def wrong(cls, w, value, gradient, posterior):
        right = at(cls, w, value, gradient, posterior)
        return module._Drift(value, right.g, right.gamma_g)

    monkeypatch.setattr(module._Drift, "at", classmethod(wrong))


def halved_gradient(monkeypatch) -> None:
    def wrong(measurement, u):
        value, gradient = value_and_gradient(measurement, u)
        return 0.5 * value, 0.5 * gradient

    monkeypatch.setattr(module, "value_and_gradient", wrong)


@pytest.mark.parametrize("break_it", [uncorrected, forgotten_hessian, halved_gradient], ids=lambda f: f.__name__)
def test_wrong_chains_are_rejected(monkeypatch, break_it):
    problem = setting("cube", GaussianNoise(0.05), seed=3)
    break_it(monkeypatch)
    assert problem.p_value(problem.chains(60).u) < 1e-6


def test_the_step_adapts_to_how_far_from_linear_the_data_are():
    steps = []
    for name, variance in (("identity", 0.05), ("exp", 0.5), ("square", 0.05)):
        chains = setting(name, GaussianNoise(variance), seed=3).chains(160, n=300)
        assert np.mean(chains.acceptance[80:]) > 0.45
        steps.append(float(chains.step.median()))
    assert steps[0] == 2.0 and steps[1] > 1.5 > 3 * steps[2]  # independent draws as long as they are accepted


def test_two_modes_are_both_found_when_chains_start_on_either_side():
    problem = setting("square", GaussianNoise(0.1), y=[1.5, 1.2])
    assert problem.p_value(problem.chains(200, from_prior=True).u) > 1e-3


def test_a_proposal_without_a_likelihood_is_refused_and_counted():
    limited = setting("exp", GaussianNoise(0.2), y=[1.5, 1.0])
    operator = compose(
        limited.measurement.operator.operators[0],
        Pointwise(lambda u: torch.where((u < 0.6).all(-1, keepdim=True), u.exp(), torch.nan)),
    )
    limited = replace(limited, measurement=replace(limited.measurement, operator=operator))
    S, mean = Whitening(limited.prior.covariance), limited.prior.mean[None]
    posterior = LaplaceApproximation(find_map(limited.measurement, mean, S, 8), S)
    g = rng(3)
    chains = start(limited.measurement, limited.prior.covariance.sample(CHAINS, g), mean, g)
    chains = langevin(chains, limited.measurement, mean.expand(CHAINS, 1, POINTS), posterior, 150, g)
    assert torch.isfinite(chains.u).all() and float(chains.u.max()) < 0.6
    assert 0.05 < np.mean(chains.impossible) < 0.9
    free = setting("exp", GaussianNoise(0.2), y=[1.5, 1.0]).chains(20, n=200)
    assert max(free.impossible) == 0 and float(free.u.max()) > 0.6


def refusing(u: Tensor) -> Tensor:
    """exp(u), of a solver that refuses a batch in which a value is above 0.6."""
    if (bad := (u >= 0.6).flatten(1).any(1)).any():
        raise ForwardModelError(f"operator 'toy': sample {int(bad.nonzero()[0])} of the batch is too large")
    return u.exp()


def test_a_field_that_a_solver_refuses_is_a_proposal_without_a_likelihood():
    """Chains are those of a likelihood that is NaN there, whatever else is in the batch."""
    problem = setting("exp", GaussianNoise(0.2), y=[1.5, 1.0])
    sampled = []
    for toy in (refusing, lambda u: torch.where((u < 0.6).all(-1, keepdim=True), u.exp(), torch.nan)):
        measurement = replace(
            problem.measurement, operator=compose(problem.measurement.operator.operators[0], Pointwise(toy))
        )
        result = FAPS(levels=1, steps=20)(problem.prior, measurement, 50, rng(5))
        assert float(result.samples[:, 0, [1, 5]].max()) < 0.6 and 0 < result.diagnostics["impossible"] < 0.9
        sampled.append(result.samples)
    torch.testing.assert_close(*sampled)


def test_a_solver_that_refuses_every_field_says_why():
    problem = setting("exp", GaussianNoise(0.2), y=[1.5, 1.0])
    operator = compose(problem.measurement.operator.operators[0], Pointwise(lambda u: refusing(u + 1e3)))
    measurement = replace(problem.measurement, operator=operator)
    u = torch.zeros((2, 1, POINTS), dtype=torch.float64)
    with pytest.raises(ForwardModelError, match="sample 0 of the batch is too large"):
        find_map(measurement, u[:1], Whitening(line().covariance), 4)
    with pytest.raises(InfieldError, match=r"sample 0: found the log-likelihood -inf.*\(operator 'toy'.*too large\)"):
        start(measurement, u, u[:1], rng(0))


def test_fields_that_no_chain_can_start_from_are_named():
    measurement = observe(torch.exp, GaussianNoise(0.1))
    u = torch.zeros((3, 1, POINTS), dtype=torch.float64)
    u[1, 0, 0] = float("nan")
    with pytest.raises(InfieldError, match="sample 1: found NaN"):
        start(measurement, u, u[:1], rng(0))
    nowhere = observe(lambda x: x * torch.nan, GaussianNoise(0.1), y=[1.0, 1.0])
    with pytest.raises(InfieldError, match="sample 0: found the log-likelihood nan"):
        start(nowhere, torch.zeros((2, 1, POINTS), dtype=torch.float64), u[:1], rng(0))
    with pytest.raises(InfieldError, match="log-likelihood nan at the prior's mean"):
        find_map(nowhere, u[:1], Whitening(line().covariance), 4)


# all levels: FAPS


@pytest.mark.parametrize("name", SETTINGS)
def test_faps_draws_the_posterior_of_nonlinear_data(name):
    problem = SETTINGS[name]()
    result = FAPS(levels=6)(problem.prior, problem.measurement, CHAINS, rng(5))
    assert problem.p_value(result.samples) > 1e-3
    assert 0.4 < result.diagnostics["acceptance"] <= 1 and result.diagnostics["impossible"] == 0
    wrong = FAPS(levels=6, steps=20)(problem.prior, problem.louder.measurement, CHAINS, rng(5)).samples
    assert problem.p_value(wrong) < 1e-6


def test_the_linearised_posterior_alone_is_rejected():
    problem = SETTINGS["cube"]()
    few = FAPS(levels=6, steps=1)(problem.prior, problem.measurement, CHAINS, rng(5)).samples
    assert problem.p_value(few) < 1e-6


def test_values_away_from_the_data_follow_from_those_at_the_data():
    problem = setting("exp", GaussianNoise(0.05))
    u = FAPS(levels=6)(problem.prior, problem.measurement, CHAINS, rng(5)).samples[:, 0]
    C, at = matrix(problem.prior.covariance), [1, 5]
    gain = torch.linalg.solve(C[at][:, at], C[at]).mT
    left = u - u[:, at] @ gain.mT  # independent of the data under the exact posterior
    others = [0, 2, 3, 4, 6, 7]
    law = torch.zeros(6, dtype=torch.float64), (C - gain @ C[at])[others][:, others]
    z = gaussian_z_scores(left[:, others], *law)
    assert z.mean < THRESHOLD and z.covariance < THRESHOLD, z
    assert gaussian_z_scores(u[:, others], *law).mean > 2 * THRESHOLD


def test_each_step_costs_one_forward_and_one_backward_pass():
    problem = setting("exp", GaussianNoise(0.05))

    def calls(steps: int, n: int, levels: int = 4) -> float:
        sampler = FAPS(levels=levels, steps=steps)
        cost = sampler(problem.prior, problem.measurement, n, rng(0)).cost
        assert cost["velocity_calls"] == levels
        return cost["operator_calls"] * n

    assert calls(30, 5) - calls(20, 5) == 10 * 5 * 2
    shared = calls(20, 8) - 8 * 2 * (20 + 1)  # the chains' starts are evaluated once
    assert shared == calls(20, 4) - 4 * 2 * (20 + 1) and 0 < shared < 200


def test_a_sample_of_chains_depends_on_its_stream_alone():
    problem = setting("cube", GaussianNoise(0.05), seed=3)
    sampler = FAPS(levels=3, steps=12)
    together = sampler(problem.prior, problem.measurement, 4, SampleStreams(9, [0, 1, 2, 3])).samples
    alone = sampler(problem.prior, problem.measurement, 1, SampleStreams(9, [2])).samples
    torch.testing.assert_close(alone[0], together[2], rtol=1e-8, atol=1e-8)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_a_solver_that_fails_and_a_prior_that_diverges_are_named():
    problem = setting("exp", GaussianNoise(0.05))

    def fails(u: Tensor) -> Tensor:
        if len(u) == 7:
            raise InfieldError("operator 'toy': sample 3 of the batch did not converge")
        return u.exp()

    operator = compose(problem.measurement.operator.operators[0], Pointwise(fails))
    with pytest.raises(InfieldError, match="sampler faps, level 0 of 4: operator 'toy': sample 3 of the batch"):
        FAPS(levels=4, steps=10)(problem.prior, replace(problem.measurement, operator=operator), 7, rng(0))

    class Diverging(GaussianPrior):
        def velocity(self, x: Tensor, t: float) -> Tensor:
            v = super().velocity(x, t)
            v[4] = torch.where(torch.tensor(t > 0.4), torch.nan, v[4])
            return v

    prior = Diverging(**{f.name: getattr(problem.prior, f.name) for f in fields(GaussianPrior) if f.init})
    with pytest.raises(InfieldError, match="sample 14: found NaN or infinity in the prior's estimate, level 2 of 4"):
        FAPS(levels=4, steps=10)(prior, problem.measurement, 6, SampleStreams(0, range(10, 16)))


def test_counts_under_a_linear_operator_stay_where_counts_can_be():
    points = Grid.regular((6,), 1.0)
    prior = gaussian_prior(Matern(1.5, 0.4), points).in_units(4.0, 2.0)
    operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": np.ones(6, bool)}, points, 1)
    y = torch.tensor([[[1.0, 0.0, 2.0, 4.0, 5.0, 3.0]]], dtype=torch.float64)
    measurement = Measurement(y=y, operator=operator, noise=PoissonNoise(1.0), grid=points)
    result = FAPS()(prior, measurement, CHAINS, rng(1))
    assert float(result.samples.min()) >= 0 and 0 < result.diagnostics["impossible"] < 0.5
    mean = torch.zeros((1, 6), dtype=torch.float64)
    u = (prior.mean + prior.covariance.sample(400_000, rng(2))) * 2 + 4  # the prior, weighted by the likelihood
    weight = measurement.log_likelihood(u).exp()
    mean = (weight[:, None] * u[:, 0]).sum(0) / weight.sum()
    spread = ((weight[:, None] * (u[:, 0] - mean) ** 2).sum(0) / weight.sum()).sqrt()
    error = (result.samples[:, 0].mean(0) - mean) / spread
    effective = float(weight.sum() ** 2 / weight.square().sum())
    assert float(error.abs().max()) < THRESHOLD * (1 / CHAINS + 1 / effective) ** 0.5
    negative = prior.in_units(-1.0, 2.0)
    with pytest.raises(InfieldError, match="log-likelihood -inf at the prior's mean"):
        FAPS()(negative, measurement, 2, rng(1))
