"""All diagnostics of an ensemble of lightcones, and two ensembles beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from infield.posterior.cm21.cone_statistics import (
    SpectrumBins,
    chunks,
    fully_ionised_fraction,
    global_signal,
    voxel_density,
)
from infield.posterior.cm21.scattering import Scattering
from infield.posterior.diagnostics.ensembles import EnsembleError, Floor, bootstrap_band, ensemble_error, floor

IMAGES = 8
"""Slices of a chunk whose scattering coefficients are averaged, evenly spread."""

THRESHOLDS = {"global_signal": 1.0, "zeros": 0.0, "spectrum": 1.0, "cylindrical": 0.0, "scattering": 0.0}
"""Below which a bin is not kept: mK, share, mK^2, mK^2 Mpc^3, mK."""

OF_MEMBERS = ("global_signal", "zeros", "density", "spectrum", "cylindrical", "scattering")
"""Parts of a summary, one row a cone."""


@dataclass(frozen=True)
class LightconeSummary:
    """Summaries of cones, the members first.

    Arguments:
        global_signal: mK, shape `(n, los)`.
        zeros: Share of exact zeros of each slice, shape `(n, los)`.
        density: Of temperatures that are not 0, share per mK, shape `(n, bins)`.
        spectrum: Delta^2 in mK^2, shape `(n, chunks, k)`.
        cylindrical: P in mK^2 Mpc^3, shape `(n, chunks, k_perp, k_par)`.
        scattering: S_1 and reduced S_2 in mK, shape `(n, chunks, coefficients)`.
        k, k_perp, k_par: Their wavenumbers in rad/Mpc.
    """

    global_signal: Tensor
    zeros: Tensor
    density: Tensor
    spectrum: Tensor
    cylindrical: Tensor
    scattering: Tensor
    k: Tensor
    k_perp: Tensor
    k_par: Tensor

    @classmethod
    def of(
        cls, cones: Tensor, spacing: tuple[float, float, float], cells: int, edges: Tensor, *, scales: int | None = None
    ) -> LightconeSummary:
        """Of cones `(n, x, y, los)` in mK.

        Arguments:
            cones: Float64.
            spacing: Of cells in Mpc.
            cells: Of the line of sight in a chunk, at most its depth.
            edges: Of the bins of temperature, mK.
            scales: Octaves of the scattering transform; None for all that a chunk has, less the longest.
        """
        _, nx, ny, depth = cones.shape
        scales = max(1, int(math.log2(min(nx, cells))) - 1) if scales is None else scales
        shells = SpectrumBins((nx, ny, cells), spacing)
        transform = Scattering((nx, cells), scales)
        spectra, cylinders, coefficients = [], [], []
        k = k_perp = k_par = torch.empty(0)
        for part in chunks(depth, cells):
            chunk = cones[..., part]
            power = shells.power(chunk)
            k, delta = shells.spherical(power)
            k_perp, k_par, cylinder = shells.cylindrical(power)
            images = chunk[:, :, :: max(1, ny // IMAGES)].movedim(2, 1)
            first, second = transform(images.flatten(0, 1))
            both = torch.cat([first, second.flatten(1)], dim=1).unflatten(0, images.shape[:2]).mean(1)
            spectra.append(delta)
            cylinders.append(cylinder)
            coefficients.append(both)
        return cls(
            global_signal(cones),
            fully_ionised_fraction(cones),
            voxel_density(cones, edges),
            torch.stack(spectra, 1),
            torch.stack(cylinders, 1),
            torch.stack(coefficients, 1),
            k,
            k_perp,
            k_par,
        )

    @classmethod
    def joined(cls, parts: Sequence[LightconeSummary]) -> LightconeSummary:
        """Of several batches of cones of one grid."""
        found = {name: torch.cat([getattr(part, name) for part in parts]) for name in OF_MEMBERS}
        return cls(**found, k=parts[0].k, k_perp=parts[0].k_perp, k_par=parts[0].k_par)

    def some(self, numbers: Tensor) -> LightconeSummary:
        """Of some members, by their numbers."""
        return replace(self, **{name: getattr(self, name)[numbers] for name in OF_MEMBERS})


@dataclass(frozen=True)
class Comparison:
    """How far an ensemble is from a reference in one summary.

    Arguments:
        error: Bin by bin.
        floor: What it would be for the same law; None of fewer than eight reference members.
        band: 68 % bootstrap band of eps_std, bin by bin.
        score_band: The same of MAE_std.
    """

    error: EnsembleError
    floor: Floor | None
    band: tuple[Tensor, Tensor]
    score_band: tuple[float, float]


def compare(
    reference: LightconeSummary, other: LightconeSummary, generator: Generator, *, draws: int = 100
) -> dict[str, Comparison]:
    """Every summary of `THRESHOLDS` by name.

    Arguments:
        reference, other: Of at least two members each.
        generator: Of the halvings and resamplings.
        draws: Resamplings of a band.
    """
    found = {}
    for name, threshold in THRESHOLDS.items():
        y_0, y_1 = getattr(reference, name), getattr(other, name)

        def standard(a: Tensor, b: Tensor, threshold: float = threshold) -> Tensor:
            return ensemble_error(a, b, threshold).standard

        def score(a: Tensor, b: Tensor, threshold: float = threshold) -> Tensor:
            return ensemble_error(a, b, threshold).standard.abs().nanmean()

        low, high = bootstrap_band(score, y_0, y_1, generator, draws=draws)
        enough = len(y_0) >= 8
        found[name] = Comparison(
            error=ensemble_error(y_0, y_1, threshold),
            floor=floor(y_0, threshold, generator, sizes=(len(y_0), len(y_1))) if enough else None,
            band=bootstrap_band(standard, y_0, y_1, generator, draws=draws),
            score_band=(float(low), float(high)),
        )
    return found
