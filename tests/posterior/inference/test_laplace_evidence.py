"""Laplace's evidence: exact where data are linear and Gaussian, near quadrature for counts, its estimates unbiased."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from torch import Tensor

from infield import InfieldError
from infield.core._deepinv import Physics
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, LowRankGaussianNoise, PoissonNoise
from infield.physics.operators.jacobian import jacobian_is_exact
from infield.physics.operators.refusal import ForwardModelError
from infield.physics.operators.registry import build_operator
from infield.posterior.inference import laplace_evidence as module
from infield.posterior.inference.laplace_evidence import lanczos_log_det, laplace_evidence
from infield.priors.gaussian.matern import matern_matrix


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_a_line(n: int, link: str | None = "exp", noise=None, mean: float = 1.0, seen=None) -> tuple[Measurement, Tensor]:
    """Data of a field on n points, and the field's covariance."""
    grid = Grid.regular((n,), 1.0)
    K = matern_matrix(grid.points(), nu=1.5, length=0.3, variance=0.8)
    truth = mean + torch.linalg.cholesky(K + 1e-10 * torch.eye(n)) @ torch.randn(n, generator=rng(n)).double()
    mask = np.ones(n, dtype=bool) if seen is None else seen
    operators = [{"name": "mask", "arrays": {"mask": "mask"}}, *([{"name": link}] if link else [])]
    description = {"name": "compose", "operators": operators}
    operator = build_operator(description, {"mask": mask}, grid, 1)
    noise = noise or PoissonNoise(1.0)
    y = noise.sample(operator.A(truth.reshape(1, 1, n)), rng(n + 1))
    return Measurement(y=y, operator=operator, noise=noise, grid=grid), K


def product(K: Tensor):
    return lambda x: (x.flatten(2) @ K).reshape(x.shape)


def test_exact_for_linear_data_with_gaussian_noise():
    noise = GaussianNoise(torch.linspace(0.05, 0.2, 9, dtype=torch.float64))
    measurement, K = on_a_line(9, None, noise, seen=np.arange(9) % 3 > 0)
    mean = torch.full((1, 1, 9), 0.7, dtype=torch.float64)
    seen = measurement.operator.observed[0]
    law = torch.distributions.MultivariateNormal(mean[0, 0, seen], K[seen][:, seen] + torch.diag(noise.variance[seen]))
    found = laplace_evidence(measurement, mean, product(K))
    assert abs(found.log_evidence - float(law.log_prob(measurement.y[0, 0, seen]))) < 1e-3
    doubled = laplace_evidence(measurement, mean, product(2 * K))
    assert abs(doubled.log_evidence - found.log_evidence) > 0.1  # negative control


@pytest.mark.parametrize(
    ("link", "mean", "tolerance"), [("exp", -1.0, 0.06), ("exp", 2.0, 0.02), ("softplus", 2.0, 0.1)]
)
def test_near_quadrature_for_counts(link, mean, tolerance):
    """Three cells: the evidence by 48^3 points of Gauss and Hermite."""
    measurement, K = on_a_line(3, link, mean=mean)
    nodes, weights = np.polynomial.hermite_e.hermegauss(48)
    w = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), -1).reshape(-1, 3)
    log_weight = np.log(np.stack(np.meshgrid(weights, weights, weights, indexing="ij"), -1)).sum(-1).ravel()
    log_weight -= 1.5 * math.log(2 * math.pi)
    u = mean + w @ np.linalg.cholesky(K.numpy()).T
    z, y = np.exp(u) if link == "exp" else np.logaddexp(0, u), measurement.y.numpy().ravel()
    terms = log_weight + (y * np.log(z) - z - gammaln(y + 1)).sum(1)
    exact = np.logaddexp.reduce(terms)
    centre = torch.full((1, 1, 3), mean, dtype=torch.float64)
    found = laplace_evidence(measurement, centre, product(K))
    assert abs(found.log_evidence - exact) < tolerance
    assert abs(laplace_evidence(measurement, centre - 3, product(K)).log_evidence - exact) > 0.5


def test_the_most_probable_field():
    """The gradient of log p(u | y) vanishes there, and a good start changes nothing."""
    measurement, K = on_a_line(40)
    mean = torch.zeros((1, 1, 40), dtype=torch.float64)
    found = laplace_evidence(measurement, mean, product(K))
    gradient = measurement.gradient(found.at) - found.dual
    assert float((gradient.flatten() @ K @ gradient.flatten()).sqrt()) < 0.05
    again = laplace_evidence(measurement, mean, product(K), found.dual)
    torch.testing.assert_close(again.at, found.at, atol=0.02, rtol=0)
    assert abs(again.log_evidence - found.log_evidence) < 2e-3
    assert (
        float((measurement.gradient(mean).flatten() @ K @ measurement.gradient(mean).flatten()).sqrt()) > 1
    )  # control


def test_few_lanczos_steps_give_the_log_determinant():
    """With as many steps as dimensions each probe is exact; over many probes the mean is the log-determinant."""
    n = 60
    V = torch.linalg.qr(torch.randn((n, n), generator=rng(1), dtype=torch.float64)).Q
    eigenvalues = 1e3 * 0.7 ** torch.arange(n, dtype=torch.float64)
    B = (V * eigenvalues) @ V.mT
    signs = (2 * torch.randint(0, 2, (300, n), generator=rng(2)) - 1).double()
    logarithm = (V * torch.log1p(eigenvalues)) @ V.mT
    exact = torch.einsum("bi,ij,bj->b", signs, logarithm, signs)
    torch.testing.assert_close(lanczos_log_det(lambda v: v @ B, signs, n), exact, rtol=1e-9, atol=1e-9)
    few = lanczos_log_det(lambda v: v @ B, signs, 20)
    torch.testing.assert_close(few, exact, rtol=1e-4, atol=0)
    z = (few.mean() - torch.log1p(eigenvalues).sum()) / (few.std() / 300**0.5)
    assert abs(float(z)) < 4
    assert float((lanczos_log_det(lambda v: v @ B, signs, 3) - exact).abs().max()) > 1  # negative control


