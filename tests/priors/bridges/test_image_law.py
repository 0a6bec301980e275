"""The law of voxels on other grids, in checkpoints, and images that have the drawn regional means."""

from __future__ import annotations

import math

import pytest
import torch

from infield.core.errors import InfieldError
from infield.priors.bridges.image_law import FollowUpImages, ImageLaw, fit_image_law, image_conditions
from infield.priors.bridges.voxels import VoxelLaw

FWHM = 14.0
"""Of the correlation of z, mm."""


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def spectrum(shape, spacing):
    """Power of waves whose correlation is a Gaussian of this width, mean 1."""
    y, x = (torch.fft.fftfreq(n, spacing, dtype=torch.float64) for n in shape)
    sigma = FWHM / 2.3548
    power = torch.exp(-2 * (torch.pi * sigma) ** 2 * (y[:, None] ** 2 + x**2))
    return power / power.mean()


def law(shape=(56, 48), spacing=4.0):
    d = torch.tensor([-4.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    c = torch.zeros(13, dtype=torch.float64)
    c[5] = 0.8  # the baseline
    return ImageLaw(VoxelLaw(c, d, spectrum(shape, spacing)), spacing, (-18.0, 0.0))


def correlation(law, mm, spacing):
    """Of z at a lag along x."""
    found = torch.fft.ifft2(law.spectrum).real
    return float(found[0, round(mm / spacing)] / found[0, 0])


@pytest.mark.parametrize(("shape", "spacing"), [((112, 96), 2.0), ((109, 91), 2.0), ((40, 37), 4.0), ((75, 64), 3.0)])
def test_correlations_are_in_mm_on_any_grid(shape, spacing):
    other = law().on_grid(shape, spacing)
    for steps in (1, 2, 3):
        mm = steps * spacing
        expected = math.exp(-((mm / (FWHM / 2.3548)) ** 2) / 2)
        assert correlation(law(shape, spacing).law, mm, spacing) == pytest.approx(expected, abs=0.02)
        assert correlation(other, mm, spacing) == pytest.approx(expected, abs=0.02)
    assert float(other.spectrum.mean()) == pytest.approx(1)
    if spacing != 4.0:  # the control: the same array of waves on another spacing is another correlation
        wrong = VoxelLaw(*[None] * 2, spectrum((56, 48), 4.0))
        assert abs(correlation(wrong, 3 * 4.0, 4.0) - correlation(other, 3 * spacing, spacing)) > 0.1


def test_its_own_grid_is_left_as_it_is_and_waves_beyond_the_training_have_no_power():
    one = law()
    assert one.on_grid((56, 48), 4.0) is one.law
    flat = ImageLaw(VoxelLaw(law().law.coefficients, law().law.log_variance, torch.ones(56, 48)), 4.0, (0.0, 0.0))
    fine = flat.on_grid((112, 96), 2.0).spectrum
    assert float(fine[56, 0]) == 0 and float(fine[0, 0]) == pytest.approx(4, rel=0.1)


def test_radius_is_that_of_the_training_and_ends_at_its_corners():
    y, x = -18 + 4 * (torch.arange(56) - 27.5), 4 * (torch.arange(48) - 23.5)
    found = law().radius(y, x)
    rows, columns = torch.linspace(-1, 1, 56), torch.linspace(-1, 1, 48)
    torch.testing.assert_close(found, rows[:, None] ** 2 + columns**2)
    assert float(law().radius(torch.tensor([500.0]), torch.tensor([0.0]))) == 2


def subject(seed, shape=(2, 24, 20), regions=4):
    generator = rng(seed)
    labels = torch.zeros(shape, dtype=torch.long)
    labels[:, 12:] += 1
    labels[:, :, 10:] += 2
    grey = 0.6 * torch.ones(shape)
    white = 0.3 * torch.rand(shape, generator=generator)
    weights = torch.nn.functional.one_hot(labels, regions).movedim(-1, 0).float()
    weights = weights / weights.flatten(1).sum(1)[:, None, None, None]
    x_b = 1 + 0.3 * torch.rand(shape, generator=generator)
    return x_b, grey, white, weights, labels


def test_images_are_positive_have_the_means_and_survive_a_file():
    own = law((24, 20))
    x_b, grey, white, weights, labels = subject(0)
    stored = ImageLaw.from_entry(own.to_entry())
    conditions = image_conditions(x_b, grey, white, weights, labels, 4.0)
    m = torch.tensor([0.8, 1.1, 1.4, 1.0])
    drawn = []
    for one in (own, stored):
        images = FollowUpImages(one.on_grid((24, 20), 4.0), conditions)
        drawn.append(images.draw(m, rng(3)))
        assert (conditions.painting.means(drawn[-1]) / m - 1).abs().max() < 2e-3 and float(drawn[-1].min()) > 0
        assert (conditions.painting.means(images.mean(m)) / m - 1).abs().max() < 1e-4
    assert torch.equal(*drawn)
    both = one.law.sample(conditions.features, conditions.covariates, conditions.painting, m[None], rng(3))[0]
    torch.testing.assert_close(drawn[0], both)


def test_a_law_is_fitted_to_pairs_of_images():
    """Follow-ups of a known law: its spread is found, and with pairs whose noise is doubled another one."""

    class Pairs:
        spacing, centre = 4.0, (0.0, 0.0)

        def __init__(self, log_variance):
            known = law((24, 20))
            known.law.log_variance[0] = log_variance
            parts = [subject(i) for i in range(24)]
            self.baseline, self.grey, self.white = (torch.stack([p[k] for p in parts]) for k in range(3))
            self.weights, self.labels = parts[0][3:]
            found = []
            for i, p in enumerate(parts):
                images = FollowUpImages(known.law, image_conditions(*p, 4.0))
                found.append(images.draw(1 + 0.2 * torch.rand(4, generator=rng(i)), rng(100 + i)))
            self.follow_up = torch.stack(found)

    spread = []
    for log_variance in (-5.0, -5.0 + 2 * 0.6931):
        pairs = Pairs(log_variance)
        found = fit_image_law(pairs)
        assert found.spacing == 4.0 and found.centre == (0.0, 0.0)
        conditions = image_conditions(*(v[0] for v in (pairs.baseline, pairs.grey, pairs.white)), *subject(0)[3:], 4.0)
        spread.append(float(found.law.log_sd(conditions.covariates).mean()))
    assert spread[0] == pytest.approx(2.718281828 ** (-2.5), rel=0.15)
    assert spread[1] / spread[0] == pytest.approx(2, rel=0.15)
    pairs.baseline = pairs.baseline[:0]
    with pytest.raises(InfieldError, match="no pair of images"):
        fit_image_law(pairs)
