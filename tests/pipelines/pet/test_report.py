"""The page about a predicted follow-up: every bar, map and sentence beside the numbers of a case made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from infield.datasets.pet.baseline import Baseline
from infield.datasets.pet.image import PETImage
from infield.pipelines.pet import report
from infield.pipelines.pet.prediction import Prediction
from infield.pipelines.report.page import Picture
from infield.posterior.pet.regions import RegionalChange

AFFINE = np.array([[2.0, 0, 0, -5], [0, 3.0, 0, -7], [0, 0, 4.0, -9], [0, 0, 0, 1]])


def prediction(follow_up: bool = True) -> Prediction:
    """Three regions, one slice each of five; the composite is of the first two."""
    labels = np.full((7, 4, 6), -1)
    for k, region in ((1, 0), (2, 1), (3, 2), (4, 0), (5, 1)):
        labels[k, 1:3, 2:4] = region
    values = 1 + np.arange(7 * 4 * 6, dtype=float).reshape(7, 4, 6) / 100
    before = torch.tensor([1.2, 1.6, 1.0], dtype=torch.float64)
    after = before + torch.tensor([0.2, 0.1, -0.3], dtype=torch.float64)
    baseline = Baseline(
        before, PETImage(values, AFFINE, "SUVR"), labels, "scan.nii", follow_up=after if follow_up else None
    )
    draws = torch.tensor([[1.3, 1.5, 1.1], [1.5, 1.7, 1.5]], dtype=torch.float64)
    changes = tuple(
        RegionalChange(name, at, change, change - 0.02, change + 0.03, 0.9, share)
        for name, at, change, share in (
            ("left", 1.2, 0.2, 0.75), ("right", 1.6, 0.0, 0.0), ("pons", 1.0, 0.3, 1.0), ("composite", 1.4, 0.1, 0.5)
        )
    )  # fmt: skip
    composite = np.array([True, True, False])
    return Prediction(baseline, 2.5, draws, changes, composite, ("young cohort",), (100.0, -100.0), "bridge")


@pytest.fixture
def figures(monkeypatch):
    """The figures of a page, which are not rendered."""
    found: list[Figure] = []

    def kept(heading: str, figure: Figure, caption: str) -> Picture:
        found.append(figure)
        return Picture(heading, "data:image/png;base64,", caption, 1.0)

    monkeypatch.setattr(report, "as_picture", kept)
    return found


def test_a_line_of_the_table():
    one = prediction()
    assert report._row(one.changes[0], 0.05, one) == (
        "left",
        "1.200 at baseline, +0.200 (90 %: +0.180 to +0.230)",
        "beyond 5 %: probability 0.75",
    )
    assert report._row(one.changes[3], 0.05, one)[2] == (
        "beyond 5 %: probability 0.50; +10.0 (+8.0 to +13.0) synthetic CL"
    )


def test_bars_of_the_changes(figures):
    report._bars(prediction(), 0.05)
    (ax,) = figures[0].axes
    reach = 0.05 * np.array([1.2, 1.6, 1.0, 1.4])
    assert [bar.get_x() for bar in ax.patches] == pytest.approx(-reach)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(2 * reach)
    assert [bar.get_y() + bar.get_height() / 2 for bar in ax.patches] == pytest.approx([0, 1, 2, 3])
    (intervals,) = ax.collections
    ends = np.array([segment for segment in intervals.get_segments()])
    change = np.array([0.2, 0.0, 0.3, 0.1])
    assert ends[:, 0, 0] == pytest.approx(change - 0.02) and ends[:, 1, 0] == pytest.approx(change + 0.03)
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert lines["mean"] == pytest.approx(np.stack([change, np.arange(4)], 1))
    measured = [0.2, 0.1, -0.3, (0.2 + 0.1) / 2]  # the composite by its own regions
    assert lines["measured"] == pytest.approx(np.stack([measured, np.arange(4)], 1))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["left", "right", "pons", "composite"]
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(said) == sorted(["test-retest, 5 %", "90 % of the draws", "mean", "measured"])
    report._bars(prediction(follow_up=False), 0.05)
    assert "measured" not in {line.get_label() for line in figures[1].axes[0].lines}


def test_maps_of_the_changes(figures):
    """Three of the five slices that hold regions, none of them the lowest or highest; x and y in mm."""
    report._maps(prediction())
    drawn = [ax for ax in figures[0].axes if ax.images]
    assert len(drawn) == 3 * 4
    image, labels = prediction().baseline.image.values, prediction().baseline.labels
    changes = {
        "mean change": [0.2, 0.0, 0.3],  # draws of mean 1.4, 1.6, 1.3
        "one draw": [0.1, -0.1, 0.1],
        "measured change": [0.2, 0.1, -0.3],
    }
    for row, k in enumerate((2, 3, 4)):
        first, *others = drawn[4 * row : 4 * row + 4]
        assert first.get_title(loc="left") + first.get_title() == f"baseline, z = {-9 + 4 * k} mm"
        assert np.array_equal(np.asarray(first.images[0].get_array()), image[k])
        assert first.images[0].get_extent() == [-5 - 1, -5 + 2 * 5.5, -7 - 1.5, -7 + 3 * 3.5]
        low, high = first.images[0].get_clim()
        assert low == 0 and high == pytest.approx(np.quantile(image[[2, 3, 4]], 0.999))
        for ax, (name, values) in zip(others, changes.items(), strict=True):
            assert ax.get_title(loc="left") + ax.get_title() == name
            found = np.ma.filled(ax.images[0].get_array(), np.nan)
            assert np.isnan(found).sum() == (labels[k] < 0).sum()
            assert found[labels[k] >= 0] == pytest.approx(np.array(values)[labels[k][labels[k] >= 0]])
            assert ax.images[0].get_clim() == pytest.approx((-0.3, 0.3))
    report._maps(prediction(follow_up=False))
    assert len([ax for ax in figures[1].axes if ax.images]) == 3 * 3


def test_the_whole_page(tmp_path, figures):
    path = Path(tmp_path / "page.html")
    report.write_prediction_report(path, prediction(), 0.05)
    text = path.read_text()
    assert len(figures) == 2 and "scan.nii: 2 draws of the bridge bridge over 2.5 years" in text
    assert "intervals hold a new one with probability 0.900" in text
    assert "The prior: young cohort." in text and "This is not for diagnosis." in text
    rows = [text.index(f"{name}<") for name in ("composite", "pons", "right", "left")]
    assert rows == sorted(rows)  # from the composite down
