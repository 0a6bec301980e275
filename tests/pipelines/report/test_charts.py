"""What the charts of a report draw, value by value, and its numbers beside sums written out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from infield.core.grid import Axis, Grid
from infield.datasets.formats.field import COMPLEX_CHANNELS, Field
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.report.canvas import Scale, central_slice, degree_aspect
from infield.pipelines.report.charts import calibration_figure, spectrum_figure
from infield.pipelines.report.data import data_panels, views_of
from infield.pipelines.report.figures import (
    CURVE,
    LEVELS,
    RANK_BINS,
    RESIDUAL_EDGES,
    Calibration,
    Misfit,
    band,
    moments,
    scores,
    uniform_spacing,
)

GRID = Grid.regular((3,), units="m")


@dataclass(frozen=True)
class Drawn:
    """Draws that lie in memory, two at a time."""

    samples: Tensor
    field: Field

    @property
    def number(self) -> int:
        return len(self.samples)

    def blocks(self) -> Iterator[Tensor]:
        yield from self.samples.split(2)

    def moment(self, name: str) -> Tensor:
        return (
            self.samples.mean(0) if name == "mean" else self.samples.var(0, correction=min(1, self.number - 1)).sqrt()
        )


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def test_a_band_is_where_students_law_has_it():
    """Half width t_{0.995, 3} s: 5.8409 by any table."""
    values = torch.tensor([[1.0], [2.0], [3.0], [6.0]], dtype=torch.float64)
    s = math.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + 0 + (6 - 3) ** 2) / 3)
    low, high = band(values, -100, 100)
    assert [float(low), float(high)] == pytest.approx([3 - 5.8409 * s, 3 + 5.8409 * s], rel=1e-4)
    assert [float(edge) for edge in band(values, 0, 4)] == [0, 4]


def test_ranks_of_the_truth_and_of_its_stand_ins():
    draws = torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 6.0]])
    found = Calibration.of(draws, torch.tensor([2.5, 3.0]))
    assert found.truth.tolist() == [2, 0]
    assert found.stand_ins.tolist() == [[0, 1], [1, 0], [2, 2]]  # among the other two
    single = Calibration.of(draws[:1], torch.tensor([2.5, 3.0]))
    assert single.stand_ins.shape == (0, 2) and single.truth.tolist() == [1, 0]


def test_histograms_hold_every_value_once():
    """A density over bins of 1/13; of ranks that are all the highest, only the last ones are filled."""
    n, values = 12, 400
    highest = Calibration(n, torch.full((values,), n), torch.full((n, values), n - 1))
    truth, others = highest.histograms(Generator().manual_seed(0))
    assert truth.tolist() == pytest.approx([0.0] * (RANK_BINS - 1) + [RANK_BINS])  # (12 + u) / 13 lies in the last bin
    assert others.shape == (n, RANK_BINS) and others.mean(1).tolist() == pytest.approx([1.0] * n)
    assert not others[:, : RANK_BINS - 2].any()  # (11 + u) / 12 lies beyond 11/12 = 11.9 of 13 bins
    lowest = Calibration(n, torch.zeros(values), torch.zeros(n, values))
    truth, others = lowest.histograms(Generator().manual_seed(0))
    assert truth.tolist() == pytest.approx([RANK_BINS] + [0.0] * (RANK_BINS - 1)) and not others[:, 2:].any()


def test_coverages_of_ranks_in_the_middle_and_at_the_ends():
    """Of 9 draws, rank 4 stands for 0.4 ... 0.5 and rank 9 for 0.9 ... 1; of 8 others, rank 4 for 4/9 ... 5/9."""
    found = Calibration(9, torch.tensor([4, 4, 4, 9]), torch.full((9, 4), 4))
    truth, others = found.coverages(0.5, Generator().manual_seed(0))
    assert truth == 0.75 and others.tolist() == [1.0] * 9
    outer = Calibration(9, torch.tensor([0, 9]), torch.full((9, 4), 8))
    truth, others = outer.coverages(0.75, Generator().manual_seed(0))
    assert truth == 0 and others.tolist() == [0.0] * 9


def test_scores_of_few_values():
    draws = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 4.0]], dtype=torch.float64)
    found = scores(draws, torch.tensor([3.0, 1.0], dtype=torch.float64))
    assert found["scored_values"] == 2
    assert found["relative_l2"] == pytest.approx(1 / math.sqrt(10))  # means 3 and 2 beside 3 and 1
    # mean distance to the truth less half that of pairs: (4/3 - 4/3 / ...) written out for both values
    pairs = sum(abs(a - b) for a in (1, 3, 5) for b in (1, 3, 5)) / (3 * 2)
    expected = [(2 + 0 + 2) / 3 - pairs / 2, (1 + 1 + 3) / 3 - pairs / 2]
    assert found["crps"] == pytest.approx(sum(expected) / 2)
    assert [name for name in found if name.startswith("coverage") and name.count("_") == 1] == [
        f"coverage_{100 * level:.0f}" for level in LEVELS
    ]
    assert all(len(found[f"coverage_{100 * level:.0f}_expected"]) == 2 for level in LEVELS)
    assert not any("expected" in name for name in scores(draws[:2], draws[0]))  # no band of two stand-ins
    assert "crps" not in scores(draws[:1], draws[1])


def test_the_moments_of_a_magnitude_are_those_of_the_draws():
    samples = normal(5, 2, 3)
    drawn: Any = Drawn(samples, Field(GRID, COMPLEX_CHANNELS, "1"))
    (view,) = views_of(drawn.field)
    mean, std = moments(drawn, view)
    assert torch.allclose(mean, samples.mean(0).norm(dim=0)) and torch.allclose(std, samples.norm(dim=1).std(0))
    alone: Any = Drawn(samples[:1], drawn.field)
    assert moments(alone, view)[1].isnan().all()
    real: Any = Drawn(samples, Field(GRID, ("p", "q"), "1"))
    for view, channel in zip(views_of(real.field), (0, 1), strict=True):
        mean, std = moments(real, view)
        assert torch.equal(mean, samples.mean(0)[channel]) and torch.equal(std, samples.std(0)[channel])


def test_the_misfit_counts_standardised_residuals_of_what_is_observed():
    mask = np.array([True, False, True])
    operator = build_operator({"name": "mask", "arrays": {"mask": "s"}}, {"s": mask}, GRID, 1)
    y = torch.tensor([[[1.0, 0.0, -2.0]]], dtype=torch.float64)
    measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(torch.tensor(0.25)), grid=GRID)
    samples = torch.tensor([[[0.5, 9.0, -2.0]], [[1.0, 9.0, 8.0]], [[1.3, 9.0, -2.6]]], dtype=torch.float64)
    found = Misfit.of(Drawn(samples, Field(GRID, ("p",), "1")), measurement)  # type: ignore[arg-type]
    standardised = [1.0, 0.0, 0.0, -20.0, -0.6, 1.2]  # (y - x) / 0.5
    assert found.count == 2 and found.residuals is not None and found.residuals.sum() == 6
    assert found.chi_square == pytest.approx(sum(z**2 for z in standardised) / 6)
    for z in standardised:
        bin = int((max(z, -5.0) + 5) / 0.25 + 1e-9)
        assert RESIDUAL_EDGES[bin] <= max(z, -5) <= RESIDUAL_EDGES[bin + 1] and found.residuals[bin] >= 1


def test_only_even_axes_of_four_points_have_a_spectrum():
    uneven = Grid((Axis("x", (0.0, 1.0, 3.0, 4.0, 5.0)),))
    assert uniform_spacing(Field(Grid.regular((4, 5), units="m"), ("p",), "1")) == (1 / 3, 1 / 4)
    for grid in (uneven, Grid.regular((3, 8))):
        assert uniform_spacing(Field(grid, ("p",), "1")) is None


def lines_of(ax: Any) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def test_the_chart_of_a_spectrum():
    """Of 19 draws the band of 90 % runs from the least to the largest; wavenumber 0 is left out."""
    k = torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    power = torch.arange(1.0, 20.0, dtype=torch.float64)[torch.randperm(19)][:, None] * (1 + k)
    figure = spectrum_figure(k, power, truth=7 + k, data=9 + k, units="mm", per="1/m")
    (ax,) = figure.axes
    lines = lines_of(ax)
    assert lines["draws, median"].tolist() == [[1, 20], [2, 30], [4, 50]]
    assert lines["truth"].tolist() == [[1, 8], [2, 9], [4, 11]] and lines["data"].tolist() == [
        [1, 10],
        [2, 11],
        [4, 13],
    ]
    (edge,) = ax.collections
    corners = edge.get_paths()[0].vertices
    for at, height in ((1, 2), (2, 3), (4, 5)):
        assert {float(y) for x, y in corners if x == at} == {height, 19.0 * height}
    assert edge.get_label() == "90 % of the draws"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("wavenumber (1/m)", "power a mode (mm²)")
    few = spectrum_figure(k, power[:5], None, None, "m/s", "1").axes[0]
    assert few.collections[0].get_label() == "67 % of the draws" and few.get_ylabel() == "power a mode ((m/s)²)"
    assert set(lines_of(few)) == {"draws, median"}


def test_the_charts_of_a_calibration():
    draws, truth = normal(8, 500), normal(500, seed=1)
    calibration = Calibration.of(draws, truth)
    counts = torch.arange(len(RESIDUAL_EDGES) - 1, dtype=torch.float64)
    figure = calibration_figure(calibration, Misfit(1.234, 500, counts))
    assert figure is not None
    of_ranks, of_coverage, of_residuals = figure.axes
    generator = Generator().manual_seed(0)
    expected, others = calibration.histograms(generator)
    stairs = {patch.get_label(): patch.get_data() for patch in of_ranks.patches}
    assert stairs["truth"].values.tolist() == expected.tolist()
    assert stairs["truth"].edges == pytest.approx(np.arange(14) / 13)
    low, high = band(others, 0, math.inf)
    shaded = stairs["99 % of draws in its place"]
    assert shaded.values.tolist() == high.tolist() and np.asarray(shaded.baseline).tolist() == low.tolist()
    assert of_ranks.get_xlim() == (0, 1) and of_ranks.get_ylim()[0] == 0
    assert of_ranks.get_ylim()[1] > 1.2 * max(float(expected.max()), float(high.max()))
    curve = lines_of(of_coverage)
    assert curve["right"].tolist() == [[0, 0], [100, 100]]
    nominal, inside = curve["truth"].T
    assert nominal == pytest.approx([5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95])
    assert np.abs(inside - nominal).max() < 8  # a right posterior; 500 values scatter by 2 %
    corners = of_coverage.collections[0].get_paths()[0].vertices
    for level, share in zip(CURVE, inside, strict=True):
        truth_share, shares = calibration.coverages(level, generator)  # the generator goes on behind the histograms
        assert share == 100 * truth_share
        drawn_band = {round(float(y), 9) for x, y in corners if math.isclose(x, 100 * level)}
        expected_band = sorted({round(100 * float(edge), 9) for edge in band(shares, 0, 1)})
        assert sorted(drawn_band) == pytest.approx(expected_band)
    assert of_coverage.get_xlim() == of_coverage.get_ylim() == (0, 100)
    density = of_residuals.patches[0].get_data()
    assert density.values == pytest.approx(np.arange(40) / (39 * 20) / 0.25)  # 10 wide, 40 bins, sum 780
    normal_curve = lines_of(of_residuals)["standard normal"]
    assert normal_curve[:, 1] == pytest.approx(stats.norm.pdf(normal_curve[:, 0]))
    assert (normal_curve[0, 0], normal_curve[-1, 0]) == of_residuals.get_xlim() == (-5, 5)
    assert of_residuals.get_ylim()[1] >= 1.2 * density.values.max()
    assert of_residuals.get_title() == "data residuals, chi-square 1.23"
    alone = calibration_figure(None, Misfit(1.0, 5, counts))
    assert alone is not None and len(alone.axes) == 1
    both = calibration_figure(calibration, Misfit(1.0, 5, None))
    assert both is not None and len(both.axes) == 2
    assert calibration_figure(None, Misfit(1.0, 5, None)) is None and calibration_figure(None, None) is None


def test_colour_scales():
    signs = Scale.of(np.array([-1.0, 4.0]))  # the lesser reach is 0.25 of the larger: sequential
    assert signs.colours == "viridis"
    signs = Scale.of(np.linspace(-2, 4, 1001))
    assert (signs.low, signs.high) == pytest.approx((-3.94, 3.94)) and signs.colours == "RdBu_r"
    one = Scale.of(np.array([7.0, np.nan]), np.full(3, 7.0))
    assert (one.low, one.high) == (7, 8)
    assert Scale.of(np.array([np.nan])) == Scale(0.0, 1.0, "viridis")
    assert Scale.of(np.linspace(-2, 4, 11), colours="gray").colours == "gray"


def test_the_middle_of_a_field_on_three_axes():
    axes = tuple(Axis(n, tuple(0.5 * i for i in range(m)), "m") for n, m in zip("zyx", (4, 5, 6), strict=True))
    values = np.arange(120.0).reshape(4, 5, 6)
    for axis, words, cut in (
        (0, "z = 1 m", values[2]),
        (1, "y = 1 m", values[:, 2]),
        (2, "x = 1.5 m", values[:, :, 3]),
    ):
        grid, found, where = central_slice(Grid(axes), values, axis)
        assert (found == cut).all() and where == words and grid.shape == cut.shape
    assert degree_aspect("lat", "degrees_north", 60.0) == pytest.approx(2) == degree_aspect("lat", "degrees", -60)
    assert degree_aspect("lat", "degrees_north", 86.0) == 1 == degree_aspect("y", "degrees", 60.0)


def test_frequencies_of_kspace_and_its_magnitude():
    grid = Grid((Axis("y", (0.0, 0.5, 1.0, 1.5), "cm"), Axis("x", (0.0, 2.0, 4.0), "1")))
    mask = np.ones((4, 3), dtype=bool)
    operator = build_operator({"name": "fourier", "arrays": {"mask": "s"}}, {"s": mask}, grid, 2)
    y = torch.zeros(1, 2, 4, 3, dtype=torch.float64)
    y[0, :, 2, 1] = torch.tensor([300.0, 400.0])
    measurement = Measurement(
        y=y, operator=operator, noise=GaussianNoise(torch.tensor(1.0)), grid=grid, channels=COMPLEX_CHANNELS,
        description={"name": "fourier"},
    )  # fmt: skip
    panel, back = data_panels(measurement, views_of(Field(grid, COMPLEX_CHANNELS, "1"))[0], "V")
    assert panel.title == "data: k-space" and panel.units == "log10 of V" and back.title == "zero-filled"
    assert panel.values[2, 1] == pytest.approx(math.log10(500)) and np.isnan(panel.values).sum() == 11
    rows, columns = panel.places.axes  # type: ignore[union-attr]
    assert rows.coordinates == (-1.0, -0.5, 0.0, 0.5) and (rows.name, rows.units) == ("k_y", "cycles/cm")
    assert columns.coordinates == pytest.approx((-1 / 6, 0.0, 1 / 6)) and columns.units == "1"
    assert back.values == pytest.approx(np.full((4, 3), back.values[0, 0])) and back.values[0, 0] > 0
