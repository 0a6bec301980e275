"""Bases, factored covariances and the Gaussian bridge against dense matrices."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from infield.priors.covariance import base
from infield.priors.covariance.base import Covariance, from_draws, from_matrix
from infield.priors.covariance.modes import Eigenbasis, Hartley, HartleyAcross, LeadingDirections, Modes, Pixels
from infield.priors.gaussian.bridge import Bridge

THRESHOLD = 4.5
SHAPES = [(1,), (2,), (7,), (8,), (3, 5), (4, 6), (5, 4), (2, 3, 4), (3, 3, 5), (1, 6)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def unit_fields(*shape: int) -> Tensor:
    n = math.prod(shape)
    return torch.eye(n, dtype=torch.float64).reshape(n, *shape)


def eigenbasis(*shape: int) -> Eigenbasis:
    n = math.prod(shape)
    return Eigenbasis(torch.linalg.qr(normal(n, n, seed=5)).Q, shape)


def every_basis(shape: tuple[int, ...]) -> list[Modes]:
    across = [HartleyAcross()] if len(shape) == 3 else []
    return [Pixels(), Hartley(len(shape)), eigenbasis(*shape), leading(*shape), *across]


def leading(*shape: int) -> LeadingDirections:
    n = math.prod(shape)
    return LeadingDirections.of(torch.linalg.qr(normal(n, (n + 1) // 2, seed=6)).Q, shape)


# bases


@every_shape
def test_modes_are_orthonormal_and_undo_themselves(shape):
    x = normal(3, 2, *shape)
    for modes in every_basis(shape):
        assert isinstance(modes, Modes)
        c = modes.analyse(x)
        assert c.shape == x.shape
        torch.testing.assert_close(modes.synthesise(c), x)
        T = modes.analyse(unit_fields(1, *shape)).flatten(1)
        torch.testing.assert_close(T @ T.mT, torch.eye(len(T), dtype=torch.float64))
        torch.testing.assert_close(
            (modes.synthesise(x) * x).sum(), (x * modes.analyse(x)).sum()
        )  # T^T is its transpose
        torch.testing.assert_close(modes.to("cpu").analyse(x), c)


def circulant(kernel: Tensor) -> Tensor:
    """The matrix of a stationary covariance on a torus, entry by entry: K[i, j] = k(i - j)."""
    points = list(np.ndindex(*kernel.shape))
    return torch.tensor(
        [
            [float(kernel[tuple((a - b) % n for a, b, n in zip(i, j, kernel.shape, strict=True))]) for j in points]
            for i in points
        ],
        dtype=torch.float64,
    )


def even_kernel(shape: tuple[int, ...]) -> Tensor:
    """Positive variances of the modes that are even in the wavenumber, and the covariance function that they mean."""
    frequencies = torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) for n in shape), indexing="ij")
    spectrum = 1 / (0.05 + torch.stack(frequencies).square().sum(0))
    return torch.fft.ifftn(spectrum).real


@every_shape
def test_hartley_modes_diagonalise_what_is_stationary_and_nothing_else(shape):
    kernel = even_kernel(shape)
    K, n = circulant(kernel), math.prod(shape)
    T = Hartley(len(shape)).analyse(unit_fields(1, *shape)).flatten(1)
    D = T @ K @ T.mT
    torch.testing.assert_close(D.diagonal(), torch.fft.fftn(kernel).real.flatten())
    assert (D - D.diagonal().diag()).abs().max() < 1e-10 * D.abs().max()
    if n > 2:
        other = torch.diag(torch.arange(1.0, n + 1, dtype=torch.float64))  # variances that change from place to place
        D = T @ other @ T.mT
        assert (D - D.diagonal().diag()).abs().max() > 0.1


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_the_first_coordinates_are_along_the_leading_directions_and_all_costs_are_linear(rank):
    n = 20
    V = torch.linalg.qr(normal(n, rank, seed=3)).Q
    for vectors in (V, -V, torch.eye(n, dtype=torch.float64)[:, :rank], torch.eye(n, dtype=torch.float64)[:, -rank:]):
        modes = LeadingDirections.of(vectors, (4, 5))
        x = normal(7, 2, 4, 5)
        c = modes.analyse(x)
        torch.testing.assert_close(c.flatten(2)[..., :rank], x.flatten(2) @ vectors)
        torch.testing.assert_close(modes.synthesise(c), x)
        T = modes.analyse(unit_fields(4, 5)).flatten(1)
        assert (T @ T.mT - torch.eye(n)).abs().max() < 1e-14
        assert {tuple(t.shape) for t in vars(modes).values() if isinstance(t, Tensor)} <= {(n, rank), (rank, rank)}
    skewed = LeadingDirections.of(V @ torch.linspace(1, 1.1, rank).double().diag() + 0.1, (4, 5))  # not orthonormal
    T = skewed.analyse(unit_fields(4, 5)).flatten(1)
    assert (T @ T.mT - torch.eye(n)).abs().max() > 1e-3


# covariances


def factored(modes: Modes, shape: tuple[int, ...], rank: int) -> tuple[Covariance, Tensor]:
    """A covariance, and its matrix made from the definition C = T^T (diag(d) + sum f f^T) T."""
    diagonal = 0.1 + torch.rand(shape, generator=rng(1), dtype=torch.float64)
    factors = normal(rank, *shape, seed=2)
    T = modes.analyse(unit_fields(*shape)).flatten(1).mT  # columns: coordinates of unit fields
    F = factors.flatten(1)
    return Covariance(modes, diagonal, factors), T.mT @ (diagonal.flatten().diag() + F.mT @ F) @ T


CASES = [
    (modes, shape, rank) for shape in [(1, 6), (2, 3, 3)] for rank in (0, 1, 3) for modes in every_basis(shape[1:])
]
every_case = pytest.mark.parametrize(("modes", "shape", "rank"), CASES, ids=lambda v: type(v).__name__ + str(v)[:12])


def law_z(x: Tensor, C: Tensor) -> float:
    """Largest z-score of the second moments of draws of N(0, C)."""
    n = len(x)
    z = torch.linalg.solve_triangular(torch.linalg.cholesky(C), x.flatten(1).mT, upper=False).mT
    eye = torch.eye(z.shape[1], dtype=torch.float64)
    return float(((z.mT @ z / n - eye) * math.sqrt(n) / (1 + eye).sqrt()).abs().max())


@every_case
def test_covariance_is_its_matrix(modes, shape, rank):
    C, dense = factored(modes, shape, rank)
    assert C.rank == rank and C.event_shape == shape
    x = normal(5, *shape, seed=3)
    torch.testing.assert_close(C.apply(x).flatten(1), x.flatten(1) @ dense)
    in_modes = modes.synthesise(C.apply_to_modes(modes.analyse(x)))
    torch.testing.assert_close(in_modes, C.apply(x))
    assert C.trace == pytest.approx(float(dense.trace()))
    for i in range(5):
        torch.testing.assert_close(C.apply(x[i : i + 1])[0], C.apply(x)[i])
    torch.testing.assert_close(C.to("cpu").apply(x), C.apply(x))


@every_case
def test_draws_have_the_covariance(modes, shape, rank):
    C, dense = factored(modes, shape, rank)
    x = C.sample(4000, rng(4))
    assert x.shape == (4000, *shape) and x.dtype == torch.float64
    assert law_z(x, dense) < THRESHOLD
    assert float((x.mean(0).flatten() / (dense.diagonal() / 4000).sqrt()).abs().max()) < THRESHOLD
    assert torch.equal(C.sample(3, rng(9)), C.sample(3, rng(9)))
    without_factors = Covariance.diagonal_in(modes, C.diagonal).sample(4000, rng(4))
    assert rank == 0 or law_z(without_factors, dense) > 2 * THRESHOLD


@every_case
def test_colour_is_linear_in_its_noise_with_the_covariance_as_square(modes, shape, rank):
    C, dense = factored(modes, shape, rank)
    unit = unit_fields(*shape)
    S = C.colour(torch.cat([unit, 0 * unit]), torch.cat([0 * unit, unit]))
    torch.testing.assert_close(S.flatten(1).mT @ S.flatten(1), dense)


@every_case
def test_colour_depends_on_no_basis_of_the_factors(modes, shape, rank):
    """(F^T F)^{1/2} is the same for Q F; products of a draw's own coefficients with F are not."""
    C, _ = factored(modes, shape, rank)
    Q = -torch.linalg.qr(torch.randn(rank, rank, generator=rng(5), dtype=torch.float64)).Q
    turned = replace(C, factors=torch.tensordot(Q, C.factors, 1))
    white, more = (torch.randn(2, *shape, generator=rng(seed), dtype=torch.float64) for seed in (6, 7))
    torch.testing.assert_close(turned.colour(white, more), C.colour(white, more), rtol=0, atol=1e-11)
    if rank:
        z = torch.randn(2, rank, generator=rng(8), dtype=torch.float64)
        assert not torch.allclose(torch.tensordot(z, turned.factors, 1), torch.tensordot(z, C.factors, 1))


