"""The pictures of a report, each a matplotlib figure; nothing here computes a number that the report states."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats
from torch import Generator, Tensor

from infield.physics.grid import Grid, PointSet
from infield.pipelines.report_canvas import (
    DATA,
    DRAW,
    INK,
    MEAN,
    STYLE,
    TRUTH,
    Scale,
    central_slice,
    kind_of,
    label_axes,
    picture,
    sensors,
    with_units,
)
from infield.pipelines.report_data import DataPanel, View
from infield.pipelines.report_page import Picture
from infield.pipelines.report_numbers import CURVE, RANK_BINS, RESIDUAL_EDGES, Calibration, Draws, Misfit, band

DRAWS_SHOWN = 3
WIDTH = 11.0
"""Inches; at the page's width letters then come out at about 13 pixels."""


@dataclass(frozen=True)
class Panel:
    """A field with its title, colour scale and the label of its colour bar."""

    title: str
    places: Grid | PointSet
    values: np.ndarray
    scale: Scale
    label: str


def as_picture(heading: str, figure: Figure, caption: str) -> Picture:
    """A figure as a part of the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(heading, address, caption, float(figure.get_figwidth() / WIDTH))


def field_figure(
    draws: Draws, view: View, mean: Tensor, std: Tensor, truth: Tensor | None, data: list[DataPanel]
) -> Figure:
    """Truth, data, mean, standard deviation and draws of a field on two or three axes, or on scattered points.

    Arguments:
        mean, std, truth: What the view shows, shape `space`.
        data: Pictures of the data, possibly none.
    """
    grid, units = draws.field.grid, _bar_label(draws.field.units)
    shown = [view.of(draws.rows(i, i + 1))[0].numpy() for i in range(min(DRAWS_SHOWN, draws.number))]
    known = [] if truth is None else [truth.numpy()]
    scale = Scale.of(*known, mean.numpy(), *shown, colours="gray" if view.channel is None else None)
    panels = [Panel("truth", grid, values, scale, units) for values in known]
    for panel in data:
        own = scale if panel.in_field_units else Scale.of(panel.values)
        panels.append(Panel(panel.title, panel.places, panel.values, own, _bar_label(panel.units)))
    panels.append(Panel("posterior mean", grid, mean.numpy(), scale, units))
    panels.append(Panel("standard deviation", grid, std.numpy(), Scale.of(std.numpy(), colours="cividis"), units))
    panels += [Panel(f"draw {i + 1}", grid, values, scale, units) for i, values in enumerate(shown)]
    if view.channel is None:
        phase = torch.atan2(*draws.moment("mean").flip(0)).numpy()
        panels.append(Panel("phase of the mean", grid, phase, Scale(-np.pi, np.pi, "twilight"), "rad"))
    if truth is not None and draws.number > 1:
        error = ((truth - mean) / std).numpy()
        panels.append(Panel("(truth - mean) / std", grid, error, Scale(-4, 4, "RdBu_r"), ""))
    return _sheet(panels, grid)


def slices_figure(draws: Draws, mean: Tensor, std: Tensor) -> Figure:
    """Mean and standard deviation of a field on three axes in the planes that `field_figure` does not show."""
    grid, units = draws.field.grid, _bar_label(draws.field.units)
    panels = []
    for name, values, colours in (("mean", mean.numpy(), None), ("standard deviation", std.numpy(), "cividis")):
        scale = Scale.of(values, colours=colours)
        for axis in (1, 2):
            plane, cut, where = central_slice(grid, values, axis)
            panels.append(Panel(f"{name} at {where}", plane, cut, scale, units))
    return _sheet(panels, grid)


def _sheet(panels: list[Panel], grid: Grid | PointSet) -> Figure:
    """Panels in rows of three or four, the left and lower ones with axis labels where all show the same place."""
    columns = 4 if len(panels) in (4, 7, 8) or len(panels) > 9 else 3
    rows = -(-len(panels) // columns)
    drawn = [(panel, *central_slice(panel.places, panel.values)) for panel in panels]
    height = WIDTH / columns * 0.92 * float(np.clip(_ratio(drawn[0][1]), 0.35, 1.6))
    figure = Figure((WIDTH, rows * height), layout="constrained")
    for i, (panel, places, values, where) in enumerate(drawn):
        ax = figure.add_subplot(rows, columns, i + 1)
        if isinstance(places, PointSet) and isinstance(grid, Grid):
            sensors(figure, ax, grid, places, values, panel.scale, panel.label)
        else:
            picture(figure, ax, places, values, panel.scale, panel.label)
        ax.set_title(panel.title + (f", {where}" if where and i == 0 else ""))
        if all(panel.places.names == grid.names for panel in panels if isinstance(panel.places, Grid)):
            if i % columns:
                ax.set_ylabel("")
            if i < len(panels) - columns:
                ax.set_xlabel("")
    return figure


def _bar_label(units: str) -> str:
    return "" if units == "1" else units


def _ratio(grid: Grid | PointSet) -> float:
    """Height over width of a plane."""
    if not isinstance(grid, Grid) or grid.axes[0].units != grid.axes[1].units:
        return 1.0
    ratio = grid.lengths[0] / grid.lengths[1]
    return ratio if 0.2 < ratio < 5 else 1.0


def line_figure(draws: Draws, view: View, mean: Tensor, truth: Tensor | None, data: list[DataPanel]) -> Figure:
    """A field along one axis: mean, 50 and 90 % bands, draws, truth, and the data where they are in the field's units."""
    grid, units = draws.field.grid, draws.field.units
    x = grid.points()[:, 0].numpy()
    order = np.argsort(x)
    samples = np.concatenate([view.of(block).numpy() for block in draws.blocks()])[:, order]
    below = [panel for panel in data if not panel.in_field_units]
    figure = Figure((WIDTH, 4.4 + 2.2 * bool(below)), layout="constrained")
    rows = figure.subplots(2 if below else 1, 1, squeeze=False, height_ratios=[2, 1] if below else None)[:, 0]
    ax = rows[0]
    for low, high, alpha in ((0.05, 0.95, 0.18), (0.25, 0.75, 0.3)):
        edges = np.quantile(samples, [low, high], axis=0)
        label = f"{100 * (high - low):.0f} % of the draws"
        ax.fill_between(x[order], *edges, color=MEAN, alpha=alpha, linewidth=0, label=label)
    for i, sample in enumerate(samples[:DRAWS_SHOWN]):
        ax.plot(x[order], sample, color=DRAW, linewidth=0.9, label="draws" if i == 0 else None)
    ax.plot(x[order], mean.numpy()[order], color=MEAN, linewidth=2, label="posterior mean")
    if truth is not None:
        ax.plot(x[order], truth.numpy()[order], color=TRUTH, linewidth=1.3, linestyle="--", label="truth")
    for panel in (p for p in data if p.in_field_units):
        ax.plot(panel.places.points()[:, 0], panel.values, "o", color=DATA, markersize=4.5, label="data")
    axis = grid.axes[0] if isinstance(grid, Grid) else None
    name, coordinate = (axis.name, axis.units) if axis else (grid.names[0], grid.units)  # type: ignore[union-attr]
    label_axes(ax, name, view.name, coordinate, units)
    ax.margins(x=0)
    ax.legend(ncols=6, loc="lower left", bbox_to_anchor=(0, 1.0))
    for panel in below[:1]:
        rows[1].plot(panel.places.points()[:, 0], panel.values, ".", color=DATA)
        rows[1].set_title(panel.title)
        places = panel.places
        rows[1].set_xlabel(with_units(places.names[0], places.axes[0].units if isinstance(places, Grid) else places.units))
        rows[1].set_ylabel(panel.units or "value")
    return figure


