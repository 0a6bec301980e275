"""Noise laws: densities against scipy and brute force, gradients, moments, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import gammaln, logsumexp, xlogy

from infield import InfieldError
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import (
    GaussianNoise,
    GaussianNoiseModel,
    LowRankGaussianNoise,
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    noise_from_json,
)
from infield.testing import check_noise_model

COILS, K = 3, (2, 3)
THRESHOLD = 4.5  # z-scores


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coil_covariance() -> torch.Tensor:
    root = torch.randn(COILS, COILS, generator=rng(5), dtype=torch.complex128)
    return root @ root.mH + 0.3 * torch.eye(COILS)


def factors() -> torch.Tensor:
    return torch.randn(3, 2, COILS, *K, generator=rng(7), dtype=torch.float64)


def laws() -> dict[str, NoiseModel]:
    per_datum = torch.rand(2, COILS, *K, generator=rng(1), dtype=torch.float64) + 0.1
    return {
        "gaussian": GaussianNoise(0.3),
        "gaussian per datum": GaussianNoise(per_datum),
        "coil-gaussian": CoilGaussianNoise(coil_covariance()),
        "low-rank-gaussian": LowRankGaussianNoise(per_datum, factors()),
        "poisson": PoissonNoise(1.0),
        "poisson gain 0.05": PoissonNoise(0.05),
        "poisson gain 3": PoissonNoise(3.0),
        "poisson-gaussian": PoissonGaussianNoise(1.0, 0.5),
        "poisson-gaussian gain 0.05": PoissonGaussianNoise(0.05, 0.01),
        "poisson-gaussian per datum": PoissonGaussianNoise(2.0, per_datum),
    }


def laws_of_data_by_themselves() -> list[NoiseModel]:
    """Those that add up over the samples of k-space; the low-rank law joins all data."""
    return [law for law in laws().values() if not isinstance(law, LowRankGaussianNoise)]


every_law = pytest.mark.parametrize("law", laws().values(), ids=laws())
gaussian_laws = pytest.mark.parametrize(
    "law",
    [law for law in laws().values() if isinstance(law, GaussianNoiseModel)],
    ids=[n for n in laws() if "poisson" not in n],
)


def pair(law: NoiseModel, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Noiseless data above zero, and data drawn from the law."""
    z = 0.2 + 5 * torch.rand(batch, 2, COILS, *K, generator=rng(2), dtype=torch.float64)
    return law.sample(z[:1], rng(3)), z


def gradient_error(law, y, z) -> float:
    """Against automatic differentiation of the log density."""
    z = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(law.log_prob(y, z).sum(), z)
    return ((law.gradient(y, z.detach()) - expected).norm() / expected.norm()).item()


def difference_error(law, y, z, step: float = 1e-5) -> float:
    """Against central differences along random directions."""
    worst = 0.0
    for seed in range(5):
        direction = torch.randn(z.shape, generator=rng(10 + seed), dtype=torch.float64)
        slope = (law.log_prob(y, z + step * direction) - law.log_prob(y, z - step * direction)) / (2 * step)
        expected = (law.gradient(y, z) * direction).flatten(1).sum(1)
        worst = max(worst, ((slope - expected).abs() / (1 + slope.abs())).max().item())
    return worst


# --- gradients ---


@every_law
def test_gradient(law):
    y, z = pair(law)
    assert gradient_error(law, y, z) < 1e-10
    assert difference_error(law, y, z) < 1e-6


def test_the_gradient_of_the_best_known_library_is_rejected():
    class OffByGainSquared(PoissonNoise):
        def gradient(self, y, z):
            return self.gain**2 * super().gradient(y, z)

    law = OffByGainSquared(0.05)
    assert gradient_error(law, *pair(law)) > 0.9 and difference_error(law, *pair(law)) > 0.9
    blind = OffByGainSquared(1.0)  # at gain 1 nobody sees it, which is why the tests have other gains
    assert gradient_error(blind, *pair(blind)) < 1e-10


@every_law
def test_battery(law):
    """Gradient, score, information, normalisation, masks and description: the checks that others have for theirs."""
    check_noise_model(law, pair(law, 1)[1], draws=1500)


# --- densities ---


