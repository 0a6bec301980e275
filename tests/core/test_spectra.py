"""Modes sorted into bins of wavenumber, against loops over modes in numpy that share no code with them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from infield.core.spectra import Bins, mode_counts, nearest_multiple, wave_axes, wavenumbers

SHAPES = [((16,), (0.5,)), ((8, 8), (1.0, 1.0)), ((9, 6), (0.1, 0.3)), ((6, 5, 4), (1.0, 2.0, 0.7))]


def modes_of(shape, spacing):
    """Index and |k| in cycles per unit of every mode of `numpy.fft.fftn`, by counting waves of the domain."""
    for index in itertools.product(*map(range, shape)):
        waves = [(i if i < (n + 1) // 2 else i - n) / (n * h) for i, n, h in zip(index, shape, spacing, strict=True)]
        yield index, math.sqrt(math.fsum(w * w for w in waves))


def random_values(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_wavenumbers(shape, spacing):
    expected = np.zeros(shape)
    for index, k in modes_of(shape, spacing):
        expected[index] = k
    np.testing.assert_allclose(wavenumbers(shape, spacing), expected, rtol=1e-12)
    np.testing.assert_allclose(wavenumbers(shape, spacing, radians=True), 2 * np.pi * expected, rtol=1e-12)
    half = wavenumbers(shape, spacing, half=True)
    np.testing.assert_allclose(half, expected[..., : shape[-1] // 2 + 1], rtol=1e-12)
    assert wavenumbers(shape)[(0,) * len(shape)] == 0 and wavenumbers((4,)).max() == 0.5  # Nyquist of cells
    axes = wave_axes(shape, spacing)
    assert torch.broadcast_shapes(*(a.shape for a in axes)) == shape and all(len(set(a.shape)) <= 2 for a in axes)


def test_a_sum_over_the_half_spectrum_with_its_counts_is_that_over_all_modes():
    for n in (7, 8):
        x = random_values((5, n))
        whole = torch.fft.fft2(x).abs().square().sum()
        half = torch.fft.rfft2(x).abs().square()
        torch.testing.assert_close((half * mode_counts(n)).sum(), whole)
        assert abs(float(half.sum() / whole) - 1) > 0.1  # negative control: without them


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
@pytest.mark.parametrize("closed", ["left", "right"])
def test_means_between_edges(shape, spacing, closed):
    power = random_values((2, 3, *shape))
    highest = max(k for _, k in modes_of(shape, spacing))
    edges = np.linspace(0.11, 0.93, 6) * highest
    sums, counts = np.zeros((2, 3, 5)), np.zeros(5)
    for index, k in modes_of(shape, spacing):
        for b in range(5):
            if edges[b] <= k < edges[b + 1]:
                sums[:, :, b] += power.numpy()[(..., *index)]
                counts[b] += 1
    bins = Bins.between(wavenumbers(shape, spacing), torch.from_numpy(edges), closed=closed)
    assert bins.modes.tolist() == counts.tolist() and counts.sum() < math.prod(shape)
    np.testing.assert_allclose(bins.sum(power), sums, atol=1e-12)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(bins.mean(power), np.where(counts > 0, sums / counts, np.nan), atol=1e-12)
    shuffled = random_values((2, 3, *shape), seed=1)
    assert not np.allclose(bins.sum(shuffled), sums)  # negative control


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_bins_around_multiples(shape, spacing):
    power, step = random_values(shape), 0.37 / min(spacing)
    sums, waves, counts = np.zeros(3), np.zeros(3), np.zeros(3)
    for index, k in modes_of(shape, spacing):
        b = int(k / step + 0.5)  # no k is half way between two multiples
        if b < 3:
            sums[b] += power.numpy()[index]
            waves[b] += k
            counts[b] += 1
    k = wavenumbers(shape, spacing)
    bins = Bins.nearest(k, step, 3)
    assert bins.modes.tolist() == counts.tolist() and bins.index[(0,) * len(shape)] == 0
    held = counts > 0
    np.testing.assert_allclose(bins.mean(power)[held], (sums / counts.clip(1))[held], atol=1e-12)
    np.testing.assert_allclose(bins.mean(k)[held], (waves / counts.clip(1))[held], atol=1e-12)
    every = Bins.nearest(k, step)
    assert every.modes.sum() == math.prod(shape) and every.modes[-1] > 0
    torch.testing.assert_close(every.sum(power).sum(), power.sum())


def test_the_power_of_a_wave_lies_in_its_bin():
    x = torch.cos(2 * math.pi * 5 * torch.arange(32, dtype=torch.float64) / 32).expand(32, 32)
    power = torch.fft.fftn(x, norm="forward").abs().square()
    found = Bins.nearest(wavenumbers((32, 32), (1 / 32, 1 / 32)), 1.0).sum(power)
    assert found[5] == pytest.approx(0.5) and found.sum() == pytest.approx(0.5)


def test_rounding_decides_nothing():
    """Wavenumbers on an edge, or half way between two multiples, moved by a rounding: the same bins."""
    k = torch.arange(0, 24, dtype=torch.float64) / 7
    edges = torch.arange(0, 5, dtype=torch.float64)
    for dtype, rounding in ((torch.float64, 1e-14), (torch.float32, 3e-7)):
        for factor in (1 - rounding, 1 + rounding):
            moved = (k * factor).to(dtype)
            torch.testing.assert_close(Bins.between(moved, edges).index, torch.arange(24) // 7)
            right = Bins.between(moved, edges, closed="right").index
            torch.testing.assert_close(right, torch.arange(-1, 23).div(7, rounding_mode="floor"))
            assert nearest_multiple(moved[[7, 14, 21]], 2.0).tolist() == [0, 1, 2]
            assert Bins.between(moved[[21]], edges[:4]).index.tolist() == [-1]
            assert Bins.between(moved[[21]], edges[:4], closed="both").index.tolist() == [2]
            assert Bins.distinct(torch.cat([k, moved.double()]), apart=1e-5).count == 24
    assert torch.bucketize(k * (1 - 1e-14), edges, right=True).tolist() != (torch.arange(24) // 7 + 1).tolist()


def test_empty_bins():
    k = torch.tensor([0.0, 1.0, 1.2, 3.0], dtype=torch.float64)
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    bins = Bins.nearest(k, 1.0)
    assert bins.modes.tolist() == [1, 2, 0, 1]
    assert bins.sum(values).tolist() == [[1, 6, 0, 8]] and bins.mean(values, empty=0.0).tolist() == [[1, 3, 0, 8]]
    assert bins.sum(values, empty=math.nan).isnan().tolist() == [[False, False, True, False]]
    assert bins.mean(values).isnan().tolist() == [[False, False, True, False]]
    weighted = bins.mean(values, weights=torch.tensor([1.0, 1.0, 3.0, 5.0]))
    assert weighted[0, [0, 1, 3]].tolist() == [1, 3.5, 8] and weighted[0, 2].isnan()
    full = bins.without_empty()
    assert full.modes.tolist() == [1, 2, 1] and full.mean(values).tolist() == [[1, 3, 8]]


def test_order_is_by_bin_and_leaves_out_what_is_outside():
    bins = Bins.between(torch.tensor([[0.5, 2.5], [1.5, 0.1], [9.0, 2.1]]), torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert bins.order.tolist() == [0, 3, 2, 1, 5] and bins.modes.tolist() == [2, 1, 2]
