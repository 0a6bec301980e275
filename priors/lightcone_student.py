r"""A student of the flow of lightcones: cones in one evaluation of a small network.

The flow takes white noise xi to the innovations of a lightcone by an ODE (`priors.lightcone_flow`), a map from the same
noise to the same cone. The student has learned that map at a glance (`priors.lightcone_distillation`; Luhman & Luhman
2021, arXiv:2101.02388, for images),

.. math:: \xi_1 = \xi + N(\xi, S \xi, \theta, \text{profiles}), \qquad x = S' \xi_1,

with N zero before training: a Gaussian lightcone of the prior's spectra. N sees the field S xi on cells of 2 x 2 x 2
points, where it is smooth. What it cannot foresee of the flow's innovations is missing in their power; how much, is
measured as a function of scale, parameters and distance, and S' makes up for it.

An ensemble at one point costs what its cones cost, since all that depends on the point alone is made once. Fields have
the line of sight first here, so that their slices are contiguous: Fourier transforms of these are three times faster.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Generator, Tensor

from infield import InfieldError
from infield.priors.exact_zeros import with_zeros
from infield.priors.innovations import Innovations, rings_of
from infield.priors.lightcone_flow import LightconeFlow, Profiles
from infield.priors.slice_network import SliceNetwork, from_parts, to_parts
from infield.priors.slice_spectra import SliceSpectra
from infield.priors.student_network import CELL, StudentNetwork
from infield.priors.voxel_transform import VoxelTransform

STRETCH = 512
"""Cells of the line of sight that the network sees at a time, beside its reach on both sides."""

MOST = 5.0
"""Bound of mu / sigma among what the network is told: how far the middle of a slice is from the threshold."""


class DrawnMean(SliceNetwork):
    """m of `priors.drawn_mean` for parameters and places in [0, 1]; 0 before the fit.

    Arguments:
        parameters: How many.
        channels: Of the fields.
        width: Of the three hidden layers.
    """

    def __init__(self, parameters: int, channels: int, width: int = 96) -> None:
        super().__init__(parameters, channels, width, outputs=1, hidden=3, zero=True)

    def forward(self, theta: Tensor, s: Tensor) -> Tensor:
        """Shape `(batch, channel, los)`, of parameters `(batch, parameters)` and places `(batch, los)`."""
        return self.numbers(theta, s).movedim(-1, 1)


@dataclass(frozen=True, kw_only=True)
class Student:
    """What a checkpoint holds of it.

    Arguments:
        network: N.
        gain: Amplitudes of its fields beside those of the flow (`priors.drawn_power`).
        mean: Of its standardised fields (`priors.drawn_mean`).
        provenance: Of its training, in JSON types.
    """

    network: StudentNetwork
    gain: SliceSpectra
    mean: DrawnMean
    provenance: Mapping[str, Any]

    def to(self, device: torch.device | str) -> Student:
        moved = {name: getattr(self, name).to(device) for name in ("network", "gain", "mean")}
        return replace(self, **moved)


def told_of(theta: Tensor, profiles: Profiles) -> Tensor:
    """What the network is told of cells of 2 slices, shape `(batch, parameters + 2 + 3 channels, los / 2)`.

    Arguments:
        theta: Parameters in [0, 1], shape `(batch, parameters)`.
        profiles: Of slices.
    """
    slices = torch.cat([profiles.inputs, (profiles.mu / profiles.sigma).clamp(-MOST, MOST)], dim=1)
    cells = slices.unflatten(-1, (-1, CELL)).mean(-1)
    return torch.cat([2 * theta[..., None].expand(-1, -1, cells.shape[-1]) - 1, cells], dim=1).float()


def low_pass(x: Tensor) -> Tensor:
    """Fields `(..., los, x, y)` on the grid of cells, without the waves that it does not carry."""
    points = x.shape[-2], x.shape[-1]
    carried, _ = _carried(points, x.device)
    modes = torch.fft.rfft2(x, norm="forward").flatten(-2)
    return _on_cells(modes.index_select(-1, carried), points)


def _on_cells(modes: Tensor, points: tuple[int, int]) -> Tensor:
    """Fields of the modes that cells carry, shape `(..., los, modes)`."""
    nx, ny = (n // CELL for n in points)
    pairs = modes.unflatten(-2, (-1, CELL)).mean(-2)
    full = pairs.new_zeros((*pairs.shape[:-1], nx * (ny // 2 + 1)))
    full[..., _carried(points, modes.device)[1]] = pairs
    return torch.fft.irfft2(full.unflatten(-1, (nx, -1)), s=(nx, ny), norm="forward")


@lru_cache(maxsize=8)
def _carried(points: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The modes of slices that the grid of cells carries: where they are in the half-spectrum of all points, flat, and
    in that of the cells."""
    nx, ny = points
    kx, ky = (nx * torch.fft.fftfreq(nx)).round().long(), torch.arange(ny // 2 + 1)
    inside = (2 * CELL * kx.abs() < nx)[:, None] & (2 * CELL * ky < ny)
    at_x, at_y = inside.nonzero(as_tuple=True)
    cells = (kx[at_x] % (nx // CELL)) * (ny // CELL // 2 + 1) + at_y
    return (at_x * len(ky) + at_y).to(device), cells.to(device)


@dataclass(frozen=True)
class _Columns:
    """Fourier modes of slices `(channel, los, numbers)`, those of one ring (`priors.innovations`) side by side, real
    and imaginary part beside each other: all of them, or those that cells carry.

    Arguments:
        order: Of modes in the half-spectrum, flat.
        inverse: Their order there.
        ends: Number of each ring, its first column, and the one behind its last.
        points: Cells across.
    """

    order: Tensor
    inverse: Tensor
    ends: tuple[tuple[int, int, int], ...]
    points: tuple[int, int]

    @classmethod
    def on(cls, points: tuple[int, int], device: torch.device, *, carried: bool = False) -> _Columns:
        order, counts, _ = rings_of(points)
        rings, start, ends = list(order.split(counts)), 0, []
        if carried:
            rings = [ring[torch.isin(ring, _carried(points, torch.device("cpu"))[0])] for ring in rings]
        for number, ring in enumerate(rings):
            if len(ring):
                ends.append((number, 2 * start, 2 * (start + len(ring))))
            start += len(ring)
        order = torch.cat(rings)
        return cls(order.to(device), order.argsort().to(device), tuple(ends), points)

    def of(self, x: Tensor) -> Tensor:
        """Columns of fields `(channel, los, x, y)`."""
        return _real(torch.fft.rfft2(x, norm="ortho").flatten(-2)[..., self.order])

    def fields(self, columns: Tensor) -> Tensor:
        """The inverse of `of`, for all columns."""
        modes = _complex(columns)[..., self.inverse].unflatten(-1, (self.points[0], -1))
        return torch.fft.irfft2(modes, s=self.points, norm="ortho")

    def on_cells(self, columns: Tensor) -> Tensor:
        """Fields on the grid of cells, of the columns that it carries."""
        modes = _complex(columns)[..., self.inverse]
        return _on_cells(modes / (self.points[0] * self.points[1]) ** 0.5, self.points)

    def blocks_of(self, S: Innovations) -> list[Tensor]:
        """K and L of one lightcone side by side, shapes `(rings, channel, slices, slices before and slices)`."""
        numbers = [number for number, *_ in self.ends]
        joint = (torch.cat([K, L], dim=-1) for K, L in S.blocks)
        device = self.order.device
        return [K_L.reshape(K_L.shape[-4:])[:, numbers].transpose(0, 1).to(device, torch.float32) for K_L in joint]

    def colour(self, blocks: Sequence[Tensor], columns: Tensor) -> Tensor:
        """S, told by its blocks, applied to columns."""
        result, start = torch.empty_like(columns), 0
        for K_L in blocks:
            n, m = K_L.shape[-2], K_L.shape[-1] - K_L.shape[-2]  # slices of this block, and before it
            given = torch.cat([result[:, start - m : start], columns[:, start : start + n]], dim=1)
            for (_, low, high), of_ring in zip(self.ends, K_L, strict=True):
                torch.bmm(of_ring, given[:, :, low:high], out=result[:, start : start + n, low:high])
            start += n
        return result


def _complex(columns: Tensor) -> Tensor:
    return torch.view_as_complex(columns.unflatten(-1, (-1, 2)))


def _real(modes: Tensor) -> Tensor:
    return torch.view_as_real(modes).flatten(-2)


class OneStep:
    """A student at one point of parameters, on one grid.

    Arguments:
        student: What it has learned.
        flow: The flow whose student it is, at the point.
        transform: From values to temperatures.

    Raises:
        InfieldError: x or y is no multiple of the network's coarsest cell.
    """

    def __init__(self, student: Student, flow: LightconeFlow, transform: VoxelTransform) -> None:
        self.device = next(student.network.parameters()).device
        kept, points = student.network, flow.innovations.points
        if any(n % kept.multiple for n in points):
            raise InfieldError(
                f"lightcones: found {points[0]} x {points[1]} cells across, expected multiples of {kept.multiple}"
            )
        self.transform, self.event_shape, self.multiple, self.reach = (
            transform, flow.event_shape, kept.multiple, kept.reach
        )  # fmt: skip
        self.half = copy.deepcopy(kept).bfloat16()
        depth = self.event_shape[-1]
        self.missing = -depth % kept.multiple  # at the far end only: the last slices once more
        theta = flow.theta[None].float().to(self.device)
        slices = (self._filled(part, part.ndim - 1).to(self.device) for part in vars(flow.profiles).values())
        self.said = kept.say(told_of(theta, Profiles(*slices)))
        s = flow.profiles.s.float().to(self.device)
        amplitudes = flow.standardisation.amplitudes / student.gain(theta, s)[0].to(flow.standardisation.amplitudes)
        self.columns, self.carried = (_Columns.on(points, self.device, carried=carried) for carried in (False, True))
        self.made = self.columns.blocks_of(replace(flow.standardisation, amplitudes=amplitudes).innovations)
        self.seen = self.carried.blocks_of(flow.innovations)
        shift, scale = flow.standardisation.shift, flow.standardisation.scale  # `(channel, 1, 1, los)`
        self.shift, self.scale = (part.float().movedim(-1, 1).to(self.device) for part in (shift, scale))
        self.shift = self.shift - self.scale * student.mean(theta, s)[0, :, :, None, None]

    def draw(self, generator: Generator, n: int = 1) -> Tensor:
        """Lightcones `(n, x, y, los)` in mK, float32, exactly 0 where ionised; from the noise that the flow would start
        from."""
        return torch.stack([self.temperature(self.innovations(self._noise(generator))) for _ in range(n)])

    def _noise(self, generator: Generator) -> Tensor:
        drawn = torch.randn(self.event_shape, generator=generator, dtype=torch.float32)
        xi = drawn.new_empty(drawn.movedim(-1, 1).shape)
        for channel, as_drawn in zip(xi, drawn, strict=True):  # matrices are transposed three times faster
            channel.flatten(1).copy_(as_drawn.flatten(0, 1).T)
        return xi.to(self.device)

    @torch.no_grad()
    def innovations(self, xi: Tensor) -> Tensor:
        """Columns of xi_1, of noise `(channel, los, x, y)`."""
        seen = self.carried.colour(self.seen, self.carried.of(xi))
        return self.columns.of(self._added(xi, self.carried.on_cells(self._filled(seen, 1))).add_(xi))

    def evolved(self, xi: Tensor) -> Tensor:
        """xi_1 of noise, both of shape `(channel, x, y, los)`."""
        columns = self.innovations(xi.movedim(-1, 1).contiguous())
        return self.columns.fields(columns).movedim(1, -1)

    def standardised(self, xi: Tensor) -> tuple[Tensor, Tensor]:
        """What is drawn of noise, and the Gaussian field of the same noise, in the units of the spectra that make
        fields; all of shape `(channel, x, y, los)`."""
        xi = xi.movedim(-1, 1).contiguous()
        columns = self.columns.of(xi), self.innovations(xi)
        gaussian, drawn = (self.columns.fields(self.columns.colour(self.made, c)).movedim(1, -1) for c in columns)
        return drawn, gaussian

    def _added(self, xi: Tensor, low: Tensor) -> Tensor:
        """N, stretch by stretch, each with the cells beyond it that it can feel; shape of xi."""
        asked, xi = xi.shape[1], self._filled(xi, 1)[None]
        depth, added = xi.shape[2], torch.empty_like(xi[0])
        cells = [depth // part.shape[-1] for part in self.said]
        for start in range(0, depth, STRETCH):
            stop = min(start + STRETCH, depth)
            first, end = max(start - self.reach, 0), min(stop + self.reach, depth)
            said = [part[..., first // m : end // m] for part, m in zip(self.said, cells, strict=True)]
            found = self.half(xi[:, :, first:end], low[None, :, first // CELL : end // CELL], said)
            added[:, start:stop] = found[0, :, start - first : stop - first]
        return added[:, :asked]

    def _filled(self, x: Tensor, axis: int) -> Tensor:
        """As many slices as the network's cells have: the last one once more, or more often."""
        if not self.missing:
            return x
        last = x.narrow(axis, x.shape[axis] - 1, 1)
        return torch.cat([x, last.expand(*x.shape[:axis], self.missing, *x.shape[axis + 1 :])], dim=axis)

    def temperature(self, columns: Tensor) -> Tensor:
        """Temperatures `(x, y, los)` in mK of columns of xi_1."""
        values = self.columns.fields(self.columns.colour(self.made, columns)).mul_(self.scale).add_(self.shift)
        if not self.transform.affine:
            return self.transform.inverse(values.movedim(1, -1)[None])[0, 0]
        temperature = values[0].movedim(0, -1)  # in mK already
        return with_zeros(temperature, values[1].movedim(0, -1)) if self.transform.atom else temperature


def to_entry(student: Student) -> dict[str, Any]:
    """What a checkpoint stores."""
    return {
        "network": student.network.arguments,
        "weights": {name: value.detach().cpu() for name, value in student.network.state_dict().items()},
        "gain": to_parts(student.gain),
        "mean": to_parts(student.mean),
        "provenance": dict(student.provenance),
    }


def from_entry(entry: Mapping[str, Any]) -> Student:
    """The inverse of `to_entry`."""
    network = StudentNetwork(**entry["network"])
    network.load_state_dict(dict(entry["weights"]))
    return Student(
        network=network.eval().requires_grad_(False),
        gain=from_parts(SliceSpectra, entry["gain"]),
        mean=from_parts(DrawnMean, entry["mean"]),
        provenance=entry["provenance"],
    )