def test_gaussian_density():
    for law in (laws()["gaussian"], laws()["gaussian per datum"]):
        y, z = pair(law)
        expected = stats.norm.logpdf(y.numpy(), z.numpy(), law.variance.sqrt().numpy()).sum((1, 2, 3, 4))
        np.testing.assert_allclose(law.log_prob(y, z).numpy(), expected, rtol=1e-12)


def test_low_rank_density_and_what_is_not_observed():
    law, y, z = laws()["low-rank-gaussian"], *pair(laws()["low-rank-gaussian"])
    R = torch.diag(law.diagonal.flatten()) + factors().flatten(1).T @ factors().flatten(1)
    r, R = (y - z).flatten(1).numpy(), R.numpy()
    expected = stats.multivariate_normal(np.zeros(len(R)), R).logpdf(r)
    np.testing.assert_allclose(law.log_prob(y, z).numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(law.chi_square(y, z).numpy(), (r @ np.linalg.inv(R) * r).sum(1), rtol=1e-10)
    observed = torch.rand(y.shape[1:], generator=rng(8)) > 0.4
    some = LowRankGaussianNoise(law.diagonal, torch.where(observed, law.factors, 0.0))
    kept, y_nan = observed.flatten().numpy(), torch.where(observed, y, torch.nan)
    expected = stats.multivariate_normal(np.zeros(kept.sum()), R[kept][:, kept]).logpdf(r[:, kept])
    np.testing.assert_allclose(some.log_prob(y_nan, z, observed).numpy(), expected, rtol=1e-10)
    again = noise_from_json(some.to_json(), some.arrays())
    assert torch.equal(again.log_prob(y, z), some.log_prob(y, z))


@pytest.mark.parametrize(
    ("diagonal", "factors", "words"),
    [
        (0.0, torch.ones(2, 3), "above zero"),
        (1.0, torch.tensor([[1.0, torch.nan]]), "NaN or Inf"),
        (torch.ones(4), torch.ones(2, 3), r"factors of shape \(2, 3\) and a diagonal of shape \(4,\)"),
        (1.0, torch.ones(3), "expected .rows"),
    ],
)
def test_low_rank_noise_refuses(diagonal, factors, words):
    with pytest.raises(InfieldError, match=words):
        LowRankGaussianNoise(diagonal, factors)


def test_poisson_density():
    for gain in (0.05, 1.0, 3.0):
        y, z = pair(PoissonNoise(gain))
        counts = (y / gain).round().numpy()
        expected = stats.poisson.logpmf(counts, z.numpy() / gain).sum((1, 2, 3, 4))
        np.testing.assert_allclose(PoissonNoise(gain).log_prob(y, z).numpy(), expected, rtol=1e-10)


def real_covariance(psi: np.ndarray) -> np.ndarray:
    """Covariance of (real parts, imaginary parts) of circular noise with E[n n^H] = psi."""
    return np.block([[psi.real, -psi.imag], [psi.imag, psi.real]]) / 2


def test_coil_density_and_maps():
    law, psi = laws()["coil-gaussian"], coil_covariance().numpy()
    R = real_covariance(psi)
    y, z = pair(law)
    rows = (y - z).flatten(3).permute(0, 3, 1, 2).flatten(2).numpy()  # (batch, sample, real and imaginary coils)
    expected = stats.multivariate_normal(np.zeros(2 * COILS), R).logpdf(rows).sum(1)
    np.testing.assert_allclose(law.log_prob(y, z).numpy(), expected, rtol=1e-10)
    unit = torch.eye(2 * COILS, dtype=torch.float64).reshape(-1, 2, COILS, 1, 1)
    np.testing.assert_allclose(law.apply(unit).flatten(1).numpy().T, R, atol=1e-12)
    np.testing.assert_allclose(law.solve(unit).flatten(1).numpy().T, np.linalg.inv(R), atol=1e-10)
    root = law.root(unit).flatten(1).numpy().T
    np.testing.assert_allclose(root @ root.T, R, atol=1e-12)
    np.testing.assert_allclose(law.variance.flatten().numpy(), np.diag(R)[:COILS])


def test_coil_noise_is_circular():
    law = laws()["coil-gaussian"]
    n = law.sample(torch.zeros(1, 2, COILS, 200, 200, dtype=torch.float64), rng())
    n = torch.complex(n[0, 0], n[0, 1]).flatten(1)
    scale = law.covariance.abs().max() / math.sqrt(n.shape[1])
    assert (n @ n.mH / n.shape[1] - law.covariance).abs().max() < THRESHOLD * scale
    assert (n @ n.mT / n.shape[1]).abs().max() < 1.5 * THRESHOLD * scale
    assert (n @ n.mH / n.shape[1] - 2 * law.covariance).abs().max() > 50 * scale  # the usual slip, Psi a part


@gaussian_laws
def test_gaussian_maps(law):
    r = torch.randn(4, 2, COILS, *K, generator=rng(), dtype=torch.float64)
    torch.testing.assert_close(law.solve(law.apply(r)), r)
    torch.testing.assert_close(law.apply(law.solve(r)), r)
    unit = torch.eye(r[0].numel(), dtype=torch.float64).reshape(-1, *r.shape[1:])
    R, root = law.apply(unit).flatten(1).T, law.root(unit).flatten(1).T
    torch.testing.assert_close(root @ root.T, R)
    torch.testing.assert_close(law.variance.expand(r.shape[1:]).flatten(), R.diagonal())


def brute_force(y: float, z: float, gain: float, variance: float) -> float:
    n = np.arange(0, 20000)
    terms = xlogy(n, z / gain) - gammaln(n + 1) - (y - gain * n) ** 2 / (2 * variance)
    return logsumexp(terms) - z / gain - 0.5 * np.log(2 * np.pi * variance)


def corners() -> list[tuple[float, float, float, float]]:
    return [
        (y * gain, rate * gain, gain, variance * gain**2)
        for gain in (0.02, 1.0, 40.0)
        for rate in (0.0, 1e-8, 0.3, 5.0, 80.0, 3000.0)
        for y in (-30.0, 0.0, 0.4, 6.0, 77.5, 2900.0)
        for variance in (1e-4, 0.05, 1.0, 400.0, 1e6)
    ]


def test_poisson_gaussian_density_against_brute_force():
    for y, z, gain, variance in corners():
        law = PoissonGaussianNoise(gain, variance)
        found = law.log_density(*torch.tensor([[y], [z]], dtype=torch.float64)).item()
        expected = brute_force(y, z, gain, variance)
        assert abs(found - expected) < 1e-10 + 1e-13 * abs(expected), (y, z, gain, variance)


def test_a_window_half_as_wide_is_rejected():
    from infield.physics.noise import poisson as counts

    half_width = counts._half_width
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "_half_width", lambda *a: half_width(*a, log_ratio=8.0))
        with pytest.raises(AssertionError):
            test_poisson_gaussian_density_against_brute_force()


