"""The demo: it leaves what it promises, may be given again, and touches nothing that is not its own."""

import json

import numpy as np
import pytest
import xarray as xr

from infield import InfieldError
from infield.datasets.formats.posterior import PosteriorWriter
from infield.pipelines import cli
from infield.pipelines.commands import demo


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The demo with a smaller field."""
    for name, value in (("POINTS", 24), ("SENSORS", 60), ("SAMPLES", 24), ("SAMPLER", ("faps", ["levels=3"]))):
        monkeypatch.setattr(demo, name, value)


def test_command_leaves_all_files_and_figures_beside_the_exact_ones(tmp_path, capsys):
    folder = tmp_path / "new" / "demo"
    assert cli.main(["demo", "--output", str(folder), "--json"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert {path.name for path in folder.iterdir()} == {
        "measurement.zarr",
        "prior.yaml",
        "posterior.zarr",
        "report.html",
    }
    posterior, exact = summary["posterior"], summary["exact"]
    assert posterior["velocity_calls"] == 3 and exact["velocity_calls"] == 0
    assert posterior["relative_l2"] == pytest.approx(exact["relative_l2"], rel=0.1)
    assert posterior["crps"] == pytest.approx(exact["crps"], rel=0.1)
    assert posterior["chi_square"] == pytest.approx(1, abs=0.4)
    assert posterior["relative_l2"] < 0.8
    samples = xr.open_zarr(folder / "posterior.zarr", consolidated=False)["samples"]
    assert samples.dims == ("sample", "north", "east") and samples.attrs["units"] == "K"


def test_table_names_what_the_issue_asks_for(tmp_path, capsys):
    assert cli.main(["demo", "--output", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    for words in ("error", "90 %", "chi-square", "network evaluations", "seconds", "exact"):
        assert words in printed


@pytest.mark.slow
def test_again_gives_the_same_and_another_seed_another(tmp_path):
    first = demo.demo(tmp_path / "demo", quiet=True)
    samples = xr.open_zarr(tmp_path / "demo" / "posterior.zarr", consolidated=False)["samples"].values
    again = demo.demo(tmp_path / "demo", quiet=True)
    assert np.array_equal(samples, xr.open_zarr(tmp_path / "demo" / "posterior.zarr", consolidated=False)["samples"])
    assert again["posterior"]["relative_l2"] == first["posterior"]["relative_l2"]
    other = demo.demo(tmp_path / "demo", seed=1, quiet=True)
    assert other["posterior"]["relative_l2"] != first["posterior"]["relative_l2"]


def test_an_interrupted_demo_goes_on_and_another_seed_starts_afresh(tmp_path, monkeypatch):
    """Ctrl-C after two blocks; then the same seed, and in a second folder another one."""
    write = PosteriorWriter.write_block

    def interrupted(self, b, *arguments):
        write(self, b, *arguments)
        if len(self.missing_blocks()) <= self.blocks - 2:
            raise KeyboardInterrupt

    for name, seed in (("same", 0), ("other", 1)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(PosteriorWriter, "write_block", interrupted)
            demo.demo(tmp_path / name, quiet=True)
        assert (tmp_path / name / "posterior.zarr.partial").exists()
        assert not (tmp_path / name / "posterior.zarr").exists()
        demo.demo(tmp_path / name, seed=seed, quiet=True)
        assert not (tmp_path / name / "posterior.zarr.partial").exists()


@pytest.mark.parametrize("name", ["measurement.zarr", "prior.yaml", "report.html", "posterior.zarr"])
def test_what_the_demo_did_not_write_stays(tmp_path, name):
    mine = tmp_path / name
    if name.endswith(".zarr"):
        attributes = {"infield_format": "measurement", "infield_version": 1, "history": "years of work"}
        xr.Dataset({"data": ("x", [1.0])}, attrs=attributes).to_zarr(mine, consolidated=False)
    else:
        mine.write_text("mine")
    with pytest.raises(InfieldError, match="no demo wrote"):
        demo.demo(tmp_path, quiet=True)
    assert list(tmp_path.iterdir()) == [mine]


def test_other_files_in_its_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    demo.demo(tmp_path, quiet=True)
    demo.demo(tmp_path, quiet=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_negative_seed_is_refused(tmp_path, capsys):
    assert cli.main(["demo", "--output", str(tmp_path / "demo"), "--seed", "-1"]) == 2
    assert "--seed" in capsys.readouterr().err and not (tmp_path / "demo").exists()


def test_sensors_stand_on_land_and_the_truth_follows_the_prior():
    measurement = demo.measure(0)
    places = measurement.arrays["sensors"]
    assert places.shape == (60, 2) and (np.hypot(*(places - demo.LAKE_CENTRE).T) > demo.LAKE_RADIUS).all()
    spread = np.std([demo.measure(seed).truth.numpy() for seed in range(20)])
    assert spread == pytest.approx(demo.SCALE, rel=0.15)
