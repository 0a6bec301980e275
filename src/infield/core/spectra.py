"""Wavenumbers of the modes of a discrete Fourier transform, and the modes sorted into bins of |k|.

*Units.* Wavenumbers are in cycles per unit of the spacing, or in radians per unit where `radians` is true. Without
a spacing the unit is a cell, so that the Nyquist wavenumber is 1/2 cycle or pi radians.

*Modes.* All modes of `torch.fft.fftn` in its order, or the half-spectrum of `torch.fft.rfftn`. A mode of the
half-spectrum stands for itself and for its mirror image (`mode_counts`).

*k = 0.* The constant mode is a mode like any other: it lies in the bin that holds wavenumber 0, which is bin 0 of
`nearest`, and in no bin of `between` whose first edge is above 0.

*Edges.* Wavenumbers of a grid often lie on an edge exactly (k = 4 in bins of width 2) but for rounding, which differs
between processors. Values within `margin` of an edge count as on the edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def margin(dtype: torch.dtype) -> float:
    """Relative difference below which two wavenumbers of this precision count as the same."""
    return 1e-9 if dtype == torch.float64 else 1e-5


def wave_axes(
    shape: Sequence[int],
    spacing: Sequence[float] | None = None,
    *,
    half: bool = False,
    radians: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, ...]:
    """Signed wavenumbers along each axis, which broadcast against each other to the shape of the modes.

    Arguments:
        shape: Points along each axis.
        spacing: Distances between neighbouring points; 1 by default.
        half: Modes of `torch.fft.rfftn`, of which the last axis holds `n // 2 + 1`.
        radians: Radians per unit in place of cycles per unit.
        dtype: Precision of the result.
        device: Device of the result.
    """
    axes = []
    for axis, (n, h) in enumerate(zip(shape, spacing or [1.0] * len(shape), strict=True)):
        frequencies = torch.fft.rfftfreq if half and axis == len(shape) - 1 else torch.fft.fftfreq
        k = frequencies(n, h, dtype=dtype, device=device) * (2 * math.pi if radians else 1.0)
        axes.append(k.reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    return tuple(axes)


def wavenumbers(
    shape: Sequence[int],
    spacing: Sequence[float] | None = None,
    *,
    half: bool = False,
    radians: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Tensor:
    """|k| of every mode; arguments as of `wave_axes`. Shape `shape`, with `n // 2 + 1` last in a half-spectrum."""
    axes = wave_axes(shape, spacing, half=half, radians=radians, dtype=dtype, device=device)
    return torch.stack(torch.broadcast_tensors(*(k.square() for k in axes))).sum(0).sqrt()


def mode_counts(n: int) -> Tensor:
    """Number of modes of the whole spectrum that a mode of the half-spectrum represents.

    It is 1 where a mode is its own mirror image (k = 0 and Nyquist) and 2 elsewhere.

    Arguments:
        n: Points along the last axis.

    Returns:
        Counts along the last axis of the half-spectrum, shape `(n // 2 + 1,)`, float64.
    """
    count = torch.full((n // 2 + 1,), 2.0, dtype=torch.float64)
    count[0] = 1
    if n % 2 == 0:
        count[-1] = 1
    return count


def nearest_multiple(k: Tensor, step: float = 1.0) -> Tensor:
    """The integer nearest to k / step, int64; of two equally near ones the even one, whatever the rounding of k."""
    digits = -round(math.log10(margin(k.dtype)))
    return (k / step).round(decimals=digits).round().long()


@dataclass(frozen=True)
class Bins:
    """Modes sorted into bins.

    Arguments:
        index: Bin of each mode, shape of the modes, int64; -1 for a mode outside all bins.
        count: Number of bins; a bin may hold no mode.
    """

    index: Tensor
    count: int

    @classmethod
    def nearest(cls, k: Tensor, step: float, count: int | None = None) -> Bins:
        """Bins of one width, centred on the multiples of it: bin i holds (i - 1/2) step < k < (i + 1/2) step.

        Arguments:
            k: Wavenumbers >= 0 of the modes, any shape.
            step: Width of a bin.
            count: Number of bins from bin 0 (around k = 0) on; all that hold modes by default.
        """
        index = nearest_multiple(k, step)
        count = int(index.max()) + 1 if count is None else count
        return cls(torch.where(index < count, index, -1), count)

    @classmethod
    def between(cls, k: Tensor, edges: Tensor, *, closed: str = "left") -> Bins:
        """Bins between ascending edges: bin i holds `edges[i] <= k < edges[i + 1]`.

        Arguments:
            k: Wavenumbers >= 0 of the modes, any shape.
            edges: Shape `(bins + 1,)`, in the units of `k`.
            closed: "left"; "right" for `edges[i] < k <= edges[i + 1]`; "both" is "left" with the last edge included.
        """
        edges = edges.to(k)
        shifted = edges * (1 + margin(k.dtype) if closed == "right" else 1 - margin(k.dtype))
        if closed == "both":
            shifted[-1] = edges[-1] * (1 + margin(k.dtype))
        index = torch.bucketize(k, shifted, right=closed != "right") - 1
        return cls(torch.where(index < len(edges) - 1, index, -1), len(edges) - 1)

    @classmethod
    def distinct(cls, k: Tensor, *, apart: float = 1e-9) -> Bins:
        """A bin for each value of k, ascending; no bin is empty.

        Arguments:
            k: Wavenumbers of the modes, any shape.
            apart: Neighbouring values that differ by no more than this count as one.
        """
        values, index = torch.unique(k, return_inverse=True)
        number = torch.cat([torch.zeros(1, dtype=torch.int64), (values.diff() > apart).long().cumsum(0)])
        return cls(number[index], int(number[-1]) + 1)

    @cached_property
    def modes(self) -> Tensor:
        """Number of modes in each bin, shape `(bins,)`, int64."""
        return torch.bincount(self.index[self.index >= 0], minlength=self.count)

    @cached_property
    def order(self) -> Tensor:
        """Flat indices of the modes by their bin, in the order of the modes within each; shape `(modes inside,)`."""
        order = self.index.flatten().argsort(stable=True)
        return order[self.index.flatten()[order] >= 0]

    def without_empty(self) -> Bins:
        """The same bins less those that hold no mode."""
        number = torch.cumsum(self.modes > 0, 0) - 1
        return Bins(torch.where(self.index >= 0, number[self.index], -1), int((self.modes > 0).sum()))

    def sum(self, values: Tensor, *, empty: float = 0.0) -> Tensor:
        """Sums over the modes of each bin.

        Arguments:
            values: A value of each mode, shape `(*batch, *modes)`.
            empty: Result in a bin that holds no mode.

        Returns:
            Shape `(*batch, bins)`, the dtype and device of `values`.
        """
        index = self.index.flatten().to(values.device)
        batch = values.shape[: values.ndim - self.index.ndim]
        inside = index >= 0
        flat = values.reshape(-1, index.numel())[:, inside]
        total = flat.new_zeros(len(flat), self.count).index_add(1, index[inside], flat)
        if empty != 0:
            total[:, self.modes.to(total.device) == 0] = empty
        return total.reshape(*batch, self.count)

    def mean(self, values: Tensor, *, weights: Tensor | None = None, empty: float = math.nan) -> Tensor:
        """Means over the modes of each bin; arguments and result as of `sum`.

        Arguments:
            values: A value of each mode, shape `(*batch, *modes)`.
            weights: Weights of the modes, shape of the modes (`mode_counts` for a half-spectrum); 1 by default.
            empty: Result in a bin that holds no mode.
        """
        if weights is None:
            return self._filled(self.sum(values) / self.modes.to(values.device).clamp_min(1), empty)
        weights = weights.to(values)
        return self._filled(self.sum(weights * values) / self.sum(weights).where(self.modes > 0, 1), empty)

    def _filled(self, values: Tensor, empty: float) -> Tensor:
        return torch.where(self.modes.to(values.device) > 0, values, empty)
