"""Local kriging against dense kriging in numpy, with trends, on open, periodic, spherical and anisotropic domains."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import gamma, kv

from infield.core.errors import InfieldError
from infield.posterior.kriging import local
from infield.posterior.kriging.law import EARTH_RADIUS, Geometry, StationaryLaw
from infield.posterior.kriging.local import moments
from infield.posterior.kriging.observations import Coefficients, Observations

PLANE = Geometry(("y", "x"), ("m", "m"), (None, None))


def tensor(array):
    return torch.from_numpy(np.asarray(array, dtype=float))


def matern(distance, nu):
    """Matern correlation by Bessel functions, independent of the closed forms (these for many pairs)."""
    z = np.sqrt(2 * nu) * np.maximum(distance, 1e-12)
    if nu == 1.5 and distance.size > 10_000:
        return (1 + z) * np.exp(-z)
    return np.where(distance == 0, 1.0, 2 ** (1 - nu) / gamma(nu) * z**nu * kv(nu, z))


def plane(a, b):
    return np.sqrt((((a[:, None] - b[None]) / 0.2) ** 2).sum(-1))


def turned(a, b):
    """Lengths 0.4 and 0.05, turned by 30 degrees."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    u = (a[:, None] - b[None]) @ np.array([[c, s], [-s, c]])
    return np.hypot(u[..., 0] / 0.4, u[..., 1] / 0.05)


def cylinder(a, b):
    """First axis of period 1, second open."""
    d = a[:, None] - b[None]
    return np.hypot(np.sin(np.pi * d[..., 0]) / np.pi / 0.2, d[..., 1] / 0.3)


def globe(a, b):
    """Chords of the sphere, length 2,000 km."""
    lon, lat = (np.deg2rad([a[:, i][:, None] - 0 * b[:, i], b[:, i] + 0 * a[:, i][:, None]]) for i in (0, 1))
    cosine = np.sin(lat[0]) * np.sin(lat[1]) + np.cos(lat[0]) * np.cos(lat[1]) * np.cos(lon[0] - lon[1])
    return EARTH_RADIUS * np.sqrt(np.maximum(2 - 2 * cosine, 0)) / 2000


DOMAINS = {
    "plane": (PLANE, (0.2, 0.2), None, plane),
    "turned": (PLANE, (0.4, 0.05), np.pi / 6, turned),
    "cylinder": (Geometry(("a", "x"), ("m", "m"), (1.0, None)), (0.2, 0.3), None, cylinder),
    "globe": (
        Geometry(("lon", "lat"), ("degrees_east", "degrees_north"), (None, None), (0, 1)),
        (2000.0, 2000.0),
        None,
        globe,
    ),
}


def problem(domain="plane", nu=1.5, N=60, noise=0.3, terms=1, seed=0, m=50):
    geometry, lengths, azimuth, distance = DOMAINS[domain]
    law = StationaryLaw(geometry, nu, 2.0, lengths, azimuth)
    random = np.random.default_rng(seed)
    box = (np.array([360.0, 160.0]), np.array([-180.0, -80.0])) if domain == "globe" else (1.0, 0.0)
    x, targets = (random.random((k, 2)) * box[0] + box[1] for k in (N, m))
    F, F_star = (np.stack([np.ones(len(p)), p[:, 1]], 1)[:, :terms] for p in (x, targets))
    y = random.standard_normal(N) + 3
    data = Observations(tensor(x), tensor(y), torch.full((N,), noise**2, dtype=torch.float64), tensor(F))
    return law, data, tensor(targets), tensor(F_star), lambda a, b: 2.0 * matern(distance(a, b), nu)


def dense(data, targets, F_star, k, b, V):
    """Kriging in numpy: R&W 2.25-2.26 and 2.41-2.42."""
    x, y, F = data.x.numpy(), data.y.numpy(), data.design.numpy()
    K = k(x, x) + np.diag(data.noise.numpy())
    weights = np.linalg.solve(K, k(x, targets.numpy()))
    g = F_star.numpy() - weights.T @ F
    mean = F_star.numpy() @ b + weights.T @ (y - F @ b)
    return mean, 2.0 - (weights * k(x, targets.numpy())).sum(0) + ((g @ V) * g).sum(1)


