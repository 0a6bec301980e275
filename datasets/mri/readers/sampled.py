"""Which samples of an array were measured, where only zeros mark it: one rule for all formats, before any cropping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infield.core.errors import InfieldError

FEW = 0.01
"""Share of zeros up to which whole numbers (counts of a converter) may be 0 by chance, and others are no pattern."""

ROUNDING = 12.0
"""Values below so many rounding errors of the root mean square are what a transform left of zeros."""


@dataclass(frozen=True)
class Sampled:
    """Measured samples of a slice.

    Arguments:
        mask: Bool `(ky, kx)`.
        rounded: Share of the samples that are not 0 but rounding errors, which are no data.
        history: Its line in the history.
    """

    mask: np.ndarray
    rounded: float
    history: tuple[str, ...]


def measured(samples: np.ndarray, marked: np.ndarray | None = None) -> Sampled:
    """Which samples were measured; zeros and rounding errors are no data.

    Whole numbers may be 0 by chance: of those a sample was left out only where its line was, unless zeros are more
    than one in a hundred.

    Arguments:
        samples: `(coil, ky, kx)`.
        marked: Samples that the file marks as measured, bool `(ky, kx)`; None if it marks none.

    Raises:
        InfieldError: Of samples that were measured by the file's own mask more than one in a hundred are 0.
    """
    largest = np.abs(samples).max(0)
    present = largest > 0
    if not present.any():
        return Sampled(present, 0.0, ())
    single = bool((samples == samples.astype(np.complex64)).all())
    error = np.finfo(np.float32 if single else np.float64).eps
    level = ROUNDING * error * float(np.sqrt(np.mean(np.abs(samples[:, present]) ** 2)))
    tiny = present & (largest <= level)
    rounded = float(tiny.sum() / present.sum())
    found = present & ~tiny if rounded > FEW else present
    if _counts(samples[:, found]):
        lines = np.logical_and.outer(found.any(1), found.any(0))
        found = lines if found[lines].mean() > 1 - FEW else found
    words: list[str] = []
    if rounded > FEW:
        words.append(
            f"{rounded:.1%} of the samples are rounding errors: the data were interpolated, they count as absent"
        )
    if marked is not None:
        if marked.shape != found.shape:
            return Sampled(marked, 0.0, ())  # refused where sizes are compared
        zeros = float((marked & ~found).sum() / max(marked.sum(), 1))
        if zeros > FEW:
            raise InfieldError(
                found=f"{zeros:.0%} zeros among samples that the mask marks as measured",
                expected="a mask that is 0 where nothing was measured",
                remedy="set it 0 there, or leave the mask out: then zeros mark what was not measured",
            )
        found = marked
    return Sampled(found, rounded if rounded > FEW else 0.0, tuple(words))


def _counts(values: np.ndarray) -> bool:
    parts = np.ascontiguousarray(values, dtype=np.complex128).view(np.float64)
    return bool(np.median(np.abs(parts)) >= 0.5 and np.abs(parts - np.rint(parts)).max() < 1e-6)
