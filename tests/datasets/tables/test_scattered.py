"""Tables to measurements: every value at its place, whatever the file; counts of what was left out and merged."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.tables.merged import merge
from infield.datasets.tables.scattered import Scattered, convert_table
from infield.datasets.tables.table import Layout, open_table


def plane(lon, lat):
    """A field that bilinear interpolation holds exactly, and that tells its two axes apart."""
    return 2 * lon + 3 * lat + 0.5


def stations(n=40, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(5, 9, n).round(3), rng.uniform(47, 49, n).round(3)
    return pd.DataFrame({"id": range(n), "lon": lon, "lat": lat, "temp": plane(lon, lat), "error": 0.1 + lat / 100})


ASKED = Scattered(value="temp", at=("lon", "lat"), grid=(0.25,), units="degC")


def values_at_places(measurement) -> torch.Tensor:
    """What the operator sees of the plane on the grid of the measurement: its data, if places are right."""
    axes = {axis.name: np.array(axis.coordinates) for axis in measurement.grid.axes}
    field = plane(axes["lon"][None, :], axes["lat"][:, None])
    return measurement.operator.A(torch.tensor(field)[None, None])[0, 0]


WRITERS = {
    "obs.csv": lambda f, p: f.to_csv(p, index=False),
    "obs.csv.gz": lambda f, p: f.to_csv(p, index=False),
    "obs.csv.xz": lambda f, p: f.to_csv(p, index=False),
    "semicolons.csv": lambda f, p: f.to_csv(p, index=False, sep=";"),
    "commas.csv": lambda f, p: f.to_csv(p, index=False, sep=";", decimal=","),
    "tabs.tsv": lambda f, p: f.to_csv(p, index=False, sep="\t"),
    "blanks.txt": lambda f, p: p.write_text(f.to_string(index=False)),
    "comment.dat": lambda f, p: p.write_text(
        "# made by hand\n# id, lon, lat, temp, error\n" + f.to_string(index=False, header=False)
    ),
    "no_suffix": lambda f, p: f.to_csv(p, index=False),
    "stations.nc": lambda f, p: f.to_xarray().to_netcdf(p, engine="netcdf4"),
    "stations.zarr": lambda f, p: f.to_xarray().to_zarr(p),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_measurement(tmp_path, name):
    frame = stations()
    WRITERS[name](frame, tmp_path / name)
    converted = convert_table(tmp_path / name, ASKED)
    converted.write(tmp_path / "m.zarr", source=name)
    measurement = open_measurement(tmp_path / "m.zarr")
    np.testing.assert_allclose(measurement.y[0, 0], frame["temp"], rtol=1e-6)
    np.testing.assert_allclose(values_at_places(measurement), frame["temp"], rtol=1e-6)
    assert measurement.grid.names == ("lat", "lon") and measurement.units == "degC"
    assert [axis.units for axis in measurement.grid.axes] == ["degrees_north", "degrees_east"]
    assert measurement.noise.estimated


def test_parquet_is_read_or_asked_for(tmp_path):
    (tmp_path / "obs.parquet").write_bytes(b"PAR1")
    with pytest.raises(InfieldError, match=r"no package pyarrow|expected Apache Parquet"):
        convert_table(tmp_path / "obs.parquet", ASKED)
    pytest.importorskip("pyarrow")
    frame = stations()
    frame.to_parquet(tmp_path / "obs.parquet")
    np.testing.assert_array_equal(convert_table(tmp_path / "obs.parquet", ASKED).measurement.y[0, 0], frame["temp"])


def test_places_taken_for_each_other_would_be_seen(tmp_path):
    frame = stations()
    frame.to_csv(tmp_path / "obs.csv", index=False)
    exchanged = Scattered(value="temp", at=("lat", "lon"), grid=(0.25,), units="degC")
    measurement = convert_table(tmp_path / "obs.csv", exchanged).measurement  # the order of mention is free
    np.testing.assert_allclose(values_at_places(measurement), frame["temp"])
    wrong = frame.rename(columns={"lat": "lon", "lon": "lat"})
    wrong.to_csv(tmp_path / "wrong.csv", index=False)
    measurement = convert_table(tmp_path / "wrong.csv", ASKED).measurement
    assert not np.allclose(values_at_places(measurement), frame["temp"])


def test_what_is_left_out_is_counted(tmp_path):
    frame = stations(10)
    frame = pd.concat([frame, frame.iloc[:2]], ignore_index=True)  # two rows that repeat others
    frame.loc[3, "temp"] = np.nan
    frame.loc[4, "lon"] = np.nan
    frame.loc[5, "temp"] = -9999
    frame.to_csv(tmp_path / "obs.csv", index=False)
    asked = Scattered(value="temp", at=("lon", "lat"), grid=(0.25,), layout=Layout(missing=(-9999.0,)))
    converted = convert_table(tmp_path / "obs.csv", asked)
    assert converted.facts == {
        "rows": 12, "data": 7, "repeated_rows": 2, "dropped_rows": 3, "same_place": 0, "merged": 0,
    }  # fmt: skip
    assert any("2 rows repeat another" in note for note in converted.notes)
    assert any("3 of 12 rows lack" in note for note in converted.notes)


def test_data_at_one_place_are_merged_by_their_noise():
    places = np.array([[1.0, 2], [3, 4], [1, 2]])
    values, variances = np.array([10.0, 7, 16]), np.array([1.0, 9, 4])
    found = merge(places, values, variances)
    np.testing.assert_array_equal(found[0], [[1, 2], [3, 4]])
    np.testing.assert_allclose(found[1], [(10 / 1 + 16 / 4) / 1.25, 7])
    np.testing.assert_allclose(found[2], [1 / 1.25, 9])
    assert found[3].tolist() == [0, 1] and found[4] == 1


def test_merged_data_say_the_same_as_the_data_apart(tmp_path):
    """The posterior does not change: log likelihoods of fields differ by the same number, merged or apart."""
    frame = pd.DataFrame({"x": [0.0, 1, 2, 1, 1], "v": [1.0, 5, 2, 6, 4], "s": [1.0, 0.5, 1, 2, 1]})
    frame.to_csv(tmp_path / "obs.csv", index=False)
    asked = Scattered(value="v", at=("x",), grid=(1.0,), noise_column="s")
    measurement = convert_table(tmp_path / "obs.csv", asked).measurement
    assert measurement.count == 3
    fields = torch.randn(4, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    apart = [
        -0.5 * sum((v - float(x[0, int(p)])) ** 2 / s**2 for p, v, s in frame.itertuples(index=False)) for x in fields
    ]
    merged = measurement.log_likelihood(fields).numpy()
    np.testing.assert_allclose(merged - merged[0], np.array(apart) - apart[0], rtol=1e-10)


def test_data_at_one_place_stay_apart_where_the_noise_is_unknown(tmp_path):
    frame = pd.DataFrame({"x": [0.0, 1, 2, 1], "v": [1.0, 5, 2, 6]})
    frame.to_csv(tmp_path / "obs.csv", index=False)
    converted = convert_table(tmp_path / "obs.csv", Scattered(value="v", at=("x",), grid=(1.0,)))
    assert converted.measurement.count == 4 and converted.facts["same_place"] == 1
    assert "their difference determines the noise" in converted.notes[-1]


def test_noise_and_units_are_converted_together(tmp_path):
    frame = stations()
    frame.to_csv(tmp_path / "obs.csv", index=False)
    asked = Scattered("temp", ("lon", "lat"), (0.25,), units="degF", convert="K", noise_column="error")
    measurement = convert_table(tmp_path / "obs.csv", asked).measurement
    np.testing.assert_allclose(measurement.y[0, 0], (frame["temp"] - 32) * 5 / 9 + 273.15)
    np.testing.assert_allclose(measurement.noise.variance, (frame["error"] * 5 / 9) ** 2)
    assert measurement.units == "K"


def test_kilometres_around_the_middle(tmp_path):
    frame = stations()
    frame.to_csv(tmp_path / "obs.csv", index=False)
    converted = convert_table(tmp_path / "obs.csv", Scattered("temp", ("lon", "lat"), (20.0,), project=True))
    converted.write(tmp_path / "m.zarr", source="obs.csv")
    with xr.open_zarr(tmp_path / "m.zarr", consolidated=False) as group:
        assert group["crs"].attrs["grid_mapping_name"] == "azimuthal_equidistant"
        assert group["data"].attrs["grid_mapping"] == "crs" and group["x"].attrs["units"] == "km"
        assert group["x"].attrs["standard_name"] == "projection_x_coordinate"
        np.testing.assert_array_equal(group["lon"].values, frame["lon"])
        middle = group["crs"].attrs["longitude_of_projection_origin"]
        east = group["positions"].values[:, 1]
        km = 111.195 * np.cos(np.radians(frame["lat"])) * (frame["lon"] - middle)
        np.testing.assert_allclose(east, km, atol=0.7)  # meridians converge: under a kilometre in 150
    assert open_measurement(tmp_path / "m.zarr").grid.names == ("y", "x")


def test_times_of_stations_keep_units_and_calendar(tmp_path):
    times = xr.Variable("time", [0.0, 1, 2], {"units": "days since 2000-02-28", "calendar": "noleap"})
    lon = xr.Variable("station", [1.0, 2.0], {"units": "degrees_east"})
    lat = xr.Variable("station", [50.0, 50.5], {"units": "degrees_north"})
    sst = xr.Variable(
        ("station", "time"),
        np.array([[1, 2, 3], [4, 5, -99]], dtype=np.int16),
        {"units": "K", "standard_name": "sea_surface_temperature", "scale_factor": 0.5, "add_offset": 270.0,
         "_FillValue": np.int16(-99)},
    )  # fmt: skip
    dataset = xr.Dataset({"sst": sst, "lon": lon, "lat": lat, "when": times}, attrs={"title": "Buoys"})
    dataset.to_netcdf(tmp_path / "buoys.nc", engine="netcdf4")
    asked = Scattered("sst", ("lon", "lat", "when"), (0.5, 0.5, 1.0), noise_std=0.1)
    converted = convert_table(tmp_path / "buoys.nc", asked)
    converted.write(tmp_path / "m.zarr", source="buoys.nc")
    measurement = open_measurement(tmp_path / "m.zarr")
    np.testing.assert_allclose(measurement.y[0, 0], [270.5, 271, 271.5, 272, 272.5])
    assert measurement.grid.names == ("when", "lat", "lon") and measurement.units == "K"
    with xr.open_zarr(tmp_path / "m.zarr", consolidated=False, decode_times=False) as group:
        assert group["when"].attrs["units"] == "days since 2000-02-28" and group["when"].attrs["calendar"] == "noleap"
        assert group["data"].attrs["standard_name"] == "sea_surface_temperature" and group.attrs["title"] == "Buoys"
        np.testing.assert_allclose(group["positions"].values[:, 0], [0, 1, 2, 0, 1])


def test_ragged_arrays_are_not_spread_out(tmp_path):
    dataset = xr.Dataset({"v": ("obs", np.arange(4.0)), "lon": ("profile", [1.0, 2.0]), "lat": ("profile", [1.0, 2.0])})
    dataset.to_netcdf(tmp_path / "ragged.nc", engine="netcdf4")
    with pytest.raises(InfieldError, match="ragged arrays are not read"):
        convert_table(tmp_path / "ragged.nc", Scattered("v", ("lon", "lat"), (1.0,)))


def test_a_file_without_header_takes_names(tmp_path):
    frame = stations()
    frame.to_csv(tmp_path / "obs.csv", index=False, header=False)
    layout = Layout(columns=tuple(frame), names=("temp",))
    np.testing.assert_allclose(open_table(tmp_path / "obs.csv", layout).frame["temp"], frame["temp"])
    with pytest.raises(InfieldError, match="no column 'temp'"):
        open_table(tmp_path / "obs.csv", Layout(names=("temp",)))


def test_a_coordinate_reference_system_goes_along(tmp_path):
    pytest.importorskip("pyproj")
    frame = pd.DataFrame({"e": [500000.0, 501000, 502000], "n": [5600000.0, 5601000, 5600500], "v": [1.0, 2, 3]})
    frame.to_csv(tmp_path / "obs.csv", index=False)
    asked = Scattered("v", ("e", "n"), (250.0,), crs="EPSG:25832")
    convert_table(tmp_path / "obs.csv", asked).write(tmp_path / "m.zarr", source="obs.csv")
    with xr.open_zarr(tmp_path / "m.zarr", consolidated=False) as group:
        mapping = group["crs"].attrs
        assert mapping["grid_mapping_name"] == "transverse_mercator" and "25832" in mapping["crs_wkt"]
        assert mapping["longitude_of_central_meridian"] == 9.0 and group["e"].attrs["units"] == "m"
        assert group["e"].attrs["standard_name"] == "projection_x_coordinate"
    assert open_measurement(tmp_path / "m.zarr").grid.names == ("n", "e")
    for wrong, said in (({"crs": "EPSG:0"}, "one of PROJ"), ({"at_units": ("km",)}, "those of EPSG:25832")):
        with pytest.raises(InfieldError, match=said):
            convert_table(tmp_path / "obs.csv", replace(asked, **wrong))
