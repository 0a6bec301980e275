"""21 cm lightcones drawn from a conditional prior: an ensemble at given astrophysical parameters, of any depth.

    infield emulate --prior PRIOR.ckpt --params params.yaml --samples 800 -o ensemble.zarr
    infield emulate --prior PRIOR.ckpt --params params.yaml --redshift-range 8 12 --points 64 -o wide.zarr
    infield compare-cones simulated.zarr ensemble.zarr -o report.html

params.yaml is one point (NAME: VALUE, by 21cmFAST's names, a line a parameter), ranges (NAME: [LOW, HIGH]) for a Latin
hypercube, or a list of points that share --samples evenly, in their order. Parameters outside the range of the prior's
training are refused; --extrapolate insists, and the file says so. Where the prior's file holds an emulator, it
draws, in one network call a cone; --steps asks for the flow. The line of sight is that of the prior, or the part
of it that --redshift-range and --depth tell; memory does not grow with it. A run that was killed goes on when the same
command is given again, and gives the same cones; each one depends on its `random_seed`, its parameters and the size.
"""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser
from infield.pipelines.run.run_options import add_run_arguments
from infield.pipelines.run.subcommand import deferred

HEUN_STEPS = 8
"""As in `priors.cm21.prior`, which is heavy."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--prior", required=True, metavar="PRIOR", help="checkpoint of a prior of lightcones, or its name"
    )
    parser.add_argument("--params", type=Path, required=True, metavar="PARAMS.yaml", help="astrophysical parameters")
    parser.add_argument("--output", type=Path, required=True, metavar="CONES.zarr", help="the lightcones, a new file")
    parser.add_argument("--depth", type=int, metavar="CELLS",
                        help="cells along the line of sight (default: all of it)")  # fmt: skip
    parser.add_argument("--redshift-range", type=float, nargs=2, metavar=("LOW", "HIGH"),
                        help="lowest and highest redshift (default: all that the prior covers)")  # fmt: skip
    parser.add_argument("--points", type=int, metavar="N", help="cells across (default: as in training)")
    parser.add_argument("--steps", type=int, metavar="N",
                        help="steps of the flow's integration, 2 N - 1 network calls a cone (default: one call of the "
                             f"emulator where the prior has one, else {HEUN_STEPS} steps)")  # fmt: skip
    parser.add_argument("--extrapolate", action="store_true", help="take parameters outside the range of training")
    parser.add_argument(
        "--device", default="auto", help="where networks run: auto, cpu, cuda, cuda:1 ... (default auto)"
    )
    parser.rename("--redshift", "--redshift-range")
    add_run_arguments(parser, samples=64, of="cones")


run = deferred("infield.pipelines.cm21.emulate:run")
