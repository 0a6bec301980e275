"""The science of wall pressure in a report: right curves, units on axes, tables where they are, words where not."""

from __future__ import annotations

import json
import math

import matplotlib
import numpy as np
import pytest
import torch
from torch import Generator

from infield.core.grid import Axis, Grid
from infield.datasets.formats.measurement import measurement_digest
from infield.datasets.formats.posterior import PosteriorWriter
from infield.datasets.wall_pressure.reference_tables import CORRELATIONS, SPECTRA
from infield.datasets.wall_pressure.sensors import WallSensors, write_wall_measurement
from infield.physics.wall_pressure.wall_units import WALL_LENGTH, wall_grid
from infield.pipelines.report import write_report
from infield.pipelines.report.canvas import STYLE
from infield.pipelines.wall_pressure.report import (
    bands_of,
    error_figure,
    on_a_wall,
    reference_table,
    statistics_figure,
    statistics_of,
    wall_facts,
)
from infield.posterior.samplers.exact import Exact
from infield.posterior.wall_pressure.wall_statistics import WallStatistics, spectral_error_db
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.wall_pressure.synthetic import WallPressure

LAW, GRID = WallPressure(180), wall_grid(180, 2 * math.pi, 2 / 3 * math.pi, dx_plus=30.0, dz_plus=20.0)


def planes(n=12, seed=0):
    generator = Generator().manual_seed(seed)
    return LAW.draw(GRID, lambda shape: torch.randn(n, *shape, generator=generator, dtype=torch.float64))


@pytest.fixture
def no_tables(monkeypatch, tmp_path):
    monkeypatch.setenv("INFIELD_DATA", str(tmp_path / "nothing"))


@pytest.fixture
def tables(monkeypatch, tmp_path):
    """Tables of a flow at Re_tau 178 with a spectrum of our making."""
    folder = tmp_path / "data" / "wall_pressure"
    folder.mkdir(parents=True)
    k = 0.5 * np.arange(40)
    rows = [f"178,{axis},{wave},{0.3 * math.exp(-wave / 4)}\n" for axis in "xz" for wave in k]
    (folder / SPECTRA).write_text("re_tau,axis,k_h,e_pp\n" + "".join(rows))
    rows = [f"178,{axis},{r},{178 * r},{2.4 * math.exp(-5 * r)}\n" for axis in "xz" for r in np.linspace(0, 3, 50)]
    (folder / CORRELATIONS).write_text("re_tau,axis,separation_h,separation_plus,r_pp\n" + "".join(rows))
    monkeypatch.setenv("INFIELD_DATA", str(tmp_path / "data"))


def words_of(figure):
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return texts + ([figure.get_suptitle()] if figure.get_suptitle() else [])


def test_statistics_joined_are_those_of_all():
    p = planes()
    whole = WallStatistics.of(p, GRID.spacing)
    parts = statistics_of(GRID, [p[:5], p[5:]])
    for axis in "xz":
        torch.testing.assert_close(parts.spectra[axis].density, whole.spectra[axis].density)
        torch.testing.assert_close(parts.correlations[axis].covariance, whole.correlations[axis].covariance)
    torch.testing.assert_close(parts.moments.flatness, whole.moments.flatness)
    torch.testing.assert_close(parts.pdf.values, whole.pdf.values)
    turned = statistics_of(Grid(GRID.axes[::-1]), [p.mT])  # axes (x, z)
    torch.testing.assert_close(turned.spectra["x"].density, whole.spectra["x"].density)
    assert not torch.allclose(whole.spectra["x"].density[:, :9], whole.spectra["z"].density[:, :9])


def test_only_planes_on_a_wall_are_treated_as_such():
    assert on_a_wall(GRID) and on_a_wall(Grid(GRID.axes[::-1]))
    assert not on_a_wall(Grid.regular((8, 8), names=("z", "x"), units="m"))
    assert not on_a_wall(Grid.regular((8, 8), units=WALL_LENGTH)) and not on_a_wall(Grid((GRID.axes[0],)))
    uneven = Axis("x", tuple(float(i**2) for i in range(8)), WALL_LENGTH)
    assert not on_a_wall(Grid((GRID.axes[0], uneven)))


