"""A gridded field with gaps to a measurement.

    infield convert grid sst.nc -o m.zarr --variable sst --noise-std 0.3
    infield convert grid sst.nc -o m.zarr --variable sst --time 2008-07 --mask land_mask
    infield convert grid sst.nc -o m.zarr --variable sst --time 3 --mask always-missing
    infield convert grid profiles.nc -o m.zarr --variable theta --select depth=0 --convert degC

netCDF, HDF5 or zarr, whatever the file is called; scales, offsets, fill values and valid ranges are applied, and
longitudes and latitudes without units are taken as degrees by their names. Missing
values (NaN) are gaps: the field is measured where there are values; --no-gaps refuses them. Land is no gap:
--mask names a variable of 0 and 1, or declares cells that are missing at all times as land; maps of the posterior
leave it out.

Axes that decrease are turned, longitudes that go around the cut of their file as well, and those that fill the circle
are periodic; axes are ordered time, height, others, latitude, longitude. Attributes of the variable and of its
coordinates (standard_name, long_name, calendar, bounds, grid_mapping, ...) go along, up to the posterior.

Noise: its standard deviation (--noise-std), a variable of them (--noise-variable), or neither: then the file records
that the level is to be estimated, and `reconstruct` without --prior does so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core.errors import InfieldError
from infield.pipelines.tables.output import add_output_arguments, finish, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="FIELD", help="the file")
    add_output_arguments(parser, "MEASUREMENT.zarr")
    parser.add_argument("--variable", required=True, metavar="NAME", help="the field, GROUP/NAME in a group")
    parser.add_argument(
        "--mask",
        metavar="NAME|always-missing",
        help="land: a variable of 0 and 1 (in either sense), or of flags of which one names land",
    )
    noise = parser.add_mutually_exclusive_group()
    noise.add_argument("--noise-std", type=float, metavar="STD",
                       help="standard deviation of the noise, in the file's own units")  # fmt: skip
    noise.add_argument("--noise-variable", metavar="NAME", help="a standard deviation for each value")
    parser.add_argument("--time", metavar="INDEX|DATE", help="one time: its index, or a date or the beginning of one")
    parser.add_argument("--select", action="append", default=[], metavar="DIM=INDEX|VALUE",
                        help="one place of another dimension, by its index (5) or its coordinate (5.0); may be "
                             "repeated")  # fmt: skip
    parser.add_argument("--missing", type=float, nargs="+", default=[], metavar="NUMBER",
                        help="a number that stands for missing values though the file does not say so")  # fmt: skip
    parser.add_argument("--no-missing", action="store_true", help="numbers such as -9999 are values like the others")
    parser.add_argument("--no-gaps", action="store_true", help="refuse missing values, which else are gaps")
    parser.add_argument("--units", help="of the data, where those of the file are wrong or missing")
    parser.add_argument("--convert", metavar="UNITS", help="convert the data to these units")
    parser.add_argument("--wrap", type=float, metavar="LONGITUDE", help="where the circle is cut open, in degrees")
    parser.add_argument("--circle", choices=("closed", "open"),
                        help="whether longitudes are periodic (default: as the data do)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    from infield.datasets.tables.gridded import Gridded, convert_grid  # not for --help

    prepare(arguments)
    select = dict(_pair(text) for text in arguments.select)
    if arguments.time is not None:
        select["time"] = arguments.time
    asked = Gridded(
        variable=arguments.variable,
        mask=arguments.mask,
        noise_std=arguments.noise_std,
        noise_variable=arguments.noise_variable,
        select=select,
        gaps=not arguments.no_gaps,
        units=arguments.units,
        convert=arguments.convert,
        wrap=arguments.wrap,
        closed=None if arguments.circle is None else arguments.circle == "closed",
        missing=tuple(arguments.missing),
        no_missing=arguments.no_missing,
    )
    return finish(convert_grid(arguments.source, asked), arguments)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InfieldError(where="--select", found=f"'{text}'", expected="DIM=INDEX or DIM=VALUE, e.g. depth=0")
    return name, value
