"""Linear data and a stationary Gaussian: closed forms and conjugate gradients against dense algebra."""

import pytest
import torch
from torch import Generator

from infield.core.grid import Grid
from infield.datasets.mri.operator_family import UndersampledKspace
from infield.datasets.training.operator_families import Deblurring, Inpainting
from infield.physics.operators import sensors as sampling
from infield.physics.operators.composition import Scale, compose
from infield.physics.operators.fourier import FourierSampling
from infield.physics.operators.least_squares import LeastSquaresMixin
from infield.physics.operators.sensors import Mask

GRID = Grid.regular((8, 6), 1.0, periodic=True)
SPACE = GRID.shape


def power() -> torch.Tensor:
    """Steep: 1 to 1/300."""
    k = [torch.fft.fftfreq(n, dtype=torch.float64) * n for n in SPACE]
    square = k[0][:, None] ** 2 + k[1][None] ** 2
    return 1 / (1 + square / 2) ** 2


def operators(channels: int) -> dict:
    seed = Generator().manual_seed(1)
    every = {
        "mask": Inpainting((0.5, 0.5)).draw(GRID, channels, seed),
        "blur": Deblurring((0.6, 0.6)).draw(GRID, channels, seed),
        "blur that loses its edge": Deblurring((0.6, 0.6), "zero").draw(GRID, channels, seed),
        "some coefficients": FourierSampling(GRID, channels, torch.rand(SPACE, generator=seed) < 0.5),
    }
    scale = Scale(GRID, channels, torch.full((channels, 1, 1), 3.0, dtype=torch.float64))
    every |= {f"{name}, in other units": compose(a, scale) for name, a in every.items()}
    if channels == 2:
        every["lines"] = UndersampledKspace("random", (2.0,)).draw(GRID, channels, seed)
    return every


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("noise", [0.03, 0.5])
def test_it_is_the_gaussian_estimate(channels, noise):
    n = channels * GRID.size
    unit = torch.eye(n, dtype=torch.float64).reshape(n, channels, *SPACE)
    C = torch.fft.ifft2(power() * torch.fft.fft2(unit)).real.reshape(n, n)
    generator = Generator().manual_seed(2)
    z, x = (torch.randn((3, channels, *SPACE), generator=generator, dtype=torch.float64) for _ in range(2))
    for name, operator in operators(channels).items():
        A = operator.A(unit).reshape(n, -1).T
        y = operator.A(x) + noise
        residual = (y - operator.A(z)).flatten(1)
        gram = A @ C @ A.T + noise**2 * torch.eye(len(A), dtype=torch.float64)
        exact = z.flatten(1) + torch.linalg.solve(gram, residual.T).T @ A @ C
        found = operator.prox_stationary(z, y, power(), noise).flatten(1)
        assert torch.allclose(found, exact, atol=1e-7), name
        other = operator.prox_stationary(z, y, power(), 2 * noise).flatten(1)
        assert not torch.allclose(other, exact, atol=1e-4), name


def test_white_is_the_proximal_step():
    operator = Mask(GRID, 1, torch.rand(SPACE, generator=Generator().manual_seed(0)) < 0.5)
    z, y = (torch.randn((2, 1, *SPACE), generator=Generator().manual_seed(i), dtype=torch.float64) for i in (1, 2))
    y = operator.A(y)
    white = torch.full(SPACE, 0.7, dtype=torch.float64)
    assert torch.allclose(operator.prox_stationary(z, y, white, 0.2), operator.prox_l2(z, y, 0.7 / 0.04), atol=1e-8)


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_of_few_observed_points_it_is_solved_directly(dtype, bound, monkeypatch):
    """To the same field as by conjugate gradients; and these take over for masks that differ between channels, for many
    points, and where the noise is less than rounding."""
    asked = []
    iterative = LeastSquaresMixin.prox_stationary
    monkeypatch.setattr(LeastSquaresMixin, "prox_stationary", lambda *a, **k: asked.append(1) or iterative(*a, **k))
    mask = torch.rand(SPACE, generator=Generator().manual_seed(0)) < 0.5
    z, y = (torch.randn((2, 2, *SPACE), generator=Generator().manual_seed(i), dtype=torch.float64) for i in (1, 2))
    operator = Mask(GRID, 2, mask)
    y = operator.A(y)
    exact = iterative(operator, z, y, power(), 0.3)
    operator = operator.to(dtype)
    z, y, p = z.to(dtype), y.to(dtype), power().to(dtype)
    found = operator.prox_stationary(z, y, p, 0.3)
    assert (found - exact).norm() < bound * exact.norm() and not asked
    assert (operator.prox_stationary(z, y, p, 0.6) - exact).norm() > 1e-2 * exact.norm()
    Mask(GRID, 2, torch.stack([mask, ~mask])).prox_stationary(z, y, p, 0.3)
    assert len(asked) == 1
    smooth = p * (p > p.flatten().sort().values[-4])  # three modes: without noise no factor
    operator.prox_stationary(z, y, smooth, 1e-10, max_iter=1)
    assert len(asked) == 2
    monkeypatch.setattr(sampling, "DENSE", 5)
    assert (operator.prox_stationary(z, y, p, 0.3) - exact).norm() < 1e-2 * exact.norm()
    assert len(asked) == 3
