"""Options of commands that draw many samples; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.pipelines.run.options import add_json, check_at_least


def add_run_arguments(parser: argparse.ArgumentParser, *, samples: int, of: str = "samples") -> None:
    """Options of a command that draws many samples.

    Arguments:
        parser: Gets them.
        samples: The default number.
        of: What the samples are called.
    """
    parser.add_argument("--samples", type=int, default=samples, metavar="N",
                        help=f"number of {of}, in all (default {samples})")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the run (default 0)")
    parser.add_argument("--workers", type=int, metavar="N",
                        help=f"blocks of {of} at a time on this machine (default: its cores)")  # fmt: skip
    parser.add_argument("--scheduler", metavar="ADDRESS", help="address of a running Dask scheduler; else a local one")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output once the new one is done")
    add_json(parser)


def run_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """These options as the functions behind the commands take them."""
    names = ("samples", "seed", "workers", "scheduler", "overwrite")
    return {name: getattr(arguments, name) for name in names} | {"quiet": arguments.json}


def check_run(
    samples: int,
    seed: int,
    workers: int | None,
    scheduler: str | None = None,
    *,
    least_samples: int = 1,
    output: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Check the numbers of a run, and its output if one is given.

    Raises:
        InfieldError: A number is too small, workers are given beside a scheduler, which has its own, or the output
            exists or cannot be written.
    """
    check_at_least(least_samples, samples=samples)
    check_at_least(1, workers=workers)
    check_at_least(0, seed=seed)
    if scheduler is not None and workers is not None:
        raise InfieldError(
            where="--workers", found=f"--scheduler {scheduler}", expected="one of them: a scheduler has its own workers"
        )
    if output is not None:
        from infield.datasets.formats.zarr_group import check_new  # loads xarray, which help does without

        check_new(output, overwrite)
