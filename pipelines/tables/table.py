"""A table of scattered data to a measurement.

    infield convert table obs.csv -o m.zarr --value sst --at lon lat --units degC --grid 0.1
    infield convert table obs.csv.xz -o m.zarr --value depth_m --at lon lat --units m --project --grid 5 --noise-std 20
    infield convert table buoys.nc -o m.zarr --value sst --at lon lat time --grid 0.25 0.25 1 --noise-column sst_error
    infield convert table buoys.csv -o m.zarr --value sst --at lon lat --onto satellite.zarr
    infield convert table log.txt -o m.zarr --columns x y z v --value v --at x y z --at-units m --grid 0.5

One row a datum: text (parted by commas, semicolons, tabs or blanks; .gz, .xz and .bz2 as well; a header may
follow #), Parquet (extra `tables`), netCDF or zarr of stations. The field is on a regular grid with the spacing
--grid that covers all data; data lie between its points. With --onto it is the field of another measurement, so that
`convert stack` can join both; data outside of it are left out and counted. Axes are ordered time, height, others,
latitude, longitude.

Places: columns that are called or marked longitude and latitude are degrees, and --project makes kilometres of them
around the middle of the data (azimuthal equidistant, described in the file as CF does). Longitudes that go around the
cut of their file are turned where half of the circle is empty; else --wrap or --circle decides. Dates become
days since the first; numbers with units "... since ..." stay, of any --calendar.

--covariate height=dem.nc takes a gridded field along, interpolated to the grid: `reconstruct --covariates height` lets
the mean depend on it.

Noise: its standard deviation (--noise-std), a column of them (--noise-column), or neither: then the file records that
the level is to be estimated, and `reconstruct` without --prior does so.

Rows without a value, a place or a noise level are left out and counted; so are rows that repeat another in every
column. Data at one place are merged by their noise; where that is unknown they stay, since their difference determines
it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core.errors import InfieldError
from infield.pipelines.tables.output import add_output_arguments, finish, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="TABLE", help="the file")
    add_output_arguments(parser, "MEASUREMENT.zarr")
    parser.add_argument("--value", required=True, metavar="COLUMN", help="the data")
    parser.add_argument("--at", required=True, nargs="+", metavar="COLUMN", help="their places, e.g. lon lat time")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--grid", type=float, nargs="+", default=[], metavar="STEP",
                       help="spacing of the grid, one or one for each axis: degrees, km with --project")  # fmt: skip
    where.add_argument("--onto", type=Path, metavar="MEASUREMENT.zarr",
                       help="the field of another measurement, its grid and units, in place of a new one")  # fmt: skip
    parser.add_argument("--units", help="of the data, as UDUNITS spells them (default: the file's, else 1)")
    parser.add_argument("--convert", metavar="UNITS", help="convert the data to these units")
    parser.add_argument("--at-units", nargs="+", default=[], metavar="UNITS",
                        help="of the places: one for each of --at, or one for all but times")  # fmt: skip
    noise = parser.add_mutually_exclusive_group()
    noise.add_argument(
        "--noise-std", type=float, metavar="STD", help="standard deviation of the noise, in the data's own units"
    )
    noise.add_argument("--noise-column", metavar="COLUMN", help="a standard deviation for each datum")
    parser.add_argument("--covariate", action="append", default=[], metavar="NAME=FIELD",
                        help="a gridded variable on which the mean may depend; may be repeated")  # fmt: skip
    parser.add_argument("--project", action="store_true", help="make kilometres of degrees")
    parser.add_argument("--wrap", type=float, metavar="LONGITUDE", help="where the circle is cut open, in degrees")
    parser.add_argument("--circle", choices=("closed", "open"),
                        help="whether longitudes are periodic (default: as the data do)")  # fmt: skip
    parser.add_argument("--crs", metavar="EPSG:CODE",
                        help="reference system of the first two of --at, x and y (extra `maps`)")  # fmt: skip
    parser.add_argument("--calendar", help="of dates, as CF names it, e.g. 360_day")
    parser.add_argument("--columns", nargs="+", default=[], metavar="NAME", help="names, of a text without a header")
    parser.add_argument("--missing", type=_number_or_text, nargs="+", default=[], metavar="VALUE",
                        help="a number or word that stands for missing values, e.g. -9999; or several")  # fmt: skip
    parser.add_argument("--no-missing", action="store_true", help="numbers such as -9999 are values like the others")
    parser.add_argument("--dates", choices=("day-first", "month-first"), help="how dates such as 03/04/2020 are read")


def run(arguments: argparse.Namespace) -> int:
    from infield.datasets.tables.scattered import Scattered, convert_table  # not for --help
    from infield.datasets.tables.table import Layout

    prepare(arguments)
    asked = Scattered(
        value=arguments.value,
        at=tuple(arguments.at),
        grid=tuple(arguments.grid),
        units=arguments.units,
        at_units=tuple(arguments.at_units),
        convert=arguments.convert,
        noise_std=arguments.noise_std,
        noise_column=arguments.noise_column,
        project=arguments.project,
        wrap=arguments.wrap,
        closed=None if arguments.circle is None else arguments.circle == "closed",
        calendar=arguments.calendar,
        crs=arguments.crs,
        onto=arguments.onto,
        covariates=tuple(_named_file(text) for text in arguments.covariate),
        layout=Layout(
            columns=tuple(arguments.columns),
            missing=tuple(arguments.missing),
            no_missing=arguments.no_missing,
            dates=arguments.dates,
        ),
    )
    return finish(convert_table(arguments.source, asked), arguments)


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise InfieldError(where="--covariate", found=f"'{text}'", expected="NAME=FIELD, e.g. height=dem.nc")
    return name, Path(path)
