"""Image metrics: against the libraries that fastMRI and InverseBench call, by hand, and by their formulas."""

import math

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.posterior.mri.image_metrics import (
    centre_crop,
    fastmri_metrics,
    inversebench_metrics,
    inversebench_misfit,
    magnitude,
)

FASTMRI = 0.006607307596780186, 25.263840082409786, 0.9569627905173104
INVERSEBENCH = 26.292648668571516, 0.9466149346786825


def pair():
    z, y, x = np.meshgrid(np.arange(2), np.arange(14), np.arange(12), indexing="ij")
    target = 2 + np.sin(0.7 * y + 0.4 * x * z) + 0.1 * x
    return torch.tensor(target), torch.tensor(target + 0.2 * np.cos(1.3 * x - 0.5 * y) * (1 + z))


def test_fastmri_gives_what_its_own_libraries_give():
    """Figures of scikit-image 0.26.0 and numpy for this pair, called as fastMRI's evaluate.py calls them."""
    found = fastmri_metrics(*pair())
    assert found == pytest.approx(
        {"fastmri_nmse": FASTMRI[0], "fastmri_psnr": FASTMRI[1], "fastmri_ssim": FASTMRI[2]}, rel=1e-12
    )


def test_inversebench_gives_what_its_own_libraries_give():
    """Figures of piq 0.8.0 for this pair, called as InverseBench's loss.py calls it."""
    found = inversebench_metrics(*pair())
    assert found == pytest.approx(
        {"inversebench_psnr": INVERSEBENCH[0], "inversebench_ssim": INVERSEBENCH[1]}, rel=1e-11
    )


def test_by_hand():
    """One slice of 12 x 12 ones with a single 3; the estimate is 1 too high at one other point."""
    target = torch.ones(1, 12, 12, dtype=torch.float64)
    target[0, 4, 4] = 3
    estimate = target.clone()
    estimate[0, 0, 0] = 2
    found = fastmri_metrics(target, estimate)
    assert found["fastmri_nmse"] == pytest.approx(1 / 152, rel=1e-14)
    assert found["fastmri_psnr"] == pytest.approx(10 * math.log10(9 * 144), rel=1e-14)
    clipped = estimate.clone()
    clipped[0, 0, 0] = 50  # counts as 3, two too high
    assert inversebench_metrics(target, clipped)["inversebench_psnr"] == pytest.approx(
        -10 * math.log10(4 / 9 / 144 + 1e-8), rel=1e-14
    )
    assert fastmri_metrics(target, clipped)["fastmri_nmse"] == pytest.approx(49**2 / 152, rel=1e-14)  # not clipped


def ssim_by_loops(g, p, data_range, weights, unbiased):
    """The definition of Wang et al. 2004, window by window."""
    n = len(weights)
    w = np.outer(weights, weights)
    c_1, c_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for i in range(g.shape[0] - n + 1):
        for j in range(g.shape[1] - n + 1):
            a, b = g[i : i + n, j : j + n], p[i : i + n, j : j + n]
            mu_a, mu_b = (w * a).sum(), (w * b).sum()
            var_a = unbiased * (w * (a - mu_a) ** 2).sum()
            var_b = unbiased * (w * (b - mu_b) ** 2).sum()
            cov = unbiased * (w * (a - mu_a) * (b - mu_b)).sum()
            top = (2 * mu_a * mu_b + c_1) * (2 * cov + c_2)
            values.append(top / (mu_a**2 + mu_b**2 + c_1) / (var_a + var_b + c_2))
    return np.mean(values)


def test_ssim_by_its_formula():
    g, p = (x.numpy() for x in pair())
    uniform = np.full(7, 1 / 7)
    g_square, p_square = g[:, 1:13], p[:, 1:13]
    expected = np.mean(
        [ssim_by_loops(a, b, g_square.max(), uniform, 49 / 48) for a, b in zip(g_square, p_square, strict=True)]
    )
    assert fastmri_metrics(*pair())["fastmri_ssim"] == pytest.approx(expected, rel=1e-12)
    gauss = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    expected = np.mean(
        [ssim_by_loops(a, np.clip(b, 0, a.max()), a.max(), gauss / gauss.sum(), 1.0) for a, b in zip(g, p, strict=True)]
    )
    assert inversebench_metrics(*pair())["inversebench_ssim"] == pytest.approx(expected, rel=1e-12)