def test_many_factors_are_decomposed_by_their_products(monkeypatch):
    C, _ = factored(Hartley(1), (2, 5), 3)
    direct = C.colour(unit_fields(2, 5), unit_fields(2, 5))
    monkeypatch.setattr(base, "DIRECT_RANK", 2)
    again = replace(C)
    torch.testing.assert_close(again.colour(unit_fields(2, 5), unit_fields(2, 5)), direct, rtol=0, atol=1e-9)


def test_truncation_keeps_each_modes_variance_and_the_leading_factors():
    C, dense = factored(Pixels(), (1, 6), 4)
    for rank in range(5):
        cut = C.truncated(rank)
        assert cut.rank == rank and cut.trace == pytest.approx(C.trace)
        matrix = cut.apply(unit_fields(1, 6)).flatten(1)
        torch.testing.assert_close(matrix.diagonal(), dense.diagonal())
        F = C.factors[:rank].flatten(1)
        torch.testing.assert_close(matrix - matrix.diagonal().diag(), F.mT @ F - (F.mT @ F).diagonal().diag())
        assert rank == 4 or not torch.allclose(matrix, dense)


@pytest.mark.parametrize("shape", [(6,), (3, 4)])
def test_a_dense_covariance_is_factored_in_any_basis(shape):
    n = math.prod(shape)
    root = normal(n, n, seed=6)
    full, thin = root @ root.mT, root[:, :2] @ root[:, :2].mT
    for modes in every_basis(shape):
        for dense in (full, thin):
            C = from_matrix(modes, dense, shape)
            torch.testing.assert_close(C.apply(unit_fields(1, *shape)).flatten(1), dense, rtol=1e-7, atol=1e-7)
            assert (C.diagonal > 0).all() and (C.diagonal.max() < 1e-8 * float(dense.trace()))
        assert from_matrix(modes, thin, shape).rank == 2
    rough = from_matrix(Pixels(), full + 5 * torch.eye(n), shape, tolerance=0.3)
    assert rough.rank < n and rough.trace == pytest.approx(float(full.trace()) + 5 * n)


