"""Fields of a posterior for the page to browse: mean, spread, quantiles, samples, in 16 bits a value."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor

from infield.core.grid import Grid, PointSet
from infield.pipelines.report.canvas import VERTICAL, Scale, degree_aspect, kind_of, same_length
from infield.pipelines.report.data import View, views_of
from infield.pipelines.report.figures import Draws, moments
from infield.posterior.diagnostics.order_statistics import ORDER_STATISTICS

MAX_VALUES = 1_200_000
"""Values in a page, of 16 bits: about 3 MB of text."""

MAX_VALUES_OF_A_FIELD = 60_000
"""Of larger fields every second point is shown, or every third, ..."""

MAX_VALUES_SORTED = 30_000_000
"""Of more values no quantiles are computed."""

SAMPLES, VIEWS = 16, 4
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEAST_SAMPLES = 20
"""Draws from which the outer quantiles are known."""

EMPTY, TOP = 65535, 65534


def fields_to_browse(draws: Draws, truth: Tensor | None) -> dict[str, Any] | None:
    """What the page's script takes, in JSON types; None for fields on four axes or more, or without samples.

    Arguments:
        draws: Of the posterior.
        truth: Shape `(channel, *space)`, where it is known.
    """
    grid = draws.field.grid
    if draws.number < 1 or (isinstance(grid, Grid) and grid.ndim > 3):
        return None
    if isinstance(grid, PointSet) and (grid.ndim > 3 or math.prod(grid.shape) > MAX_VALUES_OF_A_FIELD):
        return None
    views = views_of(draws.field)[:VIEWS]
    size = math.prod(grid.shape)
    step = 1
    while isinstance(grid, Grid) and size > MAX_VALUES_OF_A_FIELD:
        step += 1
        size = math.prod(-(-n // step) for n in grid.shape)
    thin = (slice(None, None, step),) * grid.ndim if isinstance(grid, Grid) else (slice(None),)
    kept = min(draws.number, SAMPLES, max(1, MAX_VALUES // (len(views) * size) - len(QUANTILES) - 3))
    found = [_view(draws, view, truth, thin, kept, draws.field.units) for view in views]
    used = {layer["colours"] for view in found for layer in view["layers"]}
    return {**_where(grid, thin), "views": found, "step": step, "colours": {name: _colours(name) for name in used}}


def _view(
    draws: Draws, view: View, truth: Tensor | None, thin: tuple[slice, ...], kept: int, units: str
) -> dict[str, Any]:
    mean, std = (m.numpy()[thin] for m in moments(draws, view))
    samples = np.concatenate(
        [view.of(block).numpy()[(slice(None), *thin)] for block in _blocks(draws, mean.size, kept)]
    )
    fields = [("posterior mean", "posterior mean", mean)]
    if truth is not None:
        fields.append(("truth", "truth", view.of(truth[None])[0].numpy()[thin]))
    if len(samples) == draws.number >= LEAST_SAMPLES:
        for q in QUANTILES:
            name = f"quantile {100 * q:.0f} %"
            fields.append((name, name, np.quantile(samples, q, axis=0, method=ORDER_STATISTICS)))
    fields += [("sample", f"sample {i}", samples[i]) for i in range(min(kept, len(samples)))]
    scale = Scale.of(*(values for _, _, values in fields), colours="gray" if view.channel is None else None)
    layers = [_layer(kind, name, values, scale, units) for kind, name, values in fields]
    if draws.number > 1:
        layers.insert(
            1, _layer("standard deviation", "standard deviation", std, Scale.of(std, colours="cividis"), units)
        )
    return {"name": view.name, "layers": layers}


def _blocks(draws: Draws, size: int, kept: int) -> Iterator[Tensor]:
    """All draws, or as many as are shown where all are too many to sort."""
    if draws.number * size <= MAX_VALUES_SORTED:
        yield from draws.blocks()
        return
    yield draws.rows(0, kept)


def _layer(kind: str, name: str, values: np.ndarray, scale: Scale, units: str) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    span = high - low or 1.0
    codes = np.where(np.isfinite(values), np.round((np.nan_to_num(values) - low) / span * TOP), EMPTY)
    return {
        "kind": kind,
        "name": name,
        "units": units,
        "low": low,
        "high": low + span,
        "from": scale.low,
        "to": scale.high,
        "colours": scale.colours,
        "data": base64.b64encode(codes.astype("<u2").tobytes()).decode(),
    }


def _where(grid: Grid | PointSet, thin: tuple[slice, ...]) -> dict[str, Any]:
    """Axes, shape of a plane, and its aspect: height over width."""
    kind = kind_of(grid)
    if isinstance(grid, PointSet):
        places = grid.points().numpy()
        named = [(name, grid.units, places[:, i]) for i, name in enumerate(grid.names)]
    else:
        named = [(a.name, a.units, np.asarray(a.coordinates)[thin[0]]) for a in grid.axes]
    axes = [{"name": name, "units": units, "values": values.tolist()} for name, units, values in named]
    found: dict[str, Any] = {"axes": axes, "kind": kind, "depth": 1, "rows": 1, "columns": len(named[-1][2])}
    if kind == "line":
        return {**found, "ratio": 0.6, "upwards": True}
    if kind == "points":
        last = named[-2:]
        vertical, horizontal = (0, 1) if last[0][0] in VERTICAL else (1, 0)
        u, v = last[horizontal][2], last[vertical][2]
        scaled = np.stack([(a - a.min()) / (np.ptp(a) or 1.0) for a in (u, v)], axis=1)
        ratio = np.ptp(v) / (np.ptp(u) or 1.0) * degree_aspect(last[vertical][0], last[vertical][1], float(np.mean(v)))
        return {**found, "points": scaled.tolist(), "ratio": _bounded(float(ratio)), "upwards": True}
    (row, row_units, y), (_, column_units, x) = named[-2:]
    ratio = len(y) / len(x)
    if same_length(row, row_units, column_units) and np.ptp(x) and np.ptp(y):
        cells = np.ptp(y) * len(y) / max(len(y) - 1, 1), np.ptp(x) * len(x) / max(len(x) - 1, 1)
        ratio = float(cells[0] / cells[1]) * degree_aspect(row, row_units, float(np.mean(y)))
    depth = len(named[0][2]) if len(named) == 3 else 1
    return {**found, "rows": len(y), "depth": depth, "ratio": _bounded(ratio), "upwards": row_units != "pixel"}


def _bounded(ratio: float) -> float:
    return float(np.clip(ratio, 0.2, 2.0)) if math.isfinite(ratio) else 1.0


def _colours(name: str) -> list[int]:
    """A colour map as 64 colours of three bytes each."""
    colours = matplotlib.colormaps[name](np.linspace(0, 1, 64))[:, :3]
    found: list[int] = torch.from_numpy(colours * 255).round().long().flatten().tolist()
    return found
