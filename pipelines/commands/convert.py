"""Conversion of files of other formats to measurements, and of posteriors to maps.

    infield convert table obs.csv -o measurement.zarr --value sst --at lon lat --units degC --grid 0.1
    infield convert grid field.nc -o measurement.zarr --variable sst
    infield convert stack satellite.zarr buoys.zarr -o measurement.zarr
    infield convert posterior posterior.zarr -o map.nc
    infield convert mri KSPACE.npy -o brain.zarr
    infield convert pet PET.nii.gz -o suvr.nii.gz --to SUVR --reference cerebellum.nii.gz
    infield convert projection CAPTURES -o setup.zarr
    infield convert wall-pressure PLANES.h5 -o planes.zarr
    infield convert wall-sensors planes.zarr -o measurement.zarr --fraction 0.0025 --noise-std 0.1
    infield convert lightcone cone_*.h5 -o cones.zarr
    infield convert lightcone-observation cones.zarr -o measurement.zarr --cells 0-63

`infield convert KIND --help` lists the options of each; all of them take --json and --quiet.
"""

from __future__ import annotations

import argparse

from infield.core import registry
from infield.pipelines.run.options import Parser
from infield.pipelines.run.subcommand import add_subcommands, subcommand

GROUP = "converters"


def add_arguments(parser: Parser) -> None:
    add_subcommands(parser, GROUP, "domain", metavar="KIND", help="what kind of data it is")


def run(arguments: argparse.Namespace) -> int:
    with registry.plugins_recorded():  # the file names them
        return subcommand(GROUP, arguments.domain).run(arguments)
