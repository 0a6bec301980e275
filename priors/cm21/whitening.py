r"""Whitening of lightcones: the linear map between white noise (innovations) and a Gaussian lightcone of given spectra.

Across, a lightcone is periodic, so that the Fourier modes X_k of its slices (orthonormal) are independent between
wavenumbers k; along the line of sight those of one k have a covariance, from its spectrum at each distance
(`priors.cm21.slice_spectra`),

.. math:: C_{|k|}(z, z') = n^{-1} \sum_\kappa \sqrt{P(k, \kappa; z)\, P(k, \kappa; z')}\, R_{|k, \kappa|}(z, z')
    \cos \kappa (z - z').

A simulated box is shorter than a lightcone and repeats along it. Then kappa are those of the box, 2 pi j / n, and the
evolution between repetitions is in

.. math:: R_k(z, z') = \sum_b h_b(k) \exp(-|\tau_b(z) - \tau_b(z')|^{3/2}), \qquad \tau_b' = c_b(z; \theta),

with hats h_b of log |k| and rates c_b estimated from lightcones (`priors.cm21.box_repeats`). This is a covariance for
every tau, since exp(-|x|^p) is one for p up to 2 (Schoenberg 1938). Without repeats R is 1 and kappa is practically
continuous.

Block by block of slices, each given the one before it (Vecchia 1988, J. R. Stat. Soc. B 50, 297), with xi white:

.. math:: X_b = K_b X_{b-1} + L_b \xi_b, \quad K_b = C_{b,b-1} C_{b-1,b-1}^{-1}, \quad
    L_b L_b^T = C_{bb} - K_b C_{b-1,b},

L_b lower triangular. So xi at a slice is the part not predicted by at least one block of preceding slices. The map is
linear and exactly invertible, xi_b = L_b^{-1} (X_b - K_b X_{b-1}), and its cost grows with the depth, not with its
square.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from infield.core.spectra import Bins, mode_counts, nearest_multiple, wavenumbers
from infield.core.transform import Affine, Chain, Whitening
from infield.priors.base import ChainedStandardisation
from infield.priors.cm21.box_repeats import POWER, BoxRepeats, bands
from infield.priors.cm21.slice_spectra import hats

BLOCK = 64
"""Slices per block."""

APART = 3.5
"""Wavenumbers across below this, in units of the first one, are rings of their own; others are rounded to integers."""

WHITE = 1e-5
"""Added to the spectrum, in units of the variance per cell, so that the covariance is not singular."""


@dataclass(frozen=True)
class VecchiaWhitening:
    """The map of one lightcone, or of several at once.

    Arguments:
        blocks: K and L of each block, shapes `(cones, channel, rings, slices, slices before)` and
            `(cones, channel, rings, slices, slices)`; K of the first one has no slices before it.
        points: Cells across.
    """

    blocks: tuple[tuple[Tensor, Tensor], ...]
    points: tuple[int, int]

    @property
    def before(self) -> Tensor:
        """Number of preceding slices on which the innovations of each slice are conditioned, shape `(los,)`."""
        return torch.cat([K.shape[-1] + torch.arange(K.shape[-2]) for K, _ in self.blocks])

    def each(self) -> list[VecchiaWhitening]:
        """The maps of its lightcones one by one."""
        parts = zip(*(zip(K.split(1), L.split(1), strict=True) for K, L in self.blocks), strict=True)
        return [VecchiaWhitening(blocks, self.points) for blocks in parts]

    @classmethod
    def joined(cls, maps: Sequence[VecchiaWhitening]) -> VecchiaWhitening:
        """The inverse of `each`."""
        blocks = zip(*(one.blocks for one in maps), strict=True)
        return cls(
            tuple((torch.cat([K for K, _ in same]), torch.cat([L for _, L in same])) for same in blocks), maps[0].points
        )

    def colour(self, xi: Tensor) -> Tensor:
        """Fields of white noise `(batch, channel, x, y, los)`; same shape, precision and device. The batch is of one
        lightcone, or has as many for each one."""

        return _Colour.apply(xi, self)  # type: ignore[no-any-return, no-untyped-call]

    def whiten(self, x: Tensor) -> Tensor:
        """The innovations of fields: the inverse of `colour`."""

        def block(K: Tensor, L: Tensor, x: Tensor, before: Tensor) -> Tensor:
            return torch.linalg.solve_triangular(L, (x - before @ K.mT).mT, upper=False).mT

        return self._by_modes(x, block, given_fields=True)

    def _colour(self, xi: Tensor) -> Tensor:
        def block(K: Tensor, L: Tensor, xi: Tensor, before: Tensor) -> Tensor:
            return xi @ L.mT + before @ K.mT

        return self._by_modes(xi, block)

    def transpose(self, x: Tensor) -> Tensor:
        """The transpose of `colour`, which takes derivatives back."""
        result = torch.empty_like(x)
        stop, carried = x.shape[-1], None
        for K_b, L_b in reversed(self.blocks):
            K, L = K_b.to(x), L_b.to(x)
            here = slice(stop - L.shape[-1], stop)
            modes, rings = self._modes(x[..., here])
            modes = modes if carried is None else modes + carried
            found, carried = torch.empty_like(modes), modes.new_empty((*modes.shape[:-1], K.shape[-1]))
            for ring, own in enumerate(rings):
                found[:, :, own] = modes[:, :, own] @ L[:, :, ring]
                carried[:, :, own] = modes[:, :, own] @ K[:, :, ring]
            result[..., here] = self._fields(found)
            stop = here.start
        return result

    def log_abs_det(self, shape: torch.Size) -> Tensor:
        """log |det colour| for fields of a shape `(batch, channel, x, y, los)`, shape `(batch,)`."""
        nx, ny = self.points
        order, counts, _ = rings_of(self.points)
        twice = torch.full((ny // 2 + 1,), 2)  # modes that a field has beside those of the half-spectrum
        twice[[0, -1] if ny % 2 == 0 else [0]] = 1
        own = torch.stack([part.sum() for part in twice.expand(nx, -1).flatten()[order].split(counts)])
        logs = torch.stack([L.double().diagonal(dim1=-2, dim2=-1).log().sum(-1) for _, L in self.blocks]).sum(0)
        each = torch.einsum("jcr,r->j", logs, own.to(logs))
        return each.repeat_interleave(shape[0] // len(each))

    def _by_modes(
        self, x: Tensor, block: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], *, given_fields: bool = False
    ) -> Tensor:
        """Apply `block` to the modes of each block and the field's modes in the preceding one; block by block,
        for the sake of memory."""
        result, start, before = torch.empty_like(x), 0, None
        for K_b, L_b in self.blocks:
            K, L = K_b.to(x), L_b.to(x)
            here = slice(start, start + L.shape[-1])
            modes, rings = self._modes(x[..., here])
            before = modes[..., :0] if before is None else before
            found = torch.empty_like(modes)
            for ring, own in enumerate(rings):
                found[:, :, own] = block(K[:, :, ring], L[:, :, ring], modes[:, :, own], before[:, :, own])
            result[..., here] = self._fields(found)
            start, before = here.stop, modes if given_fields else found
        return result

    def _modes(self, x: Tensor) -> tuple[Tensor, list[slice]]:
        """Fourier modes of slices, those of one ring after the other, `(cones, channel, modes of its fields, los)`, and
        where each ring is."""
        order, counts, _ = rings_of(self.points)
        cones = len(self.blocks[0][1])
        modes = torch.view_as_real(torch.fft.rfft2(x, dim=(2, 3), norm="ortho"))  # n, channel, x, y, los, parts
        modes = modes.unflatten(0, (cones, -1)).permute(0, 2, 3, 4, 1, 6, 5)
        modes = modes.flatten(2, 3)[:, :, order.to(x.device)].flatten(2, 4)
        ends = torch.tensor([0, *counts]).cumsum(0) * 2 * (len(x) // cones)
        return modes, [slice(int(low), int(high)) for low, high in itertools.pairwise(ends)]

    def _fields(self, modes: Tensor) -> Tensor:
        order, _, _ = rings_of(self.points)
        modes = modes.unflatten(2, (len(order), -1, 2))[:, :, order.argsort().to(modes.device)]
        modes = modes.unflatten(2, (self.points[0], -1)).permute(0, 4, 1, 2, 3, 6, 5).flatten(0, 1).contiguous()
        return torch.fft.irfft2(torch.view_as_complex(modes), s=self.points, dim=(2, 3), norm="ortho")


class _Colour(torch.autograd.Function):
    """Linear: its derivative is its transpose, in few and large steps."""

    @staticmethod
    def forward(ctx: Any, xi: Tensor, innovations: VecchiaWhitening) -> Tensor:
        ctx.innovations = innovations
        return innovations._colour(xi)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.innovations.transpose(gradients[0]), None


@dataclass(frozen=True)
class WhiteningTransform(ChainedStandardisation):
    """Field in units = shift + scale * colour(standardised field).

    Arguments:
        amplitudes: Amplitudes of the spectra, see `vecchia_whitening`.
        points: Cells across.
        repeats: Likewise.
    """

    amplitudes: Tensor
    points: tuple[int, int]
    repeats: BoxRepeats | None = None

    @cached_property
    def innovations(self) -> VecchiaWhitening:
        """Computed on first use."""
        return vecchia_whitening(self.amplitudes, self.points, self.repeats)

    @property
    def chain(self) -> Chain:
        return Chain((Affine(self.shift, self.scale), Whitening(self.innovations)))


def vecchia_whitening(
    amplitudes: Tensor, points: tuple[int, int], repeats: BoxRepeats | None = None
) -> VecchiaWhitening:
    """The map of one or more lightcones with such spectra.

    Arguments:
        amplitudes: a of `priors.cm21.slice_spectra`, shape `(channel, functions, los)`, or `(cones, ...)`.
        points: Cells across.
        repeats: BoxRepeats of the same lightcones; None if a box is as long as they.
    """
    a = amplitudes if amplitudes.ndim == 4 else amplitudes[None]
    tau = None
    if repeats is not None:
        rates = repeats.rates if repeats.rates.ndim == 4 else repeats.rates[None]
        tau = rates.double().cumsum(-1)
    cones, channels, _, depth = a.shape
    kept = torch.empty(  # at once: between them, what is only passing through would leave holes in memory
        (-(-depth // BLOCK), 2, cones, channels, len(rings_of(points)[1]), BLOCK, BLOCK), device=a.device
    )
    blocks: list[tuple[Tensor, Tensor]] = []
    for start in range(0, depth, BLOCK):
        low, stop = max(start - BLOCK, 0), min(start + BLOCK, depth)
        m, n = start - low, stop - start  # slices of the block before, and of this one
        K, L = kept[start // BLOCK, 0, ..., :n, :m], kept[start // BLOCK, 1, ..., :n, :n]
        for channel in range(channels):  # one after the other: memory
            here = a[:, channel, :, low:stop].double()
            passed = None if tau is None else tau[:, channel, :, low:stop]
            C = _covariance(here, points, passed, repeats.period if repeats else 0)
            joint = torch.linalg.cholesky(C)  # its lower right corner is L_b
            K[:, channel] = torch.linalg.solve_triangular(
                joint[..., :m, :m], joint[..., m:, :m], upper=False, left=False
            )
            L[:, channel] = joint[..., m:, m:]
        blocks.append((K, L))
    return VecchiaWhitening(tuple(blocks), points)


def _covariance(a: Tensor, points: tuple[int, int], tau: Tensor | None, period: int) -> Tensor:
    """C of one channel, shape `(cones, rings, los, los)`.

    Arguments:
        a: Amplitudes, shape `(cones, functions, los)`.
        points: Cells across.
        tau: Shape `(cones, bands, los)`, for boxes that repeat.
        period: Their cells.
    """
    depth = a.shape[-1]
    h, of_bands, kappa = _basis(points, period or 2 * max(depth, BLOCK))
    root = torch.einsum("cjz,jrk->crzk", a, h.to(a))  # of P, at each slice
    phase = torch.arange(depth).to(a)[:, None] * kappa.to(a)
    cos, sin = phase.cos(), phase.sin()

    def waves(root: Tensor) -> Tensor:
        both = torch.cat([root * cos, root * sin], dim=-1)
        return both @ both.mT

    if tau is None:  # kappa are fine enough that slices are practically independent of their periodic images
        C = waves(root)
    else:
        C = torch.zeros((*root.shape[:2], depth, depth), dtype=root.dtype, device=root.device)
        for b, h_b in enumerate(of_bands.to(a)):
            same = (tau[:, b, :, None] - tau[:, b, None]).abs().pow(POWER).neg().exp()
            C += same[:, None] * waves(root * h_b.sqrt()[:, None])
    return C + WHITE * torch.eye(depth).to(a)


@lru_cache(maxsize=8)
def _basis(points: tuple[int, int], n: int) -> tuple[Tensor, Tensor, Tensor]:
    """h_j times the root of the weight of kappa, shape `(functions, rings, kappa)`; h_b, shape `(bands, rings, kappa)`;
    and the kappa of n cells."""
    kappa = 2 * math.pi * torch.fft.rfftfreq(n, dtype=torch.float64)
    weight = mode_counts(n) / n
    _, _, across = rings_of(points)
    k_across, k_los = torch.broadcast_tensors(across[:, None], kappa)
    return hats(k_across, k_los) * weight.sqrt(), bands(torch.hypot(k_across, k_los)), kappa


@lru_cache(maxsize=8)
def rings_of(points: tuple[int, int]) -> tuple[Tensor, list[int], Tensor]:
    """Order of the modes of a slice (half-spectrum, flat) by their ring, modes of each ring, and its mean |k| in
    radians a cell."""
    k = wavenumbers(points, half=True)
    number = max(points) * k
    rings = Bins.distinct(torch.where(number < APART, number, nearest_multiple(number).to(k)), apart=1e-3)
    return rings.order, rings.modes.tolist(), 2 * math.pi * rings.mean(k)
