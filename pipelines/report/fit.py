"""The law that was fitted to point data, in a report: variogram, parameters with errors, held-out data, verdict."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from infield.physics.measurement import Measurement
from infield.pipelines.report.canvas import DATA, MEAN, WIDTH, label_axes
from infield.pipelines.report.charts import as_picture
from infield.pipelines.report.page import Picture
from infield.posterior.kriging.law import StationaryLaw
from infield.posterior.kriging.measured import PointData, is_point_data, point_data
from infield.posterior.kriging.observations import Observations
from infield.posterior.kriging.variogram import Variogram, variogram


def fit_pictures(fit: dict[str, Any], measurement: Measurement | None) -> list[Picture]:
    """The variogram of the data with the fitted curve; none without the measurement.

    Arguments:
        fit: The fit in the posterior file.
        measurement: That the posterior is of.
    """
    if measurement is None or not is_point_data(measurement):
        return []
    data = point_data(measurement, fit["trend"], tuple(fit.get("covariates", ())))
    law = StationaryLaw.from_json(data.geometry, fit)
    found = variogram(law, _with_noise(data, float(fit["noise_sd"])))
    caption = (
        "Semivariance of the data around their trend by distance, and that of the fitted law with noise. Distances are "
        "in correlation lengths, so that unequal lengths along the axes are taken out. The law was fitted by its "
        "evidence and not to these points: where they leave the curve, its shape is in doubt."
    )
    return [as_picture("The fitted law", _figure(found, measurement.units), caption)]


def _with_noise(data: PointData, noise_sd: float) -> Observations:
    """Data of the first channel, noise at its fitted level."""
    first = data.channels[0]
    if data.noise_known:
        return first
    if first.noise.ndim > 1:  # levels of several instruments: the mean over all data
        return Observations(
            first.x, first.y, first.y.new_full((len(first),), noise_sd**2), first.design, first.prior_sd
        )
    noise = first.noise * (noise_sd**2 / float(first.noise.mean()))
    return Observations(first.x, first.y, noise, first.design, first.prior_sd)


def _figure(found: Variogram, units: str) -> Figure:
    figure = Figure((WIDTH * 0.62, 3.8), layout="constrained")
    ax = figure.subplots()
    sizes = 12 + 60 * (found.pairs / found.pairs.max()).numpy()
    ax.scatter(found.distance.numpy(), found.empirical.numpy(), s=sizes, color=DATA, label="data (area: pairs)")
    ax.plot(found.distance.numpy(), found.fitted.numpy(), color=MEAN, linewidth=1.8, label="fitted law")
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    squared = "1" if units == "1" else f"{units}²" if units.isalpha() else f"({units})²"
    label_axes(ax, "distance", "semivariance", "correlation lengths", squared)
    ax.grid(alpha=0.25, linewidth=0.5)
    ax.legend(loc="lower right")
    return figure
