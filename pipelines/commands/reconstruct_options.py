"""Posterior samples of the field behind a measurement file.

    reconstruct MEASUREMENT.zarr -o POSTERIOR.zarr --prior PRIOR --sampler faps --samples 64 --seed 0 --device auto

PRIOR is a checkpoint (.ckpt), a YAML description, or a built-in name; without one, a Gaussian prior is fitted to the
measurement itself. A killed run resumes when the same command is given again, and gives the same samples as
one that was not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core import registry
from infield.pipelines.run.fit_options import add_fit_arguments
from infield.pipelines.run.run_options import add_run_arguments
from infield.pipelines.run.subcommand import deferred


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("measurement", type=Path, metavar="MEASUREMENT.zarr", help="the measurement")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="POSTERIOR.zarr", help="the posterior, a new file"
    )
    parser.add_argument(
        "--prior", help="checkpoint, its name, YAML description or built-in name (default: fitted to the file)"
    )
    parser.add_argument("--at", dest="fixed", action="append", default=[], metavar="NAME=VALUE",
                        help="a number that the prior is conditioned on (default: the file's)")  # fmt: skip
    parser.add_argument("--surrogate", type=Path, metavar="SURROGATE.ckpt",
                        help="stands in for the measurement's solver; its error is added to the noise")  # fmt: skip
    parser.add_argument(
        "--sampler",
        metavar="NAME",
        help=f"one of {', '.join(registry.names('samplers'))} (default faps; kriging where a law is fitted to data at "
        "points, mgvi where one is fitted to counts or behind a link)",
    )
    parser.add_argument("--with", dest="settings", action="append", default=[], metavar="PARAMETER=VALUE",
                        help="a parameter of the sampler, e.g. --with levels=20; may be repeated")  # fmt: skip
    parser.add_argument(
        "--device", default="auto", help="where networks run: auto, cpu, cuda, cuda:1 ... (default auto)"
    )
    parser.add_argument("--tiles", type=int, nargs="+", metavar="POINTS",
                        help="points of a tile along each axis: fields larger than memory, tile by tile (default of "
                        "--workers then 1), for priors of patches and point sensors")  # fmt: skip
    parser.add_argument("--halo", type=int, nargs="+", metavar="POINTS",
                        help="points around a tile that enter its computation (default: half of --tiles)")  # fmt: skip
    parser.add_argument("--slices", type=int, metavar="N",
                        help="use a prior of slices (y, x) for the volume (z, y, x), N slices per task of a "
                        "worker")  # fmt: skip
    parser.add_argument("--calibration", type=Path, metavar="CALIBRATION.zarr",
                        help="of `infield calibrate`: recalibrated samples and conformal intervals are written "
                        "as well")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="also write a report that opens in a browser")
    add_fit_arguments(parser)
    add_run_arguments(parser, samples=64)


run = deferred("infield.pipelines.commands.reconstruct:run")
