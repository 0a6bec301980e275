"""Is the posterior of this file calibrated, and how would it be mended? Simulations by its own operator and noise.

    infield calibrate m.zarr --prior p.yaml --sampler faps -o calibration.zarr
    infield calibrate m.zarr --prior p.ckpt --truths posterior --simulations 100 --strict
    infield reconstruct m.zarr --prior p.ckpt -o posterior.zarr --calibration calibration.zarr

A truth is drawn, measured by the operator and the noise of the file, and reconstructed; if the sampler is right, the
truth is one more draw. Truths of the prior test the sampler; those of the posterior test it near these
data; fields of a file test the prior as well. A run that was interrupted resumes when the same command is given again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core import registry
from infield.pipelines.run.options import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("measurement", type=Path, metavar="MEASUREMENT.zarr", help="the measurement")
    add("--output", type=Path, default=Path("calibration.zarr"), metavar="CALIBRATION.zarr",
        help="simulations, verdict and what mends, a new file (default calibration.zarr)")  # fmt: skip
    add("--prior", help="checkpoint, its name, YAML description or built-in name (default: fitted to the file)")
    add("--sampler", metavar="NAME", help=f"one of {', '.join(registry.names('samplers'))} (default faps)")
    add("--with", dest="settings", action="append", default=[], metavar="PARAMETER=VALUE",
        help="a parameter of the sampler, e.g. --with levels=20; may be repeated")  # fmt: skip
    add("--truths", default="prior", metavar="prior|posterior|FILE",
        help="truths of the prior, of the posterior of these data, or of a file (default prior)")  # fmt: skip
    add("--variable", default="field", metavar="NAME", help="of the file of truths (default field)")
    add("--simulations", type=int, default=64, metavar="N", help="how many, at least 20 (default 64)")
    add("--draws", type=int, default=32, metavar="N", help="posterior samples of each simulation (default 32)")
    add("--functional", dest="functionals", action="append", default=[], metavar="NAME",
        help="a number of the field to test beside those declared: mean:AXIS=LOW:HIGH,... or an entry point of "
        "infield.functionals; may be repeated")  # fmt: skip
    add("--plan", action="store_true", help="print what the run would cost, from one simulation, and leave")
    add("--strict", action="store_true", help="exit status 3 where the sampler is found to be wrong")
    add("--seed", type=int, default=0, metavar="N", help="seed of all simulations (default 0)")
    add("--device", default="auto", help="where networks run: auto, cpu, cuda, cuda:1 ... (default auto)")
    add("--workers", type=int, metavar="N", help="simulations at a time on this machine (default: its cores)")
    add("--scheduler", metavar="ADDRESS", help="address of a running Dask scheduler; else a local one")
    add("--overwrite", action="store_true", help="replace an existing output once the new one is done")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from infield.pipelines.run.calibrate import run as run_command  # not for --help

    return run_command(arguments)
