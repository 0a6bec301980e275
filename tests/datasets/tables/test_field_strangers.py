"""Tables and fields as strangers bring them: each file made here, each right value worked out without the code."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from infield import InfieldError
from infield.datasets.tables.gridded import Gridded, convert_grid
from infield.datasets.tables.scattered import Scattered, convert_table
from infield.datasets.tables.table import Layout

pytestmark = pytest.mark.field
RNG = np.random.default_rng(2)
LON, LAT, TEMPERATURE = 8 + RNG.random(12), 50 + RNG.random(12), 5 + 10 * RNG.random(12).round(2)


def table(path, value="t", at=("lon", "lat"), layout=None, **asked):
    asked = {"grid": (0.25,) * len(at), **asked}
    return convert_table(path, Scattered(value=value, at=at, layout=layout or Layout(), **asked))


def text(path, rows, encoding="utf-8"):
    path.write_bytes("\r\n".join(rows).encode(encoding))
    return path


def values(found):
    return found.measurement.y.flatten().numpy()


def places(found):
    return found.measurement.arrays["positions"]


def german(value):
    return f"{value:.3f}".replace(".", ",")


ROWS = list(zip(LON, LAT, TEMPERATURE, strict=True))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_commas_whatever_the_encoding(tmp_path, encoding, mark):
    """Excel's own: a byte-order mark or the Windows alphabet, semicolons or tabs, dates with dots beside commas."""
    lines = [mark.join(("lon", "lat", "Grad °C", "Tag"))]
    lines += [mark.join((*map(german, row), f"{i + 1:02d}.03.2020")) for i, row in enumerate(ROWS)]
    found = table(text(tmp_path / "t.csv", lines, encoding), value="Grad °C")
    np.testing.assert_allclose(values(found), TEMPERATURE, atol=1e-3)
    np.testing.assert_allclose(places(found), np.stack([LAT, LON], 1), atol=1e-3)


def test_commas_that_only_later_rows_show(tmp_path):
    lines = ["x;y;t", "1;2;3", "2;1;4", *(f"{i};{i % 3};{german(i / 7)}" for i in range(3, 9))]
    found = table(text(tmp_path / "t.csv", lines), at=("x", "y"), grid=(1.0, 1.0))
    np.testing.assert_allclose(values(found)[2:], np.arange(3, 9) / 7, atol=1e-3)


DATES = {
    "days first": (["03/04/2020", "13/04/2020", "23/04/2020"], None, [0, 10, 20]),
    "months first": (["03/04/2020", "03/14/2020", "03/24/2020"], None, [0, 10, 20]),
    "dots": (["03.04.2020 12:00", "04.04.2020 12:00", "05.04.2020 00:00"], None, [0.5, 1.5, 2]),
    "stated days": (["03/04/20", "04/04/20", "05/04/20"], "day-first", [0, 1, 2]),
    "stated months": (["03-04-2020", "04-04-2020", "05-04-2020"], "month-first", [0, 31, 61]),
}


@pytest.mark.parametrize("kind", DATES)
def test_days_or_months_first(tmp_path, kind):
    dates, order, days = DATES[kind]
    lines = ["date,t", *(f"{date},{value}" for date, value in zip(dates, (1, 2, 4), strict=True))]
    found = table(text(tmp_path / "t.csv", lines), at=("date",), grid=(1.0,), layout=Layout(dates=order))
    np.testing.assert_allclose(places(found)[:, 0], days)


@pytest.mark.parametrize(
    "dates", [["03/04/2020", "05/06/2020"], ["13/04/2020", "04/13/2020"], ["01/02/03", "13/02/03"]]
)
def test_dates_that_may_be_either_are_refused(tmp_path, dates):
    path = text(tmp_path / "t.csv", ["date,t", *(f"{date},{i}" for i, date in enumerate(dates))])
    both = dates[0].startswith("13/")  # no order is right for all of them
    remedy = "write all of them in one order" if both else "state what comes first"
    with pytest.raises(InfieldError, match=f"first.*{remedy}") as caught:
        table(path, at=("date",), grid=(1.0,))
    assert both or caught.value.parameters["dates"] == "day-first"
    if dates[0] == "03/04/2020":  # the remedy
        assert places(table(path, at=("date",), grid=(1.0,), layout=Layout(dates="day-first")))[1, 0] == 63


