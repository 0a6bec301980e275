"""A synthetic longitudinal cohort of amyloid PET; the options are in `simulate_options`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.anatomy.brain_template import template_folder
from infield.datasets.formats.simulation import SimulationWriter
from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.brain_regions import NAMES
from infield.datasets.pet.phantom import QUANTITIES, VOLUME, AmyloidPhantom
from infield.datasets.pet.scanner import Scanner
from infield.pipelines.run.blocks import check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import table
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.simulations import settings_of

BLOCK = 8
"""Subjects that are drawn and stored together."""

OF_LAW = tuple(field.name for field in fields(AmyloidLaw) if field.name not in ("groups", "reg"))
OF_SCANNER = tuple(field.name for field in fields(Scanner) if field.name not in ("shape", "spacing"))
"""Parameters that `--with` sets."""


def run(arguments: argparse.Namespace) -> int:
    phantom = make_phantom(
        settings_of(arguments.settings),
        years=tuple(arguments.years),
        volumes=arguments.volumes,
        second=arguments.second_cohort,
    )
    summary = simulate_cohort(phantom, arguments.output, **run_settings(arguments))
    if arguments.json:
        print(to_json(summary))
        return 0
    law, scanner = summary["parameters"]["law"], summary["parameters"]["scanner"]
    rows = {
        "subjects": f"{summary['samples']}, synthetic",
        "points": " x ".join(map(str, summary["shape"])),
        "years": "{:g} to {:g}".format(*phantom.years),
        "law": ", ".join(f"{name} {law[name]}" for name in OF_LAW),
        "scanner": ", ".join(f"{name} {scanner[name]}" for name in OF_SCANNER),
        "seconds": f"{summary['seconds']:.1f}",
    }
    table(str(arguments.output), rows)
    return 0


def make_phantom(
    settings: dict[str, Any], *, years: tuple[float, float] = (0.5, 5.0), volumes: bool = False, second: bool = False
) -> AmyloidPhantom:
    """The law of a cohort.

    Arguments:
        settings: Parameters of the amyloid law and of the scanner by name.
        years: Least and most years between the scans.
        volumes: Whether it has 29 slices.
        second: Whether it is the second cohort.

    Raises:
        InfieldError: A parameter is unknown or not possible, or the template is not installed.
    """
    unknown = sorted(set(settings) - {*OF_LAW, *OF_SCANNER, "template"})
    if unknown:
        raise InfieldError(
            where="cohort",
            found=f"the parameter {', '.join(unknown)}",
            expected=f"one of {', '.join((*OF_LAW, *OF_SCANNER))}",
            parameters=["settings"],
        )
    wrong = [
        k for k, v in settings.items() if k != "template" and (isinstance(v, bool) or not isinstance(v, int | float))
    ]
    if wrong:
        raise InfieldError(where=f"cohort: {wrong[0]}", found=f"{settings[wrong[0]]!r}", expected="a number")
    template = str(settings.get("template", ""))
    template_folder(template, "pet")
    phantom = AmyloidPhantom.second_cohort(template) if second else AmyloidPhantom(template=template)
    law = replace(phantom.law, **{k: v for k, v in settings.items() if k in OF_LAW})
    try:
        scanner = replace(phantom.scanner, **{k: v for k, v in settings.items() if k in OF_SCANNER})
    except TypeError as error:
        raise InfieldError(where="cohort", found=f"a value of another kind ({error})", expected="numbers") from None
    heights = VOLUME if volumes else phantom.heights
    return replace(phantom, law=law, scanner=scanner, years=years, heights=heights)


@one_thread()
def simulate_cohort(
    phantom: AmyloidPhantom,
    output: Path,
    *,
    samples: int = 2000,
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """The command as a function; returns a summary in plain JSON types.

    Raises:
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    start = time.perf_counter()
    check_run(samples, seed, workers, scheduler, output=output, overwrite=overwrite)
    weights = phantom.region_weights.weights.float().numpy()
    words = {"long_name": "weights of regional means", "units": "1"}
    writer = SimulationWriter(
        output,
        grid=phantom.grid,
        variables=phantom.variables,
        samples=samples,
        block=BLOCK,
        run={"kind": "pet", "parameters": phantom.parameters, "seed": seed, "synthetic": 1},
        title="Synthetic longitudinal amyloid PET",
        coordinates={
            "region": xr.Variable("region", np.array(NAMES, dtype=object)),
            "quantity": xr.Variable("quantity", np.array(QUANTITIES, dtype=object)),
            "region_weights": xr.Variable(("region", "z", "y", "x"), weights, words),
        },
        overwrite=overwrite,
    )

    def write(b: int, result: Callable[[], dict[str, np.ndarray]]) -> None:
        writer.write_block(b, result())

    shared = (phantom, seed, samples)
    run_missing_blocks(writer, draw_block, shared, write, scheduler=scheduler, workers=workers, quiet=quiet)
    writer.finish()
    return {
        "output": str(output),
        "kind": "pet",
        "synthetic": True,
        "samples": samples,
        "shape": list(phantom.grid.shape),
        "variables": [variable.name for variable in phantom.variables],
        "parameters": phantom.parameters,
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }


def draw_block(phantom: AmyloidPhantom, seed: int, samples: int, block: int) -> dict[str, np.ndarray]:
    """All subjects of one block."""
    torch.set_num_threads(1)
    indices = range(block * BLOCK, min(samples, (block + 1) * BLOCK))
    with torch.no_grad():
        subjects = [phantom.subject(seed, i) for i in indices]
    return {name: torch.stack([s[name] for s in subjects]).numpy() for name in subjects[0]}
