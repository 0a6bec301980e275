"""Astrophysical parameters of 21 cm lightcones, by simulation-based inference with the package sbi.

    infield infer-parameters cone.zarr --simulations cones.zarr -o parameters.zarr --report parameters.html
    infield infer-parameters cones.zarr --cone 0-4 --simulations cones.zarr -o parameters.zarr

It needs the extra: pip install 'infield[sbi]'. CONES.zarr holds lightcones of many parameters, spread evenly over a
box: of `infield simulate 21cm`, of `infield emulate`, or converted. Their summaries (mean temperature, share of exact
zeros, power spectrum and scattering coefficients of each chunk of the line of sight), compressed, and their parameters
train a neural posterior under the uniform prior of the box. A share of the cones is held out: the ranks of their
parameters test the posterior. Parameters that are stored with the cones of LIGHTCONES.zarr are only
compared with. Where both files are one, the cones of interest are not trained with.

Cones are taken as they are, without noise: both files must be of one kind. For cones seen through a telescope, pass the
simulations through the same telescope first; this command does not do that.
"""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser, add_json
from infield.pipelines.run.subcommand import deferred

COMPONENTS, HELD_OUT = 8, 0.2
"""Components of the summaries; fraction of the simulations that is held out."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("lightcones", type=Path, metavar="LIGHTCONES.zarr", help="cones whose parameters are inferred")
    parser.add_argument(
        "--simulations", type=Path, required=True, metavar="CONES.zarr", help="cones of many parameters"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="PARAMETERS.zarr",
                        help="the draws of the parameters, a new file")  # fmt: skip
    parser.add_argument("--cone", metavar="A-B", help="which cones of LIGHTCONES.zarr, A or A-B (default all)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a report with pictures")
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="draws for each cone (default 1000)")
    parser.add_argument("--hold-out", type=float, default=HELD_OUT, metavar="FRACTION",
                        help="fraction of the simulations that is set aside, to judge with "
                        f"(default {HELD_OUT})")  # fmt: skip
    parser.add_argument("--components", type=int, default=COMPONENTS, metavar="N",
                        help=f"numbers into which summaries are compressed (default {COMPONENTS})")  # fmt: skip
    parser.add_argument("--chunk", type=int, metavar="CELLS",
                        help="cells of a chunk of the line of sight (default: as deep as a cone is wide)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="seed of the split, the training and the draws (default 0)")  # fmt: skip
    parser.rename("--samples", "--draws")
    parser.rename("--held-out", "--hold-out")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    add_json(parser)


run = deferred("infield.pipelines.cm21.infer:run")
