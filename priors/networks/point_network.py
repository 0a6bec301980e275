"""A network for fields on scattered points: kernel integrals to and from a transformer on a lattice of the domain.

In the spirit of MINO (Shi, Ross, Asimaki & Azizzadenesheli 2025, arXiv:2506.16656), GNOT (Hao et al. 2023,
arXiv:2302.14376) and Perceiver IO (Jaegle et al. 2021, arXiv:2107.14795): the cost is that of points times queries.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from infield.core.errors import InfieldError
from infield.priors.networks.time_embedding import TimeEmbedding

Shape = Literal["box", "torus", "sphere"]

_PROBES = 32
"""Probes a point, with which the share of the domain that is nearest to it is counted."""


class PointNetwork(nn.Module):
    r"""Maps a field `(batch, channel, *space)` and times `(batch,)` to a field of the same shape; zero before training.

    The weights are those of an operator on functions: `on` binds them to any points, in any order. Points meet queries
    q on a coarse lattice of the domain, twice, through normalised kernel integrals,

    .. math:: z_h(q) = \frac{\sum_i w_i k_h(q, p_i) V_h(x_i, p_i, t)}{\sum_i w_i k_h(q, p_i)}, \qquad
              \log k_h(q, p) = -\frac{|q - p|^2}{2 \ell_h^2} + a_h(q) \cdot b_h(p),

    with w the share of the domain nearest to each point, so that more points of the same field, also unevenly more, are
    the same integral. Self-attention blocks work on z, whatever the number of points; the way back is the same kernel
    with the queries in the points' place. Structure finer than the lattice enters only through a point's own value.

    Arguments:
        channels: Channels of the field.
        ndim: Coordinates of a point.
        domain: `box`; `torus`, a box whose opposite sides are joined; or `sphere`, with points as latitude and
            longitude in degrees, or as three Cartesian coordinates of which the direction counts.
        lower: Lower end of each side of a box or torus, in the units of the coordinates; one number for all.
        upper: Upper end of each side.
        latents: About how many queries; a box and a torus take the nearest power of a whole number.
        width: Length of the vectors.
        heads: Kernels each way, and heads of the self-attention; they divide `width`.
        blocks: Self-attention blocks.
    """

    def __init__(
        self,
        channels: int,
        ndim: int = 1,
        domain: Shape = "box",
        lower: float | list[float] = 0.0,
        upper: float | list[float] = 1.0,
        latents: int = 64,
        width: int = 64,
        heads: int = 8,
        blocks: int = 3,
    ) -> None:
        super().__init__()
        if min(channels, latents, width, heads, blocks) < 1 or width % heads:
            raise InfieldError(
                where="point network",
                found=f"channels {channels}, latents {latents}, width {width}, heads {heads}, blocks {blocks}",
                remedy="expected positive numbers, and heads that divide the width",
            )
        self.channels, self.ndim = channels, ndim
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "ndim": ndim,
            "domain": domain,
            "lower": lower,
            "upper": upper,
            "latents": latents,
            "width": width,
            "heads": heads,
            "blocks": blocks,
        }
        self.domain = Domain(domain, ndim, lower, upper)
        queries, spacing = self.domain.lattice(latents)
        # No buffers, because averaging of the weights would have them of one shape before and after `on`.
        self.queries = queries
        self.places, self.log_shares = queries[:0], queries[:0, 0]
        self.time = TimeEmbedding(2 * width)
        self.features = _PositionFeatures(queries.shape[1], width, spacing)
        self.lift_value = nn.Linear(channels, 2 * width)
        self.lift_place = nn.Linear(width, 2 * width)
        self.lift = nn.Sequential(nn.GELU(), nn.Linear(2 * width, width))
        self.gather = _KernelIntegral(width, heads, spacing)
        self.lift_query = nn.Linear(width, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.settle = nn.LayerNorm(width)
        self.scatter = _KernelIntegral(width, heads, spacing)
        self.local = nn.ModuleList(_Pointwise(width) for _ in range(2))
        self.head = nn.Linear(width, channels)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def on(self, points: Tensor) -> PointNetwork:
        """The same weights, not copied, bound to points.

        Arguments:
            points: Coordinates `(n, ndim)`; fields have their values in this order.

        Raises:
            InfieldError: A point is outside the domain.
        """
        bound = copy.copy(self)
        bound.places = self.domain.places(points)
        bound.log_shares = self.domain.shares(bound.places).log()
        return bound

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Fields `(batch, channel, *space)` at times `(batch,)`; the result has the shape of `x`."""
        values = x.flatten(2).mT
        if values.shape[1] != len(self.places):
            raise InfieldError(
                where="point network",
                found=f"a field of {values.shape[1]} values",
                expected=f"{len(self.places)}, as many as the points that it is bound to",
                remedy="bind it to others with `on(points)`",
            )
        embedding = self.time(t)
        places, queries = self.places.to(x), self.queries.to(x)
        at_places, at_queries = self.features(places), self.features(queries)
        h = self.lift(self.lift_value(values) + self.lift_place(at_places))
        means = self.gather(h, (queries, at_queries), (places, at_places), self.log_shares.to(x))
        z = self.lift_query(at_queries) + means
        for block in self.blocks:
            z = block(z, embedding)
        h = h + self.scatter(self.settle(z), (places, at_places), (queries, at_queries))
        for pointwise in self.local:
            h = pointwise(h, embedding)
        return self.head(h).mT.reshape(x.shape)


