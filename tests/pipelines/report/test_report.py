"""The report: one file, right numbers, words that follow from them, and a refusal where it would mislead."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from examples.report_files import CASES, LAW, files, measured
from matplotlib.figure import Figure
from torch import Generator

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.pipelines.report import write_report
from infield.pipelines.report.canvas import Scale, _frame
from infield.pipelines.report.data import data_panels, views_of
from infield.pipelines.report.figures import Calibration, band, scores
from infield.pipelines.report.words import reading


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_field_gives_one_whole_page(tmp_path, case):
    posterior, measurement, *_ = files(tmp_path / case, case)
    facts = write_report(posterior, tmp_path / "new" / "report.html", measurement)
    text = (tmp_path / "new" / "report.html").read_text()
    page = Page(text)
    assert not page.open  # every tag is closed
    pictures = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) >= (2 if case == "scattered" else 3)
    for picture in pictures:
        assert base64.b64decode(picture.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert not {"link", "iframe"} & {tag for tag, _ in page.tags}
    assert not any("src" in attrs for tag, attrs in page.tags if tag == "script")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "http" not in policy
    written = re.sub(r'<script type="application/json".*?</script>', "", re.sub(r"base64,[^\"]*", "", text), flags=re.S)
    assert not re.search(r"https?://|src=.//|url\(", written)  # nothing from outside
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    assert not list((tmp_path / "new").glob("*.draft"))
    json.dumps(facts)


def test_numbers_are_those_of_the_draws(tmp_path):
    posterior, measurement, samples, problem = files(tmp_path / "a")
    facts = write_report(posterior, tmp_path / "r.html", measurement)
    samples, truth = samples.float().double(), problem.truth[0]
    error = float((samples.mean(0) - truth).norm() / truth.norm())
    assert facts["relative_l2"] == pytest.approx(error, rel=1e-6)
    assert facts["chi_square"] == pytest.approx(float(problem.chi_square(samples).mean()), rel=1e-6)
    assert facts["data"] == problem.count
    assert facts["velocity_calls"] == 3 and facts["operator_calls"] == 4 and facts["seconds"] == 1.5
    gap = (samples - truth).abs().mean(0)
    spread = (samples[:, None] - samples[None]).abs().sum((0, 1)) / (2 * 24 * 23)
    assert facts["crps"] == pytest.approx(float((gap - spread).mean()), rel=1e-6)
    edges = torch.quantile(samples, torch.tensor([0.05, 0.95], dtype=torch.float64), dim=0)
    inside = float(((truth > edges[0]) & (truth < edges[1])).double().mean())
    assert facts["coverage_90"] == pytest.approx(inside, abs=0.06)
    words = " ".join(Page((tmp_path / "r.html").read_text()).words)
    assert f"{facts['relative_l2']:.4f}" in words and "ab" * 32 in words


@pytest.mark.slow
def test_warnings_come_with_wrong_posteriors_and_not_with_right_ones(tmp_path):
    right = write_report(*files(tmp_path / "a")[:1], tmp_path / "a.html", tmp_path / "a" / "m.zarr")
    assert right["warnings"] == []
    narrow = write_report(*files(tmp_path / "b", spread=0.4)[:1], tmp_path / "b.html", tmp_path / "b" / "m.zarr")
    assert any("too narrow" in warning for warning in narrow["warnings"])
    wide = write_report(*files(tmp_path / "c", spread=3.0)[:1], tmp_path / "c.html", tmp_path / "c" / "m.zarr")
    assert any("too wide" in w for w in wide["warnings"]) and any("do not explain" in w for w in wide["warnings"])
    few = write_report(*files(tmp_path / "d", n=3)[:1], tmp_path / "d.html", tmp_path / "d" / "m.zarr")
    assert any("Few draws" in warning for warning in few["warnings"])
    assert "Warning." in (tmp_path / "b.html").read_text() and "Warning." not in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("value", "count", "words"),
    [
        (1.02, 1000, "within its scatter"),
        (
            1.34,
            10_000,
            "24 standard deviations off for 10,000 data. The standard deviation of the noise is about 16 % larger",
        ),
        (
            0.9,
            10_000,
            "7 standard deviations off for 10,000 data. The standard deviation of the noise is about 5 % smaller",
        ),
        (1.8, 10_000, "which is not right, see the warning"),
        (1.3, 20, "within its scatter"),
    ],
)
def test_a_chi_square_is_judged_by_its_scatter(value, count, words):
    assert words in reading({"chi_square": value, "data": count, "prior": "p"})[1]


def test_maps_in_degrees_have_the_right_aspect():
    north = Grid((Axis("lat", (59.0, 60.0, 61.0), "degrees_north"), Axis("lon", (0.0, 1.0, 2.0), "degrees_east")))
    ax = Figure().subplots()
    _frame(ax, north)
    assert ax.get_aspect() == pytest.approx(2.0)  # 1 / cos(60 degrees)
    _frame(ax, Grid.regular((3, 3), units="km"))
    assert ax.get_aspect() == 1.0


def test_few_corners_do_not_take_up_a_colour_scale():
    field = np.linspace(1, 2, 10_000)
    field[:80] = 50.0
    scale = Scale.of(field)
    assert 1 <= scale.low < 1.05 and 1.95 < scale.high <= 2.0


def test_band_holds_a_right_truth_where_a_binomial_one_would_not():
    """A truth among correlated draws, 200 times: the band of stand-ins holds it as promised, a binomial one not."""
    generator = Generator().manual_seed(0)
    covariance = LAW.covariance(Grid.regular((60,), periodic=True))
    held, binomial, cases, n = 0, 0, 200, 20
    for _ in range(cases):
        fields = covariance.sample(n + 1, generator).flatten(1)
        share, others = Calibration.of(fields[1:], fields[0]).coverages(0.5, generator)
        low, high = band(others, 0, 1)
        held += float(low) <= share <= float(high)
        binomial += abs(share - 0.5) <= 2.576 * (0.25 / 60) ** 0.5
    assert held / cases >= 0.97
    assert binomial / cases <= 0.85


def test_without_measurement_or_truth_the_report_says_less(tmp_path):
    posterior, measurement, *_ = files(tmp_path / "a", truth=False, n=1)
    alone = write_report(posterior, tmp_path / "alone.html")
    assert "coverage_90" not in alone and "data" not in alone and alone["chi_square"] > 0
    beside = write_report(posterior, tmp_path / "beside.html", measurement)
    assert "relative_l2" not in beside and beside["data"] > 0
    assert "truth is not known" in (tmp_path / "beside.html").read_text()


def test_text_from_files_is_escaped(tmp_path):
    posterior, measurement, *_ = files(tmp_path / "a", title="<script>alert(1)</script>")
    write_report(posterior, tmp_path / "r.html", measurement)
    text = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in text and "&lt;script&gt;" in text and "test &amp; prior" in text


def test_refusals_name_the_file_and_leave_nothing(tmp_path):
    posterior, measurement, *_ = files(tmp_path / "a")
    other = files(tmp_path / "b", "line")[1]
    with pytest.raises(InfieldError, match=r"measurement_sha256.*reconstruct it again"):
        write_report(posterior, tmp_path / "r.html", other)
    with pytest.raises(InfieldError, match=r"missing\.zarr"):
        write_report(tmp_path / "missing.zarr", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(InfieldError, match="existing file"):
        write_report(posterior, tmp_path / "r.html", measurement)
    assert (tmp_path / "r.html").read_text() == "mine"
    write_report(posterior, tmp_path / "r.html", measurement, overwrite=True)
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(InfieldError, match="folder"):
        write_report(posterior, tmp_path, measurement, overwrite=True)


@pytest.mark.parametrize(
    "case, titles",
    {
        "line": ["data: 9 sensors"],
        "plane": ["data: 28 % of the points"],
        "complex": ["data: k-space", "zero-filled"],
        "space": ["data: 30 sensors"],
        "scattered": ["data: 13 sensors"],
    }.items(),
)
def test_data_are_pictured_as_what_they_are(case, titles):
    measurement, _ = measured(case)
    field = type("Field", (), {"channels": measurement.channels})()
    panels = data_panels(measurement, views_of(field)[0], "mm")
    share = 100 * CASES[case][3].mean() if case == "plane" else 0
    assert [p.title for p in panels] == [t.replace("28", f"{share:.2g}") for t in titles]
    if case == "complex":  # zero frequency in the middle, unsampled places not shown
        assert panels[0].places.axes[0].coordinates[6] == 0
        assert np.array_equal(np.isfinite(panels[0].values), CASES[case][3])


def test_scores_need_no_second_draw():
    figures = scores(torch.zeros(1, 5, dtype=torch.float64), torch.ones(5, dtype=torch.float64))
    assert figures["relative_l2"] == 1 and "crps" not in figures and "coverage_90_expected" not in figures


def test_a_truncated_posterior_is_refused(tmp_path):
    posterior, measurement, *_ = files(tmp_path / "a")
    next(chunk for chunk in (posterior / "samples" / "c").rglob("*") if chunk.is_file()).unlink()
    with pytest.raises(InfieldError, match="samples"):
        write_report(posterior, tmp_path / "r.html", measurement)
    assert not (tmp_path / "r.html").exists()


def test_which_data_matter_is_a_section_where_it_can_be_computed(tmp_path):
    """Two sensors side by side share what one alone contributes; an estimate has no such picture."""
    import infield
    from infield.pipelines.report import write_report

    grid = infield.Grid.regular((12,), 1.0)
    operator = infield.operator("points", grid, indices=np.array([2, 3, 9]))
    y = torch.tensor([[[0.5, 0.4, -0.2]]], dtype=torch.float64)
    m = infield.Measurement(y, operator=operator, noise=infield.noise.Gaussian(0.04), grid=grid)
    infield.write_measurement(tmp_path / "m.zarr", m)
    (tmp_path / "p.yaml").write_text("prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 0.3}\n")
    for name, samples in (("p", 64), ("few", 8)):
        to, prior = tmp_path / f"{name}.zarr", tmp_path / "p.yaml"
        infield.reconstruct(tmp_path / "m.zarr", to=to, prior=prior, sampler="exact", samples=samples)
        write_report(tmp_path / f"{name}.zarr", tmp_path / f"{name}.html", tmp_path / "m.zarr")
    assert "Which data matter" in (tmp_path / "p.html").read_text()
    assert "Which data matter" not in (tmp_path / "few.html").read_text()
