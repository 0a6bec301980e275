"""Numbers, headers and dates of strangers' tables, and data at one place that cannot all be right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from infield import InfieldError
from infield.datasets.tables.gridded import Gridded, convert_grid
from infield.datasets.tables.merged import contradiction
from infield.datasets.tables.scattered import Scattered, convert_table
from infield.datasets.tables.table import Layout

pytestmark = pytest.mark.field
PLACES = ((3.0, 50.1), (3.4, 51.0), (4.6, 52.3), (5.1, 50.7))
VALUES = (10.5, 11.5, 9.0, 12.0)


def table(path, text, at=("lon", "lat"), layout=None, **asked):
    path.write_text(text, encoding="utf-8")
    return convert_table(path, Scattered(value="t", at=at, layout=layout or Layout(),
                                         **{"grid": (0.5,) * len(at), **asked}))  # fmt: skip


def rows(values, header="lon,lat,t", end=""):
    lines = (f"{lon},{lat},{value}{end}\n" for (lon, lat), value in zip(PLACES, values, strict=True))
    return f"{header}\n{''.join(lines)}"


def data(found):
    return found.measurement.y.flatten().tolist()


@pytest.mark.parametrize(
    "written", [lambda v: f"\u2212{v}", lambda v: f"-{v / 10}D+01", lambda v: f"-{v * 10:.0f}d-1"],
    ids=["minus sign", "Fortran", "Fortran, small"],
)  # fmt: skip
def test_numbers_as_programs_write_them(tmp_path, written):
    assert data(table(tmp_path / "t.csv", rows(map(written, VALUES)))) == pytest.approx([-v for v in VALUES])


def test_thousands_are_refused_with_what_helps(tmp_path):
    with pytest.raises(InfieldError, match=r"found '10,500.0' in row 1.*without separators of thousands"):
        table(tmp_path / "t.csv", rows(f'"{1000 * v:,.1f}"' for v in VALUES))
    assert data(table(tmp_path / "u.csv", rows(f"{1000 * v:.1f}" for v in VALUES))) == [1000 * v for v in VALUES]


def test_a_row_of_units_below_the_header(tmp_path):
    """The remedy is followed: the row goes, its units are stated."""
    text = rows(VALUES, header="lon,lat,t\ndegrees_east,degrees_north,K")
    with pytest.raises(
        InfieldError, match=r"found 'K' in row 1.*a row of units goes, and is stated \(units, at_units\)"
    ):
        table(tmp_path / "t.csv", text)
    found = table(tmp_path / "t.csv", rows(VALUES), units="K", at_units=("degrees_east", "degrees_north"))
    assert data(found) == list(VALUES) and found.measurement.units == "K"


def test_a_word_that_stands_for_missing_values(tmp_path):
    """Named, as the refusal says; a number is looked for in a column of text too."""
    text = rows(("trace", -9999, 9.0, 12.0))
    with pytest.raises(InfieldError, match=r"found 'trace'.*name what stands for them"):
        table(tmp_path / "t.csv", text)
    assert data(table(tmp_path / "t.csv", text, layout=Layout(missing=("trace", -9999.0)))) == [9.0, 12.0]


def test_more_columns_than_names(tmp_path):
    """Pandas would shift all names by one; separators at the ends of rows are no column."""
    with pytest.raises(
        InfieldError, match=r"found 4 columns in its rows and 3 names in its header.*complete the header"
    ):
        table(tmp_path / "t.csv", rows(VALUES, end=",7.5"))
    shifted = pd.read_csv(tmp_path / "t.csv")
    assert shifted["t"].tolist() == [7.5] * 4  # negative control
    for text in (rows(VALUES, end=",7.5", header="lon,lat,t,flag"), rows(VALUES, end=",")):
        found = table(tmp_path / "t.csv", text)
        assert data(found) == list(VALUES)
        np.testing.assert_allclose(found.measurement.arrays["positions"], np.array(PLACES)[:, ::-1])


def test_a_name_twice(tmp_path):
    with pytest.raises(InfieldError, match="found 2 columns 't'"):
        table(tmp_path / "t.csv", rows(VALUES, end=",7.5", header="lon,lat,t,t"))
    assert data(table(tmp_path / "t.csv", rows(VALUES, end=",7.5", header="lon,lat,t,t2"))) == list(VALUES)


def test_numbers_that_are_dates(tmp_path):
    """20200228 to 20200302 are three days, since 2020 is a leap year, and not 74; other numbers stay as they are."""
    dates = (20200228, 20200229, 20200301, 20200302)
    text = "time,t\n" + "".join(f"{d},{v}\n" for d, v in zip(dates, VALUES, strict=True))
    found = table(tmp_path / "t.csv", text, at=("time",), grid=(1.0,))
    axis = found.measurement.grid.axes[0]
    assert (axis.coordinates, axis.units) == ((0.0, 1.0, 2.0, 3.0), "days since 2020-02-28")
    plain = table(tmp_path / "t.csv", text.replace("20200229", "20200299"), at=("time",), grid=(1.0,))
    assert plain.measurement.grid.axes[0].coordinates[0] == 20200228  # no calendar has the 99th


def test_dates_as_numbers_of_another_calendar(tmp_path):
    """30 February exists in 360_day, and is one day before 1 March."""
    text = "time,t\n20010229,1.0\n20010230,2.0\n20010301,4.0\n"
    found = table(tmp_path / "t.csv", text, at=("time",), grid=(1.0,), calendar="360_day")
    assert found.measurement.grid.axes[0].coordinates == (0.0, 1.0, 2.0)
    with pytest.raises(InfieldError, match=r"2001-02-29|2001-02-30|day is out of range"):
        table(tmp_path / "t.csv", text, at=("time",), grid=(1.0,))


@pytest.mark.parametrize(("other", "said"), [(10.6, False), (10.9, False), (99.0, True), (11.5, True)])
def test_data_at_one_place_that_contradict_each_other(tmp_path, other, said):
    """10.5 and another at one place, noise 0.1: differences of 0.7, 2.8, 626 and 7.1 standard deviations."""
    text = rows(VALUES) + f"{PLACES[0][0]},{PLACES[0][1]},{other}\n"
    found = table(tmp_path / "t.csv", text, noise_std=0.1)
    warned = [note for note in found.notes if note.startswith("warning: data at one place contradict each other")]
    assert bool(warned) is said and found.measurement.count == 4
    assert not said or f"from 10.5 to {other:g} at 50.1, 3" in warned[0]
    assert found.measurement.y.flatten()[0] == pytest.approx((10.5 + other) / 2)


def test_right_data_at_one_place_do_not_contradict_each_other():
    """200 tables of 300 data at 100 places with their stated noise: none warns; with half of the noise all do."""
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(100.0), 3)[:, None]
    truth = rng.standard_normal(100).repeat(3)
    tables = [truth + 0.2 * rng.standard_normal(300) for _ in range(200)]
    assert not any(contradiction(places, y, np.array(0.04)) for y in tables)
    assert all(contradiction(places, y, np.array(0.01)) for y in tables)
    assert contradiction(places, tables[0], None) is None


def grid(path, change):
    lat, lon = np.linspace(50, 53, 7), np.linspace(3, 6, 6)
    values = 10 + np.random.default_rng(0).standard_normal((7, 6))
    field = xr.Dataset(
        {"t": (("lat", "lon"), values, {"units": "K"})},
        {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    )
    change(field).to_netcdf(path)
    return convert_grid(path, Gridded(variable="t", noise_std=0.1)), values


def test_a_curvilinear_grid_is_said_to_be_numbered(tmp_path):
    """Longitudes and latitudes of two axes: the cells are counted, and a person hears it."""

    def curved(field):
        lat, lon = np.meshgrid(field.lat, field.lon, indexing="ij")
        flat = field.drop_vars(["lat", "lon"]).rename(lat="j", lon="i")
        return flat.assign_coords(lat=(("j", "i"), lat + 0.1 * lon), lon=(("j", "i"), lon))

    found, values = grid(tmp_path / "f.nc", curved)
    np.testing.assert_allclose(found.measurement.y[0, 0], values)
    assert [axis.units for axis in found.measurement.grid.axes] == ["1", "1"]
    warned = [note for note in found.notes if note.startswith("warning: 'j' has no coordinate (")]
    assert len(warned) == 1 and "lat" in warned[0] and "lon" in warned[0]
    plain, _ = grid(tmp_path / "g.nc", lambda field: field.drop_vars("lat"))
    assert "'lat' has no coordinate: its cells are numbered" in plain.notes


def test_infinite_values_are_said_to_be_missing(tmp_path):
    found, _ = grid(tmp_path / "f.nc", lambda f: f.where(np.arange(7)[:, None] + np.zeros((7, 6)) != 2, np.inf))
    assert found.measurement.count == 36
    assert "warning: 6 values of 't' are infinite and count as missing" in found.notes
