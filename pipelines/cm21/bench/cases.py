"""What bench cm21 compares: reference ensembles, each at one point of the parameters, and how far another one is.

All ensembles of a point are judged by the same figures (`Errors`), and these by the same between random halves of the
reference, scaled to the sizes that are compared: the floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.pipelines.bench.records import Bench
from infield.pipelines.cm21.members import MAX_VOXELS_PER_READ, Members, check_same_grid, members_of
from infield.posterior.cm21.summary import THRESHOLDS, LightconeSummary
from infield.posterior.diagnostics.ensembles import ensemble_error, floor_scaling, halvings, medians_agree
from infield.priors.cm21.gaussian import (
    GaussianLightcones,
    LocalRegression,
    fit_local_regression,
    gaussian_lightcones,
)
from infield.priors.cm21.prior import LightconePrior

MIN_REFERENCE_LIGHTCONES = 8
"""Cones of a reference without which there is no floor."""

BAND = (0.1, 0.5)
"""Wavenumbers of the plain error of the power spectrum, rad/Mpc."""

EDGES = torch.linspace(-400, 100, 51, dtype=torch.float64)
SPLITS = 20
MAX_OFFSET_CELLS = 0.02
"""How far in cells two lines of sight may lie apart that are one."""


@dataclass(frozen=True)
class Case:
    """A point of the parameters that the training has not seen, and the simulator's ensemble there.

    Arguments:
        name: Label of the point.
        point: Parameters by name.
        members: The reference.
        cells: The same line of sight in the prior's.
        seed: Of draws and halvings.
    """

    name: str
    point: dict[str, float]
    members: Members
    cells: slice
    seed: int

    @property
    def chunk(self) -> int:
        """Cells of a chunk of the line of sight."""
        return min(self.members.cones.grid.shape[0], self.members.cones.grid.shape[2])

    @cached_property
    def summary(self) -> LightconeSummary:
        """Of the reference."""
        return self.members.summary(self.chunk, EDGES, lambda cones: None)

    def summary_of(self, draw: Callable[[range], Tensor], n: int) -> LightconeSummary:
        """Of n cones that are drawn by their numbers, `(some, x, y, los)` in mK, on the reference's grid.

        Raises:
            InfieldError: A temperature is not finite.
        """
        dx, dy, dz = self.members.cones.grid.spacing
        step = max(1, MAX_VOXELS_PER_READ // math.prod(self.members.cones.grid.shape))
        parts = []
        for start in range(0, n, step):
            cones = draw(range(start, min(start + step, n))).to(torch.float64)
            if not torch.isfinite(cones).all():
                raise InfieldError(
                    where=self.name, found="NaN or infinity in cones that were drawn", expected="temperatures"
                )
            parts.append(LightconeSummary.of(cones, (dx, dy, dz), self.chunk, EDGES))
        return LightconeSummary.joined(parts)

    def errors(self, reference: LightconeSummary, other: LightconeSummary) -> dict[str, float]:
        """All figures of an ensemble against another one; NaN where nothing is kept.

        MAE_std and MAE_sigma of every summary; `spectrum_rel`, the mean of |eps_rel| of the median Delta^2 over chunks
        and wavenumbers of `BAND`, where Delta^2 is above 1 mK^2, `spectrum_rel_0` and so on for each chunk, and the
        greatest of them, `spectrum_rel_max`;
        `zeros_within`, the share of the slices with an exact zero in any cone whose medians differ by no more than the
        reference scatters, or by one voxel.
        """
        found: dict[str, float] = {}
        for name, threshold in THRESHOLDS.items():
            scores = ensemble_error(getattr(reference, name), getattr(other, name), threshold).scores
            found |= {f"{name}_{score}": value for score, value in scores.items() if score != "MAE_rel"}
        band = (reference.k >= BAND[0]) & (reference.k <= BAND[1])
        relative = ensemble_error(reference.spectrum, other.spectrum, THRESHOLDS["spectrum"]).relative[:, band].abs()
        found["spectrum_rel"] = float(relative.nanmean())
        found["spectrum_rel_max"] = (
            float(relative.nan_to_num(-math.inf).max()) if relative.isfinite().any() else math.nan
        )
        for chunk, row in enumerate(relative):
            found[f"spectrum_rel_{chunk}"] = float(row.nanmean())
        voxel = 1 / math.prod(self.members.cones.grid.shape[:2])
        seen = (reference.zeros > 0).any(0) | (other.zeros > 0).any(0)
        within = medians_agree(reference.zeros, other.zeros, voxel * (1 + 1e-9))[seen]
        found["zeros_within"] = float(within.double().mean()) if len(within) else math.nan
        return found

    @cached_property
    def halves(self) -> list[dict[str, float]]:
        """The same figures between random halves of the reference, of many halvings."""
        generator = Generator().manual_seed(self.seed)
        return [
            self.errors(self.summary.some(one), self.summary.some(two))
            for one, two in halvings(len(self.members.numbers), generator, SPLITS)
        ]

    def judge(self, bench: Bench, method: str, other: LightconeSummary) -> None:
        """Records of an ensemble: its figures, and as multiples of the floor."""
        sizes = (len(self.members.numbers), len(other.zeros))
        self._add(bench, method, self.errors(self.summary, other), floor_scaling(sizes, sizes[0] // 2))

    def judge_simulator(self, bench: Bench, method: str) -> None:
        """Records of one half of the reference against the other: what chance makes of the floor; `zeros_within` is
        the mean over halvings."""
        within = sum(found["zeros_within"] for found in self.halves) / len(self.halves)
        self._add(bench, method, {**self.halves[0], "zeros_within": within}, 1.0)

    def _add(self, bench: Bench, method: str, errors: dict[str, float], scale: float) -> None:
        for name, value in errors.items():
            if math.isnan(value):
                continue
            bench.add(self.name, method, name, value)
            chance = [found[name] for found in self.halves if not math.isnan(found[name])]
            if name == "zeros_within" or not chance:
                continue
            expected = scale * sum(chance) / len(chance)
            bench.add(self.name, method, f"{name}_floor", expected)
            if expected > 0:
                bench.add(self.name, method, f"{name.removesuffix('_MAE_std')}_floors", value / expected)


@dataclass(frozen=True)
class Training:
    """The simulator's cones that a prior was trained on, as inputs of a regression.

    Arguments:
        members: All of them.
        names: Of the prior's parameters.

    Raises:
        InfieldError: The file lacks one of the parameters.
    """

    members: Members
    names: Sequence[str]

    def __post_init__(self) -> None:
        lacking = sorted(set(self.names) - set(self.members.cones.parameters))
        if lacking:
            raise InfieldError(
                where=self.members.path,
                found=f"no parameter {lacking[0]}",
                expected=f"those of the prior, {', '.join(self.names)}",
            )

    @cached_property
    def means(self) -> Tensor:
        """Sky means in mK, shape `(cones, los)`.

        Raises:
            InfieldError: A temperature is not finite.
        """
        means = torch.cat([self.members.block(i, i + 1).mean((1, 2)) for i in range(len(self.members.numbers))])
        whole = torch.isfinite(means).all(1)
        if not whole.all():
            raise InfieldError(
                where=self.members.path,
                found=f"NaN or infinity in cone {int(whole.int().argmin())}",
                expected="finite temperatures",
            )
        return means

    @cached_property
    def regression(self) -> LocalRegression:
        parameters = [self.members.cones.parameters[name] for name in self.names]
        return fit_local_regression(torch.from_numpy(np.stack(parameters, axis=1)), self.means)

    def gaussian(self, point: dict[str, float]) -> GaussianLightcones:
        """The Gaussian law at a point."""
        at = torch.tensor([point[name] for name in self.names], dtype=torch.float64)
        return gaussian_lightcones(self.regression, self.means, lambda i: self.members.block(i, i + 1)[0], at)


def open_cases(
    paths: Sequence[Path], training: Members, prior: LightconePrior, most: int | None, seed: int
) -> list[Case]:
    """The cases behind files of reference ensembles.

    Arguments:
        paths: One file a point.
        training: Cones of simulations; on the same grid.
        prior: What is judged; it holds the line of sight.
        most: Members that are read; None for all.
        seed: That of the first case; the others' follow.

    Raises:
        InfieldError: A file is none, of another grid, of fewer than eight cones, or not of one point.
    """
    cases = []
    for i, path in enumerate(paths):
        members = members_of(path, None, "--reference")
        if len(members.numbers) < MIN_REFERENCE_LIGHTCONES:
            raise InfieldError(
                where=path,
                found=f"{len(members.numbers)} cones",
                expected=f"at least {MIN_REFERENCE_LIGHTCONES}: without halves of them there is no floor",
            )
        members = replace(members, numbers=members.numbers[:most])
        check_same_grid(training, members)
        point = {}
        for name, (low, high) in members.parameters.items():
            if low != high:
                raise InfieldError(
                    where=path,
                    found=f"{name} {low:g} to {high:g}",
                    expected="one value: a reference is an ensemble of one point of the parameters",
                )
            point[name] = low
        try:
            prior.theta(point)
        except InfieldError as error:
            raise error.within(path) from error
        words = ", ".join(f"{name} {value:g}" for name, value in point.items())
        cases.append(Case(f"{i}: {words}", point, members, _cells(path, prior, members), seed + i))
    return cases


def _cells(path: Path, prior: LightconePrior, members: Members) -> slice:
    """The part of the prior's line of sight that a file has."""
    grid = members.cones.grid
    distance = np.array(grid.axes[2].coordinates)
    first = int(np.abs(prior.distance - distance[0]).argmin())
    cells = slice(first, first + len(distance))
    known = prior.distance[cells]
    same = len(known) == len(distance) and np.abs(known - distance).max() <= MAX_OFFSET_CELLS * prior.cell
    if not same or not np.allclose(grid.spacing[:2], prior.cell, rtol=1e-3):
        raise InfieldError(
            where=path,
            found=f"cells of {grid.spacing[0]:g} Mpc from {distance[0]:.1f} to {distance[-1]:.1f} Mpc",
            expected=(
                f"cells of {prior.cell:g} Mpc from {prior.distance[0]:.1f} to {prior.distance[-1]:.1f} Mpc or a part "
                "of them, what the prior was trained on"
            ),
        )
    return cells
