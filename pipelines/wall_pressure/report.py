"""The science of a wall-pressure posterior in pictures: spectra, correlations, p.d.f., r.m.s., and errors in decibel.

Reference tables are the user's (`wall_pressure/` in the folder that INFIELD_DATA names); where they are not there,
nothing is drawn of them and the legend states it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from torch import Tensor

from infield.core.grid import Grid, PointSet
from infield.datasets.wall_pressure.reference_tables import SOURCE, WallTable, nearest_table, read_wall_tables
from infield.physics.measurement import Measurement
from infield.physics.wall_pressure.wall_units import SPANWISE, STREAMWISE, WALL_LENGTH
from infield.pipelines.report.canvas import DATA, INK, MEAN, TRUTH, WIDTH, label_axes
from infield.pipelines.report.charts import as_picture
from infield.pipelines.report.figures import Draws
from infield.pipelines.report.page import Picture
from infield.posterior.wall_pressure.wall_statistics import (
    CHANNEL_RMS,
    WallSpectrum,
    WallStatistics,
    negative_lobe,
    octave_bands,
    posterior_band,
    rms_law,
    spectral_error_db,
)

TABLE, OTHERS = "#009E73", ("#CC79A7", "#E69F00", "#D55E00")
"""Colours of the reference table and of further ensembles."""

PRESSURE, SQUARED = r"$\rho u_\tau^2$", r"$\rho^2 u_\tau^4$"
LENGTH, RADIANS, RE_TAU = r"$\nu/u_\tau$", r"$u_\tau/\nu$", r"$Re_\tau$"
"""Units as pictures have them."""

LEVEL = 0.9
LARGEST_SEPARATION = 1200.0


def reference_table(re_tau: float | None) -> tuple[WallTable | None, str]:
    """The reference table of a Reynolds number, and its text in a legend.

    Raises:
        InfieldError: A file of that name is no such table.
    """
    tables = read_wall_tables(Path(os.environ.get("INFIELD_DATA", "")) / "wall_pressure")
    if not tables:
        return None, "no reference tables (INFIELD_DATA)"
    if re_tau is None:
        return None, f"{RE_TAU} not known: no reference table"
    table = nearest_table(tables, re_tau)
    if table is None:
        return None, f"no reference table near {RE_TAU} {re_tau:g}"
    return table, f"{SOURCE}, {RE_TAU} {table.re_tau:.0f}, $y^+$ 5"


def statistics_figure(
    draws: WallStatistics,
    re_tau: float | None,
    *,
    truth: WallStatistics | None = None,
    others: Mapping[str, WallStatistics] | None = None,
    synthetic: bool = False,
    name: str = "posterior draws",
) -> Figure:
    """Premultiplied spectra, correlations, p.d.f. and r.m.s. of draws, with their 90 % band.

    Arguments:
        draws: Of the posterior.
        re_tau: Friction Reynolds number, None where it is not known.
        truth: Of the true plane.
        others: Of further ensembles by name, whose medians are drawn (kriging, the prior alone).
        synthetic: Whether truth and prior stand in for a flow; the title states it.
        name: What the legend calls the draws.
    """
    table, source = reference_table(re_tau)
    figure = Figure((WIDTH, 6.4), layout="constrained")
    panels = figure.subplots(2, 3)
    lines = _lines(draws, truth, others or {}, name)
    for ax, axis in zip(panels[0], "xz", strict=False):
        for look, statistics in lines:
            spectrum = statistics.spectra[axis]
            _curve(ax, 2 * math.pi / spectrum.wavenumber[1:], spectrum.premultiplied[:, 1:], look)
        if table is not None:
            spectrum = _tabled(table, axis)
            ax.plot(2 * math.pi / spectrum.wavenumber[1:], spectrum.premultiplied[1:], ".", color=TABLE, markersize=4)
        _logarithmic(ax)
        ax.set_ylim(bottom=0)
        label_axes(ax, rf"wavelength $\lambda_{axis}$", f"$k_{axis} E(k_{axis})$", LENGTH, SQUARED)
        ax.set_title("premultiplied spectrum, " + ("streamwise" if axis == "x" else "spanwise"))
    _pdf(panels[0, 2], lines)
    for ax, axis in zip(panels[1], "xz", strict=False):
        reach = min(max(float(one.correlations[axis].separation[-1]) for _, one in lines), LARGEST_SEPARATION)
        near = ax.inset_axes((0.32, 0.34, 0.66, 0.62))  # around 0, where the lobe is
        for where, limits in ((ax, (-0.2, 1.05)), (near, (-0.14, 0.14))):
            _correlation(where, lines, table, axis)
            where.set_xlim(0, reach)
            where.set_ylim(*limits)
        near.tick_params(labelsize=7)
        near.set_xticklabels([])
        label_axes(ax, f"separation $r_{axis}$", "R(r) / R(0)", LENGTH, "1")
        ax.set_title("correlation, " + ("streamwise" if axis == "x" else "spanwise"))
    _rms(panels[1, 2], lines, re_tau)
    handles = [Line2D([], [], **_plain(look), label=look["label"]) for look, _ in lines]
    handles.insert(1, Line2D([], [], color=MEAN, alpha=0.25, linewidth=7, label=f"their {100 * LEVEL:.0f} % band"))
    marker: dict[str, Any] = {} if table is None else {"marker": ".", "color": TABLE}
    handles.append(Line2D([], [], linestyle="", label=source, **marker))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
    what = "Synthetic stand-in for wall pressure" if synthetic else "Wall pressure"
    figure.suptitle(what + ("" if re_tau is None else f", {RE_TAU} {re_tau:g}"), x=0.01, ha="left")
    return figure


def error_figure(
    draws: WallStatistics,
    reference: WallStatistics,
    *,
    others: Mapping[str, WallStatistics] | None = None,
    training_length: float | None = None,
    octaves: float = 1.0,
    name: str = "posterior draws",
    against: str = "the truth",
) -> Figure:
    """Spectra and their errors in dB, band by band, along x and z.

    Arguments:
        draws, reference: Whose mean energies are compared.
        others: Further ensembles by name.
        training_length: Streamwise period of the domains that a prior was trained on, in nu/u_tau.
        octaves: Width of a band.
        name: What the legend calls the draws.
        against: What it calls the reference.
    """
    figure = Figure((WIDTH, 6.0), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", height_ratios=[3, 2])
    lines = _lines(draws, None, others or {}, name)
    for column, axis in enumerate("xz"):
        above, below = panels[:, column]
        one = reference.spectra[axis]
        edges = bands_of(one, octaves)
        for look, statistics in lines:
            spectrum = statistics.spectra[axis]
            _curve(above, spectrum.wavenumber[1:], spectrum.density[:, 1:], look)
            errors = spectral_error_db(spectrum, one, edges)
            below.stairs(errors.numpy(), edges.numpy(), baseline=None, **_plain(look))
        style = {"color": TRUTH, "linewidth": 1.2, "linestyle": "--"}
        above.plot(one.wavenumber[1:], one.density[:, 1:].mean(0), **style)
        below.axhspan(-1, 1, color=INK, alpha=0.1, linewidth=0)
        below.axhline(0, color=INK, linewidth=0.8, linestyle=":")
        if axis == "x" and training_length is not None:
            for ax in (above, below):
                ax.axvline(2 * math.pi / training_length, color=DATA, linewidth=1.2, linestyle="-.")
        _logarithmic(below)
        above.set_yscale("log")
        peak = float(one.density.mean(0)[1:].max())
        above.set_ylim(1e-6 * peak, 4 * peak)
        low, high = below.get_ylim()
        below.set_ylim(max(min(low, -2.0), -12.0), min(max(high, 2.0), 12.0))
        label_axes(above, "", f"$E(k_{axis})$", "1", f"{SQUARED} {LENGTH}")
        label_axes(below, f"wavenumber $k_{axis}$", f"error against {against}", RADIANS, "dB")
        above.set_title("one-sided density, " + ("streamwise" if axis == "x" else "spanwise"))
    handles = [Line2D([], [], **_plain(look), label=look["label"]) for look, _ in lines]
    handles.append(Line2D([], [], color=TRUTH, linewidth=1.2, linestyle="--", label=against))
    handles.append(Line2D([], [], color=INK, alpha=0.15, linewidth=7, label="1 dB"))
    if training_length is not None:
        words = "longest wave of the training domains"
        handles.append(Line2D([], [], color=DATA, linewidth=1.2, linestyle="-.", label=words))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def bands_of(spectrum: WallSpectrum, octaves: float = 1.0) -> Tensor:
    """Edges of bands from the longest wave of a domain to its shortest, in radians per nu/u_tau.

    What is left beyond the last whole band is a band of its own, or part of the last where it is less than half of one.
    """
    first, last = float(spectrum.wavenumber[1]) * (1 - 1e-9), float(spectrum.wavenumber[-1]) * (1 + 1e-9)
    edges = octave_bands(first, last, each=octaves)
    inner = edges[edges < last / 2 ** (octaves / 2)]
    return torch.cat([inner, torch.tensor([last], dtype=torch.float64)])


def wall_facts(draws: WallStatistics, truth: WallStatistics | None = None) -> dict[str, Any]:
    """The numbers behind the pictures, in plain JSON types: means over the draws, and beside them the truth's."""

    def of(statistics: WallStatistics) -> dict[str, float]:
        lobe = negative_lobe(statistics.correlations["x"])
        moments = {name: float(values.mean()) for name, values in statistics.moments._asdict().items()}
        numbers = {**moments, "lobe_zero": lobe.zero, "lobe_depth": lobe.depth}
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    facts: dict[str, Any] = {"draws": of(draws)}
    if truth is not None:
        facts["truth"] = of(truth)
        for axis in "xz":
            edges = bands_of(truth.spectra[axis])
            errors = spectral_error_db(draws.spectra[axis], truth.spectra[axis], edges).tolist()
            facts[f"spectral_error_db_{axis}"] = [round(e, 3) if math.isfinite(e) else None for e in errors]
            facts[f"bands_{axis}"] = edges.tolist()
    return facts


