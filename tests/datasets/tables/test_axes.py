"""Axes of places: the cut of the circle, times of several calendars, kilometres; against values worked out by hand."""

import cftime
import numpy as np
import pandas as pd
import pytest

from infield import InfieldError
from infield.datasets.tables.axes import Column, cut_open, grid_line, in_order, kind_of
from infield.datasets.tables.projection import RADIUS_KM, azimuthal_equidistant, centre_of
from infield.datasets.tables.times import as_numbers


def longitudes(*values):
    return Column("lon", np.array(values, dtype=float), "degrees_east", "longitude")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((350, 359, 2, 10), (-10, -1, 2, 10)),
        ((170, -170, 175), (170, 190, 175)),
        ((-97.5, -93.25), (-97.5, -93.25)),
        ((245, 254.7), (245, 254.7)),
        ((0.5, 325.5, 355.5), (0.5, -34.5, -4.5)),
    ],
)
def test_longitudes_within_half_of_the_circle_are_one_piece(values, expected):
    column, note = cut_open(longitudes(*values), step=1.0)
    np.testing.assert_allclose(column.values, expected, atol=1e-12)
    assert bool(note) == (values != expected) and not column.periodic


def test_longitudes_around_the_cut_of_a_full_circle_are_in_doubt():
    around = longitudes(-175, -120, -60, 0, 60, 120, 175)  # the widest part without data, 60 degrees, is not the cut
    with pytest.raises(InfieldError, match="on both sides of the cut at -175, and the widest part without data 60"):
        cut_open(around, step=1.0)
    assert cut_open(around, 1.0, closed=True)[0].periodic
    np.testing.assert_allclose(cut_open(around, 1.0, wrap=0.0)[0].values, (185, 240, 300, 0, 60, 120, 175))


def test_longitudes_that_fill_the_circle_close_it():
    column, _ = cut_open(longitudes(*np.arange(0.0, 360.0, 2.5)), step=2.5)
    assert column.periodic and grid_line(column, 2.5) == tuple(np.arange(0, 360, 2.5))
    with pytest.raises(InfieldError, match="one that divides the circle"):
        cut_open(longitudes(0, 100, 200), step=7.0, closed=True)


def test_the_grid_covers_the_data_at_multiples_of_its_step():
    column = Column("x", np.array([0.14, 0.95, np.nan]), "m")
    assert grid_line(column, 0.1) == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert grid_line(Column("x", np.array([0.3, 0.6]), "m"), 0.1) == (0.3, 0.4, 0.5, 0.6)
    with pytest.raises(InfieldError, match="one cell: all data at 3"):
        grid_line(Column("x", np.array([3.0, 3.0]), "m"), 0.1)


@pytest.mark.parametrize(
    ("name", "attributes", "kind"),
    [
        ("lon", {}, "longitude"),
        ("station_latitude", {}, "latitude"),
        ("x", {"units": "degrees_east"}, "longitude"),
        ("lon", {"units": "m"}, "longitude"),  # what a caller states is judged elsewhere
        ("time", {}, "time"),
        ("t", {"units": "hours since 1970-01-01"}, "time"),
        ("depth", {"positive": "down"}, "vertical"),
        ("longing", {}, "other"),
        ("lonely_x", {}, "other"),
    ],
)
def test_kinds(name, attributes, kind):
    assert kind_of(name, attributes) == kind


def test_order_of_axes():
    def column(name, kind):
        return Column(name, np.zeros(1), "1", kind)

    given = [column("lon", "longitude"), column("lat", "latitude"), column("t", "time"), column("z", "vertical")]
    assert [c.name for c in in_order(given)] == ["t", "z", "lat", "lon"]
    assert [c.name for c in in_order([column("x", "other"), column("y", "other")])] == ["y", "x"]


