"""Posteriors of astrophysical parameters in pictures: cones, held-out simulations, ranks and coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from torch import Generator, Tensor

from infield.datasets.cm21.lightcone_file import PARAMETERS
from infield.pipelines.report.canvas import DATA, INK, MEAN, TRUTH, WIDTH, label_axes
from infield.pipelines.report.charts import as_picture
from infield.pipelines.report.figures import CURVE
from infield.pipelines.report.page import Picture
from infield.posterior.diagnostics.calibration import coverage
from infield.posterior.models.parameter_inference import ParameterBox, ParameterCalibration

SHOWN, DOTS = 5, 300
"""Cones that are pictured, evenly spread; draws of each in the plane of two parameters."""


def parameter_pictures(
    box: ParameterBox,
    numbers: Sequence[int],
    draws: Tensor,
    truth: Tensor,
    judged: Tensor,
    judged_truth: Tensor,
    calibration: ParameterCalibration,
) -> list[Picture]:
    """All pictures.

    Arguments:
        box: The prior.
        numbers: Of the cones.
        draws, truth: Of the cones, `(cones, n, parameters)` and `(cones, parameters)`, NaN where not known.
        judged, judged_truth: The same of held-out simulations.
        calibration: Their result.
    """
    shown = sorted({round(i) for i in np.linspace(0, len(numbers) - 1, min(SHOWN, len(numbers)))})
    plane = (
        " Right: draws in the plane of the first two parameters, over the whole prior." if len(box.names) > 1 else ""
    )
    return [
        as_picture(
            "Parameters of the cones",
            _cones(box, [numbers[i] for i in shown], draws[shown], truth[shown]),
            f"Draws of each parameter; dashed: the parameter stored with the cone; dotted: the prior.{plane}",
        ),
        as_picture(
            "Held-out simulations",
            _recovered(box, judged, judged_truth),
            "Median and central 90 % of the draws against the parameter that was simulated. On the diagonal the two "
            "are equal; where bars are as long as the axis nothing is learned.",
        ),
        as_picture(
            "Calibration",
            _calibrated(box, calibration),
            f"Ranks of {len(judged)} held-out simulations among {calibration.n} draws, and coverage of central "
            "intervals. The bands hold 99 of 100 values where the posterior is right.",
        ),
    ]


def _axis(name: str) -> tuple[str, str]:
    return name, PARAMETERS.get(name, ("1", ""))[0]


def _cones(box: ParameterBox, numbers: Sequence[int], draws: Tensor, truth: Tensor) -> Figure:
    count = len(box.names)
    rows, columns = len(numbers), count + (count > 1)
    figure = Figure((WIDTH, 0.9 + 1.75 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for i, number in enumerate(numbers):
        for j, name in enumerate(box.names):
            ax, values = panels[i, j], draws[i, :, j].numpy()
            ax.hist(values, bins=40, density=True, color=MEAN, alpha=0.5, label="draws")
            low, high = float(box.low[j]), float(box.high[j])
            ax.axhline(1 / (high - low), color=INK, linestyle=":", linewidth=0.9, label="prior")
            if torch.isfinite(truth[i, j]):
                ax.axvline(float(truth[i, j]), color=TRUTH, linestyle="--", linewidth=1.4, label="stored")
            ax.set_yticks([])
            ax.set_title(f"cone {number}" if j == 0 else "")
            label_axes(ax, *((_axis(name)[0], "", _axis(name)[1]) if i == rows - 1 else ("", "", "1")), "1")
        if count > 1:
            _plane(panels[i, -1], box, draws[i], truth[i], i == rows - 1)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure


def _plane(ax: Axes, box: ParameterBox, draws: Tensor, truth: Tensor, last: bool) -> None:
    x, y = draws[:DOTS, :2].numpy().T
    ax.plot(x, y, ".", color=MEAN, markersize=2.5, alpha=0.5)
    ax.plot(*truth[:2].numpy(), "x", color=TRUTH, markersize=8, markeredgewidth=1.8)
    ax.set_xlim(float(box.low[0]), float(box.high[0]))
    ax.set_ylim(float(box.low[1]), float(box.high[1]))
    (across, across_units), (up, up_units) = _axis(box.names[0]), _axis(box.names[1])
    label_axes(ax, across if last else "", up, across_units if last else "1", up_units)


def _recovered(box: ParameterBox, judged: Tensor, truth: Tensor) -> Figure:
    count = len(box.names)
    figure = Figure((WIDTH * min(1.0, 0.45 * count), 4.3), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    low, middle, high = torch.quantile(judged, torch.tensor([0.05, 0.5, 0.95], dtype=judged.dtype), dim=1)
    for j, (ax, name) in enumerate(zip(panels, box.names, strict=True)):
        reach = torch.stack([middle[:, j] - low[:, j], high[:, j] - middle[:, j]]).numpy()
        ax.errorbar(truth[:, j], middle[:, j], reach, fmt=".", color=MEAN, ecolor=MEAN, elinewidth=0.8, alpha=0.7)
        ends = [float(box.low[j]), float(box.high[j])]
        ax.plot(ends, ends, color=INK, linewidth=0.9, linestyle=":")
        title, units = _axis(name)
        ax.set_title(f"{title}, contraction {1 - 12 * box.unit(judged).var(1).mean(0)[j]:.1%}")
        label_axes(ax, "simulated", "inferred", units, units)
    return figure


def _calibrated(box: ParameterBox, calibration: ParameterCalibration) -> Figure:
    count, (cases, n) = len(box.names), (len(calibration.ranks), calibration.n)
    figure = Figure((WIDTH, 3.6), layout="constrained")
    panels = figure.subplots(1, count + 1, squeeze=False)[0]
    bins = max(4, min(20, cases // 8))
    edges = np.linspace(0, 1, bins + 1)
    low, high = stats.binom.ppf([0.005, 0.995], cases, 1 / bins)
    for j, name in enumerate(box.names):
        ax = panels[j]
        ax.axhspan(low, high, color=INK, alpha=0.12, linewidth=0)
        ax.hist((calibration.ranks[:, j].numpy() + 0.5) / (n + 1), bins=edges, color=MEAN, alpha=0.6)
        ax.axhline(cases / bins, color=INK, linewidth=0.8, linestyle=":")
        ax.set_ylim(0, 1.6 * max(high, ax.get_ylim()[1]) / 1.3)
        ax.set_title(f"{name}: uniform with p = {calibration.p_values[j]:.3f}")
        label_axes(ax, "rank / number of draws", "simulations", "1", "1")
    ax, levels = panels[-1], np.array(CURVE)
    band = stats.binom.ppf(np.array([[0.005], [0.995]]), cases, levels) / cases
    ax.fill_between(100 * levels, 100 * band[0], 100 * band[1], color=INK, alpha=0.12, linewidth=0)
    for j, name in enumerate(box.names):
        generator = Generator().manual_seed(0)
        shares = [100 * coverage(calibration.ranks[:, j], n, level, generator) for level in CURVE]
        ax.plot(100 * levels, shares, ".-", color=(MEAN, DATA)[j % 2], linewidth=1.2, label=name)
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_aspect("equal")
    ax.legend(loc="upper left")
    ax.set_title("coverage of central intervals")
    label_axes(ax, "nominal", "simulations inside", "%", "%")
    return figure
