"""Benches: each prints one table and writes flat records with seed and versions, named peers in the same run."""

from __future__ import annotations

import argparse
import importlib
import statistics
from pathlib import Path

from infield import InfieldError

BENCHES = {
    "calibration": "infield.pipelines.bench.calibration",
    "gp-regression": "infield.pipelines.bench.gp_regression",
    "kspace": "infield.pipelines.bench.kspace",
    "learned-prior": "infield.pipelines.bench.learned_prior",
    "mixture": "infield.pipelines.bench.mixture",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=sorted(BENCHES), help="which bench")
    parser.add_argument("--quick", action="store_true", help="few cases, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records to this file")
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases (default 0)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.json and not arguments.json.parent.is_dir():
        raise InfieldError(f"--json {arguments.json}: no folder {arguments.json.parent}; make it first")
    module = importlib.import_module(BENCHES[arguments.name])
    bench = module.run(quick=arguments.quick, seed=arguments.seed)
    bench.print(module.METRICS, module.METHOD_NOTE, getattr(module, "SUMMARY", statistics.median))
    if arguments.json:
        bench.write(arguments.json)
    return 0
