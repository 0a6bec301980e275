"""List mode of the Siemens Biograph mMR to sinograms: prompts and delayeds apart, single-slice rebinning.

A word of 32 bits is an event where bit 31 is 0; bit 30 then distinguishes a prompt from a delayed coincidence, and the
lower 30 bits are the address ((plane * 252) + view) * 344 + bin. Planes come in the order of segments 0, +1, -1, ...
+60, -60 of one ring difference each: 4084 in all. Bins are those of detectors, s = R sin(pi k / 504): not evenly
spaced.

Single-slice rebinning (Daube-Witherspoon & Muehllehner 1987) takes an oblique plane for the direct one in its middle.
Off the axis by r that is wrong by up to r times the tangent of the tilt: for a brain (r = 80 mm) and all ring
differences by 80 * 60 * 4.0625 / (2 * 335) = 29 mm at most, 2.4 mm for differences up to 5.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.pet.counts import Sinograms
from infield.datasets.pet.readers.common import readable
from infield.datasets.pet.readers.interfile import read_header

RINGS, VIEWS, BINS, DETECTORS = 64, 252, 344, 504
MOST_DIFFERENCE, RADIUS, RING_SPACING = 60, 335.0, 4.0625
"""Largest ring difference; radius of interaction (328 mm and 7 mm deep) and distance of rings, mm."""

WORDS = 1 << 22
"""Words that are read at once."""


def open_list_mode(path: Path, *, ring_difference: int = 5) -> Sinograms:
    """Read prompts and delayeds of all planes.

    Arguments:
        path: The header; its data lie beside it.
        ring_difference: Largest difference of rings whose events are kept.

    Raises:
        InfieldError: The header is of another scanner, or an address lies outside of its planes.
    """
    header = read_header(path)
    found = tuple(str(header.get(key)) for key in ("number of rings", "number of views", "number of projections"))
    if found != (str(RINGS), str(VIEWS), str(BINS)):
        raise InfieldError(where=path, found=f"rings, views, bins {', '.join(found)}",
                           expected=f"{RINGS}, {VIEWS}, {BINS} of a Siemens Biograph mMR")  # fmt: skip
    if not 0 <= ring_difference <= MOST_DIFFERENCE:
        raise InfieldError(where="ring difference", found=ring_difference, expected=f"0 to {MOST_DIFFERENCE}")
    data = path.parent / str(header.get("name of data file", ""))
    slices, kept = direct_planes(), ring_differences() <= ring_difference
    prompts, delayeds = (np.zeros((2 * RINGS - 1, VIEWS, BINS), dtype=np.float32) for _ in range(2))
    counted = [0, 0, 0]  # prompts, delayeds, time marks
    with readable(data, "list mode"):
        words = np.memmap(data, dtype="<u4", mode="r")
    for start in range(0, len(words), WORDS):
        part = np.asarray(words[start : start + WORDS])
        events = part[part >> 31 == 0]
        counted[2] += int((part >> 29 == 0b100).sum())
        address = events & ((1 << 30) - 1)
        plane, rest = np.divmod(address, VIEWS * BINS)
        if (plane >= len(slices)).any():
            raise InfieldError(where=data, found=f"an event of plane {int(plane.max())}",
                               expected=f"planes 0 to {len(slices) - 1}")  # fmt: skip
        prompt = (events >> 30) == 1
        counted[0] += int(prompt.sum())
        counted[1] += int((~prompt).sum())
        for target, chosen in ((prompts, prompt & kept[plane]), (delayeds, ~prompt & kept[plane])):
            np.add.at(target.reshape(len(target), -1), (slices[plane[chosen]], rest[chosen]), 1)
    history = (
        f"list mode: {counted[0]:,} prompts, {counted[1]:,} delayeds, {counted[2]:,} time marks of 1 ms",
        f"single-slice rebinning of ring differences up to {ring_difference}",
        "randoms: delayeds, smoothed to a product of planes, views and bins",
        "no normalisation of detectors and gaps, no attenuation and no scatter: the activity is relative",
    )
    pairs = np.bincount(slices[kept], minlength=len(prompts)).astype(float)
    return Sinograms(
        counts=prompts,
        angles=np.pi / VIEWS * np.arange(VIEWS),
        positions=RADIUS * np.sin(np.pi / DETECTORS * (np.arange(BINS) - BINS // 2)),
        spacing=RING_SPACING / 2,
        randoms=smoothed_randoms(delayeds),
        normalisation=np.broadcast_to((pairs / pairs.max())[:, None, None], prompts.shape),
        history=history,
    )


def ring_differences() -> np.ndarray:
    """Of each of the 4084 planes, without sign."""
    parts = [np.zeros(RINGS, dtype=int)]
    for d in range(1, MOST_DIFFERENCE + 1):
        parts += [np.full(RINGS - d, d)] * 2
    return np.concatenate(parts)


def direct_planes() -> np.ndarray:
    """The direct plane in the middle of each of the 4084 planes, 0 to 126."""
    parts = [2 * np.arange(RINGS)]
    for d in range(1, MOST_DIFFERENCE + 1):
        parts += [2 * np.arange(RINGS - d) + d] * 2
    return np.concatenate(parts)


def smoothed_randoms(delayeds: np.ndarray) -> np.ndarray:
    """Expected randoms from few delayeds: the product of their marginal sums over planes, views and bins."""
    total = float(delayeds.sum())
    if total == 0:
        return np.zeros_like(delayeds)
    plane, view, radial = (delayeds.sum(axes, dtype=np.float64) for axes in ((1, 2), (0, 2), (0, 1)))
    return plane[:, None, None] * view[:, None] * radial / total**2