def test_poisson_gaussian_density_integrates_to_one():
    law = PoissonGaussianNoise(0.5, 0.04)
    y = torch.linspace(-2, 12, 8001, dtype=torch.float64)
    density = law.log_density(y, torch.full_like(y, 2.0)).exp()
    assert abs(torch.trapezoid(density, y).item() - 1) < 1e-10


def test_poisson_gaussian_does_not_depend_on_its_company():
    law = PoissonGaussianNoise(0.5, 0.04)
    y, z = torch.tensor([1.3, 4000.0]).double(), torch.tensor([2.0, 3900.0]).double()
    together = law.log_density(y, z)
    assert torch.equal(together[:1], law.log_density(y[:1], z[:1]))


def test_poisson_gaussian_gradient_at_no_light_and_at_infinity():
    law = PoissonGaussianNoise(1.0, 0.25)
    y = torch.tensor([[1.0]]).double()
    slope = (law.log_prob(y, torch.tensor([[1e-7]]).double()) - law.log_prob(y, torch.zeros(1, 1).double())) / 1e-7
    torch.testing.assert_close(law.gradient(y, torch.zeros(1, 1).double())[0], slope, rtol=1e-4, atol=0)
    assert not torch.isfinite(law.log_prob(y, torch.tensor([[math.inf]]).double())).any()
    assert law.log_prob(y, torch.tensor([[-1.0]]).double()) == -math.inf