def on_a_wall(grid: Grid | PointSet) -> bool:
    """Whether fields on a grid are planes of wall pressure: even axes z and x in wall units."""
    axes = grid.axes if isinstance(grid, Grid) else ()
    even = all(axis.units == WALL_LENGTH and axis.uniform and axis.size >= 4 for axis in axes)
    return even and sorted(axis.name for axis in axes) == [STREAMWISE, SPANWISE]


def statistics_of(grid: Grid, blocks: Iterable[Tensor]) -> WallStatistics:
    """Statistics of planes `(some, *grid.shape)` that come a few at a time."""
    turned = grid.names == (STREAMWISE, SPANWISE)
    (dz, z_closes), (dx, x_closes) = ((a.spacing, a.periodic) for a in (grid.axes[::-1] if turned else grid.axes))
    parts = [WallStatistics.of(block.mT if turned else block, (dz, dx), (z_closes, x_closes)) for block in blocks]
    return WallStatistics.joined(parts)


def section(
    draws: Draws, truth: Tensor | None, measurement: Measurement | None
) -> tuple[list[Picture], dict[str, Any]]:
    """What wall pressure adds to reports; arguments as `pipelines.report.Section`."""
    context = {} if measurement is None else measurement.context
    re_tau = context["Re_tau"].number if "Re_tau" in context else None
    synthetic = "synthetic" in context and bool(context["synthetic"].number)
    return wall_pictures(draws, truth, re_tau, synthetic)


