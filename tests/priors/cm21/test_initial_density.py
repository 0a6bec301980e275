"""The law of initial conditions: boxes have the spectrum that was measured; what is seen of them is what it says."""

import itertools
import math

import pytest
import torch

from infield import InfieldError
from infield.priors.cm21.initial_density import RADII, InitialDensity

LAW = InitialDensity(torch.tensor([-1.5, 0.0, 1.6]), torch.tensor([1.0, 0.4, -0.8]), finer=2, points=16)


def boxes(law: InitialDensity, n: int, points: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([law.draw((points, points), generator) for _ in range(n)])


def amplitudes(found: torch.Tensor) -> torch.Tensor:
    """Root mean square of modes in four bands of |k|."""
    n = found.shape[-1]
    k = torch.stack(torch.meshgrid(*[2 * math.pi * torch.fft.fftfreq(n)] * 3, indexing="ij")).square().sum(0).sqrt()
    power = torch.fft.fftn(found, dim=(1, 2, 3), norm="ortho").abs().square().mean(0)
    edges = (0.15, 0.4, 0.8, 1.6, 3.2)
    return torch.stack([power[(k > a) & (k <= b)].mean().sqrt() for a, b in itertools.pairwise(edges)])


def test_what_is_measured_is_drawn_again():
    simulated = 3.0 * boxes(LAW, 40)
    law = InitialDensity.fit(simulated, 16)
    assert law.finer == 2 and law.deviation == pytest.approx(float(simulated.std()), rel=0.02)
    again = boxes(law, 40, seed=1)
    assert float(again.std()) == pytest.approx(1, abs=0.02) and float(again.mean().abs()) < 1e-6
    assert torch.allclose(amplitudes(again), amplitudes(law.standardised(simulated)), rtol=0.03)
    white = torch.randn(again.shape, generator=torch.Generator().manual_seed(2))
    assert not torch.allclose(amplitudes(white), amplitudes(again), rtol=0.2)


def test_other_boxes_have_the_same_spectrum():
    """At the same wavenumber in radians per cell, with the same standard deviation but for the longest waves."""
    wide = boxes(LAW, 8, points=32)
    assert wide.shape == (8, 64, 64, 64)
    assert torch.allclose(amplitudes(wide)[1:], amplitudes(boxes(LAW, 40))[1:], rtol=0.05)


def test_a_plane_wave_is_seen_as_it_is():
    """Displacement and means over balls of cos(k x) are known: -sin(k x) / k along x, and a factor."""
    n, waves = 32, 2
    k = 2 * math.pi * waves / 16  # per point of a lightcone
    fine = (torch.arange(n) + 0.0) / 2
    box = torch.cos(k * fine)[None, :, None].expand(n, n, n)  # along x, the second axis
    seen = LAW.view(box[None])[0]
    assert seen.shape == (8, 8, 8, LAW.seen) and LAW.seen == 64 + 24 + len(RADII)
    density, moved, balls = seen.split([64, 24, len(RADII)], dim=-1)
    assert torch.allclose(density[3, 1, 0].reshape(4, 4, 4), box[12:16, 4:8, :4], atol=1e-6)
    scale = LAW._deviations.float()
    at = torch.arange(16.0)
    expected = (-torch.sin(k * at) / k).reshape(8, 2)
    along_x = moved.unflatten(-1, (3, 2, 2, 2))[2, :, 5, 1, 0, :, 1] * scale[1]
    assert torch.allclose(along_x, expected, atol=1e-4)
    assert float(moved.unflatten(-1, (3, 8))[..., [0, 2], :].abs().max()) < 1e-4
    cells = torch.cos(k * at).reshape(8, 2).mean(1)
    for i, radius in enumerate(RADII):
        x = radius * k
        factor = 3 * (math.sin(x) - x * math.cos(x)) / x**3
        assert torch.allclose(balls[0, :, 0, i] * scale[3 + i], factor * cells, atol=1e-4)


def test_numbers_that_are_seen_have_unit_variance():
    seen = LAW.view(boxes(LAW, 30))
    for part in (seen[..., :64], seen[..., 64:72], seen[..., 72:80], seen[..., 80:88]):
        assert float(part.std()) == pytest.approx(1, abs=0.03)
    for i in range(len(RADII)):  # means over cells: a little less
        assert 0.8 < float(seen[..., 88 + i].std()) < 1.1


def test_refusals():
    with pytest.raises(InfieldError, match="boxes of 8 x 8 x 6 cells, expected cubes of a multiple of 4"):
        InitialDensity.fit(torch.randn(2, 8, 8, 6), 4)
    with pytest.raises(InfieldError, match="cubes of a multiple of 3"):
        InitialDensity.fit(torch.randn(2, 8, 8, 8), 3)
    with pytest.raises(InfieldError, match="without any power"):
        InitialDensity.fit(torch.zeros(2, 8, 8, 8), 4)
