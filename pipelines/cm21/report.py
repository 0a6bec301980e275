"""Two ensembles of lightcones in pictures: slices, global signal, zeros, voxel law, spectra, scattering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from infield.datasets.cm21.lightcone_file import Lightcones
from infield.pipelines.report.canvas import INK, MEAN, TRUTH, WIDTH, Scale, label_axes, picture
from infield.pipelines.report.charts import as_picture
from infield.pipelines.report.page import Picture
from infield.posterior.cm21.summary import Comparison, LightconeSummary
from infield.posterior.diagnostics.ensembles import median_and_spread

LENGTH, SHOWN = r"Mpc$^{-1}$", 4
"""Units of wavenumbers, and how many chunks are pictured: evenly spread from the first to the last."""


@dataclass(frozen=True)
class Ensemble:
    """An ensemble as pictures need it.

    Arguments:
        name: In legends.
        cones: The metadata of its file.
        summary: Its summaries.
        example: One cone in mK, `(x, y, los)`.
    """

    name: str
    cones: Lightcones
    summary: LightconeSummary
    example: np.ndarray


def lightcone_pictures(
    first: Ensemble, second: Ensemble, found: dict[str, Comparison], cells: int, edges: Tensor
) -> list[Picture]:
    """All pictures of a comparison.

    Arguments:
        first: The reference.
        second: What is compared with it.
        found: The comparison.
        cells: Of a chunk.
        edges: Of the bins of temperature, mK.
    """
    both = (first, second)
    members = f"{len(first.summary.zeros)} and {len(second.summary.zeros)} cones"
    return [
        as_picture("Lightcones", _slices(both), "One cone of each, a plane (line of sight, x) in the middle of y."),
        as_picture(
            "Along the line of sight",
            _along(both, found),
            f"Medians and central 68 % over the members ({members}). Below: difference of the medians over the "
            "reference's spread, with its 68 % bootstrap band; gaps where that spread is below 1 mK, or zero. Grey: "
            "what two ensembles of one law and of these sizes have on average (the floor).",
        ),
        as_picture(
            "Voxels",
            _voxels(both, edges),
            "Density of the temperatures that are not exactly 0; the rest of the voxels is exactly 0 (ionised).",
        ),
        as_picture(
            "Spectra",
            _spectra(both, found, cells),
            "Dimensionless power of chunks of the line of sight, mean removed, Hann taper along it: medians and "
            "central 68 %. Below: eps_std as above.",
        ),
        as_picture(
            "",
            _cylinders(both, cells),
            "Cylindrical spectra of one chunk: medians over the members, and their ratio. Along the vertical axis "
            "waves along the line of sight.",
        ),
        as_picture(
            "Scattering",
            _scattering(both, found, cells),
            "Reduced scattering coefficients of (x, line of sight) images: first order by scale, then second order by "
            "pair of scales and relative angle. Below: eps_std.",
        ),
    ]


def _slices(both: Sequence[Ensemble]) -> Figure:
    figure = Figure((WIDTH, 4.6), layout="constrained")
    scale = Scale.of(*(ensemble.example for ensemble in both))
    for ax, ensemble in zip(figure.subplots(2, 1), both, strict=True):
        plane = ensemble.example[:, ensemble.example.shape[1] // 2]
        x, _, los = ensemble.cones.grid.axes
        picture(figure, ax, type(ensemble.cones.grid)((x, los)), plane, scale, "T (mK)")
        label_axes(ax, "comoving distance", "x", "Mpc", "Mpc")
        ax.set_aspect("auto")
        ax.set_title(ensemble.name)
    return figure


def _band(ax: Axes, x: np.ndarray, y: Tensor, ensemble: int, name: str) -> None:
    low, middle, high = torch.quantile(y, torch.tensor([0.15865, 0.5, 0.84135], dtype=y.dtype), dim=0).numpy()
    colour, line = ((TRUTH, "--"), (MEAN, "-"))[ensemble]
    ax.fill_between(x, low, high, color=colour, alpha=(0.13, 0.25)[ensemble], linewidth=0)
    ax.plot(x, middle, color=colour, linestyle=line, linewidth=1.5, label=name)


def _difference(ax: Axes, x: np.ndarray, comparison: Comparison, part: Any = ...) -> None:
    """eps_std with its band, on the floor."""
    low, high = (edge[part].numpy() for edge in comparison.band)
    ax.fill_between(x, low, high, color=MEAN, alpha=0.25, linewidth=0)
    ax.plot(x, comparison.error.standard[part].numpy(), color=MEAN, linewidth=1.3)
    if comparison.floor is not None:
        reach = comparison.floor.expected["MAE_std"]
        ax.axhspan(-reach, reach, color=INK, alpha=0.15, linewidth=0)
    ax.axhline(0, color=INK, linewidth=0.8, linestyle=":")


def _along(both: Sequence[Ensemble], found: dict[str, Comparison]) -> Figure:
    figure = Figure((WIDTH, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, height_ratios=[3, 2])
    z = both[0].cones.redshift
    for column, (name, title, units) in enumerate(
        (("global_signal", "mean over the sky", "mK"), ("zeros", "share of exact zeros", "1"))
    ):
        above, below = panels[:, column]
        for i, ensemble in enumerate(both):
            _band(above, z, getattr(ensemble.summary, name), i, ensemble.name)
        _difference(below, z, found[name])
        above.set_title(title)
        label_axes(above, "", "T" if units == "mK" else "share", "1", units)
        label_axes(below, "redshift z", "eps_std", "1", "1")
    panels[0, 0].legend()
    return figure


def _voxels(both: Sequence[Ensemble], edges: Tensor) -> Figure:
    figure = Figure((WIDTH * 0.62, 3.8), layout="constrained")
    ax = figure.subplots()
    middle = ((edges[1:] + edges[:-1]) / 2).numpy()
    for i, ensemble in enumerate(both):
        share = float(ensemble.summary.zeros.mean())
        _band(ax, middle, ensemble.summary.density, i, f"{ensemble.name}; exactly 0: {share:.1%}")
    ax.set_yscale("log")
    top = max(float(ensemble.summary.density.max()) for ensemble in both)
    ax.set_ylim(1e-5 * top, 2 * top)
    label_axes(ax, "brightness temperature", "share of voxels per mK", "mK", "mK$^{-1}$")
    ax.legend()
    return figure


def _shown(count: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, count - 1, min(SHOWN, count))})


def _title(ensemble: Ensemble, chunk: int, cells: int) -> str:
    z = ensemble.cones.redshift
    return f"z {z[chunk * cells]:.2f} to {z[(chunk + 1) * cells - 1]:.2f}"


def _spectra(both: Sequence[Ensemble], found: dict[str, Comparison], cells: int) -> Figure:
    shown = _shown(both[0].summary.spectrum.shape[1])
    figure = Figure((WIDTH, 5.2), layout="constrained")
    panels = figure.subplots(2, len(shown), sharex=True, sharey="row", height_ratios=[3, 2], squeeze=False)
    k = both[0].summary.k.numpy()
    for column, chunk in enumerate(shown):
        above, below = panels[:, column]
        for i, ensemble in enumerate(both):
            _band(above, k, ensemble.summary.spectrum[:, chunk], i, ensemble.name)
        _difference(below, k, found["spectrum"], chunk)
        above.set_xscale("log")
        above.set_yscale("log")
        above.set_title(_title(both[0], chunk, cells))
        above.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        above.xaxis.set_major_formatter("{x:g}")
        above.xaxis.set_minor_formatter(NullFormatter())
        label_axes(below, "k", "", LENGTH, "1")
    top = max(float(ensemble.summary.spectrum[:, shown].max()) for ensemble in both)
    panels[0, 0].set_ylim(1e-4 * top, 2 * top)
    label_axes(panels[0, 0], "", r"$\Delta^2(k)$", "1", "mK²")
    label_axes(panels[1, 0], "k", "eps_std", LENGTH, "1")
    panels[0, 0].legend(loc="lower right")
    return figure


def _cylinders(both: Sequence[Ensemble], cells: int) -> Figure:
    chunk = both[0].summary.cylindrical.shape[1] // 2
    powers = [median_and_spread(ensemble.summary.cylindrical[:, chunk])[0].numpy().T for ensemble in both]
    figure = Figure((WIDTH, 3.6), layout="constrained")
    k_perp, k_par = both[0].summary.k_perp.numpy(), both[0].summary.k_par.numpy()
    positive = np.concatenate([p[p > 0] for p in powers])
    together = LogNorm(max(positive.min(), 1e-6 * positive.max()), positive.max()) if positive.size else None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = powers[1] / powers[0]
    finite = ratio[np.isfinite(ratio)]
    reach = float(np.clip(np.quantile(np.abs(finite - 1), 0.95), 0.1, 0.9)) if finite.size else 0.5
    panels = figure.subplots(1, 3, sharey=True)
    for ax, values, title, norm, colours, label in (
        (panels[0], powers[0], both[0].name, together, "viridis", "P (mK² Mpc³)"),
        (panels[1], powers[1], both[1].name, together, "viridis", "P (mK² Mpc³)"),
        (panels[2], ratio, "ratio of the medians", TwoSlopeNorm(1, 1 - reach, 1 + reach), "RdBu_r", "ratio"),
    ):
        drawn = ax.pcolormesh(k_perp, k_par, values, norm=norm, cmap=colours, shading="nearest", rasterized=True)
        figure.colorbar(drawn, ax=ax, label=label)
        ax.set_title(title)
        label_axes(ax, r"$k_\perp$", "", LENGTH, "1")
    label_axes(panels[0], r"$k_\perp$", r"$k_\parallel$", LENGTH, LENGTH)
    figure.suptitle(_title(both[0], chunk, cells), x=0.01, ha="left")
    return figure


def _scattering(both: Sequence[Ensemble], found: dict[str, Comparison], cells: int) -> Figure:
    chunk = both[0].summary.scattering.shape[1] // 2
    figure = Figure((WIDTH, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    number = np.arange(both[0].summary.scattering.shape[2])
    for i, ensemble in enumerate(both):
        _band(above, number, ensemble.summary.scattering[:, chunk], i, ensemble.name)
    _difference(below, number, found["scattering"], chunk)
    above.set_yscale("log")
    above.set_title(f"reduced coefficients, {_title(both[0], chunk, cells)}")
    above.legend()
    label_axes(above, "", "S", "1", "mK")
    label_axes(below, "number of the coefficient", "eps_std", "1", "1")
    return figure
