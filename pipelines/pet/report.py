"""A page about one predicted follow-up: baseline, predicted change with intervals, the measured one where known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infield.pipelines.pet.prediction import Prediction
from infield.pipelines.report import write_page
from infield.pipelines.report.canvas import INK, MEAN, STYLE, TRUTH, UNSEEN, WIDTH, label_axes
from infield.pipelines.report.charts import as_picture
from infield.pipelines.report.page import Picture, page
from infield.pipelines.report.words import Row
from infield.posterior.pet.regions import RegionalChange

SLICES = 3


def write_prediction_report(path: Path, prediction: Prediction, band: float) -> None:
    """Write the page.

    Arguments:
        path: HTML file, which appears when it is whole.
        prediction: What is shown.
        band: Test-retest band as a fraction of the baseline.
    """
    with matplotlib.rc_context(STYLE):
        pictures = [_bars(prediction, band), _maps(prediction)]
    subtitle = (
        f"{prediction.baseline.source}: {len(prediction.draws)} draws of the bridge {prediction.prior} over "
        f"{prediction.years:.3g} years"
    )
    warnings = ["This is not for diagnosis."]
    warnings += [f"The prior: {words}." for words in prediction.cautions if "diagnosis" not in words]
    level = prediction.changes[0].level
    reading = [
        f"Each draw is what a scan at the follow-up would measure, its noise and the error of its reference region "
        f"included. Of {len(prediction.draws)} draws, the intervals hold a new one with probability {level:.3f}, by "
        "order statistics. SUVR is the ratio to the reference region; left is the subject's left."
    ]
    tables = {"Change of SUVR": [_row(c, band, prediction) for c in reversed(prediction.changes)]}
    write_page(path, page("Predicted follow-up of amyloid PET", subtitle, warnings, reading, pictures, tables))


def _row(change: RegionalChange, band: float, prediction: Prediction) -> Row:
    """One region: SUVR, its change with interval, the same in the scale of the synthetic cohort."""
    value = (
        f"{change.baseline:.3f} at baseline, {change.change:+.3f} "
        f"({100 * change.level:.0f} %: {change.low:+.3f} to {change.high:+.3f})"
    )
    note = f"beyond {100 * band:g} %: probability {change.exceeds:.2f}"
    if prediction.centiloid is not None and change.region == "composite":
        in_cl = change.in_centiloid(prediction.centiloid[0])
        note += f"; {in_cl.change:+.1f} ({in_cl.low:+.1f} to {in_cl.high:+.1f}) synthetic CL"
    return change.region, value, note


def _bars(prediction: Prediction, band: float) -> Picture:
    """Change of each region with its interval."""
    changes = prediction.changes
    figure = Figure((WIDTH * 0.8, 0.24 * len(changes) + 1.2), layout="constrained")
    ax, rows = figure.subplots(), np.arange(len(changes))
    middle, low, high = (np.array([getattr(c, k) for c in changes]) for k in ("change", "low", "high"))
    reach = band * np.array([c.baseline for c in changes])
    ax.barh(rows, 2 * reach, left=-reach, height=0.8, color=UNSEEN, label=f"test-retest, {100 * band:g} %")
    ax.hlines(rows, low, high, color=MEAN, linewidth=2, label=f"{100 * changes[0].level:.0f} % of the draws")
    ax.plot(middle, rows, "o", color=MEAN, markersize=4, label="mean")
    measured = prediction.baseline.follow_up
    if measured is not None:
        found = (measured - prediction.baseline.values).numpy()
        if len(changes) > len(found):
            found = np.append(found, found[prediction.composite].mean())
        ax.plot(found, rows, "x", color=TRUTH, markersize=5, label="measured")
    ax.axvline(0, color=INK, linewidth=0.8, linestyle=":")
    ax.set_yticks(rows, [c.region for c in changes])
    label_axes(ax, "change of SUVR", "", "1", "1")
    ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    text = "Predicted change of each region with its interval, against the band of two scans without any change."
    figure.supxlabel("; ".join(prediction.cautions[:2]), fontsize="small")
    return as_picture("Change by region", figure, text)


def _panels(prediction: Prediction) -> list[tuple[str, np.ndarray, bool]]:
    """Title, image `(z, y, x)` and whether it is a change: images that were drawn, or regional means as painted."""
    baseline, images = prediction.baseline, prediction.images
    image, labels, before = baseline.image.values, baseline.labels, baseline.values.numpy()
    if images is not None:
        found = [("baseline", image, False), ("mean prediction", images.mean, False)]
        if baseline.follow_up_image is not None:
            found.append(("measured follow-up", baseline.follow_up_image, False))
        return [*found, ("one draw", images.draws[0], False), ("mean minus baseline", images.mean - image, True)]
    maps = {"mean change": prediction.draws.mean(0).numpy() - before, "one draw": prediction.draws[0].numpy() - before}
    if baseline.follow_up is not None:
        maps["measured change"] = baseline.follow_up.numpy() - before
    painted = [(name, np.where(labels >= 0, values[labels], np.nan), True) for name, values in maps.items()]
    return [("baseline", image, False), *painted]


def _maps(prediction: Prediction) -> Picture:
    """Slices of every panel; changes on a diverging scale about zero."""
    baseline, panels = prediction.baseline, _panels(prediction)
    image, labels = baseline.image, baseline.labels
    filled = np.flatnonzero((labels >= 0).any((1, 2)))
    shown = filled[np.linspace(0, len(filled) - 1, min(SLICES + 2, len(filled))).round().astype(int)]
    shown = shown[1:-1] if len(shown) > SLICES else shown
    changes = [np.abs(values[shown])[labels[shown] >= 0] for _, values, change in panels if change]
    reach = max(float(np.quantile(values, 0.995)) for values in changes) or 1.0
    top = float(np.quantile(image.values[shown], 0.999))
    figure = Figure((WIDTH, 2.9 * len(shown) * 4 / max(4, len(panels))), layout="constrained")
    axes = figure.subplots(len(shown), len(panels), squeeze=False)
    for row, k in zip(axes, shown, strict=True):
        drawn: dict[bool, tuple[Any, Any]] = {}
        for ax, (name, values, change) in zip(row, panels, strict=True):
            low, high, colours = (-reach, reach, "RdBu_r") if change else (0.0, top, "viridis")
            drawn[change] = _slice(ax, values[k], image.affine, colours, low, high), ax
            ax.set_title(name)
        row[0].set_title(f"baseline, z = {image.affine[2, 3] + image.affine[2, 2] * k:.0f} mm")
        for change, (shade, ax) in drawn.items():
            figure.colorbar(shade, ax=ax, label="change of SUVR" if change else "SUVR", shrink=0.8)
    text = (
        f"{', '.join(name for name, _, _ in panels).capitalize()}. Slices from the lowest up, seen from above: the "
        "left of the subject is at the left (L). "
    )
    if prediction.images is None:
        text += (
            "Changes are those of regional means, painted onto the grey matter of each region: no image was predicted. "
            "Grey: no region."
        )
    else:
        text += (
            "The bridge draws regional means; voxels are drawn about them by a Gaussian law of their logarithm, fitted "
            "to the training's scanner: no network drew them. One draw has the noise of a scan, the mean has not; the "
            "difference is that of the mean from a baseline with its noise."
        )
    figure.supxlabel("; ".join(prediction.cautions[:2]), fontsize="small")
    return as_picture("Where", figure, text)


def _slice(ax: Axes, values: np.ndarray, affine: np.ndarray, colours: str, low: float, high: float) -> Any:
    """One slice `(y, x)` in mm; L and R at the sides."""
    x, y = (affine[k, 3] + affine[k, k] * np.array([-0.5, values.shape[1 - k] - 0.5]) for k in (0, 1))
    ax.set_facecolor(UNSEEN)
    drawn = ax.imshow(values, origin="lower", extent=(*x, *y), cmap=colours, vmin=low, vmax=high, rasterized=True)
    for text, place in (("L", 0.03), ("R", 0.97)):
        ax.text(place, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=INK, weight="bold",
                bbox={"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1})  # fmt: skip
    label_axes(ax, "x", "y", "mm", "mm")
    return drawn
