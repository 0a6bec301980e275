"""Features of a field by name, as `infield explain --feature` takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.spectra import wavenumbers
from infield.datasets.formats.field import Field

FORMS = "mean, mean:AXIS=LOW..HIGH[,...], point:AXIS=VALUE[,...] or band:LOW..HIGH"


@dataclass(frozen=True)
class Feature:
    """A number of each field.

    Arguments:
        name: As it was written.
        weights: Of a linear one, shape `(channel, *space)`.
        modes: Of the power in a band of wavenumbers, which modes of the Fourier transform count, bool, shape `space`.
        channel: Number of the channel.
        units: Units of the feature.
    """

    name: str
    weights: Tensor | None
    modes: Tensor | None
    channel: int
    units: str

    def of(self, x: Tensor) -> Tensor:
        """The feature of fields `(n, channel, *space)`, shape `(n,)`."""
        if self.weights is not None:
            return torch.einsum("nj,j->n", x.flatten(1), self.weights.flatten())
        assert self.modes is not None
        spectrum = torch.fft.fftn(x[:, self.channel], dim=tuple(range(1, x.ndim - 1)), norm="ortho")
        return spectrum.abs().square()[:, self.modes].mean(1)


def parse_feature(text: str, field: Field, channel: str | None = None) -> Feature:
    """A feature of a field.

    Arguments:
        text: One of `FORMS`; values in the units of the axes, wavenumbers in cycles per unit.
        field: What the field is.
        channel: Its channel; the first where none is named.

    Raises:
        InfieldError: It is none of these, or an axis, a place or a channel is not of the field.
    """
    kind, _, of = text.partition(":")
    if channel is not None and channel not in field.channels:
        raise _refused("{channel}", channel, ", ".join(field.channels), "channel")
    number = field.channels.index(channel) if channel else 0
    if kind == "band":
        return _band(text, of, field, number)
    if kind not in ("mean", "point") or (kind == "point" and not of):
        raise _refused("{feature}", text, FORMS)
    where = _places(text, of, field)
    inside = torch.ones(math.prod(field.grid.shape), dtype=torch.bool)
    points = field.grid.points()
    if kind == "mean":
        for i, (low, high) in where.items():
            inside &= (points[:, i] >= low) & (points[:, i] <= high)
    else:
        missing = [name for i, name in enumerate(field.grid.names) if i not in where]
        if missing:
            raise _refused("{feature}", text, f"a value of {', '.join(missing)} too")
        size = (points.amax(0) - points.amin(0)).clamp_min(1e-300)
        distance = sum(((points[:, i] - low) / size[i]) ** 2 for i, (low, _) in where.items())
        inside = torch.zeros_like(inside)
        inside[int(torch.as_tensor(distance).argmin())] = True
    if not inside.any():
        raise _refused("{feature}", text, "a region that holds a point of the field")
    weights = torch.zeros((len(field.channels), len(inside)), dtype=torch.float64)
    weights[number, inside] = 1 / float(inside.sum())
    return Feature(text, weights.reshape(-1, *field.grid.shape), None, number, field.units)


def _places(text: str, of: str, field: Field) -> Mapping[int, tuple[float, float]]:
    found = {}
    for part in filter(None, of.split(",")):
        name, equals, value = part.partition("=")
        if name not in field.grid.names or not equals:
            raise _refused("{feature}", part, f"AXIS=VALUE or AXIS=LOW..HIGH of the axes {', '.join(field.grid.names)}")
        found[field.grid.names.index(name)] = _interval(text, value)
    return found


def _interval(text: str, value: str) -> tuple[float, float]:
    low, dots, high = value.partition("..")
    try:
        found = (float(low), float(high if dots else low))
    except ValueError:
        raise _refused("{feature}", text, "numbers, LOW..HIGH or VALUE") from None
    if not found[0] <= found[1]:
        raise _refused("{feature}", text, "LOW not above HIGH")
    return found


def _band(text: str, of: str, field: Field, channel: int) -> Feature:
    grid = field.grid
    if not isinstance(grid, Grid) or not all(axis.uniform for axis in grid.axes):
        raise _refused("{feature}", text, "a field on a uniform grid, for wavenumbers")
    low, high = _interval(text, of)
    k = wavenumbers(grid.shape, grid.spacing)
    inside = (k >= low) & (k <= high)
    if not inside.any():
        raise _refused("{feature}", text, f"a band that holds a mode: {float(k[k > 0].min()):g} to {float(k.max()):g}")
    return Feature(text, None, inside, channel, f"({field.units})2")


def _refused(where: str, found: str, expected: str, parameter: str = "feature") -> InfieldError:
    return InfieldError(where=where, found=f"'{found}'", expected=expected, parameters=[parameter])