def spectrum_figure(
    wavenumber: Tensor, power: Tensor, truth: Tensor | None, data: Tensor | None, units: str, per: str
) -> Figure:
    """Radial power spectra of the draws `(n, bins)`, with the truth's and the data's `(bins,)`, without wavenumber 0."""
    figure = Figure((WIDTH * 0.62, 4.0), layout="constrained")
    ax = figure.subplots()
    k = wavenumber[1:].numpy()
    low, middle, high = np.quantile(power[:, 1:].numpy(), [0.05, 0.5, 0.95], axis=0)
    ax.fill_between(k, low, high, color=MEAN, alpha=0.25, linewidth=0, label="draws, 5 to 95 %")
    ax.plot(k, middle, color=MEAN, linewidth=1.8, label="draws, median")
    if data is not None:
        ax.plot(k, data[1:].numpy(), color=DATA, linewidth=1.3, linestyle=":", label="data")
    if truth is not None:
        ax.plot(k, truth[1:].numpy(), color=TRUTH, linewidth=1.3, linestyle="--", label="truth")
    ax.set_xscale("log")
    ax.set_yscale("log")
    label_axes(ax, "wavenumber", "power a mode", per, _squared(units))
    for axis in (ax.xaxis, ax.yaxis):
        decades = np.ptp(np.log10(axis.get_view_interval()))
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
        axis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(alpha=0.25, which="both", linewidth=0.5)
    ax.legend()
    return figure


