"""`infield infer-parameters`: parameters of cones whose law is known, warnings where it is another, refusals."""

from __future__ import annotations

import importlib.util
from functools import partial

import numpy as np
import pytest

from infield.datasets.cm21.cosmology import cosmology, redshifts_of
from infield.datasets.cm21.lightcone_file import TEMPERATURE, Lightcones, lightcone_grid, lightcone_writer
from infield.datasets.cm21.parameter_file import open_parameters
from infield.pipelines.cm21 import infer as infer_parameters
from infield.posterior.models.parameter_inference import fit_posterior

N, DEPTH, CELL = 8, 16, 4.0
RANGES = {"ION_Tvir_MIN": [4.0, 6.0], "HII_EFF_FACTOR": [10.0, 250.0]}
needs_sbi = pytest.mark.skipif(
    importlib.util.find_spec("sbi") is None, reason="the extra infield[sbi] is not installed"
)


def parameters(n, seed):
    generator = np.random.default_rng(seed)
    return {name: low + (high - low) * generator.random(n) for name, (low, high) in RANGES.items()}


def draw(of, seed):
    """White Gaussian cones; one parameter is their mean, the other their standard deviation, some slices are zero."""
    generator = np.random.default_rng(seed)
    mean, deviation = 10 * (of["ION_Tvir_MIN"] - 5), 2 + of["HII_EFF_FACTOR"] / 25
    cones = generator.standard_normal((len(mean), N, N, DEPTH)) * deviation[:, None, None, None]
    cones += (mean + 4 * generator.standard_normal(len(mean)))[:, None, None, None]  # as from cone to cone
    cones[..., :2] = 0
    return cones.astype(np.float32)


def write(path, of, cones, cell=CELL, ranges=RANGES):
    distance = 9000 + cell * np.arange(DEPTH)
    told = Lightcones(
        grid=lightcone_grid((N, N), cell, distance),
        redshift=redshifts_of(distance, cosmology()),
        samples=len(cones),
        parameters=of,
        provenance={"ranges": ranges} if ranges else {},
    )
    writer = lightcone_writer(path, told, run={}, title="test")
    for i, cone in enumerate(cones):
        writer.write_block(i, {TEMPERATURE: cone[None]})
    writer.finish()
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cones")
    of = parameters(320, 0)
    simulations = write(folder / "simulations.zarr", of, draw(of, 1))
    known = {"ION_Tvir_MIN": np.array([4.4, 5.7, 5.0]), "HII_EFF_FACTOR": np.array([60.0, 200.0, 130.0])}
    cones = draw(known, 2)
    cones[2] = 10 * cones[2] + 300  # nothing that was simulated
    return simulations, write(folder / "observed.zarr", known, cones)