def coefficients(terms):
    b, root = np.array([2.5, -1.0])[:terms], np.array([[0.5, 0.1], [0.0, 0.3]])[:terms, :terms]
    return b, root.T @ root


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_all_data_are_dense_kriging(domain, nu):
    law, data, targets, design, k = problem(domain, nu, terms=2)
    b, V = coefficients(2)
    found = moments(law, data, targets, design, Coefficients(tensor(b), tensor(V)))
    mean, variance = dense(data, targets, design, k, b, V)
    assert found.neighbours == 60 and found.change == 0
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-6, atol=1e-6)


def test_universal_kriging_is_the_block_system():
    """With generalised least squares for b and V, both moments are those of the textbook's bordered system."""
    law, data, targets, design, k = problem(terms=2)
    x, y, F = data.x.numpy(), data.y.numpy(), data.design.numpy()
    K = k(x, x) + np.diag(data.noise.numpy())
    V = np.linalg.inv(F.T @ np.linalg.solve(K, F))
    b = V @ F.T @ np.linalg.solve(K, y)
    found = moments(law, data, targets, design, Coefficients(tensor(b), tensor(V)))
    border = np.block([[K, F], [F.T, np.zeros((2, 2))]])
    right = np.concatenate([k(x, targets.numpy()), design.numpy().T])
    solved = np.linalg.solve(border, right)
    np.testing.assert_allclose(found.mean, solved[:60].T @ y, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.variance, 2.0 - (solved * right).sum(0), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("domain", "noise"), [("plane", 0.1), ("plane", 2.0), ("turned", 0.1), ("cylinder", 0.5), ("globe", 0.1)]
)
def test_blocks_reach_dense_kriging(domain, noise):
    law, data, targets, design, k = problem(domain, N=1200, noise=noise, m=200)
    b, V = coefficients(1)
    found = moments(law, data, targets, design, Coefficients(tensor(b), tensor(V)))
    mean, variance = dense(data, targets, design, k, b, V)
    assert 64 <= found.neighbours <= local.MAX_NEIGHBOURS
    assert found.neighbours == local.MAX_NEIGHBOURS or found.change <= 0.01
    std = np.sqrt(variance)
    assert np.sqrt(np.mean(((found.mean.numpy() - mean) / std) ** 2)) < max(0.02, 3 * found.change)
    assert np.abs(found.variance.sqrt().numpy() / std - 1).max() < 0.02


def test_few_neighbours_are_seen():
    """Negative control: 8 neighbours at large noise are far from dense kriging, and the measured change says so."""
    law, data, targets, design, k = problem(N=1200, noise=2.0, m=200)
    b, V = coefficients(1)
    mean, variance = dense(data, targets, design, k, b, V)
    found = moments(law, data, targets, design, Coefficients(tensor(b), tensor(V)), neighbours=8)
    assert np.sqrt(np.mean((found.mean.numpy() - mean) ** 2 / variance)) > 0.2
    assert np.isnan(found.change)
    loose = moments(law, data, targets, design, Coefficients(tensor(b), tensor(V)), tolerance=1.0)
    assert loose.neighbours == local.MIN_NEIGHBOURS and loose.change > 0.01


