"""Benches: each prints one table and writes flat records with seed and versions, named peers in the same run."""

from __future__ import annotations

import argparse
import importlib
import statistics
from pathlib import Path

from infield import InfieldError

BENCHES = {
    "calibration": "infield.pipelines.bench.calibration",
    "cm21": "infield.pipelines.cm21.bench.run",
    "gp-regression": "infield.pipelines.bench.gp_regression",
    "kspace": "infield.pipelines.mri.bench.kspace",
    "learned-prior": "infield.pipelines.bench.learned_prior",
    "mixture": "infield.pipelines.bench.mixture",
    "mri": "infield.pipelines.mri.bench.run",
    "one-step": "infield.pipelines.bench.one_step",
    "pde": "infield.pipelines.bench.pde.run",
    "spectrum": "infield.pipelines.bench.spectrum",
    "scaling": "infield.pipelines.bench.scaling",
    "volumes": "infield.pipelines.mri.bench.volumes",
    "wall-pressure": "infield.pipelines.wall_pressure.bench.run",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=sorted(BENCHES), help="which bench")
    parser.add_argument("--quick", action="store_true", help="few cases, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records to this file")
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases (default 0)")
    learned = parser.add_argument_group("gp-regression")
    learned.add_argument("--prior", metavar="WHICH", help="closed-form or learned (default closed-form)")
    learned.add_argument("--kernel", choices=("matern", "gibbs"), help="with --prior learned: one law (default both)")
    learned.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="prior of that kernel; with --train, a new file"
    )
    learned.add_argument("--train", action="store_true", help="with --prior learned: train anew, minutes for each law")
    pde = parser.add_argument_group("pde")
    pde.add_argument("--problem", nargs="+", metavar="NAME", help="which equations, by their names (default all)")
    pde.add_argument("--methods", nargs="+", metavar="NAME", help="only methods whose names start so (default all)")
    cones = parser.add_argument_group("cm21", "with --prior PRIOR.ckpt, a prior of lightcones")
    cones.add_argument("--simulations", type=Path, metavar="TRAIN.zarr", help="the cones that it was trained on")
    cones.add_argument("--reference", type=Path, nargs="+", metavar="REF.zarr",
                       help="ensembles of the simulator, each at one point of the parameters")  # fmt: skip
    cones.add_argument("--samples", type=int, help="cones that are drawn at a point (default: as many as it has)")
    cones.add_argument("--steps", type=int, metavar="N", help="of the integration (default as `infield emulate`)")
    cones.add_argument("--simulator-seconds", type=float, metavar="S", help="of a core, for a cone of the simulator")
    cones.add_argument("--python", metavar="PATH", help="a Python that has py21cmfast, to measure them")
    cones.add_argument("--workers", type=int, help="cones that are drawn at a time, each by one thread (default 1)")
    cones.add_argument("--parts", nargs="+", metavar="NAME", help="emulation, telescope, costs (default all)")


CM21 = ("simulations", "reference", "samples", "steps", "simulator_seconds", "python", "workers", "parts")
"""Options of that bench alone."""


def run(arguments: argparse.Namespace) -> int:
    if arguments.json and not arguments.json.parent.is_dir():
        raise InfieldError(f"--json {arguments.json}: no folder {arguments.json.parent}; make it first")
    name, options = BENCHES[arguments.name], {}
    given = {option: getattr(arguments, option) for option in CM21 if getattr(arguments, option) is not None}
    if arguments.name == "cm21":
        options = given | ({"prior": Path(arguments.prior)} if arguments.prior else {})
    elif given:
        option = next(iter(given)).replace("_", "-")
        raise InfieldError(f"--{option}: it is an option of bench cm21, not of {arguments.name}")
    elif arguments.prior not in (None, "closed-form", "learned"):
        raise InfieldError(f"--prior: found {arguments.prior}, expected closed-form or learned, or bench cm21")
    elif arguments.prior == "learned":
        if arguments.name != "gp-regression":
            raise InfieldError(f"--prior learned: it is an option of bench gp-regression, not of {arguments.name}")
        name = "infield.pipelines.bench.learned_regression"
        options = {"checkpoint": arguments.checkpoint, "train": arguments.train}
        if arguments.kernel:
            options["kernels"] = (arguments.kernel,)
    if arguments.prior != "learned" and (arguments.kernel or arguments.checkpoint or arguments.train):
        raise InfieldError("--kernel, --checkpoint and --train are options of `bench gp-regression --prior learned`")
    for option, value in (("problems", arguments.problem), ("methods", arguments.methods)):
        if value is not None:
            if arguments.name != "pde":
                raise InfieldError(f"--problem and --methods are options of bench pde, not of {arguments.name}")
            options[option] = value
    module = importlib.import_module(name)
    bench = module.run(quick=arguments.quick, seed=arguments.seed, **options)
    summary = getattr(module, "SUMMARY", statistics.median)
    for metrics in getattr(module, "FIRST_METRICS", ()):  # tables before the last one
        bench.print(metrics, "", summary)
    bench.print(module.METRICS, module.METHOD_NOTE, summary)
    if arguments.json:
        bench.write(arguments.json)
    return 0