def test_what_is_told_apart():
    """Negative controls: population variances, the slice's own range, or the other's window are other numbers."""
    g, p = (x.numpy()[:, 1:13] for x in pair())
    found = fastmri_metrics(*pair())["fastmri_ssim"]
    uniform = np.full(7, 1 / 7)
    whole, slices = [g.max()] * 2, [a.max() for a in g]
    for ranges, unbiased in ((whole, 1.0), (slices, 49 / 48)):
        other = np.mean([ssim_by_loops(a, b, r, uniform, unbiased) for a, b, r in zip(g, p, ranges, strict=True)])
        assert abs(other - found) > 1e-7  # far above the 1e-12 to which it agrees
    assert abs(inversebench_metrics(*pair())["inversebench_ssim"] - found) > 1e-3


def test_psnr_is_of_the_volume_and_of_slices():
    """A bright and a dark slice: fastMRI measures both by the bright one, InverseBench each by its own."""
    bright, dark = torch.full((1, 16, 16), 10.0), torch.full((1, 16, 16), 1.0)
    target = torch.cat([bright, dark]).double()
    estimate = target - 0.1
    assert fastmri_metrics(target, estimate)["fastmri_psnr"] == pytest.approx(40, abs=1e-9)
    assert inversebench_metrics(target, estimate)["inversebench_psnr"] == pytest.approx((40 + 20) / 2, abs=1e-3)


def test_complex_images_count_by_their_magnitude():
    target, estimate = pair()
    phase = torch.polar(
        torch.ones_like(target), torch.rand(target.shape, generator=torch.Generator().manual_seed(0)).double()
    )
    turned = estimate * phase
    channels = torch.stack([turned.real, turned.imag], dim=1)
    for metrics in (fastmri_metrics, inversebench_metrics):
        expected = metrics(target, estimate)
        assert metrics(target, turned) == pytest.approx(expected, rel=1e-9)
        assert metrics(target, channels) == pytest.approx(expected, rel=1e-9)


def test_a_perfect_estimate():
    target, _ = pair()
    assert fastmri_metrics(target, target) == {
        "fastmri_nmse": 0.0,
        "fastmri_psnr": math.inf,
        "fastmri_ssim": pytest.approx(1, abs=1e-12),
    }
    assert inversebench_metrics(target, target)["inversebench_psnr"] == pytest.approx(80, abs=1e-9)  # of 1e-8


def test_crop_is_centred_as_fastmri_has_it():
    """From (n - m) // 2, so that an odd square of an even image begins one earlier than about n // 2."""
    image = torch.arange(6)[None, :, None] * 10 + torch.arange(5)[None, None]
    assert centre_crop(image, (3, 3))[0, 0, 0] == 11 and centre_crop(image, (4, 5))[0, 0, 0] == 10


def test_misfit_is_the_plain_norm():
    class Twice:
        def A(self, x):
            return 2 * x

    x = torch.tensor([[3.0, 4.0]])
    assert inversebench_misfit(Twice(), x, torch.zeros(1, 2)) == pytest.approx(10)


@pytest.mark.parametrize(
    ("target", "estimate", "words"),
    [
        (torch.ones(2, 8, 8), torch.ones(2, 8, 9), "found a target of shape"),
        (torch.ones(8, 8), torch.ones(8, 8), "found shape"),
        (torch.ones(1, 6, 6), torch.ones(1, 6, 6), "expected at least 7"),
        (torch.zeros(1, 8, 8), torch.ones(1, 8, 8), "found 0 everywhere"),
    ],
)
def test_images_that_cannot_be_compared(target, estimate, words):
    with pytest.raises(InfieldError, match=words):
        fastmri_metrics(target, estimate)


def test_a_slice_of_zeros():
    target = torch.ones(2, 12, 12)
    target[1] = 0
    with pytest.raises(InfieldError, match="found slice 1 to be 0"):
        inversebench_metrics(target, target)
    with pytest.raises(InfieldError, match="found an image"):
        centre_crop(target, (13, 13))
    assert magnitude(torch.ones(1, 2, 3, 3)).allclose(torch.tensor(2.0).sqrt().double())
