"""The law of the voxels of a follow-up given its regional means: a known one is fitted, its draws keep the means."""

from __future__ import annotations

import pytest
import torch

from infield.core.errors import InfieldError
from infield.priors.bridges.voxels import Painting, VoxelFit, VoxelLaw, blur, blurring_matrix, masked_correlation

SHAPE = (2, 18, 16)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def made_painting():
    labels = torch.zeros(SHAPE, dtype=torch.long)
    labels[:, 9:], labels[:, :, 8:] = 1, labels[:, :, 8:] + 2
    labels[:, 9:, 8:] = 3
    masks = torch.nn.functional.one_hot(labels, 4).movedim(-1, 0).double()
    return Painting(masks / masks.flatten(1).sum(1)[:, None, None, None], blur(masks, 3.0, 1.0))


PAINTING = made_painting()


def test_a_painted_image_has_the_means_that_were_painted():
    m = 1 + torch.rand(3, 4, generator=rng(), dtype=torch.float64)
    torch.testing.assert_close(PAINTING.means(PAINTING.paint(m)), m)
    x = torch.rand(3, *SHAPE, generator=rng(1), dtype=torch.float64)
    assert PAINTING.means(PAINTING.without_means(x)).abs().max() < 1e-12
    moved = PAINTING.corrected(x + 0.5, PAINTING.means(x + 0.5) * 1.05)
    assert (PAINTING.means(moved) / PAINTING.means(x + 0.5) - 1.05).abs().max() < 2e-3 and moved.min() > 0


def test_a_filter_keeps_the_mean_inside_and_its_width():
    kernel = blurring_matrix(41, 6.0, 2.0)[20]
    at = 2.0 * (torch.arange(41) - 20)
    assert float(kernel.sum()) == pytest.approx(1) and kernel.argmax() == 20
    assert float((kernel * at**2).sum().sqrt()) == pytest.approx(6.0 / 2.3548, rel=0.01)


def test_regions_without_voxels_are_refused():
    images = PAINTING.images.clone()
    images[2] = 0
    with pytest.raises(InfieldError, match="a region without a voxel"):
        Painting(PAINTING.weights, images)


def subject(seed, law):
    """Features, covariates and a follow-up that the law draws."""
    generator = rng(seed)
    x_b = 1 + 3.0 * blur(torch.randn(SHAPE, generator=generator, dtype=torch.float64), 4.0, 1.0)
    other = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    features, covariates = torch.stack([x_b, other]), torch.stack([torch.ones_like(x_b), other])
    m = (1.5 + 0.3 * torch.rand(1, 4, generator=generator, dtype=torch.float64)).double()
    return features, covariates, law.sample(features, covariates, PAINTING, m, generator)[0], m[0]


def test_a_known_law_is_fitted_and_drawn():
    y, x = (torch.fft.fftfreq(n, dtype=torch.float64) for n in SHAPE[1:])
    spectrum = torch.exp(-40 * (y[:, None] ** 2 + x**2))
    law = VoxelLaw(
        torch.tensor([0.7, 0.2], dtype=torch.float64),
        torch.tensor([-5.0, 1.5], dtype=torch.float64),
        spectrum / spectrum.mean(),
    )
    fit, subjects = VoxelFit(torch.ones(SHAPE, dtype=torch.bool)), [subject(i, law) for i in range(60)]
    for features, _, x_f, m in subjects:
        assert (PAINTING.means(x_f) / m - 1).abs().max() < 2e-3 and x_f.min() > 0
        fit.add(features, PAINTING, x_f)
    fit.solve()
    for features, covariates, x_f, _ in subjects:
        fit.add_residual(features, covariates, PAINTING, x_f)
    found = fit.law()
    torch.testing.assert_close(found.coefficients, law.coefficients, rtol=0, atol=0.02)
    torch.testing.assert_close(found.log_variance, law.log_variance, rtol=0, atol=0.25)
    features, covariates, x_f, m = subject(1000, law)
    draws = [a.sample(features, covariates, PAINTING, m.expand(400, -1), rng(3)).log() for a in (law, found)]
    assert float(draws[1].std(0).mean() / draws[0].std(0).mean()) == pytest.approx(1, abs=0.06)
    neighbours = [float((d[..., 1:] * d[..., :-1]).mean() / d.square().mean()) for d in (v - v.mean(0) for v in draws)]
    assert neighbours[1] == pytest.approx(neighbours[0], abs=0.1) and neighbours[0] > 0.5
    white = VoxelLaw(found.coefficients, found.log_variance, torch.ones(SHAPE[1:], dtype=torch.float64))
    scaled = white.with_power(law.spectrum, torch.ones(SHAPE[1:]))
    error, of_white = (float((v.spectrum - law.spectrum).abs().mean()) for v in (scaled, white))
    assert error < 0.25 and of_white > 0.7


def test_correlation_by_lag_needs_no_voxel_outside_the_mask():
    """White noise that a filter of two equal weights along x correlates by one half at lag 1, seen in a disc."""
    noise = torch.randn((40, 24, 25), generator=rng(), dtype=torch.float64)
    values = (noise[..., 1:] + noise[..., :-1]) / 2**0.5
    at = torch.arange(24) - 11.5
    seen = ((at[:, None] ** 2 + at**2) < 100).expand_as(values)
    found = masked_correlation(torch.where(seen, values, 1e6), seen)
    assert float(found[0, 0]) == pytest.approx(1, abs=0.05) and float(found[0, 1]) == pytest.approx(0.5, abs=0.05)
    assert float(found[1, 0]) == pytest.approx(0, abs=0.05) and float(found[0, 2]) == pytest.approx(0, abs=0.05)