@pytest.mark.parametrize("N", [100, 1001])
def test_order_does_not_matter(N):
    law, data, targets, design, _ = problem(N=N, m=100)
    b, V = coefficients(1)
    trend = Coefficients(tensor(b), tensor(V))
    first = moments(law, data, targets, design, trend)
    random = torch.Generator().manual_seed(1)
    i, j = torch.randperm(N, generator=random), torch.randperm(100, generator=random)
    second = moments(law, data.at(i), targets[j], design[j], trend)
    assert first.neighbours == second.neighbours
    torch.testing.assert_close(second.mean, first.mean[j], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(second.variance, first.variance[j], rtol=1e-9, atol=1e-9)


def test_ties_on_grids_do_not_depend_on_rounding():
    """Data and targets on one grid, moved by a unit in the last place: the same neighbours, hence the same moments."""
    law, *_ = problem()
    axis = torch.arange(40, dtype=torch.float64) / 40
    x = torch.cartesian_prod(axis, axis)
    y = torch.sin(9 * x[:, 0]) + x[:, 1]
    ones = torch.ones(1600, 1, dtype=torch.float64)
    trend = Coefficients(ones[0], ones[:1] * 0.1)
    data = Observations(x, y, 0.2 * ones[:, 0], ones)
    first = moments(law, data, x, ones, trend, neighbours=50)
    moved = dataclasses.replace(data, x=x * (1 + 2**-52))
    second = moments(law, moved, x * (1 - 2**-53), ones, trend, neighbours=50)
    torch.testing.assert_close(second.mean, first.mean, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(second.variance, first.variance, rtol=1e-11, atol=1e-11)


def test_far_from_data_is_the_prior_and_at_exact_data_the_data():
    law, data, *_ = problem(noise=0.0)
    b, V = coefficients(1)
    trend = Coefficients(tensor(b), tensor(V))
    far = moments(law, data, tensor([[50.0, 50.0]]), torch.ones(1, 1, dtype=torch.float64), trend)
    assert float(far.mean) == pytest.approx(b[0]) and float(far.variance) == pytest.approx(2.0 + V[0, 0])
    here = moments(law, data, data.x, data.design, trend)
    torch.testing.assert_close(here.mean, data.y, rtol=1e-6, atol=1e-6)
    assert float(here.variance.max()) < 1e-8


def test_no_data_is_the_prior():
    law, data, targets, design, _ = problem()
    empty = data.at(torch.arange(0))
    b, V = coefficients(1)
    found = moments(law, empty, targets, design, Coefficients(tensor(b), tensor(V)))
    torch.testing.assert_close(found.mean, torch.full((50,), 2.5, dtype=torch.float64))
    torch.testing.assert_close(found.variance, torch.full((50,), 2.25, dtype=torch.float64))


def test_data_at_one_place():
    law, data, targets, design, _ = problem(noise=0.0, N=20)
    b, V = coefficients(1)
    trend = Coefficients(tensor(b), tensor(V))
    twice = data.at(torch.tensor([*range(20), 3]))
    single, double = (moments(law, some, targets, design, trend) for some in (data, twice))
    torch.testing.assert_close(double.mean, single.mean)
    twice.y[-1] += 0.5
    with pytest.raises(InfieldError, match="without noise at") as error:
        moments(law, twice, targets, design, trend)
    assert "\n" not in str(error.value)


def test_two_noisy_data_at_one_place_are_their_average():
    law, data, targets, design, _ = problem(N=20)
    b, V = coefficients(1)
    trend = Coefficients(tensor(b), tensor(V))
    twice = data.at(torch.tensor([*range(20), 3]))
    twice.y[3], twice.y[-1] = data.y[3] + 1, data.y[3] - 1
    merged = dataclasses.replace(data, noise=data.noise.clone())
    merged.noise[3] /= 2
    first, second = (moments(law, some, targets, design, trend) for some in (merged, twice))
    torch.testing.assert_close(second.mean, first.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(second.variance, first.variance, rtol=1e-6, atol=1e-6)


def test_blocks_hold_every_target_once_and_stay_small():
    random = np.random.default_rng(0)
    targets, data = random.random((3000, 2)), random.random((2000, 2))
    tree = local.cKDTree(data)
    found = local.blocks(targets, tree, 64)
    assert np.array_equal(np.sort(np.concatenate([index for index, _ in found])), np.arange(3000))
    for index, centre in found:
        reach = np.sort(np.linalg.norm(data - centre, axis=1))[63]
        assert len(index) <= local.TARGETS
        assert np.linalg.norm(targets[index] - centre, axis=1).max() <= reach / 2 + 1e-12
