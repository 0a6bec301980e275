"""Random functions: moments of draws by their z-scores, each beside a law that the same test rejects."""

from __future__ import annotations

import math

import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.priors.random_fields.processes import (
    PROCESSES,
    GibbsProcess,
    LogNormalProcess,
    MaternProcess,
    MixtureProcess,
    TruncatedProcess,
)


def line(n):
    return Grid((Axis("x", tuple(i / n for i in range(n))),))


def noise(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def largest_z(x, expected, function):
    """Largest z-score of the mean of a function of draws."""
    values = function(x)
    return float(((values.mean(0) - expected) / (values.std(0) / len(x) ** 0.5)).abs().max())


def products(x):
    return x[:, :, None] * x[:, None]


@pytest.mark.parametrize(
    ("law", "wrong"),
    [(MaternProcess(), MaternProcess(length=0.26)), (GibbsProcess(), GibbsProcess(slope=0.3))],
)
def test_gaussian_processes_have_their_covariance(law, wrong):
    grid, n = line(10), 10000
    x = law.draw(grid, noise(n))
    assert x.shape == (n, 10) and x.dtype == torch.float64
    assert largest_z(x, 0.0, lambda x: x) < 4.5
    assert largest_z(x, law.covariance(grid.points()), products) < 4.5
    assert largest_z(x, wrong.covariance(grid.points()), products) > 6


def test_gibbs_kernel_with_one_length_is_the_squared_exponential():
    x = line(12).points()
    same = GibbsProcess(length=0.2, slope=0.0, variance=2.0).covariance(x)
    torch.testing.assert_close(same, 2 * torch.exp(-((x - x.mT) ** 2) / (2 * 0.2**2)))
    growing = GibbsProcess().covariance(x)
    assert growing.diagonal().eq(1).all() and growing[10, 11] > growing[0, 1]
    assert float(torch.linalg.eigvalsh(growing).min()) > -1e-12


@pytest.mark.parametrize("law", [MaternProcess(), GibbsProcess()])
def test_law_at_shared_points_does_not_depend_on_the_grid(law):
    coarse, fine = (law.covariance(line(n).points()) for n in (16, 64))
    torch.testing.assert_close(fine[::4, ::4], coarse, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", PROCESSES)
def test_fine_grids_of_every_process_can_be_drawn(name):
    x = PROCESSES[name]().draw(line(512), noise(3))
    assert x.shape == (3, 512) and torch.isfinite(x).all()
    rough = (x[:, 1:] - x[:, :-1]).abs().max()
    assert float(rough) < 0.8  # neighbours are near


def test_truncated_functions_are_the_gaussian_ones_that_stay_inside():
    grid, n = line(8), 4000
    law = TruncatedProcess(low=-1.0, high=1.5)
    x = law.draw(grid, noise(n))
    assert float(x.min()) >= -1 and float(x.max()) <= 1.5
    brute = MaternProcess().draw(grid, noise(60000, 1))
    brute = brute[((brute >= -1) & (brute <= 1.5)).all(1)]
    pooled = (x.var(0) / n + brute.var(0) / len(brute)).sqrt()
    assert float(((x.mean(0) - brute.mean(0)) / pooled).abs().max()) < 4.5
    clipped = (
        MaternProcess().draw(grid, noise(60000, 1)).clamp(-1, 1.5)
    )  # negative control: not a law of clipped values
    assert float(((x.mean(0) - clipped.mean(0)) / pooled).abs().max()) > 6
    assert largest_z(x, products(brute).mean(0), products) < 6 < largest_z(x, products(clipped).mean(0), products)


def test_a_truncated_sample_does_not_depend_on_the_others():
    """Each sample has its own stream; how long the others take does not matter."""

    def streams(numbers):
        generators = [torch.Generator().manual_seed(i) for i in numbers]
        return lambda shape: torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in generators])

    law, grid = TruncatedProcess(), line(16)
    together = law.draw(grid, streams(range(20)))
    for i in (3, 17):
        torch.testing.assert_close(law.draw(grid, streams([i]))[0], together[i], rtol=1e-12, atol=1e-12)


def test_log_normal_moments():
    law, grid, n = LogNormalProcess(variance=0.25, mean=0.5), line(6), 20000
    x = law.draw(grid, noise(n))
    c = MaternProcess(variance=0.25).covariance(grid.points())
    mean = math.exp(0.5 + 0.125)
    assert float(x.min()) > 0 and largest_z(x, mean, lambda x: x) < 4.5
    assert largest_z(x, mean**2 * c.exp(), products) < 4.5
    assert largest_z(x, math.exp(0.5), lambda x: x) > 6  # negative control: the median is not the mean
    torch.testing.assert_close(x.log(), 0.5 + MaternProcess(variance=0.25).draw(grid, noise(n)))


def test_mixture_weighs_its_components_evenly_and_is_not_gaussian():
    law, grid, n = MixtureProcess(), line(8), 20000
    x = law.draw(grid, noise(n))
    parts = [MaternProcess(length=length).covariance(grid.points()) for length in law.lengths]
    assert largest_z(x, sum(parts) / 4, products) < 4.5
    assert largest_z(x, (2 * parts[0] + sum(parts[1:])) / 5, products) > 6

    def fourth_of_steps(x):
        return (x[:, 1:] - x[:, :-1]) ** 4

    def fourth(c):
        return 3 * (2 - 2 * c.diagonal(1)) ** 2

    assert largest_z(x, sum(map(fourth, parts)) / 4, fourth_of_steps) < 4.5
    assert largest_z(x, fourth(sum(parts) / 4), fourth_of_steps) > 6  # a Gaussian process of the same covariance


BAD = {
    "nu": (lambda: MaternProcess(nu=0), "nu: found 0, expected a finite number above zero"),
    "slope": (lambda: GibbsProcess(slope=math.nan), "slope: found nan"),
    "length": (lambda: GibbsProcess(slope=-0.25).draw(line(8), noise(1)), "found a length of -0.1.* at x = 0.875"),
    "plane": (lambda: GibbsProcess().draw(Grid.regular((4, 4)), noise(1)), "found points of 2 coordinates"),
    "interval": (lambda: TruncatedProcess(low=2.0), "found the interval 2.0 to 1.2"),
    "attempts": (lambda: TruncatedProcess(attempts=0.5), "attempts: found 0.5"),
    "rare": (
        lambda: TruncatedProcess(low=8.0, high=9.0, attempts=3).draw(line(8), noise(2)),
        "sample 0 of the batch: found no function within 8.0 to 9.0 among 3, .*allow more attempts",
    ),
    "mean": (lambda: LogNormalProcess(mean="high"), "mean: found 'high'"),
    "lengths": (lambda: MixtureProcess(lengths=0.1), "lengths: found 0.1, expected some numbers"),
    "a length": (lambda: MixtureProcess(lengths=(0.1, -0.3)), "length: found -0.3"),
    "many points": (lambda: MaternProcess().draw(line(5000), noise(1)), "found 5000 points, expected at most 4096"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_processes(case):
    build, message = BAD[case]
    with pytest.raises(InfieldError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
