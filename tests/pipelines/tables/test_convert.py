"""`infield convert table`, `grid` and `posterior`: what they print, what they refuse in one line, and real files."""

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from infield.datasets.formats.measurement import open_measurement
from infield.pipelines.cli import main

DATA = Path(os.environ.get("INFIELD_DATA", "/nowhere"))

TABLE = """lon,lat,temp,error,flag
5.0,47.0,1.5,0.1,a
6.0,48.0,2.5,0.2,b
7.0,47.5,2.0,0.1,c
6.0,48.0,3.5,0.2,d
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "obs.csv").write_text(TABLE)
    return tmp_path / "obs.csv"


def asked(source, output, *more):
    return ["convert", "table", source, "-o", output, "--value", "temp", "--at", "lon", "lat", "--grid", "0.5", *more]


def test_a_table_from_file_to_file(infield, table, tmp_path):
    said = infield(*asked(table, tmp_path / "m.zarr", "--units", "celsius", "--noise-column", "error", "--json"))
    facts = said.summary
    assert (facts["rows"], facts["data"], facts["merged"], facts["noise"]) == (4, 3, 1, "known")
    assert [axis["size"] for axis in facts["axes"]] == [3, 5] and facts["units"] == "celsius"
    measurement = open_measurement(tmp_path / "m.zarr")
    np.testing.assert_allclose(measurement.y[0, 0], [1.5, 3.0, 2.0])
    np.testing.assert_allclose(measurement.noise.variance, [[0.01, 0.02, 0.01]])
    assert any("1 data share the place of another and were merged" in note for note in facts["notes"]) and not said.err


def test_quiet_says_nothing(infield, table, tmp_path):
    said = infield(*asked(table, tmp_path / "m.zarr", "-q"))
    assert (said.status, said.out, said.err) == (0, "", "")


def test_degrees_taken_for_metres_are_asked_about(infield, table, tmp_path):
    said = infield(*asked(table, tmp_path / "m.zarr", "--at-units", "m"))
    assert said.status == 0 and "warning: 'lon' is stated in 'm' and spans 5 to 7: degrees?" in said.err
    assert "--at-units" in said.err and "--project makes kilometres" in said.err


def test_without_a_prior_of_its_noise_a_sampler_says_what_to_do(infield, table, tmp_path):
    infield(*asked(table, tmp_path / "m.zarr"))
    (tmp_path / "prior.yaml").write_text("prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 0.3}\n")
    said = infield("reconstruct", tmp_path / "m.zarr", "-o", tmp_path / "p.zarr", "--prior", tmp_path / "prior.yaml")
    said.refused("found a variance that is to be estimated from the data", "--noise-std")
    assert not list(tmp_path.glob("p.zarr*"))


BAD_TABLES = {
    "no file": (None, (), "found nothing there, expected a table"),
    "nothing in it": ("", (), "found nothing in it"),
    "a header alone": ("lon,lat,temp\n", (), "found no rows"),
    "no such column": ("lon,lat,sst\n1,2,3\n", (), "found no column 'temp', expected one of lon, lat, sst"),
    "text among numbers": (TABLE.replace("2.0", "warm"), (), "found 'warm' in row 3"),
    "nothing but gaps": ("lon,lat,temp\n1,2,\n2,3,\n", (), "found no row with a value and a place"),
    "all data equal": ("lon,lat,temp\n1,2,3\n2,3,3\n", (), "found 2 data that are all 3"),
    "one cell": ("lon,lat,temp\n1,2,3\n1,3,4\n", (), "axis 'lon': found one cell: all data at 1"),
    "noise of zero": (TABLE, ("--noise-std", "0"), "--noise-std: found 0, expected a standard deviation above zero"),
    "a noise of zero": (TABLE.replace("0.1", "0"), ("--noise-column", "error"), "found 0 (and 1 more of 4)"),
    "two noise levels": (TABLE, ("--noise-std", "1", "--noise-column", "error"), "not allowed with argument"),
    "latitude in metres": (TABLE.replace("47.0", "5206000"), (), "found a latitude of 5.206e+06"),
    "units of nothing": (TABLE, ("--units", "bananas"), "--units: found 'bananas'"),
    "units of something else": (TABLE, ("--units", "m", "--convert", "K"), "units: found 'm' and 'K'"),
    "no units to convert": (TABLE, ("--convert", "K"), "'temp': found no units"),
    "three spacings": (TABLE, ("--grid", "1", "2", "3"), "--grid: found 1 2 3"),
    "a negative spacing": (TABLE, ("--grid=-1",), "--grid: found -1"),
    "too many cells": (TABLE, ("--grid", "1e-6"), "--grid: found about"),
    "a column twice": (TABLE, ("--at", "lon", "lon"), "--at: found a column named twice"),
    "nothing to project": (TABLE, ("--project", "--at", "lat", "error"), "--project: found lat (degrees_north)"),
    "one spacing of two units": (TABLE, ("--at", "lon", "error", "--at-units", "m", "s"), "--grid: found one spacing"),
    "rows of several lengths": ("lon,lat,temp\n1,2,3\n1,2,3,4,5\n", (), "expected a table of text"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_in_one_line(infield, tmp_path, case):
    text, options, said = BAD_TABLES[case]
    if text is not None:
        (tmp_path / "obs.csv").write_text(text)
    infield(*asked(tmp_path / "obs.csv", tmp_path / "m.zarr", *options)).refused(said)
    assert not (tmp_path / "m.zarr").exists() and not list(tmp_path.glob("*draft*"))


def field(**changes):
    values = np.arange(12.0).reshape(3, 4)
    coords = {"y": ("y", [0.0, 1, 2], {"units": "km"}), "x": ("x", [0.0, 1, 2, 3], {"units": "km"})}
    return xr.Dataset({"v": (("y", "x"), values, {"units": "K"})}, coords=coords).assign(changes)


BAD_GRIDS = {
    "no variable": (field(), ("--variable", "w"), "found no variable 'w', expected one of v"),
    "nothing but gaps": (field(v=(("y", "x"), np.full((3, 4), np.nan))), (), "found no value that is not missing"),
    "all equal": (field(v=(("y", "x"), np.ones((3, 4)))), (), "found 12 data that are all 1"),
    "one value": (field().isel(y=[1], x=[2]), (), "found one value, expected an axis with at least two cells"),
    "no order": (field().isel(x=[0, 2, 1, 3]), (), "'x': found coordinates in no order"),
    "no time": (field(), ("--time", "0"), "found no dimension 'time'"),
    "no place": (field(), ("--select", "x=9"), "found '9', expected an index from 0 to 3, or a coordinate from 0 to 3"),
    "no pair": (field(), ("--select", "x"), "--select: found 'x'"),
    "noise of zero": (field(), ("--noise-std", "0"), "--noise-std: found 0"),
    "no mask": (field(), ("--mask", "land"), "found no variable 'land'"),
    "land everywhere": (field(m=(("y", "x"), np.eye(3, 4))), ("--mask", "m"), "found 3 data where it is 1 and 9"),
    "other units": (field(), ("--convert", "m"), "units: found 'K' and 'm'"),
}


@pytest.mark.parametrize("case", BAD_GRIDS)
def test_bad_grids_in_one_line(infield, tmp_path, case):
    dataset, options, said = BAD_GRIDS[case]
    dataset.to_netcdf(tmp_path / "f.nc", engine="netcdf4")
    arguments = ["convert", "grid", tmp_path / "f.nc", "-o", tmp_path / "m.zarr", "--variable", "v", *options]
    infield(*arguments).refused(said)
    assert not (tmp_path / "m.zarr").exists()


def test_from_a_grid_to_a_map(infield, tmp_path):
    values = field()["v"].values.copy()
    values[1, 2] = np.nan
    field(v=(("y", "x"), values, {"units": "K"})).to_netcdf(tmp_path / "f.nc", engine="netcdf4")
    said = infield("convert", "grid", tmp_path / "f.nc", "-o", tmp_path / "m.zarr", "--variable", "v", "--noise-std", 1)
    assert said.status == 0 and "1 of 12 values are missing: gaps" in said.err
    (tmp_path / "prior.yaml").write_text("prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 2}\nscale: 5\n")
    posterior = tmp_path / "p.zarr"
    prior = ("--prior", tmp_path / "prior.yaml", "--samples", 4, "--workers", 1)
    assert infield("reconstruct", tmp_path / "m.zarr", "-o", posterior, *prior).status == 0
    to_map = ("convert", "posterior", posterior, "-o", tmp_path / "map.nc")
    assert infield(*to_map, "--with-samples", 1, "--json").summary["variables"] == [
        "v", "v_sd", "v_q05", "v_q50", "v_q95", "v_draws",
    ]  # fmt: skip
    with xr.open_zarr(posterior, consolidated=False) as p, xr.open_dataset(tmp_path / "map.nc") as m:
        np.testing.assert_allclose(m["v"], p["mean"])
        np.testing.assert_allclose(m["v_draws"][0], p["samples"][1])
        assert m["x"].attrs["units"] == "km"
    infield(*to_map).refused("found an existing output", "--overwrite")
    assert infield(*to_map, "--overwrite", "-q").status == 0
    infield(*to_map[:-1], tmp_path / "map.png").refused("found the suffix '.png'")
    infield(*to_map[:-1], tmp_path / "b.nc", "--with-samples", 9).refused(
        "found 9, expected numbers of samples from 0 to 3"
    )
    infield(*to_map[:-1], tmp_path / "b.nc", "--quantiles", 5).refused("--quantiles: found 5")


REAL_TABLES = {
    "texas_wind.csv": (["--value", "air_temperature_c", "--at", "longitude", "latitude", "--units", "degC"], 0.1, 186),
    "dwd_temperature.txt": (["--value", "temp", "--at", "lon", "lat", "--units", "degC", "--project"], 10, 493),
    "baja_bathymetry.csv.xz": (["--value", "bathymetry_m", "--at", "longitude", "latitude", "--project"], 5, 81016),
}


@pytest.mark.skipif(not (DATA / "tables").is_dir(), reason="INFIELD_DATA names no folder with tables")
@pytest.mark.parametrize("name", REAL_TABLES)
def test_real_tables(infield, tmp_path, name):
    options, step, count = REAL_TABLES[name]
    said = infield("convert", "table", DATA / "tables" / name, "-o", tmp_path / "m.zarr", *options, "--grid", step,
                   "--json")  # fmt: skip
    assert said.summary["data"] == count
    measurement = open_measurement(tmp_path / "m.zarr")
    assert measurement.noise.estimated and measurement.count == count


@pytest.mark.skipif(not (DATA / "ocean").is_dir(), reason="INFIELD_DATA names no folder with ocean data")
@pytest.mark.parametrize(
    ("name", "options", "shape", "counts"),
    [
        ("ostia_monthly.nc", ["--variable", "surface_temperature", "--time", "2008-07", "--mask", "always-missing"],
         (18, 432), (5721, 0)),
        ("ostia_monthly.nc", ["--variable", "surface_temperature"], (54, 18, 432), (54 * 5721, 54 * 2055)),
        ("atlantic_profiles.nc", ["--variable", "theta"], (40, 6, 8), (1887, 33)),
        ("atlantic_profiles.nc", ["--variable", "salinity", "--select", "depth=5.0"], (6, 8), (48, 0)),
    ],
)  # fmt: skip
def test_real_grids(infield, tmp_path, name, options, shape, counts):
    said = infield("convert", "grid", DATA / "ocean" / name, "-o", tmp_path / "m.zarr", *options, "--json")
    assert (said.summary["data"], said.summary["missing"]) == counts
    measurement = open_measurement(tmp_path / "m.zarr")
    assert measurement.grid.shape == shape and measurement.count == counts[0]
    assert measurement.grid.axes[-1].periodic == (shape[-1] == 432)


def test_a_name_with_brackets_is_printed_whole(tmp_path, capsys):
    rows = [f"{x},{y},{10 * x + y}" for x in range(4) for y in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,Zn [mg/kg]", *rows]))
    asked = ["--value", "Zn [mg/kg]", "--at", "x", "y", "--grid", "1", "-o", str(tmp_path / "m.zarr")]
    assert main(["convert", "table", str(tmp_path / "t.csv"), *asked]) == 0
    assert "16 of Zn [mg/kg], 0 to 33" in capsys.readouterr().out
