"""Changes of regional SUVR and Centiloid between two sessions, with intervals of the draws. Not for diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.posterior.diagnostics.order_statistics import order_interval


@dataclass(frozen=True)
class RegionalChange:
    """One region.

    Arguments:
        region: Its name.
        baseline: SUVR at baseline.
        change: Mean change of SUVR over the draws.
        low, high: Ends of its interval.
        level: Probability that the interval has, exactly.
        exceeds: Fraction of the draws whose change is larger than the test-retest band, up or down.
    """

    region: str
    baseline: float
    change: float
    low: float
    high: float
    level: float
    exceeds: float

    def in_centiloid(self, slope: float) -> RegionalChange:
        """The same change in Centiloid, by the slope of a line; the baseline stays in SUVR."""
        low, high = sorted((slope * self.low, slope * self.high))
        return RegionalChange(self.region, self.baseline, slope * self.change, low, high, self.level, self.exceeds)


def regional_suvr(draws: Tensor, regions: Mapping[str, Tensor], reference: Tensor) -> dict[str, Tensor]:
    """Mean of each region over the mean of the reference, draw by draw: the error of the reference is in all of them.

    Arguments:
        draws: Images, shape `(n, z, y, x)`.
        regions: Bool masks, shape `(z, y, x)`, by name.
        reference: Likewise.

    Returns:
        Shape `(n,)` for each region.

    Raises:
        InfieldError: A mask is empty or of another shape, or a mean of the reference is not above zero.
    """
    for name, mask in {**regions, "reference": reference}.items():
        if mask.shape != draws.shape[1:] or not mask.any():
            raise InfieldError(where=f"region '{name}'", found=f"{int(mask.sum())} voxels, shape {tuple(mask.shape)}",
                               expected=f"some voxels, shape {tuple(draws.shape[1:])}")  # fmt: skip
    below = draws[:, reference].mean(1)
    if not (below > 0).all():
        raise InfieldError(where="reference", found=f"a mean of {float(below.min()):.3g}", expected="above 0")
    return {name: draws[:, mask].mean(1) / below for name, mask in regions.items()}


def regional_changes(
    baseline: Mapping[str, Tensor], followup: Mapping[str, Tensor], *, band: float = 0.03, level: float = 0.9
) -> tuple[RegionalChange, ...]:
    """Change of each region, follow-up minus baseline, draw by draw.

    Arguments:
        baseline: SUVR, shape `(n,)`, or `(1,)` where the baseline is one image.
        followup: SUVR, shape `(n,)`.
        band: Test-retest variability, as a fraction of the baseline.
        level: Of the intervals, at least.
    """
    found = []
    for region, after in followup.items():
        before = baseline[region]
        change = after - before
        low, high, exact = order_interval(change, level)
        exceeds = (change.abs() > band * before).to(torch.float64).mean()
        numbers = (float(value) for value in (before.mean(), change.mean(), low, high, exact, exceeds))
        found.append(RegionalChange(region, *numbers))
    return tuple(found)
