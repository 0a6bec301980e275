r"""A network of patches, as a velocity on domains of any size: patch-additive flow matching.

"Patched Flow Matching: Generative Wall-Pressure Reconstruction Beyond Training-Domain Scales from Sparse Sensors"
(arXiv:2606.22084); the partition with a moving offset is that of PaDIS (Hu et al. 2024, arXiv:2406.02462), the weighted
average of overlapping patches that of MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113). With R_r the restriction
to patch r and w_r weights that add up to 1 at every point,

.. math:: F(x, t) = \sum_r R_r^T \big( w_r \cdot f(R_r x, t) \big).

| paper | here |
| --- | --- |
| non-overlapping patches, a new random offset at every step | mode `shift`: the offset is a fixed function of t |
| | mode `overlap`: a fixed lattice with smooth weights, no randomness |
| coordinate channels, inner-scaled | none: the law is the same everywhere, and the spacing in wall units is fixed |

The offset of `shift` depends on t and nothing else, so that a sample still depends on seed and number alone. Over many
times it is uniform: the average over offsets is a field without a lattice. Training uses `shift` whatever the mode,
since there each field is then seen about once.

The network must not be periodic on its patches. Patches go through it a bounded number at a time, so that what it needs
for itself does not grow with the domain.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from infield.core.errors import InfieldError

Mode = Literal["overlap", "shift"]

MAX_VALUES_PER_CALL_CPU, MAX_VALUES_PER_CALL_GPU = 2**16, 2**22
"""Maximum number of values of patches per network call, on a CPU, where more is not faster, and elsewhere."""

_TICKS = 2**32
"""Resolution in time of the offset of `shift`."""

_AxisPatches = tuple[Tensor, Tensor]
_Pack = tuple[int, Tensor, Tensor, Tensor, Tensor]


class Patched(nn.Module):
    """Fields `(batch, channel, *space)` of any size and times `(batch,)` to fields of the same shape.

    Arguments:
        network: f, for patches; made for their channels and axes, and not periodic.
        patch: Points of a patch along each axis.
        overlap: Number of points by which neighbouring patches overlap, in mode `overlap`; at most half a patch.
        mode: How domains are cut into patches when the network is used; `shift` in training.
        periodic: Whether each axis of the domain is periodic. Training takes it from the data.
        origin: Where the first point of the domain lies on the lattice of patches, so that parts of one domain share
            its patches.
        seed: Seed of the offsets.
    """

    def __init__(
        self,
        network: nn.Module,
        patch: Sequence[int],
        overlap: Sequence[int] | None = None,
        mode: Mode = "overlap",
        periodic: Sequence[bool] | None = None,
        origin: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        ndim = len(patch)
        overlap = [n // 4 for n in patch] if overlap is None else list(overlap)
        periodic = [True] * ndim if periodic is None else list(periodic)
        origin = [0] * ndim if origin is None else list(origin)
        if mode not in get_args(Mode):
            raise InfieldError(
                where="patched network", found=f"mode {mode!r}", expected=f"one of {', '.join(get_args(Mode))}"
            )
        if not len(overlap) == len(periodic) == len(origin) == ndim or any(
            n < 1 or not 0 <= shared <= n // 2 for n, shared in zip(patch, overlap, strict=False)
        ):
            raise InfieldError(
                where="patched network",
                found=f"patches of {list(patch)} points with overlaps {overlap}",
                expected="one number an axis, and overlaps of at most half a patch",
            )
        if getattr(network, "periodic", False):
            raise InfieldError(
                where="patched network",
                found=f"a {type(network).__name__} that is periodic on its patches",
                remedy="set `periodic: false` in it",
            )
        self.inner, self.mode, self.seed = network, mode, seed
        self.patch, self.overlap, self.periodic = tuple(patch), tuple(overlap), tuple(periodic)
        self.origin = tuple(origin)

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments but the network, in plain types."""
        plain = {name: list(getattr(self, name)) for name in ("patch", "overlap", "periodic", "origin")}
        return {**plain, "mode": self.mode, "seed": self.seed}

    def covering(self, periodic: Sequence[bool], origin: Sequence[int]) -> Patched:
        """The same weights on another domain."""
        other = copy.copy(self)
        other.periodic, other.origin = tuple(periodic), tuple(origin)
        return other

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """F(x, t), shape of `x`.

        Raises:
            InfieldError: The domain is smaller than a patch along a non-periodic axis.
        """
        space = x.shape[2:]
        for n, size, wraps in zip(space, self.patch, self.periodic, strict=True):
            if n < size and not wraps:
                raise InfieldError(
                    where="patched network",
                    found=f"a field of {' x '.join(map(str, space))} points",
                    expected=f"at least the patch, {' x '.join(map(str, self.patch))}, along axes that do not close",
                )
        if self.mode == "overlap" and not self.training:
            groups = [(slice(None), self._lattice(space, None))]
        else:  # fields of one time share a lattice
            times = [list(group) for _, group in itertools.groupby(range(len(t)), t.tolist().__getitem__)]
            groups = [(slice(g[0], g[-1] + 1), self._lattice(space, self._offset(float(t[g[0]])))) for g in times]
        parts = [torch.zeros_like(x[fields].flatten(2)) for fields, _ in groups]
        for some in self._packs(x, t, groups):
            learned = self.inner(torch.cat([seen for *_, seen, _ in some]), torch.cat([time for *_, time in some]))
            patches = learned.to(x.dtype).split([len(seen) for *_, seen, _ in some])
            for (g, places, weights, *_), f in zip(some, patches, strict=True):
                weighted = f.unflatten(0, (len(parts[g]), -1)).movedim(1, 2) * weights
                parts[g].index_add_(2, places, weighted.flatten(2))
        return torch.cat(parts).reshape(x.shape)

    def _packs(self, x: Tensor, t: Tensor, groups: list[tuple[slice, list[_AxisPatches]]]) -> Iterator[list[_Pack]]:
        """Patches of one network call: index of the group, positions, weights, values, times.

        Outside of training their number is bounded, and they are generated on demand.
        """
        limit = (
            math.inf
            if self.training
            else MAX_VALUES_PER_CALL_CPU
            if x.device.type == "cpu"
            else MAX_VALUES_PER_CALL_GPU
        )
        waiting: list[_Pack] = []
        for g, (fields, lattice) in enumerate(groups):
            flat, times = x[fields].flatten(2), t[fields]
            every = list(itertools.product(*(range(len(points)) for points, _ in lattice)))
            few = min(max(int(min(limit, 2**40) // (flat[:, :, 0].numel() * math.prod(self.patch))), 1), len(every))
            for some in (every[i : i + few] for i in range(0, len(every), few)):
                places, weights = self._places(lattice, some, x.shape[2:])
                places, weights = places.flatten().to(x.device), weights.to(x)
                seen = flat[:, :, places].unflatten(2, (len(some), *self.patch)).movedim(2, 1).flatten(0, 1)
                waiting.append((g, places, weights, seen, times.repeat_interleave(len(some))))
                if sum(pack[3].numel() for pack in waiting) >= limit:
                    yield waiting
                    waiting = []
        if waiting:
            yield waiting

    def _places(
        self, lattice: list[_AxisPatches], patches: list[tuple[int, ...]], space: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Flat indices of the points of some patches, and their weights, both `(patches, *patch)`."""
        places, weights = torch.zeros((), dtype=torch.long), torch.ones((), dtype=torch.float64)
        for axis, (points, window) in enumerate(lattice):
            rows = [index[axis] for index in patches]
            view = (len(patches), *[-1 if a == axis else 1 for a in range(len(lattice))])
            places = places * space[axis] + points[rows].reshape(view)
            weights = weights * window[rows].reshape(view)
        return places, weights

    def _offset(self, t: float) -> list[int]:
        """A point of a patch for each time, all points alike."""
        draws = np.random.SeedSequence([self.seed, round(t * _TICKS)]).generate_state(len(self.patch))
        return [int(draw) % n for draw, n in zip(draws, self.patch, strict=True)]

    def _lattice(self, space: Sequence[int], offset: Sequence[int] | None) -> list[_AxisPatches]:
        """For each axis the points of each patch and their weights; with an offset, without overlap.

        The lattice is regular; on a periodic axis the last patch overlaps the first one by the remainder.
        """
        axes = []
        for axis, (n, size, wraps) in enumerate(zip(space, self.patch, self.periodic, strict=True)):
            shared = self.overlap[axis] if offset is None else 0
            stride = size - shared
            first = ((0 if offset is None else offset[axis]) - self.origin[axis]) % stride
            if wraps:
                starts = list(range(first, first + n, stride))
            else:
                starts = sorted({min(max(start, 0), n - size) for start in range(first - stride, n, stride)})
            points = (torch.tensor(starts)[:, None] + torch.arange(size)) % n
            window = _window(size, shared).expand(len(starts), size)
            total = torch.zeros(n, dtype=window.dtype).index_add(0, points.flatten(), window.flatten())
            axes.append((points, window / total[points]))
        return axes


def _window(size: int, shared: int) -> Tensor:
    """Weights along an axis: 1 where a patch is alone, falling smoothly to both ends where it shares points."""
    if shared == 0:
        return torch.ones(size, dtype=torch.float64)
    distance = torch.minimum(torch.arange(size), size - 1 - torch.arange(size)).to(torch.float64) + 0.5
    return torch.sin(math.pi / 2 * (distance / shared).clamp_max(1)).square()
