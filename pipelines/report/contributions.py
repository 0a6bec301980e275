"""Which data move the mean of the field: a section of reports, from the draws of a posterior."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from infield.core._deepinv import LinearPhysics
from infield.core.grid import Grid, PointSet
from infield.physics.measurement import Measurement
from infield.physics.noise.base import GaussianNoiseModel
from infield.pipelines.report.canvas import DATA, WIDTH, label_axes
from infield.pipelines.report.charts import as_picture
from infield.pipelines.report.figures import Draws
from infield.pipelines.report.page import Picture
from infield.posterior.diagnostics.sensitivity import MIN_DRAWS, noiseless_data, scores, sensitivity

MAX_DATA, MAX_VALUES = 2_000, 20_000
"""Of data and field, so that a report stays cheap."""


def section(
    draws: Draws, truth: Tensor | None, measurement: Measurement | None
) -> tuple[list[Picture], dict[str, Any]]:
    """Sensitivity of the mean of the field to each datum; none where data are many, have no place or no such law."""
    if measurement is None or not _fits(draws, measurement):
        return [], {}
    x = torch.cat(list(draws.blocks()))
    found = sensitivity(x[:, 0].flatten(1).mean(1), scores(measurement, noiseless_data(measurement, x)))
    observed = measurement.observed
    number = torch.arange(measurement.y.numel()) if observed is None else observed.flatten().nonzero()[:, 0]
    value, error = (part.flatten()[number].numpy() for part in (found.value, found.error))
    grid = measurement.operator.data_grid
    points = grid.points()[number % len(grid.points())].numpy()
    figure = Figure((WIDTH * 0.6, 2.8), layout="constrained")
    ax = figure.subplots()
    if isinstance(grid, Grid):
        axis_units = [axis.units for axis in grid.axes]
    else:
        axis_units = list(grid.axis_units or [grid.units] * grid.ndim)
    per = f"{draws.field.units} / {measurement.data_units}" if measurement.data_units != draws.field.units else "1"
    if grid.ndim == 1:
        ax.errorbar(points[:, 0], value, error, fmt=".", color=DATA, elinewidth=0.8, markersize=5)
        ax.axhline(0, color="0.7", linewidth=0.8)
        label_axes(ax, grid.names[0], "sensitivity", axis_units[0], per)
    else:
        largest = float(abs(value).max()) or 1.0
        shown = ax.scatter(
            points[:, 1], points[:, 0], c=value, cmap="RdBu_r", vmin=-largest, vmax=largest, s=18, edgecolors="0.4",
            linewidths=0.3,
        )  # fmt: skip
        label_axes(ax, grid.names[1], grid.names[0], axis_units[1], axis_units[0])
        figure.colorbar(shown, ax=ax, label="sensitivity" + ("" if per == "1" else f" ({per})"))
    errors = "with standard errors" if grid.ndim == 1 else f"median standard error {float(found.error.median()):.2g}"
    caption = (
        "By how much the posterior mean of the field's average moves with each datum, from the covariance of the draws "
        f"({errors}). `infield explain` has other features, data that disagree and the value of further data."
    )
    return [as_picture("Which data matter", figure, caption)], {}


def _fits(draws: Draws, measurement: Measurement) -> bool:
    grid = getattr(measurement.operator, "data_grid", None)
    attributes = draws.dataset.attrs
    diagnostics = attributes.get("diagnostics", "")
    return (
        draws.number >= MIN_DRAWS
        and draws.size <= MAX_VALUES
        and 1 < measurement.count <= MAX_DATA
        and isinstance(measurement.operator, LinearPhysics)
        and isinstance(measurement.noise, GaussianNoiseModel)
        and not getattr(measurement.noise, "estimated", False)
        and isinstance(grid, Grid | PointSet)
        and grid.ndim in (1, 2)
        and grid.names == draws.field.grid.names
        and measurement.y.numel() % len(grid.points()) == 0
        and attributes.get("result") != "estimate"
        and '"caveat"' not in diagnostics
        and '"fit"' not in diagnostics
    )