def wall_pictures(
    draws: Draws, truth: Tensor | None, re_tau: float | None, synthetic: bool
) -> tuple[list[Picture], dict[str, Any]]:
    """The pictures of a report on wall pressure, and their numbers; none where the field is no plane on a wall.

    Arguments:
        draws: Of the posterior.
        truth: Shape `(1, z, x)`, where it is known.
        re_tau, synthetic: Those of the measurement.
    """
    grid = draws.field.grid
    if not on_a_wall(grid) or len(draws.field.channels) != 1:
        return [], {}
    assert isinstance(grid, Grid)
    found = statistics_of(grid, (block[:, 0] for block in draws.blocks()))
    true = None if truth is None else statistics_of(grid, [truth])
    caption = (
        "One-sided spectral densities E(k), whose integral over k is the variance; lines are medians of the draws, "
        "bands hold 90 % of them. A right posterior keeps the truth's spectrum, correlation lobe and tails, which its "
        "mean does not."
    )
    caption += " Truth and prior are synthetic: a random field stands in for a flow." if synthetic else ""
    pictures = [as_picture("Wall pressure", statistics_figure(found, re_tau, truth=true, synthetic=synthetic), caption)]
    if true is not None:
        words = "Mean energy of the draws over that of the truth in bands of one octave from the longest wave on. Of a"
        words += " single plane the longest waves are few: their energy scatters by more than 1 dB between planes."
        pictures.append(as_picture("", error_figure(found, true), words))
    return pictures, {"wall_pressure": wall_facts(found, true)}


Look = dict[str, Any]


def _lines(
    draws: WallStatistics, truth: WallStatistics | None, others: Mapping[str, WallStatistics], name: str
) -> list[tuple[Look, WallStatistics]]:
    """What is drawn, with its look, the draws first."""
    found: list[tuple[Look, WallStatistics]] = [({"color": MEAN, "linewidth": 1.8, "label": name, "band": True}, draws)]
    for colour, (label, statistics) in zip(OTHERS, others.items(), strict=False):
        found.append(({"color": colour, "linewidth": 1.3, "label": label}, statistics))
    if truth is not None:
        found.append(({"color": TRUTH, "linewidth": 1.2, "linestyle": "--", "label": "truth"}, truth))
    return found