@pytest.mark.parametrize("code", [-9999, -999.0, 1e20])
def test_numbers_that_stand_for_missing_values(tmp_path, code):
    """Refused unless named, or said to be values; the control is a value that is only the largest."""
    shown = [*TEMPERATURE[:-2], code, code]
    lines = ["lon,lat,t", *(f"{lon},{lat},{t}" for (lon, lat, _), t in zip(ROWS, shown, strict=True))]
    path = text(tmp_path / "t.csv", lines)
    with pytest.raises(InfieldError, match=r"'t': found .* in 2 of 12 values, the others from") as caught:
        table(path)
    named = float(caught.value.parameters["missing"])
    np.testing.assert_allclose(values(table(path, layout=Layout(missing=(named,)))), TEMPERATURE[:-2])
    assert len(values(table(path, layout=Layout(no_missing=True)))) == 12
    lines[-2:] = [line.rsplit(",", 1)[0] + ",19.9" for line in lines[-2:]]
    assert len(values(table(text(tmp_path / "c.csv", lines)))) == 12


def test_units_in_a_name_and_longitudes_of_the_west(tmp_path):
    frame = pd.DataFrame({"lon_w": 100 + LON, "lat": LAT, "t [degF]": TEMPERATURE})
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = table(tmp_path / "t.csv", value="t [degF]", at=("lon_w", "lat"))
    assert found.data_units == "1" and any("'degF'" in note for note in found.notes), found.notes
    stated = table(tmp_path / "t.csv", value="t [degF]", at=("lon_w", "lat"), units="degF", convert="degC")
    np.testing.assert_allclose(values(stated), (TEMPERATURE - 32) / 1.8)
    assert not any("degF" in note for note in stated.notes)


@pytest.mark.parametrize(("unit", "metres"), [("ft", 0.3048), ("in", 0.0254), ("fathom", 1.8288), ("NM", None)])
def test_customary_units(tmp_path, unit, metres):
    frame = pd.DataFrame({"lon": LON, "lat": LAT, "t": TEMPERATURE})
    frame.to_csv(tmp_path / "t.csv", index=False)
    if metres is None:
        with pytest.raises(InfieldError, match="'NM'"):
            table(tmp_path / "t.csv", units=unit, convert="m")
    else:
        np.testing.assert_allclose(
            values(table(tmp_path / "t.csv", units=unit, convert="m")), metres * TEMPERATURE, rtol=1e-5
        )


FIELD = 10 + np.arange(20.0).reshape(4, 5)


def field(lat=(10.0, 11.0, 12.0, 13.0), lon=(20.0, 21.0, 22.0, 23.0, 24.0), data=FIELD, **attributes):
    return xr.Dataset(
        {"sst": (("lat", "lon"), data, {"units": "degC", **attributes})},
        {"lat": ("lat", list(lat), {"units": "degrees_north"}), "lon": ("lon", list(lon), {"units": "degrees_east"})},
    )


def grid(path, **asked):
    return convert_grid(path, Gridded(variable=asked.pop("variable", "sst"), **asked))


@pytest.mark.parametrize("code", [-9999.0, 9.969209968386869e36])
def test_a_mask_by_a_number_without_a_fill_value(tmp_path, code):
    data = FIELD.copy()
    data[0, :2] = code
    field(data=data).to_netcdf(tmp_path / "f.nc", encoding={"sst": {"_FillValue": None}})
    with pytest.raises(InfieldError, match=r"'sst': found .* in 2 of 20 values, the others from 12 to 29"):
        grid(tmp_path / "f.nc")
    found = grid(tmp_path / "f.nc", missing=(code,))
    assert found.facts["missing"] == 2 and not found.measurement.observed[0, 0, :2].any()
    assert grid(tmp_path / "f.nc", no_missing=True).facts["missing"] == 0


def test_integers_in_chunks_with_a_filter(tmp_path):
    """HDF5 without dimension scales: strided chunks, shuffled, compressed, packed as CF has it."""
    with h5py.File(tmp_path / "f.h5", "w") as file:
        stored = file.create_dataset("sst", data=(FIELD * 100).astype("i2"), chunks=(3, 2), shuffle=True, compression=9)
        stored.attrs.update({"scale_factor": 0.01, "add_offset": 0.5, "units": "Celsius", "_FillValue": np.int16(1000)})
    found = grid(tmp_path / "f.h5")
    expected = FIELD + 0.5
    expected[0, 0] = 0.0
    np.testing.assert_allclose(found.measurement.y[0, 0], expected, atol=1e-6)
    assert found.facts["missing"] == 1 and sum("cells are numbered" in note for note in found.notes) == 2