def test_rounding_does_not_decide_how_many_directions_are_kept():
    """Eigenvalues at the cut-off, two of them equal, each moved by the rounding of another processor."""
    vectors = torch.linalg.qr(normal(12, 12, seed=3)).Q
    values = torch.cat([torch.logspace(0, -7, 5), torch.tensor([1e-10, 1e-10]), torch.logspace(-13, -15, 5)]).double()
    ranks, plain, drawn = set(), set(), []
    for seed in range(12):
        moved = values + 1e-14 * normal(12, seed=seed)
        matrix = (vectors * moved) @ vectors.mT
        ranks.add(from_matrix(Pixels(), matrix, (12,)).rank)
        plain.add(int((moved > 1e-10 * moved[0]).sum()))
        drawn.append(from_matrix(Pixels(), matrix, (12,)).sample(2, torch.Generator().manual_seed(0)))
    assert ranks == {7} and len(plain) > 1  # negative control: a cut without a margin
    assert max(float((draw - drawn[0]).abs().max()) for draw in drawn) < 1e-6
    rougher = from_matrix(Pixels(), (vectors * values) @ vectors.mT, (12,), tolerance=1.02e-10)
    assert rougher.rank == 5  # beyond the margin the cut-off is what it says


def test_the_root_of_hundreds_of_factors_is_continuous(monkeypatch):
    """Factors of a size that rounding decides: draws move by rounding, where a cut-off moves them by the factor."""
    monkeypatch.setattr(base, "DIRECT_RANK", 2)
    directions = torch.linalg.qr(normal(12, 12, seed=4)).Q[:5]
    sizes = torch.tensor([1.0, 0.3, 0.1, 1e-7, 1e-8], dtype=torch.float64)
    white, more = normal(3, 1, 12, seed=5), normal(3, 1, 12, seed=6)
    drawn, cut = [], []
    for seed in range(12):
        moved = sizes * (1 + 0.01 * normal(5, seed=seed) * (sizes < 1e-6))
        F = (moved[:, None] * directions).reshape(5, 1, 12)
        C = Covariance(Pixels(), torch.zeros(1, 12, dtype=torch.float64), F)
        drawn.append(C.colour(white, more))
        kept = directions[moved**2 > 1e-14]
        cut.append(more.flatten(1) @ kept.mT * moved[moved**2 > 1e-14] @ kept)
    exact = more.flatten(1) @ directions.mT * sizes @ directions
    assert max(float((x.flatten(1) - exact).abs().max()) for x in drawn) < 1e-7
    moved_by = [max(float((x - xs[0]).abs().max()) for x in xs) for xs in (drawn, cut)]
    assert moved_by[0] < 1e-8 and moved_by[1] > 5 * moved_by[0]  # negative control


