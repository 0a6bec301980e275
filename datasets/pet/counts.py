"""Counts of a scanner to a measurement of the logarithm of activity, or of attenuation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import PoissonNoise
from infield.physics.operators.registry import build_operator

WATER = 0.0096
"""Linear attenuation coefficient of water at 511 keV, 1/mm: the scale of the field of a transmission scan."""


@dataclass(frozen=True, eq=False)
class Sinograms:
    """Counts along parallel rays of one or several planes.

    Arguments:
        counts: Shape `(plane, angle, bin)`, whole numbers.
        angles: Radians, shape `(angle,)`.
        positions: Of the bins, mm, shape `(bin,)`, increasing.
        spacing: Between planes, mm.
        randoms: Expected counts of randoms, shape of `counts`; None if they are not known.
        normalisation: Relative efficiencies, likewise.
        blank: Expected counts without an absorber, likewise: the counts are then of transmission.
        history: What was done and what is lacking, one line a step.
    """

    counts: np.ndarray
    angles: np.ndarray
    positions: np.ndarray
    spacing: float = 1.0
    randoms: np.ndarray | None = None
    normalisation: np.ndarray | None = None
    blank: np.ndarray | None = None
    history: tuple[str, ...] = field(default=())

    def planes(self, chosen: range) -> Sinograms:
        """Some of the planes.

        Raises:
            InfieldError: There are no such planes.
        """
        if not (0 <= chosen.start < chosen.stop <= len(self.counts)):
            found = f"planes {chosen.start} to {chosen.stop - 1}"
            raise InfieldError(where="{slices}", found=found, expected=f"0 to {len(self.counts) - 1}",
                               parameters=["slices"])  # fmt: skip

        def cut(part: np.ndarray | None) -> np.ndarray | None:
            return None if part is None else part[chosen.start : chosen.stop]

        return replace(
            self,
            counts=self.counts[chosen.start : chosen.stop],
            randoms=cut(self.randoms),
            normalisation=cut(self.normalisation),
            blank=cut(self.blank),
        )


def check_counts(counts: np.ndarray) -> None:
    """Refuse what is no number of events.

    Raises:
        InfieldError: Values below zero (data that were corrected for randoms), not whole, not finite, or all zero.
    """
    negative = int((counts < 0).sum())
    if negative:
        raise InfieldError(
            where="counts",
            found=f"{negative:,} bins below 0",
            expected="numbers of events",
            remedy="randoms or scatter were subtracted already: give prompts and delayeds apart",
        )
    wrong = int((~np.isfinite(counts)).sum())
    if wrong or (np.round(counts) != counts).any():
        what = f"{wrong} NaN or Inf" if wrong else "values that are not whole numbers"
        raise InfieldError(where="counts", found=what, expected="numbers of events, not corrected or scaled ones")
    if not counts.any():
        raise InfieldError(where="counts", found="0 in every bin", expected="events")


def measurement_of(sinograms: Sinograms, *, pixel: float, field_of_view: float | None = None) -> Measurement:
    """A measurement by `projection`, or by `beer-lambert` where there is a blank, behind the link `exp`.

    The field is the logarithm of the activity, in counts per mm of a ray, or of the attenuation over that of water.

    Arguments:
        sinograms: Of one plane, for an image, or of several, for a volume.
        pixel: Size of a pixel, mm.
        field_of_view: Side of the square image, mm; the width of the bins where it is not given.

    Raises:
        InfieldError: The counts are none, the image has fewer than two pixels, or events lie on rays that miss it.
    """
    check_counts(sinograms.counts)
    side = field_of_view or float(sinograms.positions[-1] - sinograms.positions[0])
    n = round(side / pixel)
    if n < 2:
        raise InfieldError(where="image", found=f"{n} pixels of {pixel:g} mm", expected="at least 2")
    across = tuple((pixel * (np.arange(n) - (n - 1) / 2)).tolist())
    axes = [Axis("y", across, "mm"), Axis("x", across, "mm")]
    depth = len(sinograms.counts)
    single = depth == 1
    if not single:
        axes.insert(0, Axis("z", tuple((sinograms.spacing * np.arange(depth)).tolist()), "mm"))
    grid = Grid(tuple(axes))
    arrays = {"angles": sinograms.angles, "positions": sinograms.positions}
    for name in ("blank", "randoms", "normalisation"):
        values = getattr(sinograms, name)
        if values is not None:
            arrays[name] = values[0] if single else values
    transmission = sinograms.blank is not None
    outer = {"name": "beer-lambert" if transmission else "projection", "arrays": {name: name for name in arrays}}
    link = {"name": "exp", "parameters": {"scale": WATER}} if transmission else {"name": "exp"}
    description = {"name": "compose", "operators": [outer, link]}
    operator = build_operator(description, arrays, grid, 1)
    expected = operator.A(torch.zeros(1, 1, *grid.shape, dtype=torch.float64)).numpy().reshape(sinograms.counts.shape)
    impossible = (expected == 0) & (sinograms.counts > 0)
    if impossible.any():
        events, bins = int(sinograms.counts[impossible].sum()), int(impossible.sum())
        reach = 2 * float(np.abs(sinograms.positions).max()) + 2 * pixel
        raise InfieldError(
            where="counts",
            found=f"{events:,} events in {bins:,} bins whose rays miss the image of {n * pixel:g} mm, and no randoms",
            expected="an image that all rays with events cross",
            remedy=f"widen it, to {reach:.4g} mm or more ({{field_of_view}})",
            parameters=["field_of_view"],
        )
    y = torch.from_numpy(np.asarray(sinograms.counts[0] if single else sinograms.counts, dtype=np.float64))[None, None]
    return Measurement(
        y=y,
        operator=operator,
        noise=PoissonNoise(1.0),
        grid=grid,
        channels=("log_attenuation" if transmission else "log_activity",),
        description=description,
        arrays=arrays,
        data_units="1",
    )
