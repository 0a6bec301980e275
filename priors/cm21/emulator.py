r"""Lightcones in one network call, from the initial density of a simulation.

A simulator maps a Gaussian field :math:`\delta`, its initial conditions, and parameters to a lightcone. The map can be
learned from pairs (`priors.cm21.emulator_training`) and evaluated at other :math:`\delta`, drawn from their
distribution (`priors.cm21.initial_density`). The initial conditions are the only random input of a simulation, so that
draws are as random as simulations, and one seed is one universe at all parameters. The network N
(`priors.cm21.density_network`) gives, for each point,

.. math:: (x, \ell) = N(\delta; \theta, s), \qquad T = \mu_T(\theta, s) + \sigma_T(\theta, s) \, x
    \text{ where neutral, else } 0,

with the mean and standard deviation of slices from `priors.cm21.slice_statistics`, and :math:`1 / (1 + e^{-\ell})` the
probability that a point is ionised. In every slice, the expected number of points is ionised, the most probable ones.

Slice i of the line of sight lies in slice i of the periodically repeated box, as in the simulator's lightcones.
Whatever depends on parameters alone is computed once per ensemble.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.priors.cm21.density_network import UNSHUFFLE, DensityNetwork
from infield.priors.cm21.initial_density import InitialDensity
from infield.priors.cm21.slice_statistics import SliceStatistics
from infield.priors.cm21.voxel_transform import FAINTEST, VoxelTransform

STRETCH = 512
"""Slices per network call, in addition to its receptive radius on both sides."""

HALO = 8
"""Slices of the repeated box beyond the ends of the line of sight that are added to the input; in training, beyond both
ends of a window."""

WAVES = 7
"""Octaves of the position among the conditioning numbers, down to 1/64 of the line of sight: simulators advance in
steps of redshift, at which the ionised regions jump."""

MAX_MU_OVER_SIGMA = 5.0
"""Bound of mu / sigma among the conditioning numbers: the distance of a slice's mean from the threshold."""


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """The emulator as a checkpoint stores it.

    Arguments:
        network: N.
        density: Distribution of the initial conditions.
        provenance: Record of the training, in JSON types.
    """

    network: DensityNetwork
    density: InitialDensity
    provenance: Mapping[str, Any]

    def to(self, device: torch.device | str) -> Emulator:
        return replace(self, network=self.network.to(device))


@dataclass(frozen=True)
class Conditions:
    """Conditioning numbers of slices, with their mean and standard deviation.

    Arguments:
        conditioning: Numbers of cells of 2 slices, shape `(batch, numbers, los / 2)`: parameters, position and its
            waves, mean, log standard deviation, and mean over standard deviation.
        mu, sigma: Mean and standard deviation of the temperature in mK, shape `(batch, los)`.
    """

    conditioning: Tensor
    mu: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, theta: Tensor, s: Tensor, statistics: SliceStatistics, transform: VoxelTransform) -> Conditions:
        """Of parameters in [0, 1], `(batch, parameters)`, and places, `(batch, los)`, beyond whose ends 0 and 1 nothing
        changes any more."""
        s = s.clamp(0, 1)
        mu, sigma = statistics(theta, s)
        phase = 2 * math.pi * s[:, None] * 2 ** torch.arange(WAVES, device=s.device)[:, None]
        place = [2 * s[:, None] - 1, phase.sin(), phase.cos()]
        slices = torch.cat([*place, mu, sigma.log(), (mu / sigma).clamp(-MAX_MU_OVER_SIGMA, MAX_MU_OVER_SIGMA)], dim=1)
        cells = slices.unflatten(-1, (-1, UNSHUFFLE)).mean(-1)
        conditioning = torch.cat([2 * theta[..., None].expand(-1, -1, cells.shape[-1]) - 1, cells], dim=1)
        unit = transform.scale / transform.amplitude
        return cls(conditioning, transform.mean + unit * mu[:, 0], unit * sigma[:, 0])

    @staticmethod
    def numbers(parameters: int, channels: int) -> int:
        """Number of conditioning numbers per cell."""
        return parameters + 1 + 2 * WAVES + 3 * channels


