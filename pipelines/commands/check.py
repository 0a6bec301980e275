"""Do prior, operator, noise and sampler of a posterior fit its own data? Trust without a truth.

    infield check m.zarr posterior.zarr --prior p.ckpt

A fifth of the data are held out and the others split in two by data fission; the sampler draws from one part, and its
draws must predict the other. Under a Gaussian prior the evidence is tested as well. The verdict is printed with the
smallest faults that would have been seen, and recorded in the posterior as `trusted` and `trusted_because`, which its
report shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.pipelines.run.options import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("measurement", type=Path, metavar="MEASUREMENT.zarr", help="the measurement")
    add("posterior", type=Path, metavar="POSTERIOR.zarr", help="a posterior of it")
    add("--prior", help="that of the posterior (default: looked for by the name that the posterior gives)")
    add("--draws", type=int, default=99, metavar="N", help="posterior samples that predict, at least 99 (default 99)")
    add("--no-record", action="store_true", help="print the verdict and leave the posterior as it is")
    add("--strict", action="store_true", help="exit status 3 where a fault was found")
    add("--seed", type=int, default=0, metavar="N", help="seed of the split and the draws (default 0)")
    add("--device", default="auto", help="where networks run: auto, cpu, cuda, cuda:1 ... (default auto)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from infield.pipelines.run.check import run as run_command  # not for --help

    return run_command(arguments)