def test_many_data_are_estimated_from_the_same_probes_every_time(monkeypatch):
    measurement, K = on_a_line(200)
    mean = torch.ones((1, 1, 200), dtype=torch.float64)
    found = [laplace_evidence(measurement, mean, product(scale * K)) for scale in (1.0, 1.1)]
    exact = [f.log_evidence for f in found]
    monkeypatch.setattr(module, "MAX_DATA_EXACT", 10)
    estimated = [replace(f).log_evidence for f in found]
    assert estimated == [replace(f).log_evidence for f in found] and estimated[0] != exact[0]
    assert abs(estimated[0] - exact[0]) < 8
    assert abs((estimated[1] - estimated[0]) - (exact[1] - exact[0])) < 0.3  # what is compared is a difference


def test_what_it_cannot_do_is_said():
    measurement, K = on_a_line(5)
    zero = torch.zeros((1, 1, 5), dtype=torch.float64)
    noise = LowRankGaussianNoise(0.1, torch.ones((1, 1, 5), dtype=torch.float64))
    with pytest.raises(InfieldError, match="found noise LowRankGaussianNoise, expected a law of independent errors"):
        laplace_evidence(replace(measurement, noise=noise), zero, product(K))
    with pytest.raises(InfieldError, match="impossible under the mean field"):
        laplace_evidence(measurement, zero + 1e4, product(K))


class IterativelySolved(Physics):
    """Sums of neighbours, as a solver leaves them: with an error of 1e-9 that changes with the field, and no derivative
    along a field but by differences. It refuses fields beyond 100, as a solver does."""

    def __init__(self, n: int) -> None:
        super().__init__()
        weights = torch.eye(n, dtype=torch.float64)
        self.weights = weights[::2] + 0.5 * torch.roll(weights, 1, 1)[::2]

    def A(self, x: Tensor) -> Tensor:
        if float(x.detach().abs().max()) > 100:
            raise ForwardModelError(where="solver", found="a field beyond 100")
        exact = x[:, 0] @ self.weights.mT
        return (exact * (1 + 1e-9 * torch.sin(1e9 * exact.detach())))[:, None]


def solved(sd: float = 1e-6, n: int = 24) -> tuple[Measurement, Tensor, torch.distributions.MultivariateNormal]:
    """Accurate data through the solver, the field's covariance with a wide mean, and the distribution of the data."""
    grid = Grid.regular((n,), 1.0)
    K = matern_matrix(grid.points(), nu=1.5, length=0.3, variance=0.8) + 100.0
    operator = IterativelySolved(n)
    A, noise = operator.weights, GaussianNoise(torch.tensor(sd**2))
    law = torch.distributions.MultivariateNormal(
        torch.zeros(len(A), dtype=torch.float64), A @ K @ A.mT + sd**2 * torch.eye(len(A))
    )
    truth = torch.linalg.cholesky(K) @ torch.randn(n, generator=rng(3)).double()
    y = noise.sample((truth @ A.mT)[None, None], rng(4))
    return Measurement(y=y, operator=operator, noise=noise, grid=grid), K, law


def test_accurate_data_of_a_solver_whose_derivative_is_a_difference(monkeypatch):
    """Differences give B, which is up to 1e14, with errors of 1e-7 of it: only the matrix from J itself serves."""
    measurement, K, law = solved()
    mean = torch.zeros(1, 1, len(K), dtype=torch.float64)
    right = float(law.log_prob(measurement.y[0, 0]))
    assert laplace_evidence(measurement, mean, product(K)).log_evidence == pytest.approx(right, abs=0.1)
    monkeypatch.setattr(module, "jacobian_is_exact", lambda operator: True)
    with pytest.raises((InfieldError, AssertionError)):
        wrong = laplace_evidence(measurement, mean, product(K)).log_evidence
        assert wrong == pytest.approx(right, abs=0.1)


def test_a_step_to_where_there_is_no_solution_is_shortened():
    """The first step from zero towards a field near 90 overshoots the solver's range under a law of long tails."""
    measurement, K, _ = solved(sd=0.1)
    mean = torch.full((1, 1, len(K)), 99.9, dtype=torch.float64)
    found = laplace_evidence(measurement, mean, product(K))
    assert float(measurement.chi_square(found.at)) < 3 and float(found.at.abs().max()) < 100


def test_which_derivatives_are_exact():
    grid = Grid.regular((6,), 1.0)
    mask, link = {"name": "mask", "arrays": {"mask": "mask"}}, {"name": "exp"}
    darcy = {"name": "darcy"}
    built = build_operator({"name": "compose", "operators": [mask, link]}, {"mask": np.ones(6, bool)}, grid, 1)
    assert jacobian_is_exact(built)
    assert not jacobian_is_exact(build_operator(darcy, {}, grid, 1))
    after = build_operator({"name": "compose", "operators": [mask, darcy]}, {"mask": np.ones(6, bool)}, grid, 1)
    assert not jacobian_is_exact(after)
