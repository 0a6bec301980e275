"""A posterior to a map that other programs read.

    infield convert posterior p.zarr -o map.nc
    infield convert posterior p.zarr -o map.nc --quantiles 0.025 0.975 --with-samples 0 1 2
    infield convert posterior p.zarr -o map.tif
    infield convert posterior p.zarr -o draws.nc --arviz

Mean (under the name of the variable), standard deviation (NAME_sd), quantiles (NAME_q05, ...) and chosen draws
(NAME_draws), with the CF attributes of the variable and its coordinates; land is missing. netCDF, or by the suffix .tif
GeoTIFF with a band for each (two evenly spaced axes; extra `maps`). With --arviz all draws and nothing else, in
netCDF with the group `posterior` along (chain, draw), which arviz.from_netcdf and xarray.open_datatree read.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.pipelines.tables.output import add_output_arguments

QUANTILES = (0.05, 0.5, 0.95)
GEOTIFF = (".tif", ".tiff")
NETCDF = (".nc", ".nc4", ".cdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("posterior", type=Path, metavar="POSTERIOR.zarr", help="the posterior")
    add_output_arguments(parser, "MAP.nc|MAP.tif")
    parser.add_argument("--quantiles", type=float, nargs="*", default=QUANTILES, metavar="Q",
                        help=f"each a fraction (default {' '.join(map(str, QUANTILES))})")  # fmt: skip
    parser.add_argument("--with-samples", type=int, nargs="+", default=[], metavar="I",
                        help="samples that go along, by their numbers")  # fmt: skip
    parser.add_argument("--arviz", action="store_true", help="all samples as ArviZ has them, in place of a map")


def run(arguments: argparse.Namespace) -> int:
    from infield.datasets.tables.maps import map_of, write_geotiff, write_netcdf  # not for --help
    from infield.pipelines.run.console import table

    output, suffix = arguments.output, arguments.output.suffix.lower()
    if suffix not in (*GEOTIFF, *NETCDF):
        raise InfieldError(where=output, found=f"the suffix '{suffix}'", expected=", ".join((*NETCDF, *GEOTIFF)))
    if output.is_dir() or (os.path.lexists(output) and not arguments.overwrite):
        raise InfieldError(
            where=output, found="an existing output", expected="a new path",
            remedy="choose another, or replace it ({overwrite})", parameters={"overwrite": True},
        )  # fmt: skip
    if arguments.arviz:
        return _draws(arguments)
    found = map_of(arguments.posterior, quantiles=tuple(arguments.quantiles), draws=tuple(arguments.with_samples))
    (write_geotiff if suffix in GEOTIFF else write_netcdf)(found, output)
    variables = {
        str(name): f"{' x '.join(map(str, v.shape))} {v.attrs.get('units', '1')}"
        for name, v in found.data_vars.items()
        if v.ndim and v.dtype.kind == "f"
    }
    if arguments.json:
        print(to_json({"output": str(output), "variables": list(variables)}))
    elif not arguments.quiet:
        table(str(output), variables)
    return 0


def _draws(arguments: argparse.Namespace) -> int:
    from infield.datasets.tables.draws import draws_of, write_draws
    from infield.pipelines.run.console import table

    output = arguments.output
    if output.suffix.lower() not in NETCDF or arguments.with_samples:
        raise InfieldError(
            where="--arviz", found=f"'{output.suffix}'" if not arguments.with_samples else "--with-samples",
            expected=f"all samples, in {', '.join(NETCDF)}",
        )  # fmt: skip
    tree = draws_of(arguments.posterior)
    write_draws(tree, output)
    variables = {
        f"posterior/{name}": " x ".join(f"{n} {size}" for n, size in v.sizes.items())
        for name, v in tree["posterior"].data_vars.items()
    }
    if arguments.json:
        print(to_json({"output": str(output), "variables": list(variables)}))
    elif not arguments.quiet:
        table(str(output), variables)
    return 0
