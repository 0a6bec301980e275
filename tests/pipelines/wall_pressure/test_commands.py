"""Wall pressure as a person meets it: planes drawn, converted, measured; the same bytes whatever happens meanwhile."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from examples.wall_files import NX, NZ, binary, fluctuation, hdf5, netcdf, smooth
from examples.zarr_files import contents

from infield import open_measurement
from infield.datasets.training.fields import FieldFile
from infield.datasets.wall_pressure.plane_file import WallPlaneWriter, open_wall_planes
from infield.datasets.wall_pressure.readers.jhtdb import FLOWS
from infield.physics.wall_pressure.wall_units import DX_PLUS, DZ_PLUS, wall_grid
from infield.pipelines.wall_pressure import convert as convert_module
from infield.pipelines.wall_pressure import simulate as verb
from infield.pipelines.wall_pressure.simulate import half_heights
from infield.posterior.diagnostics.calibration import relative_l2
from infield.posterior.samplers.exact import Exact
from infield.posterior.wall_pressure.wall_statistics import wall_moments
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.wall_pressure.synthetic import WallPressure

DRAW = ("simulate", "wall-pressure", "--re-tau", 180, "--length", "2pi", "--width", "4/3pi", "--dx-plus", 40)


@pytest.fixture(scope="module")
def planes(tmp_path_factory):
    """A file of 12 synthetic planes."""
    path = tmp_path_factory.mktemp("planes") / "p.zarr"
    law, grid = WallPressure(180), wall_grid(180, 2 * math.pi, dx_plus=40.0)
    verb.simulate_wall_pressure(law, grid, path, samples=12, workers=1, quiet=True)
    return path


def test_synthetic_planes(infield, tmp_path):
    path = tmp_path / "p.zarr"
    said = infield(*DRAW, "-o", path, "--samples", 40, "--workers", 1, "--json")
    summary = said.summary
    assert said.err == "" and summary["synthetic"] is True and summary["shape"] == [64, 28]
    assert summary["length"] == pytest.approx(28 * 40 / 180) and summary["parameters"]["flatness"] == 5.0
    group, planes = open_wall_planes(path)
    assert planes.synthetic and planes.re_tau == 180 and planes.grid.spacing == pytest.approx((DZ_PLUS, 40.0))
    assert "Synthetic stand-in" in group.attrs["title"] and "no flow was computed" in group.attrs["history"]
    assert planes.provenance["parameters"] == summary["parameters"] and planes.provenance["seed"] == 0
    p = torch.from_numpy(group["pressure"].values.astype(np.float64))
    law = WallPressure(180)
    rms = wall_moments(p).rms.square()
    z = (float(rms.mean()) - float(law.spectrum(planes.grid).mean())) / (float(rms.std()) / 40**0.5)
    assert abs(z) < 4 and float(p.mean((1, 2)).abs().max()) < 1e-6
    data = FieldFile(str(path), variable="pressure", batch_size=4)
    data.setup("fit")
    assert data.grid == planes.grid and data.training[[0]].shape == (1, 1, 64, 28)


def test_without_json_a_table_that_says_synthetic(infield, tmp_path):
    said = infield(*DRAW, "-o", tmp_path / "p.zarr", "--samples", 2, "--workers", 1)
    assert said.status == 0 and "synthetic stand-in, no flow was computed" in said.out and "dx+ 40" in said.out
    helped = infield("simulate", "wall-pressure", "--help")
    assert "SYNTHETIC stand-in" in helped.out and "No flow is computed" in helped.out


def test_workers_and_interruptions_do_not_matter(infield, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "block_size", lambda grid: 4)
    arguments = (*DRAW, "--samples", 18, "--json")
    whole = tmp_path / "whole.zarr"
    assert infield(*arguments, "-o", whole, "--workers", 1).status == 0
    assert infield(*arguments, "-o", tmp_path / "three.zarr", "--workers", 3).status == 0
    assert contents(whole) == contents(tmp_path / "three.zarr")
    path = tmp_path / "p.zarr"
    with interrupted(monkeypatch, after=2):
        assert infield(*arguments, "-o", path).status == 130
    assert not path.exists() and (tmp_path / "p.zarr.partial").exists()
    infield(*arguments, "-o", path, "--seed", 1).refused("'seed': found 0, expected 1", "p.zarr.partial")
    infield(*arguments, "-o", path, "--flatness", 4).refused("found", "expected", "p.zarr.partial")
    assert infield(*arguments, "-o", path).status == 0
    assert contents(path) == contents(whole) and not (tmp_path / "p.zarr.partial").exists()
    fewer = tmp_path / "fewer.zarr"
    assert infield(*arguments[:-3], "--samples", 5, "-o", fewer, "--json").status == 0
    first = open_wall_planes(whole)[0]["pressure"][:5]
    np.testing.assert_array_equal(open_wall_planes(fewer)[0]["pressure"], first)  # plane i depends on seed and i alone
    assert infield(*arguments, "-o", path, "--seed", 1, "--overwrite").status == 0
    assert contents(path) != contents(whole)  # negative control


class interrupted:
    """A context in which the writer is interrupted after some blocks."""

    def __init__(self, monkeypatch, after):
        self.patch, self.left = monkeypatch.context(), after

    def __enter__(self):
        write = WallPlaneWriter.write_block

        def limited(writer, b, pressure):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            write(writer, b, pressure)

        self.patch.__enter__().setattr(WallPlaneWriter, "write_block", limited)

    def __exit__(self, *error):
        return self.patch.__exit__(*error)


def test_blocks_are_neither_empty_nor_huge():
    sizes = [verb.block_size(wall_grid(re, length)) for re, length in ((180, 1), (180, 12), (1000, 50), (1000, 800))]
    assert sizes[0] == 256 and sizes[-1] == 1 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4pi", 4 * math.pi),
        ("4/3pi", 4 / 3 * math.pi),
        ("4/3*pi", 4 / 3 * math.pi),
        ("12.5", 12.5),
        ("16 pi", 16 * math.pi),
    ],
)
def test_lengths_as_people_write_them(text, value):
    assert half_heights(text) == pytest.approx(value)
    for bad in ("p", "four", "4pie", "4/0", "", "-3"):
        with pytest.raises(argparse.ArgumentTypeError):
            half_heights(bad)


BAD_DRAWS = {
    "low Re_tau": (("--re-tau", 100), "found re_tau 100, expected at least 150"),
    "flatness": (("--flatness", 2), "found flatness 2, expected at least 3"),
    "length": (("--length", "long"), "expected half heights such as 12.57, 4pi or 4/3pi"),
    "tiny": (("--length", 0.01), "expected at least 2 spacings"),
    "samples": (("--samples", 0), "--samples: found 0"),
    "seed": (("--seed", -1), "--seed: found -1"),
    "spacing": (("--dx-plus", 0), "found dx_plus = 0"),
}


@pytest.mark.parametrize("case", BAD_DRAWS)
def test_bad_draw(infield, tmp_path, case):
    words, expected = BAD_DRAWS[case]
    infield(*DRAW, "-o", tmp_path / "p.zarr", *words).refused(expected)
    assert list(tmp_path.iterdir()) == []


PERIODS = ("--lengths", "4pi", "4/3pi")


def test_planes_are_converted(infield, tmp_path):
    p = hdf5(tmp_path / "air.h5", dims=("time", "x", "z"))
    said = infield("convert", "wall-pressure", tmp_path / "air.h5", "-o", tmp_path / "p.zarr", *PERIODS, "--json")
    facts = said.summary
    assert said.err == "" and facts["Re_tau"] == 180 and facts["shape"] == [NZ, NX] and facts["samples"] == len(p)
    assert facts["periodic"] == {"z": True, "x": True} and "axes x and z exchanged" in facts["notes"]
    group, planes = open_wall_planes(tmp_path / "p.zarr")
    np.testing.assert_allclose(group["pressure"], fluctuation(p), atol=1e-6)
    assert not planes.synthetic and planes.provenance["source"] == "air.h5" and planes.wall == "bottom"
    assert "axes x and z exchanged" in group.attrs["history"] and "mean of each plane removed" in group.attrs["history"]
    data = FieldFile(str(tmp_path / "p.zarr"), variable="pressure", batch_size=2, validation=0.0)
    data.setup("fit")
    assert len(data.training) == len(p) and data.grid == planes.grid


def test_what_is_corrected_is_said(infield, tmp_path):
    hdf5(tmp_path / "air.h5", scales=False)
    with h5py.File(tmp_path / "air.h5", "r+") as file:
        file["time"][3:] += 1.0
    said = infield("convert", "wall-pressure", tmp_path / "air.h5", "-o", tmp_path / "p.zarr")
    assert said.status == 0 and "Re_tau" in said.out
    for words in ("1 gap in time", "axes found by their sizes: time,z,x", "x taken as open", "z taken as open"):
        assert words in said.err and said.err.count("\n") == 4


@pytest.mark.parametrize("kind", ["netcdf", "binary"])
def test_interrupted_conversion_gives_the_same_bytes(infield, tmp_path, monkeypatch, kind):
    if kind == "netcdf":
        netcdf(tmp_path / "p.nc")
        source = tmp_path / "p.nc"
    else:
        binary(tmp_path)
        source = tmp_path / "p.yaml"
    monkeypatch.setattr(convert_module.WallPlaneWriter, "__init__", _in_threes(WallPlaneWriter.__init__))
    whole, path = tmp_path / "whole.zarr", tmp_path / "part.zarr"
    assert infield("convert", "wall-pressure", source, "-o", whole, "--json").status == 0
    with interrupted(monkeypatch, after=1):
        assert infield("convert", "wall-pressure", source, "-o", path, "--json").status == 130
    assert not path.exists() and (tmp_path / "part.zarr.partial").exists()
    assert infield("convert", "wall-pressure", source, "-o", path, "--json").status == 0
    assert contents(path) == contents(whole)
    with interrupted(monkeypatch, after=1):
        infield("convert", "wall-pressure", source, "-o", tmp_path / "other.zarr", "--json")
    os.utime(
        source.with_name("p.bin" if kind == "binary" else "p.nc"), ns=(1, 1)
    )  # a source that changed meanwhile is not mixed with what was converted before
    infield("convert", "wall-pressure", source, "-o", tmp_path / "other.zarr").refused("'modified': found")


def _in_threes(original):
    def init(self, *arguments, **settings):
        original(self, *arguments, **{**settings, "block": 3})

    return init


def test_planes_that_are_not_finite_leave_nothing_behind(infield, tmp_path):
    p = smooth()
    p[2, 1, 1] = np.nan
    hdf5(tmp_path / "air.h5", p)
    said = infield("convert", "wall-pressure", tmp_path / "air.h5", "-o", tmp_path / "p.zarr")
    said.refused("NaN or infinity in 1 of 240 values of plane 2, expected finite ones; leave that plane out or mend it")
    assert [f.name for f in tmp_path.iterdir()] == ["air.h5"]


BAD_PLANES = {
    "missing": (None, (), "found nothing there"),
    "another flow": (hdf5, ("--re-tau", 500), "found re_tau 180, expected 500 as stated"),
    "lengths": (hdf5, ("--lengths", "4/3pi", "4pi"), "the planes are in another order than stated"),
    "order": (hdf5, ("--order", "time,x,z"), "found an axis that is z in the file and x in the order"),
    "flow": (hdf5, ("--flow", "pipe"), "invalid choice: 'pipe'"),
    "flow of no cut-out": (hdf5, ("--flow", next(iter(FLOWS))), "found --flow, expected none for planes that are no"),
    "truncated": (
        lambda path: (hdf5(path), path.write_bytes(path.read_bytes()[:3000])),
        (),
        "truncated, damaged or of another format",
    ),
}


@pytest.mark.parametrize("case", BAD_PLANES)
def test_bad_planes(infield, tmp_path, case):
    write, words, expected = BAD_PLANES[case]
    if write is not None:
        write(tmp_path / "air.h5")
    before = sorted(tmp_path.iterdir())
    infield("convert", "wall-pressure", tmp_path / "air.h5", "-o", tmp_path / "p.zarr", *words).refused(expected)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("words", [("--variable", "p"), ("--order", "time,z,x"), ("--flow", next(iter(FLOWS)))])
def test_what_a_descriptor_says_is_not_stated_beside_it(infield, tmp_path, words):
    binary(tmp_path)
    said = infield("convert", "wall-pressure", tmp_path / "p.yaml", "-o", tmp_path / "p.zarr", *words)
    said.refused(f"p.yaml: found {words[0]}, expected none for a descriptor, which holds it")


def test_an_output_that_exists_is_left_alone(infield, tmp_path):
    hdf5(tmp_path / "air.h5")
    arguments = ("convert", "wall-pressure", tmp_path / "air.h5", "-o", tmp_path / "p.zarr")
    assert infield(*arguments).status == 0
    before = contents(tmp_path / "p.zarr")
    infield(*arguments).refused("found an existing output")
    assert contents(tmp_path / "p.zarr") == before
    assert infield(*arguments, *PERIODS, "--overwrite").status == 0 and contents(tmp_path / "p.zarr") != before


SENSORS = {"share": ("--fraction", 0.05), "lattice": ("--lattice", 80, 60)}


@pytest.mark.parametrize("kind", [*SENSORS, "positions"])
def test_a_plane_seen_by_sensors(infield, tmp_path, planes, kind):
    if kind == "positions":
        with (tmp_path / "s.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("x_plus", "z_plus"), *((50 + 10 * i, 7 * i) for i in range(90))])
    where = SENSORS.get(kind, ("--positions", tmp_path / "s.csv"))
    output = tmp_path / "m.zarr"
    said = infield("convert", "wall-sensors", planes, "-o", output, "--index", 3, *where, "--noise-std", 0.05, "--json")
    facts = said.summary
    assert facts["synthetic"] and facts["Re_tau"] == 180 and 80 <= facts["sensors"] <= 200
    measurement = open_measurement(output)
    truth = open_wall_planes(planes)[0]["pressure"][3].values
    np.testing.assert_array_equal(measurement.truth[0, 0].float(), truth)
    assert 0.7 < float(measurement.chi_square(measurement.truth)) < 1.4
    file = xr.open_zarr(output, consolidated=False)
    assert "Synthetic stand-in" in file.attrs["title"] and "plane 3 of p.zarr" in file.attrs["history"]


def test_kriging_with_the_true_covariance(infield, tmp_path, planes):
    """The Gaussian law of the stand-in beats one whose covariance is that of another flow."""
    arguments = ("convert", "wall-sensors", planes, "-o", tmp_path / "m.zarr", "--fraction", 0.1, "--noise-std", 0.1)
    assert infield(*arguments, "--json").status == 0
    measurement = open_measurement(tmp_path / "m.zarr")
    errors = {}
    for re_tau, length in ((180, 200.0), (4000, 200.0)):
        prior = gaussian_prior(WallPressure(re_tau, modulation_length=length), measurement.grid)
        draws = Exact()(prior, measurement, 64, torch.Generator().manual_seed(0)).samples
        errors[re_tau] = relative_l2(draws.mean(0), measurement.truth[0])
    assert errors[180] < 0.8 and errors[180] < errors[4000]


BAD_SENSORS = {
    "sample": (("--index", 12, "--fraction", 0.1), "--index: found 12, expected 0 to 11"),
    "share": (("--fraction", 3), "found a share of 3"),
    "seed": (("--fraction", 0.1, "--seed", -1), "--seed: found -1"),
    "noise": (("--fraction", 0.1, "--noise-std", 0), "noise of standard deviation 0"),
    "two ways": (("--fraction", 0.1, "--lattice", 80, 60), "not allowed with argument"),
    "no way": ((), "one of the arguments --fraction --lattice --positions is required"),
}


@pytest.mark.parametrize("case", BAD_SENSORS)
def test_bad_sensors(infield, tmp_path, planes, case):
    words, expected = BAD_SENSORS[case]
    infield("convert", "wall-sensors", planes, "-o", tmp_path / "m.zarr", "--noise-std", 0.1, *words).refused(expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x_plus,z_plus\n10,20\n10,99999\n", "sensor 1 lies outside the domain: found z = 99999"),
        ("x,z\n10,20\n", "found line 2 without x_plus and z_plus"),
        ("x_plus,z_plus\n", "positions of shape (0, 2)"),
    ],
)
def test_bad_positions(infield, tmp_path, planes, text, words):
    (tmp_path / "s.csv").write_text(text)
    said = infield("convert", "wall-sensors", planes, "-o", tmp_path / "m.zarr", "--positions", tmp_path / "s.csv",
                   "--noise-std", 0.1)  # fmt: skip
    said.refused(words)


def test_only_planes_are_measured(infield, tmp_path):
    netcdf(tmp_path / "p.nc")
    said = infield(
        "convert", "wall-sensors", tmp_path / "p.nc", "-o", tmp_path / "m.zarr", "--fraction", 1, "--noise-std", 1
    )
    said.refused("'infield_format': found nothing, expected 'wall-pressure'")


def test_spacings_of_the_cpu_configuration():
    assert (round(DX_PLUS, 2), round(DZ_PLUS, 2)) == (17.67, 11.78)
    assert json.dumps(wall_grid(180).shape) == "[64, 128]"