@pytest.mark.slow
@needs_sbi
def test_parameters_are_found_and_a_cone_of_another_law_is_noticed(infield, files, tmp_path, monkeypatch):
    monkeypatch.setattr(infer_parameters, "fit_posterior", partial(fit_posterior, networks=2))  # in half the time
    simulations, observed = files
    out, report = tmp_path / "p.zarr", tmp_path / "p.html"
    said = infield("infer-parameters", observed, "--simulations", simulations, "-o", out, "--report", report,
                   "--draws", 200, "--hold-out", 0.4, "--seed", 3, "--json")  # fmt: skip
    facts = said.summary
    assert facts["simulations"] == {"file": "simulations.zarr", "trained": 192, "held_out": 128}
    assert facts["prior"] == RANGES and facts["calibration"]["cases"] == 128
    judged = facts["calibration"]["parameters"]
    # of the mean only the scatter of 4 from cone to cone is left: 0.4 in the parameter, of a box that is 2 wide
    assert 0.35 < judged["ION_Tvir_MIN"]["contraction"] < 0.8 and judged["HII_EFF_FACTOR"]["contraction"] > 0.9
    assert facts["calibration"]["joint_p_value"] > 1e-3 and min(v["p_value"] for v in judged.values()) > 1e-3
    for cone in facts["cones"][:2]:
        assert not cone["outside"]
        for values in cone["parameters"].values():
            assert abs(values["mean"] - values["truth"]) < 4 * values["std"]
    assert facts["cones"][2]["outside"] and facts["cones"][2]["distance"] > 3 * facts["cones"][2]["usual_distance"]
    assert len(facts["warnings"]) == 1 and "1 of 3 cones (number 2)" in facts["warnings"][0]
    found = open_parameters(out)
    assert found["HII_EFF_FACTOR"].dims == ("cone", "draw") and found["HII_EFF_FACTOR"].shape == (3, 200)
    assert found["ION_Tvir_MIN"].attrs["units"] == "log10(K)" and found["ION_Tvir_MIN"].attrs["prior_high"] == 6.0
    assert found["HII_EFF_FACTOR"][0].mean() == pytest.approx(facts["cones"][0]["parameters"]["HII_EFF_FACTOR"]["mean"])
    assert found["HII_EFF_FACTOR_rank"].dims == ("held_out",) and 0 <= found["HII_EFF_FACTOR_rank"].min()
    page = report.read_text()
    assert page.count("data:image/png") == 3 and "1 of 3 cones" in page and "http:" not in page and "https:" not in page
    again = infield("infer-parameters", observed, "--simulations", simulations, "-o", tmp_path / "q.zarr", "--cone", 1,
                    "--draws", 200, "--hold-out", 0.4, "--seed", 3, "--json").summary  # fmt: skip
    assert again["calibration"] == facts["calibration"] and [cone["cone"] for cone in again["cones"]] == [1]
    infield("infer-parameters", observed, "--simulations", simulations, "-o", out).refused("p.zarr", "--overwrite")


@needs_sbi
def test_input_that_cannot_be_used(infield, files, tmp_path):
    simulations, observed = files
    of = parameters(40, 5)
    cones = draw(of, 6)
    same = write(tmp_path / "same.zarr", {"HII_EFF_FACTOR": np.full(40, 30.0)}, cones)
    nan = write(tmp_path / "nan.zarr", {**of, "HII_EFF_FACTOR": np.where(np.arange(40) == 7, np.nan, 30.0)}, cones)
    none = write(tmp_path / "none.zarr", {}, cones)
    coarse = write(tmp_path / "coarse.zarr", of, cones, cell=5.0)
    few = write(tmp_path / "few.zarr", parameters(39, 5), cones[:39])
    for options, words in (
        ((observed, "--simulations", same), ["same.zarr", "HII_EFF_FACTOR", "the same in all cones"]),
        ((observed, "--simulations", nan), ["nan.zarr", "NaN", "HII_EFF_FACTOR"]),
        ((observed, "--simulations", none), ["none.zarr", "no parameters"]),
        ((observed, "--simulations", coarse), ["observed.zarr", "cells of 4 Mpc", "cells of 5 Mpc", "one grid"]),
        ((observed, "--simulations", few), ["few.zarr", "39 cones", "at least 40"]),
        ((few, "--simulations", few, "--cone", "0-3"), ["35 cones", "at least 40"]),  # which are not learned from
        ((observed, "--simulations", simulations, "--cone", "3"), ["--cone", "found 3", "0-2"]),
        ((observed, "--simulations", simulations, "--hold-out", "0.9"), ["--hold-out", "0.05 to 0.8"]),
        ((observed, "--simulations", simulations, "--chunk", "17"), ["--chunk", "4 to 16"]),
        ((observed, "--simulations", simulations, "--draws", "1"), ["--draws", "at least 2"]),
    ):
        infield("infer-parameters", *options, "-o", tmp_path / "p.zarr").refused(*words)
        assert not (tmp_path / "p.zarr").exists()


def test_without_the_extra_it_is_said_how_to_install_it(infield, files, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "sbi" else find(name, *more))
    said = infield("infer-parameters", files[1], "--simulations", files[0], "-o", tmp_path / "p.zarr")
    said.refused("sbi", "pip install 'infield[sbi]'")
