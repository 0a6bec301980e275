"""Numbers of a field by which its posterior is judged: means of regions, powers of bands of wavenumber, single values.

They are declared before any simulation, the same for every file of one grid; `choose` keeps at most 16 that hardly
correlate under the posterior (it looks at truths and draws alike, so that the test stays exact).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.core.spectra import wave_axes, wavenumbers

KEPT = 16
"""Functionals that are tested at most."""

CORRELATION = 0.3
"""Absolute correlation of two functionals above which the second is left out."""

PARTS = {1: 8, 2: 3, 3: 2}
"""Parts of each axis that regions are made of, by the number of axes."""

BANDS, POINTS = 4, 12


@dataclass(frozen=True)
class Functional:
    """A number of a field.

    Arguments:
        name: In reports.
        values: Of fields `(batch, channel, *space)`, shape `(batch,)`.
        one_sign: Whether it is linear with weights of one sign.
        own: Whether a user requested it: it is kept whatever it correlates with.
    """

    name: str
    values: Callable[[Tensor], Tensor]
    one_sign: bool = False
    own: bool = False


@dataclass(frozen=True)
class RegionMean:
    """Mean of one channel over the points of a region; `where` is bool, shape `space`."""

    channel: int
    where: Tensor

    def __call__(self, fields: Tensor) -> Tensor:
        return fields[:, self.channel][:, self.where].mean(1)


@dataclass(frozen=True)
class BandPower:
    """Logarithm of the mean power of all channels over modes; `where` is bool, shape `space` of `torch.fft.fftn`."""

    where: Tensor

    def __call__(self, fields: Tensor) -> Tensor:
        space = tuple(range(2, fields.ndim))
        power = torch.fft.fftn(fields, dim=space, norm="ortho").abs().square().mean(1)
        return power[:, self.where].mean(1).clamp_min(1e-300).log()


def predeclared(grid: Grid | PointSet, channels: Sequence[str]) -> list[Functional]:
    """The functionals of every field on a grid: regions, bands and single points of every channel, in this order."""
    shape, found = tuple(grid.shape), []
    named = [f" of {name}" if len(channels) > 1 else "" for name in channels]
    for region, c in product(_regions(grid), range(len(channels))):
        found.append(Functional(f"mean {region[0]}{named[c]}", RegionMean(c, region[1]), one_sign=True))
    found[len(found) // 2 : len(found) // 2] = _bands(grid)
    size = math.prod(shape)
    for i in range(min(POINTS, size)):
        index = int((0.5 + i * 0.6180339887498949) % 1 * size)
        where = torch.zeros(size, dtype=torch.bool)
        where[index] = True
        c = i % len(channels)
        found.append(Functional(f"point {index}{named[c]}", RegionMean(c, where.reshape(shape)), one_sign=True))
    return found


def _regions(grid: Grid | PointSet) -> list[tuple[str, Tensor]]:
    """Boxes of the grid by name."""
    shape = tuple(grid.shape)
    if not isinstance(grid, Grid):
        order = (
            torch.tensor(grid.coordinates, dtype=torch.float64).reshape(grid.size, -1)[:, 0].argsort(dim=0, stable=True)
        )
        groups = [part for part in order.tensor_split(PARTS[1]) if len(part)]
        masks = []
        for part in groups:
            where = torch.zeros(shape, dtype=torch.bool)
            where[part] = True
            masks.append(where)
        return [(f"part {i + 1} of {len(masks)}", where) for i, where in enumerate(masks)]
    parts = PARTS.get(grid.ndim, 2)
    cuts = [[part for part in torch.arange(n).tensor_split(parts) if len(part)] for n in shape]
    found = []
    for box in product(*(range(len(axis)) for axis in cuts)):
        where = torch.zeros(shape, dtype=torch.bool)
        where[tuple(slice(int(cuts[d][b][0]), int(cuts[d][b][-1]) + 1) for d, b in enumerate(box))] = True
        name = ", ".join(f"{axis} {b + 1}/{len(cut)}" for axis, b, cut in zip(grid.names, box, cuts, strict=True))
        found.append((f"box {name}", where))
    return found[::2] + found[1::2]  # those that do not touch first


def _bands(grid: Grid | PointSet) -> list[Functional]:
    """Octaves of wavenumber up to the lowest Nyquist wavenumber; none where the grid is not uniform."""
    if not isinstance(grid, Grid) or not grid.uniform:
        return []
    kept = [axis for axis in grid.axes if axis.size > 1]
    if not kept:
        return []
    spacing = tuple(abs(axis.coordinates[1] - axis.coordinates[0]) if axis.size > 1 else 1.0 for axis in grid.axes)
    k = wavenumbers(tuple(grid.shape), spacing)
    highest = min(float(axis.abs().max()) for axis, a in zip(wave_axes(tuple(grid.shape), spacing), grid.axes,
                                                             strict=True) if a.size > 1)  # fmt: skip
    found = []
    for b in range(BANDS):
        upper = highest * 2.0 ** (b - BANDS + 1)
        where = (k <= upper * (1 + 1e-9)) & (k > (upper / 2 if b else 0.0) * (1 + 1e-9))
        if int(where.sum()) >= 2:
            found.append(Functional(f"log power, octave {b + 1} of {BANDS}", BandPower(where)))
    return found


def functional_of(text: str, grid: Grid | PointSet, channels: Sequence[str]) -> Functional:
    """A functional requested by the user.

    Arguments:
        text: `mean:AXIS=LOW:HIGH,...` of a region in coordinates of the grid (`channel=NAME` for one of several), or
            the name of an entry point of `infield.functionals`: a function of fields `(batch, channel, *space)` and the
            grid that returns one number a field.
        grid: Of the field.
        channels: Names of its channels.

    Raises:
        InfieldError: The name is unknown, or the region is none of this grid.
    """
    kind, separator, region = text.partition(":")
    if kind == "mean" and separator:
        return _region_mean(text, region, grid, channels)
    function = registry.load("functionals", text)

    def values(fields: Tensor) -> Tensor:
        try:
            found = torch.as_tensor(function(fields, grid), dtype=torch.float64)
        except Exception as error:  # a user's own code: whatever it raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise _refused(text, f"an error ({reason})", "one number a field") from error
        if found.shape != (len(fields),):
            raise _refused(text, f"values of shape {tuple(found.shape)}", (len(fields),))
        return found

    return Functional(text, values, own=True)


def _refused(text: str, found: str, expected: object) -> InfieldError:
    return InfieldError(where=f"{{functional}} {text}", found=found, expected=expected, parameters=["functional"])


def _region_mean(text: str, region: str, grid: Grid | PointSet, channels: Sequence[str]) -> Functional:
    points = torch.as_tensor(grid.points(), dtype=torch.float64)
    where, channel = torch.ones(len(points), dtype=torch.bool), 0
    for part in filter(None, region.split(",")):
        name, _, bounds = part.partition("=")
        if name == "channel":
            if bounds not in channels:
                raise _refused(text, f"channel {bounds!r}", f"one of {', '.join(channels)}")
            channel = list(channels).index(bounds)
            continue
        if name not in grid.names:
            raise _refused(text, f"axis {name!r}", f"AXIS=LOW:HIGH of {', '.join(grid.names)}")
        try:
            low, high = (float(bound) if bound else sign * math.inf for bound, sign in
                         zip(bounds.split(":"), (-1, 1), strict=True))  # fmt: skip
        except ValueError:
            raise _refused(text, f"{bounds!r}", "LOW:HIGH, two numbers") from None
        x = points[:, list(grid.names).index(name)]
        where &= (x >= low) & (x <= high)
    if not bool(where.any()):
        raise _refused(text, "no point of the grid in it", "at least one")
    return Functional(text, RegionMean(channel, where.reshape(tuple(grid.shape))), one_sign=True, own=True)


def evaluate(functionals: Sequence[Functional], fields: Tensor) -> Tensor:
    """Values of all functionals, `(n, channel, *space)` to `(n, functionals)`.

    Raises:
        InfieldError: A functional raises, or gives what is not finite.
    """
    fields = fields.to(torch.float64)
    means = {j: f.values for j, f in enumerate(functionals) if isinstance(f.values, RegionMean)}
    weights = fields.new_zeros((len(means), *fields.shape[1:]))
    for row, mean in zip(weights, means.values(), strict=True):
        row[mean.channel][mean.where] = 1 / int(mean.where.sum())
    found = fields.new_empty((len(fields), len(functionals)))
    found[:, list(means)] = fields.flatten(1) @ weights.flatten(1).mT  # all means of regions in one product
    for j, functional in enumerate(functionals):
        if j not in means:
            found[:, j] = functional.values(fields)
    for functional, values in zip(functionals, found.mT, strict=True):
        if not bool(torch.isfinite(values).all()):
            raise InfieldError(where=f"functional {functional.name}", found="NaN or infinity", expected="finite values")
    return found


def choose(
    functionals: Sequence[Functional], correlation: Tensor, spread: Tensor, *, kept: int = KEPT
) -> tuple[list[int], float]:
    """Which functionals are tested: in their order, each that correlates little with those before it.

    Arguments:
        functionals: The candidates.
        correlation: Of their normal scores, shape `(J, J)`, over truths and draws alike.
        spread: Their standard deviation over truths and draws, mean over simulations, shape `(J,)`.
        kept: How many at most.

    Returns:
        Their indices, and the largest correlation among them.

    Raises:
        InfieldError: A requested one is constant, or all are.
    """
    chosen: list[int] = []
    for j, functional in enumerate(functionals):
        if not float(spread[j]) > 0:
            if functional.own:
                raise _refused(functional.name, "the same value of all draws", "one that varies")
            continue
        if functional.own:
            chosen.append(j)
    for j, functional in enumerate(functionals):
        if functional.own or not float(spread[j]) > 0 or len(chosen) >= kept:
            continue
        if all(abs(float(correlation[j, i])) < CORRELATION for i in chosen):
            chosen.append(j)
    if not chosen:
        raise InfieldError(where="calibration", found="draws that are all the same", expected="draws that differ")
    within = correlation[chosen][:, chosen].abs()
    within.fill_diagonal_(0)
    return chosen, float(within.max())