def _squared(units: str) -> str:
    return "1" if units == "1" else f"{units}²" if units.isalpha() else f"({units})²"


def calibration_figure(calibration: Calibration | None, misfit: Misfit | None) -> Figure | None:
    """Ranks and coverage where the truth is known, standardised residuals where the data are at hand."""
    residuals = misfit is not None and misfit.residuals is not None
    panels = 2 * (calibration is not None) + residuals
    if panels == 0:
        return None
    figure = Figure((WIDTH * max(panels, 2) / 3, 3.7), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if calibration is not None:
        generator = Generator().manual_seed(0)
        _rank_histogram(axes.pop(0), calibration, generator)
        _coverage_curve(axes.pop(0), calibration, generator)
    if misfit is not None and misfit.residuals is not None:
        _residual_histogram(axes.pop(0), misfit, misfit.residuals)
    return figure


def _rank_histogram(ax: Axes, calibration: Calibration, generator: Generator) -> None:
    density, others = calibration.histograms(generator)
    edges = np.linspace(0, 1, RANK_BINS + 1)
    ax.stairs(density.numpy(), edges, color=TRUTH, linewidth=1.6, label="truth")
    if len(others) > 2:
        low, high = band(others, 0, float("inf"))
        ax.stairs(high.numpy(), edges, baseline=low.numpy(), fill=True, color=MEAN, alpha=0.25, label="99 % of draws in its place")
    ax.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
    ax.legend(loc="upper center")
    ax.set_title("rank of the truth among the draws")
    label_axes(ax, "rank / number of draws", "density", "1", "1")


def _coverage_curve(ax: Axes, calibration: Calibration, generator: Generator) -> None:
    shares, others = zip(*(calibration.coverages(level, generator) for level in CURVE), strict=True)
    levels = 100 * np.array(CURVE)
    if len(others[0]) > 2:
        low, high = band(torch.stack(others, dim=1), 0, 1)
        ax.fill_between(levels, 100 * low.numpy(), 100 * high.numpy(), color=MEAN, alpha=0.25, linewidth=0, label="99 % of draws in its place")  # fmt: skip
    ax.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":", label="right")
    ax.plot(levels, 100 * np.array(shares), "o-", color=TRUTH, markersize=3.5, linewidth=1.3, label="truth")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_aspect("equal")
    ax.legend(loc="upper left")
    ax.set_title("coverage of central intervals")
    label_axes(ax, "nominal", "truths inside", "%", "%")


def _residual_histogram(ax: Axes, misfit: Misfit, counts: Tensor) -> None:
    edges = RESIDUAL_EDGES.numpy()
    density = counts.numpy() / counts.sum().item() / np.diff(edges)
    ax.stairs(density, edges, fill=True, color=DATA, alpha=0.45, label="all draws, all data")
    x = np.linspace(edges[0], edges[-1], 200)
    ax.plot(x, stats.norm.pdf(x), color=INK, linewidth=1.2, label="standard normal")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    ax.legend(loc="upper left")
    ax.set_title(f"data residuals, chi-square {misfit.chi_square:.2f}")
    label_axes(ax, "(data - A draw) / noise std", "density", "1", "1")


def figures_of_field(  # one view: a line, or a sheet with further planes
    draws: Draws, view: View, mean: Tensor, std: Tensor, truth: Tensor | None, data: list[DataPanel]
) -> list[Figure]:
    """All figures of one view of the field; `mean`, `std`, `truth` of shape `space`."""
    grid = draws.field.grid
    if kind_of(grid) == "line":
        return [line_figure(draws, view, mean, truth, data)]
    sheet = field_figure(draws, view, mean, std, truth, data)
    return [sheet, slices_figure(draws, mean, std)] if isinstance(grid, Grid) and grid.ndim == 3 else [sheet]
