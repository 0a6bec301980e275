"""Options of the bench in `run`; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("--prior", type=Path, metavar="PRIOR.ckpt", help="a prior of lightcones")
    add("--simulations", type=Path, metavar="TRAIN.zarr", help="the cones that it was trained on")
    add("--reference", type=Path, nargs="+", metavar="REF.zarr",
        help="ensembles of the simulator, each at one point of the parameters")  # fmt: skip
    add("--draws", type=int, metavar="N", help="cones that are drawn at each point (default: as many as it has)")
    add("--steps", type=int, metavar="N", help="steps of the flow's integration (default as `infield emulate`)")
    add("--simulator-seconds", type=float, metavar="S",
        help="seconds of a core for a cone of the simulator (default: measured)")  # fmt: skip
    add("--python", metavar="PATH", help="a Python that has py21cmfast, to measure them")
    add("--workers", type=int, metavar="N", help="cones that are drawn at a time, each by one thread (default 1)")
    add("--parts", nargs="+", metavar="NAME", help="emulation, telescope, costs (default all)")
    parser.rename("--samples", "--draws")