def test_poisson_without_light():
    law, zero, one = PoissonNoise(0.5), torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    assert law.log_prob(zero, zero).item() == 0 and law.gradient(zero, zero).item() == -2
    assert law.log_prob(one, zero).item() == -math.inf and law.gradient(one, zero).item() == math.inf
    assert law.log_prob(one, -one).item() == -math.inf and law.gradient(one, -one).item() == math.inf
    assert law.chi_square(zero, zero).item() == 0


# --- draws ---


def moment_scores(draws: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> float:
    """Worst z-score of mean and variance over the data."""
    n, centred = len(draws), draws - mean
    of_mean = centred.mean(0) / (draws.std(0) / math.sqrt(n))
    squares = centred**2
    of_variance = (squares.mean(0) - variance) / (squares.std(0) / math.sqrt(n))
    return max(of_mean.abs().max().item(), of_variance.abs().max().item())


def expected_variance(law: NoiseModel, z: torch.Tensor) -> torch.Tensor:
    counts = law.gain * z if hasattr(law, "gain") else torch.zeros_like(z)
    return counts + getattr(law, "variance", torch.tensor(0.0))


@every_law
def test_moments(law):
    z = pair(law, 1)[1]
    draws = law.sample(z.expand(20000, -1, -1, -1, -1), rng(6))
    assert moment_scores(draws, z[0], expected_variance(law, z[0])) < THRESHOLD
    assert moment_scores(draws, z[0], 1.2 * expected_variance(law, z[0])) > 2 * THRESHOLD
    again = law.sample(z.expand(20000, -1, -1, -1, -1), rng(6))
    assert torch.equal(draws, again)


@every_law
def test_chi_square_is_one_a_datum(law):
    z = pair(law, 1)[1]
    chi_square = law.chi_square(law.sample(z.expand(4000, -1, -1, -1, -1), rng(7)), z.expand(4000, -1, -1, -1, -1))
    score = (chi_square.mean() - z.numel()) / (chi_square.std() / math.sqrt(4000))
    assert abs(score.item()) < THRESHOLD


# --- what is not observed, batches, precision ---


@pytest.mark.parametrize("law", laws_of_data_by_themselves())
def test_unobserved_entries_count_for_nothing(law):
    y, z = pair(law)
    observed = (torch.rand(K, generator=rng(8)) > 0.4).expand(2, COILS, *K)
    inside = (law.log_prob(y, z, observed), law.chi_square(y, z, observed))
    far_y, far_z = torch.where(observed, y, 7.0), torch.where(observed, z, 100.0)
    outside = (law.log_prob(far_y, far_z, observed), law.chi_square(far_y, far_z, observed))
    torch.testing.assert_close(inside, outside, rtol=1e-14, atol=0)
    rest = law.log_prob(y, z, ~observed)
    torch.testing.assert_close(inside[0] + rest, law.log_prob(y, z))


@every_law
def test_batches_and_single_precision(law):
    y, z = pair(law)
    for i in range(len(z)):
        torch.testing.assert_close(law.log_prob(y, z)[i], law.log_prob(y, z[i : i + 1])[0], rtol=1e-13, atol=0)
        torch.testing.assert_close(law.gradient(y, z)[i], law.gradient(y, z[i : i + 1])[0], rtol=1e-13, atol=1e-13)
        if not isinstance(law, LowRankGaussianNoise):  # a matrix product rounds as its size has it
            assert torch.equal(law.gradient(y, z)[i], law.gradient(y, z[i : i + 1])[0])
    single = law.gradient(y.float(), z.float())
    assert single.dtype == law.log_prob(y.float(), z.float()).dtype == torch.float32
    assert law.sample(z.float(), rng()).dtype == torch.float32
    torch.testing.assert_close(single.double(), law.gradient(y, z), rtol=1e-3, atol=1e-3)


# --- descriptions ---


@every_law
def test_description_round_trip(law):
    assert isinstance(law, NoiseModel)
    again = noise_from_json(law.to_json(), law.arrays())
    y, z = pair(law)
    assert type(again) is type(law) and torch.equal(again.log_prob(y, z), law.log_prob(y, z))


def test_kinds_of_law():
    assert [isinstance(law, GaussianNoiseModel) for law in laws().values()] == [True] * 4 + [False] * 6


SKEW = np.array([[1.0, 0.5j], [0.5j, 1.0]])
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            {"law": "cauchy"},
            "found law 'cauchy', expected one of gaussian, poisson, poisson-gaussian, low-rank-gaussian, stack",
        ),
        ({}, "found law None"),
        ({"law": "gaussian"}, r"found the entries \[\], expected \['variance'\]"),
        ({"law": "gaussian", "variance": 1.0, "std": 1.0}, "found the entries"),
        ({"law": "gaussian", "variance": 0.0}, "found variance 0.0, expected one finite number above zero"),
        ({"law": "gaussian", "variance": -1}, "found variance -1"),
        ({"law": "gaussian", "variance": math.nan}, "found variance nan"),
        ({"law": "gaussian", "variance": True}, "found variance True"),
        ({"law": "gaussian", "variance": None}, "found variance None"),
        ({"law": "gaussian", "variance": "none"}, "variance: found no variable 'none', expected one of"),
        (
            {"law": "gaussian", "variance": "bad"},
            r"found variance .* \(2 of 3 values are wrong\), expected finite values above zero",
        ),
        ({"law": "coil-gaussian", "covariance": 1.0}, "expected the name of a variable"),
        (
            {"law": "coil-gaussian", "covariance": "bad"},
            r"found a covariance of shape \(3,\), expected \(coils, coils\)",
        ),
        ({"law": "coil-gaussian", "covariance": "nan"}, "NaN or Inf"),
        ({"law": "coil-gaussian", "covariance": "skew", "k_dimensions": 4}, "found k_dimensions 4, expected 2, or 3"),
        ({"law": "coil-gaussian", "covariance": "skew"}, "not Hermitian"),
        ({"law": "coil-gaussian", "covariance": "indefinite"}, "expected a positive definite one"),
        ({"law": "poisson", "gain": 0}, "found gain 0"),
        ({"law": "poisson", "gain": "bad"}, "found gain 'bad'"),
        ({"law": "poisson-gaussian", "gain": 1.0, "variance": 0.0}, "found variance 0.0"),
        ({"law": "poisson-gaussian", "gain": math.inf, "variance": 1.0}, "found gain inf"),
    ],
)
def test_bad_descriptions(description, message):
    arrays = {
        "bad": np.array([1.0, 0.0, np.nan]),
        "nan": np.full((2, 2), np.nan),
        "skew": SKEW,
        "indefinite": INDEFINITE,
    }
    with pytest.raises(InfieldError, match=message) as error:
        noise_from_json(description, arrays)
    assert "\n" not in str(error.value)


