"""Raw data of a domain to a file of ours.

    infield convert mri KSPACE.npy -o brain.zarr
    infield convert wall-pressure PLANES.h5 -o planes.zarr
    infield convert wall-sensors planes.zarr -o measurement.zarr --share 0.0025 --noise 0.1
    infield convert lightcone cone_*.h5 -o cones.zarr
    infield convert lightcone-observation cones.zarr -o measurement.zarr --cells 0-63

`infield convert DOMAIN --help` tells what each takes; all of them take --json.
"""

from __future__ import annotations

import argparse

from infield.core import registry
from infield.pipelines.run.subcommand import add_subcommands, subcommand

GROUP = "converters"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_subcommands(parser, GROUP, "domain", metavar="DOMAIN", help="what kind of data it is")


def run(arguments: argparse.Namespace) -> int:
    with registry.plugins_recorded():  # the file names them
        return subcommand(GROUP, arguments.domain).run(arguments)
