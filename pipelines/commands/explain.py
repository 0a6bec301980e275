"""What each datum contributes to a feature of a posterior, which data disagree with the others, what one would add.

    infield explain posterior.zarr --measurement m.zarr --feature mean
    infield explain posterior.zarr --measurement m.zarr --feature mean:x=0..0.5 --prior matern.yaml -o why.nc
    infield explain posterior.zarr --measurement m.zarr --feature band:2..4 --planned-noise 0.1

Features: the mean of the field or of a region, the value at the point nearest to a place, and the power in a band of
wavenumbers. The sensitivity of a datum is the derivative of the feature's posterior mean with respect to it, from the
draws with its standard error; with a Gaussian prior, a linear operator and Gaussian noise it is the exact gain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core.json_text import to_json
from infield.pipelines.run.options import add_json, check_positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("posterior", type=Path, metavar="POSTERIOR.zarr", help="the posterior")
    add("--measurement", type=Path, required=True, metavar="FILE", help="the measurement that it is of")
    add("--feature", default="mean", metavar="FEATURE",
        help="mean[:AXIS=LOW..HIGH,...], point:AXIS=VALUE,... or band:LOW..HIGH (default mean)")  # fmt: skip
    add("--channel", metavar="NAME", help="channel of the field (default the first)")
    add("--prior", metavar="PRIOR", help="the prior of the posterior: for exact gains where it is Gaussian")
    add("--planned-noise", type=float, metavar="SD",
        help="noise sd, in units of the file, of one further datum: how much it would add, place by place")  # fmt: skip
    add("-o", "--output", type=Path, metavar="MAP.nc", help="all figures of all data, and the map, as netCDF")
    add("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from infield.pipelines.run.console import table
    from infield.pipelines.run.explanation import explain, rows_of, write_explanation  # not for --help

    check_positive(planned_noise=arguments.planned_noise)
    found = explain(
        arguments.posterior,
        arguments.measurement,
        arguments.feature,
        channel=arguments.channel,
        prior=arguments.prior,
        planned_noise=arguments.planned_noise,
    )
    if arguments.output is not None:
        write_explanation(found, arguments.output, overwrite=arguments.overwrite)
    if arguments.json:
        print(to_json(found.summary()))
    elif not arguments.quiet:
        table(f"{arguments.posterior.name}: {arguments.feature}", rows_of(found))
    return 0