@pytest.mark.parametrize("modes", [Pixels(), Hartley(1)])
def test_covariance_of_draws_is_that_of_numpy_where_the_rank_suffices(modes):
    draws = 3 + normal(9, 1, 6, seed=7) @ normal(6, 6, seed=8)
    expected = torch.from_numpy(np.cov(draws.flatten(1).numpy().T))
    C = from_draws(modes, draws, rank=6)
    torch.testing.assert_close(C.apply(unit_fields(1, 6)).flatten(1), expected, rtol=1e-6, atol=1e-6)
    few = from_draws(modes, draws[:4], rank=3)  # fewer draws than values
    expected = torch.from_numpy(np.cov(draws[:4].flatten(1).numpy().T))
    torch.testing.assert_close(few.apply(unit_fields(1, 6)).flatten(1), expected, rtol=1e-5, atol=1e-5)


def test_covariance_of_draws_keeps_the_leading_directions_and_all_variances():
    true, _ = factored(Hartley(2), (1, 6, 8), 0)
    true = Covariance(true.modes, 0.01 * true.diagonal, 3 * normal(4, 1, 6, 8, seed=2))
    draws = true.sample(3000, rng(1))
    global_state = torch.random.get_rng_state()
    C = from_draws(true.modes, draws, rank=4)
    assert torch.equal(torch.random.get_rng_state(), global_state)  # nobody else's random numbers are used up
    assert torch.equal(from_draws(true.modes, draws, rank=4).factors, C.factors)
    assert C.rank == 4
    sample = true.modes.analyse(draws - draws.mean(0)).flatten(1)
    variance = (sample.square().sum(0) / (len(draws) - 1)).reshape(1, 6, 8)
    torch.testing.assert_close(C.diagonal + C.factors.square().sum(0), variance)
    _, singular, directions = torch.linalg.svd(sample / math.sqrt(len(draws) - 1), full_matrices=False)
    F = C.factors.flatten(1)
    torch.testing.assert_close(F.mT @ F, directions[:4].mT @ singular[:4].square().diag() @ directions[:4])
    difference = C.apply(unit_fields(1, 6, 8)) - true.apply(unit_fields(1, 6, 8))
    assert difference.norm() < 0.1 * true.apply(unit_fields(1, 6, 8)).norm()
    diagonal_only = from_draws(true.modes, draws, rank=0)
    assert diagonal_only.rank == 0
    torch.testing.assert_close(diagonal_only.diagonal, variance)


# the bridge


