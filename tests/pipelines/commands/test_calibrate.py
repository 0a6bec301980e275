"""`infield calibrate` and `reconstruct --calibration`: verdict, exit status, resumption, refusals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from examples.calibration_example import measurement
from torch import Generator

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.measurement import write_measurement
from infield.pipelines.run import calibrate as command
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

FEW = ("--simulations", 20, "--draws", 8, "--workers", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two measurements of one instrument, one of another noise, two priors, a calibration of the first."""
    path = tmp_path_factory.mktemp("calibrate")
    write_measurement(path / "m.zarr", measurement())
    write_measurement(path / "other.zarr", measurement(seed=1))
    write_measurement(path / "noisier.zarr", measurement(variance=0.2))
    for name, length in (("p", 0.3), ("wrong", 0.9)):
        law = f"{{prior: gaussian, law: {{law: matern, nu: 1.5, length: {length}}}}}"
        (path / f"{name}.yaml").write_text(law, encoding="utf-8")
    fields = gaussian_prior(Matern(nu=1.5, length=0.3), Grid.regular((6, 6))).covariance.sample(
        24, Generator().manual_seed(5)
    )
    axes = Grid.regular((6, 6)).axes
    coordinates = {a.name: (a.name, np.array(a.coordinates), {"units": "1", "periodic": 0}) for a in axes}
    values = ("sample", *(a.name for a in axes)), fields[:, 0].numpy(), {"units": "1"}
    xr.Dataset({"field": values}, coordinates).to_zarr(path / "fields.zarr", consolidated=False)
    return path


@pytest.fixture
def calibrate(infield, folder):
    return lambda m, *words: infield(
        "calibrate", folder / m, "--prior", folder / "p.yaml", "--sampler", "exact", *words
    )


def test_a_right_sampler_passes_and_its_posterior_is_mended_beside_the_original(calibrate, infield, folder, tmp_path):
    found = calibrate("m.zarr", "-o", folder / "c.zarr", *FEW, "--json", "--strict").summary
    assert found["right"] and found["truths"] == "prior" and "wrong prior" in found["does_not_see"]
    assert {one["place"] for one in found["coverage"]} >= {"all", "edge", "far from data"}
    run = ("--prior", folder / "p.yaml", "--sampler", "exact", "--samples", 12, "--json")
    plain = infield("reconstruct", folder / "m.zarr", "-o", tmp_path / "a.zarr", *run)
    mended = infield(
        "reconstruct", folder / "other.zarr", "-o", tmp_path / "b.zarr", *run, "--calibration", folder / "c.zarr"
    )
    assert plain.status == 0 and mended.summary["calibration_verdict"] == found["verdict"]
    posterior = xr.open_zarr(tmp_path / "b.zarr", consolidated=False)
    assert posterior["recalibrated"].shape == posterior["samples"].shape
    assert np.allclose(posterior["recalibrated"].mean("sample"), posterior["mean"], atol=1e-5)
    ratio = float(posterior["recalibrated_std"].mean() / posterior["std"].mean())
    assert 0.7 < ratio < 1.4 and ratio != 1
    assert bool((posterior["conformal_low"] < posterior["conformal_high"]).all())
    assert "not for these data" in posterior["conformal_low"].attrs["long_name"]


def test_other_files_are_refused_by_digest(infield, folder, tmp_path):
    def refused(m, prior, sampler, *words, more=()):
        infield("reconstruct", folder / m, "-o", tmp_path / "x.zarr", "--prior", folder / prior, "--sampler", sampler,
                "--calibration", folder / "c.zarr", *more).refused(*words)  # fmt: skip

    refused("noisier.zarr", "p.yaml", "exact", "noise_sha256", "another noise model")
    refused("m.zarr", "wrong.yaml", "exact", "prior_sha256", "another prior")
    refused("m.zarr", "p.yaml", "faps", "another sampler")
    refused("m.zarr", "p.yaml", "exact", "--tiles", more=("--tiles", 3, 3))
    assert not (tmp_path / "x.zarr").exists()


def test_a_wrong_prior_is_found_by_held_out_fields_and_strict_says_so(infield, folder, tmp_path):
    run = ("calibrate", folder / "m.zarr", "--prior", folder / "wrong.yaml", "--sampler", "exact", *FEW, "--strict")
    found = infield(*run, "--truths", folder / "fields.zarr", "-o", tmp_path / "w.zarr")
    assert found.status == command.WRONG == 3 and "warning: wrong" in found.err
    assert infield(*run, "-o", tmp_path / "blind.zarr", "--json").summary["right"]


def test_a_calibration_around_the_data_holds_for_these_data_alone(calibrate, infield, folder, tmp_path):
    c = tmp_path / "c.zarr"
    found = calibrate("m.zarr", "-o", c, *FEW, "--truths", "posterior", "--json").summary
    assert found["right"] and any("observed data" in one["name"] for one in found["functionals"])
    run = ("--prior", folder / "p.yaml", "--sampler", "exact", "--samples", 4, "--calibration", c, "--quiet")
    assert infield("reconstruct", folder / "m.zarr", "-o", tmp_path / "a.zarr", *run).status == 0
    infield("reconstruct", folder / "other.zarr", "-o", tmp_path / "b.zarr", *run).refused("measurement_sha256")


def test_an_interrupted_run_resumes_with_the_same_verdict(calibrate, folder, tmp_path, monkeypatch):
    path, whole = (
        tmp_path / "c.zarr",
        json.loads(xr.open_zarr(folder / "c.zarr", consolidated=False).attrs["calibration"]),
    )
    original = command.one_simulation

    def stopped(*shared):
        if shared[-1] == 12:
            raise InfieldError("stopped")
        return original(*shared)

    monkeypatch.setattr(command, "one_simulation", stopped)
    assert calibrate("m.zarr", "-o", path, *FEW).status == 2 and (tmp_path / "c.zarr.partial").exists()
    monkeypatch.setattr(command, "one_simulation", original)
    calibrate("m.zarr", "-o", path, *FEW[:2], "--draws", 9).refused("draws", "found 8, expected 9")
    again = calibrate("m.zarr", "-o", path, *FEW, "--json").summary
    assert again["p"] == whole["p"] and again["coverage"] == whole["coverage"]
    shutil.rmtree(path)


def test_plan_states_the_cost_and_writes_nothing(calibrate, tmp_path):
    found = calibrate("m.zarr", "-o", tmp_path / "c.zarr", *FEW, "--plan", "--json").summary
    assert found["simulations"] == 20 and found["seconds of a core in all"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--simulations", 19), ("--simulations", "found 19, expected at least 20")),
        (("--functional", "mean:q=0:1"), ("--functional mean:q=0:1", "axis 'q'")),
        (("--truths", "nothing.zarr"), ("nothing.zarr", "nothing there")),
        (("--sampler", "red-diff"), ("estimate",)),
    ],
)
def test_bad_input_is_one_line(calibrate, tmp_path, words, expected):
    calibrate("m.zarr", "-o", tmp_path / "c.zarr", *FEW, *words).refused(*expected)
    assert not list(tmp_path.iterdir())


def test_more_truths_than_a_file_holds_are_refused(calibrate, folder, tmp_path):
    words = ("--truths", folder / "fields.zarr", "--simulations", 30)
    calibrate("m.zarr", "-o", tmp_path / "c.zarr", *FEW, *words).refused("found 24 fields", "lower --simulations")
