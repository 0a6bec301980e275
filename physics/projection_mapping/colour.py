"""Colour of linear sRGB light: its code, CIE Lab under D65 and the derivatives of both, for arrays of numpy and torch.

Colours lie along the first axis but those of the batch: `(..., 3, *pixels)` is what callers arrange; here the channel
axis is given by `axis`. sRGB: IEC 61966-2-1; Lab: CIE 15:2004.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

XYZ_OF_SRGB = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=torch.float64,
)
WHITE = XYZ_OF_SRGB.sum(1)
"""D65, (0.95047, 1, 1.08883): white is (1, 1, 1)."""

LAB_OF_F = torch.tensor([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]], dtype=torch.float64)
DELTA = 6 / 29
LINEAR_PART = 0.0031308
"""Light up to which the sRGB code is linear."""


def encode(light: Tensor) -> Tensor:
    """sRGB code, 0 to 1, of linear light; linear below 0, and beyond 1 as the formula goes on."""
    return torch.where(light <= LINEAR_PART, 12.92 * light, 1.055 * light.clamp(min=LINEAR_PART) ** (1 / 2.4) - 0.055)


def encode_slope(light: Tensor) -> Tensor:
    """Derivative of `encode`."""
    power = 1.055 / 2.4 * light.clamp(min=LINEAR_PART) ** (1 / 2.4 - 1)
    return torch.where(light <= LINEAR_PART, torch.full_like(light, 12.92), power)


def decode(code: Tensor) -> Tensor:
    """Linear light of an sRGB code; linear below 0."""
    return torch.where(code <= 0.04045, code / 12.92, ((code.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def decode_slope(code: Tensor) -> Tensor:
    """Derivative of `decode`."""
    power = 2.4 / 1.055 * ((code.clamp(min=0.04045) + 0.055) / 1.055) ** 1.4
    return torch.where(code <= 0.04045, torch.full_like(code, 1 / 12.92), power)


def lab(light: Tensor) -> Tensor:
    """CIE Lab of linear sRGB light, channels along axis 1 of `(batch, 3, ...)`."""
    f, _ = _f_and_slope(light)
    constant = torch.tensor([-16.0, 0.0, 0.0], dtype=light.dtype).reshape(3, *(1,) * (light.ndim - 2))
    return _mix(LAB_OF_F, f) + constant


def lab_jacobian(light: Tensor) -> Tensor:
    """Derivative of `lab`, shape `(batch, 3 of Lab, 3 of light, ...)`."""
    _, slope = _f_and_slope(light)
    matrix, xyz = LAB_OF_F.to(light.dtype), (XYZ_OF_SRGB / WHITE[:, None]).to(light.dtype)
    return torch.einsum("if,bf...,fj->bij...", matrix, slope, xyz)


def _f_and_slope(light: Tensor) -> tuple[Tensor, Tensor]:
    t = _mix(XYZ_OF_SRGB / WHITE[:, None], light)
    root = t.clamp(min=DELTA**3) ** (1 / 3)
    dark = t <= DELTA**3
    f = torch.where(dark, t / (3 * DELTA**2) + 4 / 29, root)
    return f, torch.where(dark, torch.full_like(t, 1 / (3 * DELTA**2)), 1 / (3 * root**2))


def _mix(matrix: Tensor, light: Tensor) -> Tensor:
    return torch.einsum("ij,bj...->bi...", matrix.to(light.dtype), light)


def delta_e_2000(light: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIEDE2000 between two pictures in linear sRGB light, shape `(3, ...)`, by scikit-image.

    Raises:
        InfieldError: scikit-image is not installed.
    """
    from infield.physics.projection_mapping.extra import require

    measure = require("skimage.color")
    labs = [lab(torch.as_tensor(np.asarray(a, np.float64))[None])[0].movedim(0, -1).numpy() for a in (light, other)]
    return np.asarray(measure.deltaE_ciede2000(*labs))
