"""What a telescope's posteriors are judged by: correlation by wavenumber, and where there is signal."""

import torch

from infield.core.grid import Axis, Grid
from infield.physics.cm21.interferometer import Interferometer, independent_modes
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.pipelines.cm21.bench.telescope import cross_correlation, signal_to_noise
from infield.posterior.cm21.cone_statistics import SpectrumBins

N = 16
SHELLS = SpectrumBins((N, N, N), (4.0, 4.0, 4.0))


def white(seed, deviation=1.0):
    return deviation * torch.randn(N, N, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(mask):
    across = [Axis(name, tuple(4.0 * i for i in range(N)), "Mpc", True) for name in "xy"]
    grid = Grid((*across, Axis("los", tuple(9000 + 4.0 * i for i in range(N)), "Mpc")))
    operator = Interferometer(grid, mask)
    noise = GaussianNoise(torch.full(operator.data_shape, 2.0, dtype=torch.float64))
    y = torch.zeros(1, *operator.data_shape, dtype=torch.float64)
    return Measurement(y=y, operator=operator, noise=noise, grid=grid, channels=("brightness_temp",), units="mK")


def test_signal_over_noise_is_of_one_visibility_and_counts_what_is_not_measured():
    full = independent_modes(N, N)[..., None].expand(-1, -1, N)
    ratio = 9.0 / (2 * 2.0)  # |v|^2 of a white sky of 3 mK over noise of both parts
    found = torch.stack([signal_to_noise(SHELLS, measured(full), white(seed, 3.0)) for seed in range(12)]).mean(0)
    assert ((found[2:] / ratio - 1).abs() < 0.15).all()  # modes across 0 are never seen, few of the small scales
    quarter = full & (torch.rand(full.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.25)[..., None]
    less = torch.stack([signal_to_noise(SHELLS, measured(quarter), white(seed, 3.0)) for seed in range(12)]).mean(0)
    assert abs(float((less / found)[2:].mean()) - 0.25) < 0.08


def test_correlation_of_a_field_with_itself_and_noise():
    for noise in (0.0, 1.0, 2.0):
        r = torch.stack(
            [cross_correlation(SHELLS, white(i), white(i) + white(100 + i, noise))[1] for i in range(12)]
        ).mean(0)
        assert ((r - (1 + noise**2) ** -0.5).abs() < 0.12).all()
    independent = torch.stack([cross_correlation(SHELLS, white(i), white(200 + i))[1] for i in range(12)]).mean(0)
    assert (independent.abs() < 0.2).all()