def test_figure_of_the_statistics(no_tables):
    p = planes()
    statistics, truth = (WallStatistics.of(q, GRID.spacing) for q in (p, p[:1]))
    with matplotlib.rc_context(STYLE):
        figure = statistics_figure(statistics, 180.0, truth=truth, others={"kriging": statistics}, synthetic=True)
    panels = figure.axes
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in panels]
    assert len(panels) == 6 and all(x and y for x, y in labels)
    assert r"$\nu/u_\tau$" in labels[0][0] and r"$\rho^2 u_\tau^4$" in labels[0][1]
    said = words_of(figure)
    assert "Synthetic stand-in" in said[-1] and "180" in said[-1]
    assert {"posterior draws", "their 90 % band", "kriging", "truth", "no reference tables (INFIELD_DATA)"} <= set(said)
    drawn = next(line for line in panels[0].lines if line.get_linestyle() == "--")  # the truth
    spectrum = truth.spectra["x"]
    np.testing.assert_allclose(drawn.get_ydata(), spectrum.premultiplied[0, 1:])
    np.testing.assert_allclose(drawn.get_xdata(), 2 * math.pi / spectrum.wavenumber[1:])
    assert "flatness" in panels[2].get_title(loc="left")
    with matplotlib.rc_context(STYLE):
        plain = statistics_figure(statistics, None)
    assert words_of(plain)[-1] == "Wall pressure" and not any("Synthetic" in word for word in words_of(plain))


def test_tables_are_drawn_where_they_are(tables):
    table, told = reference_table(180.0)
    assert table is not None and "178" in told and "Moser" in told
    assert reference_table(1000.0)[0] is None and "no reference table near" in reference_table(1000.0)[1]
    assert reference_table(None)[0] is None and "not known" in reference_table(None)[1]
    with matplotlib.rc_context(STYLE):
        figure = statistics_figure(WallStatistics.of(planes(), GRID.spacing), 180.0)
    dots = next(line for line in figure.axes[0].lines if line.get_marker() == ".")
    k = 0.5 * np.arange(1, 40)  # density = plain sum / dk, premultiplied by k: the half height drops out
    np.testing.assert_allclose(dots.get_ydata(), k * 0.3 * np.exp(-k / 4) / 0.5)
    np.testing.assert_allclose(dots.get_xdata(), 2 * math.pi / (k / 178))
    assert any("Moser" in word for word in words_of(figure))


def test_figure_of_the_errors():
    p = planes()
    statistics, louder = WallStatistics.of(p, GRID.spacing), WallStatistics.of(2 * p, GRID.spacing)
    with matplotlib.rc_context(STYLE):
        figure = error_figure(louder, statistics, others={"prior": statistics}, training_length=500.0)
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert sum("(dB)" in label for label in labels) == 2
    below = figure.axes[2]
    for ax, axis in zip(figure.axes[:2], "xz", strict=True):
        peak = float(statistics.spectra[axis].density.mean(0)[1:].max())  # the mean is no wave
        assert ax.get_ylim() == pytest.approx((1e-6 * peak, 4 * peak))
    low, high = below.get_ylim()
    assert low == -2 and 20 * math.log10(2) <= high < 7
    with matplotlib.rc_context(STYLE):
        beyond = error_figure(
            WallStatistics.of(1e3 * p, GRID.spacing),
            statistics,
            others={"none": WallStatistics.of(1e-3 * p, GRID.spacing)},
        )
    assert beyond.axes[2].get_ylim() == (-12, 12)  # errors of 60 dB are cut
    steps = [patch.get_data() for patch in below.patches if hasattr(patch, "get_data")]
    np.testing.assert_allclose(steps[0].values, 20 * math.log10(2))
    np.testing.assert_allclose(steps[1].values, 0, atol=1e-9)
    assert "longest wave of the training domains" in words_of(figure)