@pytest.mark.parametrize("attributes", [
    {"valid_range": "10, 20"}, {"valid_min": "none"}, {"units": "deg C"}, {"units": 1}, {"long_name": b"x"},
    {"coordinates": "nowhere"}, {"missing_value": "n/a"},
])  # fmt: skip
def test_odd_attributes(tmp_path, attributes):
    """Read rightly, or refused in one line; never another error."""
    field().to_netcdf(tmp_path / "f.nc")
    import netCDF4

    with netCDF4.Dataset(tmp_path / "f.nc", "a") as file:
        for name, value in attributes.items():
            file["sst"].setncattr(name, value)
    try:
        found = grid(tmp_path / "f.nc")
    except InfieldError as error:
        assert "\n" not in str(error) and "f.nc" in str(error)
        return
    assert attributes != {"valid_min": "none"}
    expected = np.where((FIELD < 10) | (FIELD > 20), 0, FIELD) if "valid_range" in attributes else FIELD
    np.testing.assert_allclose(found.measurement.y[0, 0], expected)


def test_zarr_of_version_2(tmp_path):
    """Consolidated, as xarray wrote it; and by zarr alone, whose fill value 0 makes zeros missing: said."""
    data = FIELD.copy()
    data[1, 1] = np.nan
    field(data=data).to_zarr(tmp_path / "x.zarr", zarr_format=2, consolidated=True)
    found = grid(tmp_path / "x.zarr")
    assert found.facts["missing"] == 1 and not any("fill value" in note for note in found.notes)
    group = zarr.open_group(tmp_path / "z.zarr", mode="w", zarr_format=2)
    data[1, 1] = 0.0
    arrays = {
        "sst": (data, ["lat", "lon"]),
        "lat": (np.arange(1.0, 5.0), ["lat"]),
        "lon": (np.arange(1.0, 6.0), ["lon"]),
    }
    for name, (array, dims) in arrays.items():
        made = group.create_array(name, shape=array.shape, dtype=array.dtype, fill_value=0.0)
        made[...] = array
        made.attrs["_ARRAY_DIMENSIONS"] = dims
    found = grid(tmp_path / "z.zarr")
    assert found.facts["missing"] == 1 and any("0 is the fill value of 'sst': 1 zeros" in n for n in found.notes)


def test_a_coordinate_twice(tmp_path):
    field(lat=(10.0, 11.0, 11.0, 12.0)).to_netcdf(tmp_path / "f.nc")
    with pytest.raises(InfieldError, match=r"'lat': found the coordinate 11 twice.*drop_duplicates"):
        grid(tmp_path / "f.nc")
    xr.open_dataset(tmp_path / "f.nc").drop_duplicates("lat").to_netcdf(tmp_path / "once.nc")  # the remedy
    assert grid(tmp_path / "once.nc").measurement.grid.shape == (3, 5)


def test_longitudes_to_360_over_the_date_line(tmp_path):
    """178 to 182 stay together, whether they are stored so or as 178 ... -178."""
    for name, lon in (("a.nc", (178.0, 179.0, 180.0, 181.0, 182.0)), ("b.nc", (178.0, 179.0, 180.0, -179.0, -178.0))):
        field(lon=lon).to_netcdf(tmp_path / name)
        found = grid(tmp_path / name)
        np.testing.assert_allclose(found.measurement.y[0, 0], FIELD)
        np.testing.assert_allclose(np.diff(found.measurement.grid.axes[1].coordinates), 1)


def test_matlab_of_version_5_is_refused_with_a_remedy(tmp_path):
    import scipy.io

    scipy.io.savemat(tmp_path / "f.mat", {"sst": FIELD})
    with pytest.raises(InfieldError, match=r"f.mat: found a MATLAB file of version 5.*-v7.3") as caught:
        grid(tmp_path / "f.mat")
    assert "\n" not in str(caught.value)
    with h5py.File(tmp_path / "g.mat", "w") as file:  # the remedy: such a file is HDF5
        file["sst"] = FIELD
    np.testing.assert_allclose(grid(tmp_path / "g.mat").measurement.y[0, 0], FIELD)


def test_stations_at_several_times_without_an_axis_of_times(tmp_path):
    """Data of other days are taken for repeated ones, which make the noise: a person hears it, and what to do."""
    rows = [f"{x},{y},2022-0{month}-01,{x + y + month}" for x in range(3) for y in range(3) for month in (1, 2)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y,date,t", *rows]))

    def warned(*at):
        notes = convert_table(path, Scattered(value="t", at=at, grid=(0.5,) * len(at))).notes
        return [note for note in notes if "is no axis" in note]

    (said,) = warned("x", "y")
    assert "'date' holds 2 dates" in said and "{at} takes x y date" in said
    assert warned("x", "y", "date") == []
