r"""How near a reconstructed image comes to its target, in the measures that MRI reconstruction is compared by.

Two conventions are in use, and their figures differ by much more than methods do; so every name states its origin.

*fastMRI* (Zbontar et al. 2018, arXiv:1811.08839, and its public `evaluate.py`): of magnitude volumes
`(slice, y, x)`, with the maximum M of the target *volume* as data range,

    NMSE = ||g - p||^2 / ||g||^2,    PSNR = 10 log10(M^2 / mean (g - p)^2),

each over the whole volume at once, and SSIM slice by slice with data range M, then averaged: windows of 7 x 7 equal
weights inside the image, sample variances (divided by 48), K_1 = 0.01, K_2 = 0.03. Estimate and target are cropped to
the square of the target's width first, where the target is at least as high as wide (fastMRI's code covers no other
case).

*InverseBench* (Zheng et al. 2025, arXiv:2503.11043, and its public `eval.py`): of each slice on its own, with the
maximum m of the magnitude of that target *slice* as data range and the estimate clipped to [0, m]:

    PSNR = -10 log10(mean ((g - p) / m)^2 + 10^-8),

and SSIM with Gaussian windows of 11 x 11 points and standard deviation 1.5, population variances, K_1 = 0.01,
K_2 = 0.03; figures of a volume are means over its slices. Its data misfit is the plain norm ||A x - y|| over all
measured data, neither squared nor divided by their number nor by the noise.

An image of two channels (real, imaginary) or of complex numbers counts by its magnitude.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from infield.core.errors import InfieldError

_K_1, _K_2 = 0.01, 0.03
_FASTMRI_WINDOW = 7
_INVERSEBENCH_WINDOW, _INVERSEBENCH_WIDTH = 11, 1.5


def magnitude(image: Tensor) -> Tensor:
    """Magnitudes `(slice, y, x)`, float64.

    Arguments:
        image: Real magnitudes or complex numbers `(slice, y, x)`, or two channels `(slice, 2, y, x)`.

    Raises:
        InfieldError: It is none of them.
    """
    if image.is_complex() and image.ndim == 3:
        return image.to(torch.complex128).abs()
    if image.ndim == 4 and image.shape[1] == 2:
        return image.to(torch.float64).norm(dim=1)
    if image.ndim == 3:
        return image.to(torch.float64)
    raise InfieldError(
        where="image",
        found=f"shape {tuple(image.shape)}",
        expected="(slices, y, x) or, of two channels, (slices, 2, y, x)",
    )


def centre_crop(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """The middle of an image as fastMRI crops it: from index (n - m) // 2 of each of the last two axes.

    Raises:
        InfieldError: The image is smaller.
    """
    starts = [(n - m) // 2 for n, m in zip(image.shape[-2:], shape, strict=True)]
    if min(starts) < 0:
        raise InfieldError(where="crop", found=f"an image of {tuple(image.shape[-2:])}", expected=f"at least {shape}")
    return image[..., starts[0] : starts[0] + shape[0], starts[1] : starts[1] + shape[1]]


def fastmri_metrics(target: Tensor, estimate: Tensor) -> dict[str, float]:
    """NMSE, PSNR and SSIM of one volume as fastMRI defines them.

    Arguments:
        target: The volume, see `magnitude`.
        estimate: Likewise.

    Returns:
        `fastmri_nmse`, `fastmri_psnr` in dB, `fastmri_ssim`.

    Raises:
        InfieldError: The shapes differ, are smaller than a window, or the target is 0.
    """
    g, p = _pair(target, estimate)
    if g.shape[-2] >= g.shape[-1]:
        g, p = (centre_crop(image, (g.shape[-1], g.shape[-1])) for image in (g, p))
    most, error = g.max(), (g - p).square()
    window = torch.full((_FASTMRI_WINDOW,), 1 / _FASTMRI_WINDOW, dtype=torch.float64)
    points = _FASTMRI_WINDOW**2
    return {
        "fastmri_nmse": float(error.sum() / g.square().sum()),
        "fastmri_psnr": float(10 * torch.log10(most**2 / error.mean())),
        "fastmri_ssim": float(_ssim(g, p, most.expand(len(g)), window, points / (points - 1)).mean()),
    }


def inversebench_metrics(target: Tensor, estimate: Tensor) -> dict[str, float]:
    """PSNR and SSIM of a volume as InverseBench defines them, means over its slices.

    Arguments:
        target: The volume, see `magnitude`.
        estimate: Likewise.

    Returns:
        `inversebench_psnr` in dB, `inversebench_ssim`.

    Raises:
        InfieldError: The shapes differ, are smaller than a window, or a slice of the target is 0.
    """
    g, p = _pair(target, estimate)
    most = g.amax((1, 2))
    if not (most > 0).all():
        raise InfieldError(where="target", found=f"slice {int((most > 0).int().argmin())} to be 0", expected="an image")
    p = torch.minimum(p.clamp_min(0), most[:, None, None])
    mse = ((g - p) / most[:, None, None]).square().mean((1, 2))
    at = torch.arange(_INVERSEBENCH_WINDOW, dtype=torch.float64) - _INVERSEBENCH_WINDOW // 2
    window = torch.exp(-((at / _INVERSEBENCH_WIDTH) ** 2) / 2)
    return {
        "inversebench_psnr": float((-10 * torch.log10(mse + 1e-8)).mean()),
        "inversebench_ssim": float(_ssim(g, p, most, window / window.sum(), 1.0).mean()),
    }


def inversebench_misfit(operator: Any, x: Tensor, y: Tensor) -> float:
    """||A x - y|| as InverseBench reports it; over noise of standard deviation s, about s sqrt(number of data).

    Arguments:
        operator: A, as a measurement has it.
        x: Field `(1, channel, *space)`.
        y: Data `(1, ...)`, zero where not measured.
    """
    return float((operator.A(x) - y).norm())


def _pair(target: Tensor, estimate: Tensor) -> tuple[Tensor, Tensor]:
    g, p = magnitude(target), magnitude(estimate)
    if g.shape != p.shape:
        raise InfieldError(
            where="images", found=f"a target of shape {tuple(g.shape)} and an estimate of {tuple(p.shape)}"
        )
    if not g.any():
        raise InfieldError(where="target", found="0 everywhere", expected="an image")
    return g, p


def _ssim(g: Tensor, p: Tensor, data_range: Tensor, window: Tensor, unbiased: float) -> Tensor:
    """Mean SSIM of each slice over the windows that lie inside it (Wang et al. 2004).

    Arguments:
        g, p: `(slice, y, x)`.
        data_range: Of each slice.
        window: Weights along an axis, which sum to 1.
        unbiased: Factor on variances and covariance.
    """
    if min(g.shape[-2:]) < len(window):
        raise InfieldError(
            where="images", found=f"{tuple(g.shape[-2:])} points", expected=f"at least {len(window)} on each axis"
        )

    def mean(image: Tensor) -> Tensor:
        rows = conv2d(image[:, None], window[None, None, :, None])
        return conv2d(rows, window[None, None, None, :])[:, 0]

    c_1, c_2 = ((k * data_range[:, None, None]) ** 2 for k in (_K_1, _K_2))
    mu_g, mu_p = mean(g), mean(p)
    var_g, var_p = unbiased * (mean(g * g) - mu_g**2), unbiased * (mean(p * p) - mu_p**2)
    cov = unbiased * (mean(g * p) - mu_g * mu_p)
    luminance = (2 * mu_g * mu_p + c_1) / (mu_g**2 + mu_p**2 + c_1)
    return (luminance * (2 * cov + c_2) / (var_g + var_p + c_2)).mean((1, 2))
