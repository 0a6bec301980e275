"""Radioactive decay over frames, and the mean of frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

HALF_LIFE = {"F18": 6586.2, "C11": 1221.84}
"""Half-lives in s: F-18 as Siemens' headers have it, C-11."""


def half_life(radionuclide: str) -> float | None:
    """In s, of "F18", "18F", "F-18", "^18F"; None if it is not known here."""
    letters = "".join(c for c in radionuclide if c.isalpha()).upper()
    digits = "".join(c for c in radionuclide if c.isdigit())
    return HALF_LIFE.get(letters + digits)


def decay_factor(start: float, duration: float, half_life: float) -> float:
    r"""Factor that corrects the mean of a frame for decay to the reference time,
    :math:`e^{\lambda s} \lambda d / (1 - e^{-\lambda d})`: the integral over the frame, not the value at its middle.

    Arguments:
        start: s, of the frame after the reference time, s.
        duration: d, s.
        half_life: ln 2 / lambda, s.
    """
    rate = math.log(2) / half_life
    return math.exp(rate * start) * rate * duration / -math.expm1(-rate * duration)


def mean_over_frames(frames: Iterable[np.ndarray], durations: Sequence[float]) -> np.ndarray:
    """Mean weighted by duration of frames that are corrected for decay; holds two frames at a time."""
    total: np.ndarray | None = None
    for frame, duration in zip(frames, durations, strict=True):
        part = np.multiply(frame, duration / sum(durations), dtype=np.float64)
        total = part if total is None else np.add(total, part, out=total)
        del part
    assert total is not None
    return total