class _PositionFeatures(nn.Module):
    """Learned Fourier features of places, at first of wavelengths from the domain's size to two spacings."""

    def __init__(self, ndim: int, width: int, spacing: float) -> None:
        super().__init__()
        finest = math.pi / spacing
        scales = torch.logspace(0, 1, width // 2 + 1, base=max(finest / math.pi, 1.0)) * math.pi
        directions = functional.normalize(torch.randn(width // 2 + 1, ndim), dim=1)
        self.frequencies = nn.Parameter(scales[:, None] * directions)
        self.mix = nn.Linear(2 * len(scales) + ndim, width)

    def forward(self, places: Tensor) -> Tensor:
        """Places `(n, ndim)` to vectors `(n, width)`."""
        angles = places @ self.frequencies.mT
        return functional.gelu(self.mix(torch.cat([places, angles.sin(), angles.cos()], dim=1)))


class _KernelIntegral(nn.Module):
    """Means of vectors over points, one kernel per head; the kernels depend on positions and not on values."""

    def __init__(self, width: int, heads: int, spacing: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        # from half a spacing, which separates neighbouring queries, to eight
        self.log_length = nn.Parameter(torch.linspace(-1, 3, heads) * math.log(2) + math.log(spacing))

    def forward(
        self, values: Tensor, to: tuple[Tensor, Tensor], of: tuple[Tensor, Tensor], log_shares: Tensor | None = None
    ) -> Tensor:
        """Vectors `(batch, n, width)` at the places `of` to vectors `(batch, m, width)` at the places `to`.

        Arguments:
            values: The vectors.
            to: Places `(m, ndim)` and their features `(m, width)`.
            of: Places `(n, ndim)` and their features `(n, width)`.
            log_shares: Logarithms of the weights of the places in the mean; by default all weigh the same.
        """
        a, b = (f.unflatten(1, (self.heads, -1)).transpose(0, 1) for f in (self.query(to[1]), self.key(of[1])))
        squares = (to[0][:, None] - of[0]).square().sum(-1)
        score = a @ b.mT / math.sqrt(a.shape[-1]) - 0.5 * squares * (-2 * self.log_length).exp()[:, None, None]
        kernel = (score if log_shares is None else score + log_shares).softmax(-1)
        v = self.value(values).unflatten(2, (self.heads, -1))
        return self.out(torch.einsum("hmn,bnhd->bmhd", kernel.to(v.dtype), v).flatten(2))


class _Block(nn.Module):
    """Self-attention and a multilayer perceptron on the queries, both modulated by time (Peebles & Xie 2023)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(2 * width, 6 * width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, z: Tensor, embedding: Tensor) -> Tensor:
        scale, shift, gate, scale_2, shift_2, gate_2 = self.modulation(embedding)[:, None].chunk(6, dim=-1)
        qkv = self.qkv(self.norms[0](z) * (1 + scale) + shift)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        z = z + (1 + gate) * self.out(attended)
        return z + (1 + gate_2) * self.mlp(self.norms[1](z) * (1 + scale_2) + shift_2)


class _Pointwise(nn.Module):
    """A residual multilayer perceptron on each point, modulated by time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(2 * width, 2 * width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        return h + self.mlp(self.norm(h) * (1 + scale) + shift)


class Domain:
    """Where points may be, and their places: coordinates in which what is near is near.

    Places in a box are fractions of its sides, on a torus they are points of circles of length 1, on a sphere unit
    vectors.

    Arguments:
        shape: As the `domain` of `PointNetwork`, and so are the others.
    """

    def __init__(self, shape: Shape, ndim: int, lower: float | Sequence[float], upper: float | Sequence[float]) -> None:
        if shape not in ("box", "torus", "sphere") or ndim not in ((2, 3) if shape == "sphere" else (1, 2, 3)):
            raise InfieldError(
                where="domain of points",
                found=f"{shape!r} with {ndim} coordinates",
                expected="box or torus with 1 to 3, or sphere with 2 (latitude and longitude in degrees) or 3",
            )
        self.shape, self.ndim = shape, ndim
        ends = [torch.tensor(end, dtype=torch.float64).reshape(-1) for end in (lower, upper)]
        if any(len(end) not in (1, ndim) for end in ends) or not (ends[1] > ends[0]).all():
            raise InfieldError(
                where="domain of points",
                found=f"sides from {lower} to {upper}",
                expected=f"1 or {ndim} numbers each, the upper ones larger",
            )
        self.lower, self.upper = (end.expand(ndim) for end in ends)

    def places(self, points: Tensor) -> Tensor:
        """Places of points `(n, ndim)`, float64, on the CPU.

        Raises:
            InfieldError: A point is outside the domain, or has another number of coordinates.
        """
        if points.ndim != 2 or points.shape[1] != self.ndim or len(points) == 0:
            raise InfieldError(
                where="points of a network", found=f"shape {tuple(points.shape)}", expected=f"(n, {self.ndim})"
            )
        points = points.detach().to("cpu", torch.float64)
        outside = ~points.isfinite().all(1)
        if self.shape != "sphere":
            unit = (points - self.lower) / (self.upper - self.lower)
            places = unit if self.shape == "box" else _circles(unit)
            if self.shape == "box":
                outside |= ((unit < -1e-6) | (unit > 1 + 1e-6)).any(1)
        elif self.ndim == 2:
            outside |= points[:, 0].abs() > 90 + 1e-6
            latitude, longitude = points.deg2rad().unbind(1)
            equator = torch.stack([longitude.cos(), longitude.sin()])
            places = torch.stack([*(latitude.cos() * equator), latitude.sin()], dim=1)
        else:
            outside |= points.norm(dim=1) == 0
            places = functional.normalize(points, dim=1)
        if outside.any():
            i = int(outside.nonzero()[0, 0])
            sphere = self.shape == "sphere"
            sides = "" if sphere else f" from {self.lower.tolist()} to {self.upper.tolist()}"
            larger = "give latitudes from -90 to 90" if sphere else "train a network on a larger domain"
            raise InfieldError(
                where=f"point {i} of a network",
                found=points[i].tolist(),
                expected=f"a point of the {self.shape}{sides}",
                remedy=f"leave it out, or {larger}",
            )
        return places

    def lattice(self, count: int) -> tuple[Tensor, float]:
        """Places of about `count` evenly spread queries, and the distance between neighbours."""
        if self.shape == "sphere":
            return _spiral(count), math.sqrt(4 * math.pi / count)
        side = max(round(count ** (1 / self.ndim)), 1)
        middles = (torch.arange(side, dtype=torch.float64) + 0.5) / side
        unit = torch.cartesian_prod(*[middles] * self.ndim).reshape(-1, self.ndim)
        return (unit if self.shape == "box" else _circles(unit)), 1 / side

    def shares(self, places: Tensor) -> Tensor:
        """Share of the domain that is nearest to each place, shape `(n,)`, counted with evenly spread probes."""
        count = max(_PROBES * len(places), 4096)
        if self.shape == "sphere":
            probes = _spiral(count)
        else:
            golden = 1.0  # solves g^(ndim + 1) = g + 1: the additive recurrence with its powers is even in ndim axes
            for _ in range(64):
                golden = (1 + golden) ** (1 / (self.ndim + 1))
            strides = golden ** -torch.arange(1, self.ndim + 1, dtype=torch.float64)
            unit = (torch.arange(1, count + 1, dtype=torch.float64)[:, None] * strides) % 1
            probes = unit if self.shape == "box" else _circles(unit)
        from scipy.spatial import cKDTree  # a quarter of a second of a processor

        nearest = torch.from_numpy(cKDTree(places.numpy()).query(probes.numpy())[1])
        return torch.bincount(nearest, minlength=len(places)).to(torch.float64).clamp_min(0.5) / count


def points_of(description: Mapping[str, Any]) -> Tensor:
    """Coordinates `(n, ndim)` of the points, or of the grid, that plain JSON types describe; last axis fastest."""
    if "points" in description:
        return torch.tensor(description["points"], dtype=torch.float64)
    axes = [torch.tensor(axis["coordinates"], dtype=torch.float64) for axis in description["axes"]]
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def _circles(unit: Tensor) -> Tensor:
    angles = 2 * math.pi * unit
    return torch.cat([angles.cos(), angles.sin()], dim=1) / (2 * math.pi)


def _spiral(count: int) -> Tensor:
    """Evenly spread points of the unit sphere, the Fibonacci lattice, shape `(count, 3)`."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    height, longitude = 1 - 2 * i / count, math.pi * (1 + math.sqrt(5)) * i
    radius = (1 - height.square()).sqrt()
    return torch.stack([radius * longitude.cos(), radius * longitude.sin(), height], dim=1)
