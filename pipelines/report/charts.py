"""The charts of a report: spectrum, ranks, coverage, residuals; and figures as parts of the page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats
from torch import Generator, Tensor

from infield.pipelines.report.canvas import DATA, INK, MEAN, TRUTH, WIDTH, label_axes
from infield.pipelines.report.figures import CURVE, RANK_BINS, RESIDUAL_EDGES, Calibration, Misfit, band
from infield.pipelines.report.page import Picture
from infield.posterior.diagnostics.order_statistics import ORDER_STATISTICS, largest_probability

BAND: dict[str, Any] = {"color": MEAN, "alpha": 0.25, "label": "99 % of draws in its place"}


def as_picture(heading: str, figure: Figure, caption: str) -> Picture:
    """A figure as a part of the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(heading, address, caption, float(figure.get_figwidth() / WIDTH))


def spectrum_figure(
    wavenumber: Tensor, power: Tensor, truth: Tensor | None, data: Tensor | None, units: str, per: str
) -> Figure:
    """Radial power spectra of the draws `(n, bins)`, the truth and the data `(bins,)`, without wavenumber 0."""
    figure = Figure((WIDTH * 0.62, 4.0), layout="constrained")
    ax = figure.subplots()
    seen = wavenumber > 0  # a shell may hold no mode
    k = wavenumber[seen].numpy()
    low, middle, high = np.quantile(power[:, seen].numpy(), [0.05, 0.5, 0.95], axis=0, method=ORDER_STATISTICS)
    label = f"{100 * min(0.9, largest_probability(len(power))):.0f} % of the draws"
    ax.fill_between(k, low, high, color=MEAN, alpha=0.25, linewidth=0, label=label)
    ax.plot(k, middle, color=MEAN, linewidth=1.8, label="draws, median")
    if data is not None:
        ax.plot(k, data[seen].numpy(), color=DATA, linewidth=1.3, linestyle=":", label="data")
    if truth is not None:
        ax.plot(k, truth[seen].numpy(), color=TRUTH, linewidth=1.3, linestyle="--", label="truth")
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
        ax.stairs(
            high.numpy(),
            edges,
            baseline=low.numpy(),
            fill=True,
            color=MEAN,
            alpha=0.25,
            label="99 % of draws in its place",
        )
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
        ax.fill_between(levels, 100 * low.numpy(), 100 * high.numpy(), linewidth=0, **BAND)
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
