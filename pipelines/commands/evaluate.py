"""Is every sampler of this suite calibrated? Simulations on small cases of every domain, and their verdicts.

    infield evaluate --records docs/benchmarks/evaluate.json --keep finished
    infield evaluate --cases points --samplers exact faps

Truths are drawn, measured and reconstructed, and truth and draws are compared by the test of `infield calibrate`. What
a sampler does not accept is listed with the reason; what misses stays in the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core import registry
from infield.core.json_text import to_json
from infield.pipelines.run.options import add_json, check_at_least, check_records, silence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add, cases, samplers = parser.add_argument, registry.names("evaluations"), registry.names("samplers")
    add("--cases", nargs="+", choices=cases, metavar="CASE", help=f"some of {', '.join(cases)} (default all)")
    add("--samplers", nargs="+", choices=samplers, metavar="NAME", help=f"some of {', '.join(samplers)} (default all)")
    add("--quick", action="store_true", help="20 simulations of each, which see little")
    add("--keep", type=Path, metavar="FOLDER", help="finished pairs, to resume a stopped run")
    add("--records", type=Path, metavar="FILE", help="write the records to this file, as JSON")
    add("--seed", type=int, default=0, metavar="N", help="seed of all simulations (default 0)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from infield.pipelines.bench.evaluation import evaluate  # not for --help

    check_at_least(0, seed=arguments.seed)
    check_records(arguments.records)
    with silence(arguments.json):
        bench = evaluate(
            cases=arguments.cases,
            samplers=arguments.samplers,
            quick=arguments.quick,
            seed=arguments.seed,
            keep=arguments.keep,
        )
    if arguments.records:
        bench.write(arguments.records)
    if arguments.json:
        print(to_json(bench.document))
    else:
        bench.show()
    return 0