@pytest.mark.parametrize(
    ("calendar", "dates", "expected"),
    [
        (None, ["2001-02-27", "2001-03-01"], [0, 2]),
        ("noleap", ["2000-02-27", "2000-03-01"], [0, 2]),
        ("360_day", ["2001-02-27", "2001-02-30", "2001-03-01T12:00"], [0, 3, 4.5]),
        (None, ["2000-02-27", "2000-03-01"], [0, 3]),  # the negative control: a leap year
        (None, ["2001-01-01T00:00Z", "2001-01-01T07:00+01:00"], [0, 0.25]),
    ],
)
def test_dates_are_days_since_the_first(calendar, dates, expected):
    values, units, found = as_numbers("time", pd.Series(dates), {}, None, calendar)
    np.testing.assert_allclose(values, expected)
    assert units == f"days since {dates[0][:10]}" and found == (calendar or "standard")


def test_numbers_with_units_keep_their_calendar_or_are_converted():
    numbers = pd.Series([0.0, 48.0, np.nan])
    file = {"units": "hours since 2000-01-01", "calendar": "noleap"}
    values, units, calendar = as_numbers("t", numbers, file, None, None)
    assert units == "hours since 2000-01-01" and calendar == "noleap" and values[1] == 48
    values, units, _ = as_numbers("t", numbers, file, "days since 1999-12-31", None)
    np.testing.assert_allclose(values, [1, 3, np.nan])
    assert units == "days since 1999-12-31"


@pytest.mark.parametrize(
    ("dates", "units", "calendar", "said"),
    [
        (["yesterday"], None, None, "expected dates of the calendar 'standard'"),
        (["2001-02-30"], None, None, "expected dates of the calendar 'standard'"),
        (["2001-02-31"], None, "360_day", "expected dates of the calendar '360_day'"),
        (["2001-02-01"], "months since 2000-01-01", None, "months and years have no fixed length"),
    ],
)
def test_what_are_no_times(dates, units, calendar, said):
    with pytest.raises(InfieldError, match=said):
        as_numbers("time", pd.Series(dates), {}, units, calendar)


def test_cftime_and_pandas_agree_on_the_standard_calendar():
    dates = pd.Series(["1998-07-04T06:30", "2012-02-29"])
    values, units, _ = as_numbers("time", dates, {}, "hours since 1990-01-01", None)
    others = [cftime.date2num(cftime.datetime(*d), units) for d in ((1998, 7, 4, 6, 30), (2012, 2, 29))]
    np.testing.assert_allclose(values, others)


def test_the_projection_keeps_distance_and_direction_from_its_centre():
    rng = np.random.default_rng(0)
    lon, lat = 8 + rng.uniform(-8, 8, 50), 60 + rng.uniform(-8, 8, 50)
    centre = (8.0, 60.0)
    x, y, stretch = azimuthal_equidistant(lon, lat, centre)

    def vector(lon, lat):
        lon, lat = np.radians(lon), np.radians(lat)
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)

    there, here = vector(lon, lat), vector(*centre)
    angle = np.arctan2(np.linalg.norm(np.cross(here, there), axis=-1), there @ here)
    np.testing.assert_allclose(np.hypot(x, y), RADIUS_KM * angle, rtol=1e-10)
    east = np.array([-np.sin(np.radians(8.0)), np.cos(np.radians(8.0)), 0.0])
    north = np.cross(here, east)
    np.testing.assert_allclose(np.arctan2(x, y), np.arctan2(there @ east, there @ north), atol=1e-10)
    assert 1 < stretch < 1.005
    np.testing.assert_allclose(
        azimuthal_equidistant(np.array([8.0]), np.array([61.0]), centre)[1], 111.19508, rtol=1e-6
    )


def test_the_projection_is_that_of_proj():
    pyproj = pytest.importorskip("pyproj")
    rng = np.random.default_rng(1)
    lon, lat = 250 + rng.uniform(-5, 5, 20), 25 + rng.uniform(-5, 5, 20)
    centre = centre_of(lon, lat)
    proj = pyproj.Proj(f"+proj=aeqd +lat_0={centre[1]} +lon_0={centre[0]} +R={RADIUS_KM * 1000} +units=km")
    np.testing.assert_allclose(azimuthal_equidistant(lon, lat, centre)[:2], proj(lon, lat), atol=1e-6)


def test_half_a_world_is_no_plane():
    with pytest.raises(InfieldError, match="lengths are stretched by"):
        azimuthal_equidistant(np.array([0.0, 60.0]), np.array([0.0, 0.0]), (30.0, 0.0))