TIMES = [0.0, 0.1, 0.5, 0.9, 0.999]
BRIDGES = [(modes, rank) for rank in (0, 2) for modes in every_basis((3, 4))]
every_bridge = pytest.mark.parametrize(("modes", "rank"), BRIDGES, ids=lambda v: type(v).__name__ + str(v)[:8])


def bridge(modes: Modes, rank: int, t: float) -> tuple[Bridge, Tensor, Tensor, Tensor]:
    """A bridge on 12 points, and C, C_0 and P as matrices."""
    C, dense = factored(modes, (1, 3, 4), rank)
    source = Covariance.diagonal_in(modes, 0.2 + torch.rand((1, 3, 4), generator=rng(8), dtype=torch.float64))
    C_0 = source.apply(unit_fields(1, 3, 4)).flatten(1)
    return Bridge(C, source, t), dense, C_0, t**2 * dense + (1 - t) ** 2 * C_0


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


@every_bridge
@pytest.mark.parametrize("t", TIMES)
def test_bridge_is_that_of_dense_algebra(modes, rank, t):
    law, C, C_0, P = bridge(modes, rank, t)
    x, mean = 2 * normal(4, 1, 3, 4, seed=9), normal(1, 3, 4, seed=10)
    r = (x - t * mean).flatten(1)
    solved = modes.synthesise(law.solve(modes.analyse(x))).flatten(1)
    close(solved, torch.linalg.solve(P, x.flatten(1).mT).mT)
    expected = mean.flatten() + torch.linalg.solve(P, r.mT).mT @ (t * C - (1 - t) * C_0)
    close(law.velocity(x, mean).flatten(1), expected)
    close(law.conditional().apply(unit_fields(1, 3, 4)).flatten(1), C - t**2 * C @ torch.linalg.solve(P, C))
    density = multivariate_normal((t * mean).flatten().numpy(), P.numpy()).logpdf(x.flatten(1).numpy())
    close(law.log_density(x, mean), torch.from_numpy(density))


@every_bridge
def test_bridge_tells_a_wrong_time_and_a_wrong_mean(modes, rank):
    law, *_ = bridge(modes, rank, 0.5)
    x, mean = normal(4, 1, 3, 4, seed=9), normal(1, 3, 4, seed=10)
    expected = law.velocity(x, mean)
    assert (Bridge(law.covariance, law.source, 0.55).velocity(x, mean) - expected).norm() > 0.05 * expected.norm()
    assert (law.velocity(x, 0 * mean) - expected).norm() > 0.05 * expected.norm()


@every_bridge
def test_bridge_starts_at_the_source_and_ends_at_the_data(modes, rank):
    start, C, _, _ = bridge(modes, rank, 0.0)
    x, mean = normal(4, 1, 3, 4, seed=9), normal(1, 3, 4, seed=10)
    close(start.velocity(x, mean), mean - x)  # x_0 says nothing of x_1
    close(start.conditional().apply(unit_fields(1, 3, 4)).flatten(1), C)
    end, C, _, _ = bridge(modes, rank, 1 - 1e-6)
    assert (x + 1e-6 * end.velocity(x, mean) - x).abs().max() < 1e-4  # x_t is x_1 there
    left = end.conditional().apply(unit_fields(1, 3, 4)).flatten(1)
    assert left.abs().max() < 1e-9 * C.abs().max() and torch.linalg.eigvalsh((left + left.mT) / 2).min() > -1e-15


def test_bridge_of_a_full_rank_prior_near_the_data():
    """Factors as many as values and hardly any diagonal, as a Matern prior in the modes of another source has them."""
    root = normal(12, 12, seed=1)
    C = from_matrix(Hartley(2), root @ root.mT, (3, 4))
    source = Covariance.diagonal_in(Hartley(2), torch.ones(1, 3, 4, dtype=torch.float64))
    dense = C.apply(unit_fields(1, 3, 4)).flatten(1)
    for t in (0.3, 0.99):
        P = t**2 * dense + (1 - t) ** 2 * torch.eye(12)
        expected = dense - t**2 * dense @ torch.linalg.solve(P, dense)
        found = Bridge(C, source, t).conditional().apply(unit_fields(1, 3, 4)).flatten(1)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))
