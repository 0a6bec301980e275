"""The pictures of a report, each a matplotlib figure; nothing here computes a number that the report states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from infield.core.grid import Grid, PointSet
from infield.pipelines.report.canvas import (
    DATA,
    DRAW,
    MEAN,
    TRUTH,
    WIDTH,
    Scale,
    central_slice,
    degree_aspect,
    kind_of,
    label_axes,
    picture,
    same_length,
    sensors,
    with_units,
)
from infield.pipelines.report.data import DataPanel, View
from infield.pipelines.report.figures import Draws
from infield.posterior.diagnostics.order_statistics import ORDER_STATISTICS, largest_probability

DRAWS_SHOWN = 3

WIDE, VERY_WIDE = 0.5, 0.2
"""Ratios of height to width up to which fields are shown two per row, and one per row."""


@dataclass(frozen=True)
class Panel:
    """A field with its title, colour scale and the label of its colour bar."""

    title: str
    places: Grid | PointSet
    values: np.ndarray
    scale: Scale
    label: str


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
        own = scale if panel.in_field_units else Scale.of(panel.values, colours=panel.colours)
        panels.append(Panel(panel.title, panel.places, panel.values, own, _bar_label(panel.units)))
    panels.append(Panel("posterior mean", grid, mean.numpy(), scale, units))
    if draws.number > 1:
        spread = Scale.of(std.numpy(), colours="cividis")
        panels.append(Panel("standard deviation", grid, std.numpy(), spread, units))
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
    for name, values, colours in (("mean", mean.numpy(), None), ("std", std.numpy(), "cividis")):
        scale = Scale.of(values, colours=colours)
        for axis in (1, 2):
            plane, cut, where = central_slice(grid, values, axis)
            panels.append(Panel(f"{name} at {where}", plane, cut, scale, units))
    return _sheet(panels, grid)


def _sheet(panels: list[Panel], grid: Grid | PointSet) -> Figure:
    """Panels in rows of three or four, of wide fields fewer, with axis labels once where all show the same place."""
    drawn = [(panel, *central_slice(panel.places, panel.values)) for panel in panels]
    ratio = _ratio(drawn[0][1])
    columns = 4 if len(panels) in (4, 7, 8) or len(panels) > 9 else 3
    columns = columns if ratio > WIDE else 2 if ratio > VERY_WIDE else 1
    rows = -(-len(panels) // columns)
    height = WIDTH / columns * 0.92 * float(np.clip(ratio, 0.35 if columns > 1 else 0.14, 1.6))
    figure = Figure((WIDTH, rows * height), layout=ConstrainedLayoutEngine(h_pad=0.08))
    for i, (panel, places, values, where) in enumerate(drawn):
        ax = figure.add_subplot(rows, columns, i + 1)
        if isinstance(places, PointSet) and isinstance(grid, Grid):
            sensors(figure, ax, grid, places, values, panel.scale, panel.label)
        else:
            picture(figure, ax, places, values, panel.scale, panel.label)
        ax.set_title(panel.title + (f", {where}" if where and i == 0 else ""))
        if i % columns and drawn[i - 1][1].names == places.names:
            ax.set_ylabel("")
        if i + columns < len(drawn) and drawn[i + columns][1].names == places.names:
            ax.set_xlabel("")
    return figure


def _bar_label(units: str) -> str:
    return "" if units == "1" else units


def _ratio(grid: Grid | PointSet) -> float:
    """Height over width of a plane."""
    if not isinstance(grid, Grid):
        return 1.0
    rows, columns = grid.axes[:2]
    if not same_length(rows.name, rows.units, columns.units):
        return 1.0
    middle = (rows.coordinates[0] + rows.coordinates[-1]) / 2
    ratio = grid.lengths[0] / grid.lengths[1] * degree_aspect(rows.name, rows.units, middle)
    return ratio if ratio < 5 else 1.0


def line_figure(draws: Draws, view: View, mean: Tensor, truth: Tensor | None, data: list[DataPanel]) -> Figure:
    """A field along one axis: mean, 50 and 90 % bands, draws, truth, and the data (below, where in other units)."""
    grid, units = draws.field.grid, draws.field.units
    x = grid.points()[:, 0].numpy()
    order = np.argsort(x)
    samples = np.concatenate([view.of(block).numpy() for block in draws.blocks()])[:, order]
    below = [panel for panel in data if not panel.in_field_units]
    figure = Figure((WIDTH, 4.4 + 2.2 * bool(below)), layout="constrained")
    rows = figure.subplots(2 if below else 1, 1, squeeze=False, height_ratios=[2, 1] if below else None)[:, 0]
    ax = rows[0]
    for low, high, alpha in ((0.05, 0.95, 0.18), (0.25, 0.75, 0.3)):
        edges = np.quantile(samples, [low, high], axis=0, method=ORDER_STATISTICS)
        share = min(high - low, largest_probability(len(samples)))  # that a new draw lies between them
        label = f"{100 * share:.0f} % of the draws"
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
        rows[1].set_xlabel(
            with_units(places.names[0], places.axes[0].units if isinstance(places, Grid) else places.units)
        )
        rows[1].set_ylabel(with_units("data", panel.units))
    return figure


def figures_of_field(  # one view: a line, or a sheet with further planes
    draws: Draws, view: View, mean: Tensor, std: Tensor, truth: Tensor | None, data: list[DataPanel]
) -> list[Figure]:
    """All figures of one view of the field; `mean`, `std`, `truth` of shape `space`."""
    grid = draws.field.grid
    if kind_of(grid) == "line":
        return [line_figure(draws, view, mean, truth, data)]
    sheet = field_figure(draws, view, mean, std, truth, data)
    return [sheet, slices_figure(draws, mean, std)] if isinstance(grid, Grid) and grid.ndim == 3 else [sheet]