class ConditionedEmulator:
    """An emulator at one point of parameters, on one part of the line of sight.

    Arguments:
        emulator: The trained emulator.
        theta: Parameters in [0, 1], shape `(parameters,)`.
        statistics, transform: Those of its prior.
        cells: Cells of the line of sight.
        depth: Cells of the whole line of sight.
        points: Across.

    Raises:
        InfieldError: x or y is no multiple of the network's coarsest cell.
    """

    def __init__(
        self,
        emulator: Emulator,
        theta: Tensor,
        statistics: SliceStatistics,
        transform: VoxelTransform,
        cells: range,
        depth: int,
        points: tuple[int, int],
    ) -> None:
        network, self.density, self.points, self.cells = emulator.network, emulator.density, points, cells
        if any(n % network.multiple for n in points):
            raise InfieldError(
                where="lightcones",
                found=f"{points[0]} x {points[1]} cells across",
                expected=f"multiples of {network.multiple}",
            )
        self.reach, self.multiple = network.reach, network.multiple
        place = next(network.parameters()).device
        self.half = copy.deepcopy(network)
        if place.type == "cuda":  # processors without bfloat16 of their own take ten times longer in it
            self.half = self.half.bfloat16()
        self.depth, (self.first, end) = depth, self._shown(cells, depth)
        s = torch.arange(self.first, end, device=place) / max(depth - 1, 1)
        conditions = Conditions.of(theta[None].float().to(place), s[None], statistics, transform)
        self.said = network.film_parameters(conditions.conditioning)
        inside = slice(cells.start - self.first, cells.stop - self.first)
        self.mu, self.sigma = (part[0, inside, None, None] for part in (conditions.mu, conditions.sigma))

    def _shown(self, cells: range, depth: int) -> tuple[int, int]:
        """Return the input of the network for some slices, with its receptive field, in whole coarsest cells."""
        low, high = max(cells.start - self.reach, -HALO), min(cells.stop + self.reach, depth + HALO)
        return low // self.multiple * self.multiple, -(-high // self.multiple) * self.multiple

    def draw(self, generator: Generator, n: int = 1) -> Tensor:
        """Lightcones `(n, x, y, los)` in mK, float32, exactly 0 where ionised."""
        return torch.stack([self.of(self.density.draw(self.points, generator)) for _ in range(n)])

    @torch.no_grad()
    def of(self, box: Tensor) -> Tensor:
        """The lightcone `(x, y, los)` of initial conditions in standard deviations, `(los, x, y)`."""
        x, logit = self.values(box)
        temperature = zero_likely_ionised(x.mul_(self.sigma).add_(self.mu), logit)
        return temperature.flatten(1).T.contiguous().unflatten(0, self.points)  # faster than moving an axis

    def values(self, box: Tensor) -> tuple[Tensor, Tensor]:
        """x and l of the requested cells, `(los, x, y)`, segment by segment, each with the slices beyond it that are
        in the receptive field."""
        seen = self.half.encode(self.density.view(box[None]).to(self.mu.device))[0]
        depth, (nx, ny) = len(self.cells), self.points
        made = torch.empty((2, depth, nx, ny), device=self.mu.device)
        of_slices = [2 * (self.said[0].shape[-1] // part.shape[-1]) for part in self.said]
        for start in range(self.cells.start, self.cells.stop, STRETCH):
            stop = min(start + STRETCH, self.cells.stop)
            low, high = self._shown(range(start, stop), self.depth)
            where = torch.arange(low // UNSHUFFLE, high // UNSHUFFLE) % len(seen)
            low_here, high_here = low - self.first, high - self.first
            said = [part[..., low_here // m : high_here // m] for part, m in zip(self.said, of_slices, strict=True)]
            found = self.half(seen[where][None], said)[0]
            made[:, start - self.cells.start : stop - self.cells.start] = found[:, start - low : stop - low]
        x, logit = made
        return x, logit


def zero_likely_ionised(temperature: Tensor, logit: Tensor) -> Tensor:
    """Temperatures, exactly 0 in as many points of each slice as are expected to be ionised, the most likely ones, and
    `FAINTEST` in the place of other zeros.

    Arguments:
        temperature: In mK, shape `(los, x, y)`.
        logit: Logit of the probability of being ionised, same shape.
    """
    _, nx, ny = logit.shape
    expected = torch.sigmoid(logit).sum((1, 2)).round().long()
    ascending = torch.from_numpy(np.sort(logit.flatten(1).numpy(force=True))).to(logit)  # numpy: twenty times faster
    last = ascending.gather(1, (nx * ny - expected).clamp_max(nx * ny - 1)[:, None])
    ionised = (logit >= last[:, :, None]) & (expected > 0)[:, None, None]
    neutral = torch.where(temperature == 0, FAINTEST, temperature)
    return torch.where(ionised, 0.0, neutral)


def to_entry(emulator: Emulator) -> dict[str, Any]:
    """Return the checkpoint entry."""
    law = emulator.density
    return {
        "network": emulator.network.arguments,
        "weights": {name: value.detach().cpu() for name, value in emulator.network.state_dict().items()},
        "density": {"log_k": law.log_k, "log_a": law.log_a, "finer": law.finer, "points": law.points},
        "provenance": dict(emulator.provenance),
    }


def from_entry(entry: Mapping[str, Any]) -> Emulator:
    """The inverse of `to_entry`."""
    network = DensityNetwork(**entry["network"])
    network.load_state_dict(dict(entry["weights"]))
    law = entry["density"]
    return Emulator(
        network=network.eval().requires_grad_(False),
        density=InitialDensity(law["log_k"].float(), law["log_a"].float(), int(law["finer"]), int(law["points"])),
        provenance=entry["provenance"],
    )