def test_bands_hold_every_mode_once():
    for n in (16, 30, 37, 64):
        spectrum = WallStatistics.of(torch.randn(2, 4, n), (10.0, 10.0)).spectra["x"]
        edges = bands_of(spectrum)
        k = spectrum.wavenumber[1:]
        assert float(edges[0]) <= float(k[0]) and float(k[-1]) < float(edges[-1]) < 1.01 * float(k[-1])
        ratios = edges[1:] / edges[:-1]
        assert float(ratios[:-1].sub(2).abs().max()) < 1e-6 and 2**0.5 <= float(ratios[-1]) < 2 * 2**0.5
        assert torch.isfinite(spectral_error_db(spectrum, spectrum, edges)).all()


def test_numbers_of_a_report():
    p = planes()
    draws, truth = WallStatistics.of(p, GRID.spacing), WallStatistics.of(1.2 * p, GRID.spacing)
    facts = json.loads(json.dumps(wall_facts(draws, truth), allow_nan=False))
    assert facts["truth"]["rms"] == pytest.approx(1.2 * facts["draws"]["rms"])
    assert (
        facts["draws"]["lobe_depth"] == pytest.approx(facts["truth"]["lobe_depth"]) and facts["draws"]["lobe_zero"] > 0
    )
    np.testing.assert_allclose(facts["spectral_error_db_x"], -20 * math.log10(1.2), atol=1e-3)


def files(folder, *, wall=True):
    """A measurement of a plane and a posterior of exact draws under its Gaussian law."""
    truth = planes(1, seed=7)[0]
    sensors = WallSensors.lattice(GRID, 60.0, 90.0)
    measurement = sensors.measure(truth, 0.1, 0)
    posterior = Exact()(gaussian_prior(LAW, GRID), measurement, 12, Generator().manual_seed(1)).samples
    folder.mkdir()
    write_wall_measurement(folder / "m.zarr", measurement, re_tau=180.0, synthetic=True, words=sensors.words)
    run = {
        "sampler": "exact",
        "sampler_parameters": {},
        "prior": str(LAW),
        "prior_sha256": "ab" * 32,
        "seed": 1,
        "measurement_sha256": measurement_digest(folder / "m.zarr"),
    }
    layout = {"grid": GRID, "channels": ("pressure",), "units": "1", "samples": 12, "block": 5}
    writer = PosteriorWriter(folder / "p.zarr", **layout, run=run)
    for b in range(writer.blocks):
        rows = writer.sample_range(b)
        cost = {"velocity_calls": 0, "operator_calls": 1, "seconds": 0.5}
        writer.write_block(b, posterior[rows.start : rows.stop], cost)
    writer.finish(diagnostics={"chi_square": float(measurement.chi_square(posterior).mean())})
    return folder / "p.zarr", folder / "m.zarr", posterior[:, 0], truth


def test_report_of_a_wall_posterior(tmp_path, no_tables):
    posterior, measurement, draws, truth = files(tmp_path / "wall")
    facts = write_report(posterior, tmp_path / "r.html", measurement)
    text = (tmp_path / "r.html").read_text()
    assert "<h2>Wall pressure</h2>" in text and "a random field stands in for a flow" in text
    assert "Synthetic stand-in for wall pressure, Re_tau 180" in text
    found = facts["wall_pressure"]
    assert found["draws"]["rms"] == pytest.approx(float(draws.std((1, 2), correction=0).mean()), rel=1e-5)
    assert found["truth"]["rms"] == pytest.approx(float(truth.std(correction=0)), rel=1e-5)
    assert len(found["spectral_error_db_x"]) == len(found["bands_x"]) - 1
    mean = WallStatistics.of(draws.mean(0, keepdim=True), GRID.spacing)  # the mean of the draws is no draw: too smooth
    errors = spectral_error_db(mean.spectra["x"], WallStatistics.of(truth[None], GRID.spacing).spectra["x"],
                               torch.tensor(found["bands_x"]))  # fmt: skip
    assert float(errors[-1]) < found["spectral_error_db_x"][-1] - 3
    alone = write_report(posterior, tmp_path / "alone.html")  # without the measurement neither truth nor Re_tau
    assert "truth" not in alone["wall_pressure"] and "<h2>Wall pressure</h2>" in (tmp_path / "alone.html").read_text()