def test_coil_noise_refuses_data_of_another_shape():
    with pytest.raises(InfieldError, match=r"found data of shape \(1, 2, 4, 5, 5\), expected \(batch, 2, 3\)"):
        laws()["coil-gaussian"].solve(torch.zeros(1, 2, 4, 5, 5))


def test_unknown_variance_stands_in_the_sample_variance_and_refuses_every_likelihood():
    noise = noise_from_json({"law": "gaussian", "variance": {"estimate": True}}, {"data": np.array([1.0, 2.0, 6.0])})
    assert noise.estimated and not GaussianNoise(1.0).estimated
    assert noise.variance.item() == 7.0  # ((-2)^2 + (-1)^2 + 3^2) / 2
    assert noise.to_json() == {"law": "gaussian", "variance": {"estimate": True}} and noise.arrays() == {}
    y = torch.zeros(1, 3, dtype=torch.float64)
    uses = (
        lambda: noise.solve(y),
        lambda: noise.apply(y),
        lambda: noise.root(y),
        lambda: noise.log_prob(y, y),
        lambda: noise.gradient(y, y),
        lambda: noise.chi_square(y, y),
        lambda: noise.sample(y, torch.Generator()),
    )
    for use in uses:
        with pytest.raises(InfieldError, match="to be estimated from the data, expected a stated one; state it"):
            use()


@pytest.mark.parametrize("data", [[], [3.0], [3.0, 3.0, 3.0]])
def test_data_that_do_not_differ_tell_no_variance(data):
    with pytest.raises(InfieldError, match=f"{len(data)} data that are all the same"):
        noise_from_json({"law": "gaussian", "variance": {"estimate": True}}, {"data": np.array(data)})