def _plain(look: Look) -> Look:
    return {key: value for key, value in look.items() if key not in ("band", "label")}


def _curve(ax: Axes, x: Tensor, values: Tensor, look: Look) -> None:
    """The median of `(batch, values)`, with the band where the look has one."""
    if look.get("band") and len(values) > 2:
        low, middle, high = (edge.numpy() for edge in posterior_band(values, LEVEL))
        ax.fill_between(x.numpy(), low, high, color=look["color"], alpha=0.25, linewidth=0)
    else:
        middle = values.median(0).values.numpy() if len(values) > 2 else values.mean(0).numpy()
    ax.plot(x.numpy(), middle, **_plain(look))


def _tabled(table: WallTable, axis: str) -> WallSpectrum:
    k, plain_sum = (torch.from_numpy(values) for values in table.spectra[axis])
    return WallSpectrum.from_plain_sum(k, plain_sum)


def _pdf(ax: Axes, lines: list[tuple[Look, WallStatistics]]) -> None:
    for look, statistics in lines:
        centres, values = statistics.pdf
        if look.get("band") and len(values) > 2:
            low, _, high = (edge.clamp_min(1e-9).numpy() for edge in posterior_band(values, LEVEL))
            ax.fill_between(centres.numpy(), low, high, color=look["color"], alpha=0.25, linewidth=0)
        together = values.mean(0)
        ax.plot(centres, torch.where(together > 0, together, torch.nan), **_plain(look))
    x = np.linspace(-8, 8, 200)
    ax.plot(x, np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi), color=INK, linewidth=0.9, linestyle=":")
    ax.annotate("Gaussian", (3.15, 2.5e-3), (4.3, 3e-2), fontsize=8.5, arrowprops={"arrowstyle": "-", "linewidth": 0.6})
    ax.set_yscale("log")
    ax.set_ylim(1e-5, 1)
    ax.set_xlim(-8, 8)
    moments = lines[0][1].moments
    ax.set_title(
        f"p.d.f., skewness {float(moments.skewness.mean()):.2f}, flatness {float(moments.flatness.mean()):.2f}"
    )
    label_axes(ax, r"$p / p_{rms}$", "density", "1", "1")


def _rms(ax: Axes, lines: list[tuple[Look, WallStatistics]], re_tau: float | None) -> None:
    highest = max(2500.0, 1.3 * (re_tau or 0.0))
    reach = torch.logspace(math.log10(150), math.log10(highest), 60, dtype=torch.float64)
    ax.plot(reach, rms_law(reach), color=INK, linewidth=0.9, linestyle=":")
    sources: dict[str, list[tuple[float, float]]] = {}
    for re, rms, source in CHANNEL_RMS:
        sources.setdefault(source, []).append((re, rms))
    for mark, (source, points) in zip("osD^", sources.items(), strict=False):
        ax.plot(*zip(*points, strict=True), mark, color=TABLE, markersize=4.5, markerfacecolor="none", label=source)
    for i, (look, statistics) in enumerate(lines if re_tau is not None else []):
        of_each = statistics.moments.rms
        low, middle, high = (float(edge) for edge in posterior_band(of_each[:, None], LEVEL))
        place = (re_tau or 1.0) * 1.06 ** (i - (len(lines) - 1) / 2)  # beside each other
        mark = "x" if look["label"] == "truth" else "o"
        errors = [[middle - low], [high - middle]] if len(of_each) > 2 else None
        ax.errorbar([place], [middle], errors, fmt=mark, color=str(look["color"]), markersize=5, capsize=3)
    _logarithmic(ax)
    ax.set_xlim(150, highest)
    ax.set_xticks([re for re in (200, 500, 1000, 2000, 5000, 10000) if re < highest])
    ax.legend(fontsize=7.5, loc="lower right")
    ax.set_title(r"r.m.s.; dotted: $(2.32\, \ln Re_\tau - 9.61)^{1/2}$")
    label_axes(ax, RE_TAU, r"$p_{rms}$", "1", PRESSURE)


def _correlation(ax: Axes, lines: list[tuple[Look, WallStatistics]], table: WallTable | None, axis: str) -> None:
    for look, statistics in lines:
        r, covariance = statistics.correlations[axis]
        _curve(ax, r, covariance / covariance[:, :1], look)
    if table is not None:
        r, covariance = (torch.from_numpy(values) for values in table.correlations[axis])
        ax.plot(r, covariance / covariance[0], ".", color=TABLE, markersize=3)
    ax.axhline(0, color=INK, linewidth=0.8, linestyle=":")


def _logarithmic(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(alpha=0.25, which="both", linewidth=0.5)
