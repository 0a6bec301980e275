"""21 cm lightcones of many formats to one file of lightcones; the options are in `convert_options`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.cm21.lightcone_file import TEMPERATURE, Lightcones, lightcone_writer
from infield.datasets.cm21.readers.common import UserMetadata
from infield.datasets.cm21.readers.open import open_lightcone_files
from infield.datasets.formats.zarr_group import check_new, remove_tree
from infield.pipelines.run.blocks import discard_if_empty
from infield.pipelines.run.console import progress, say, table
from infield.pipelines.run.options import check_positive


def run(arguments: argparse.Namespace) -> int:
    check_positive(**{name: getattr(arguments, name) for name in ("box_size", "hubble", "omega_m")})
    names = ("variable", "depth", "parameters", "redshifts", "hubble", "omega_m", "units", "resample")
    stated = UserMetadata(box=arguments.box_size, **{name: getattr(arguments, name) for name in names})
    facts = convert_lightcones(
        arguments.sources, arguments.output, stated, overwrite=arguments.overwrite, quiet=arguments.json
    )
    if arguments.json:
        print(to_json(facts))
        return 0
    for note in facts["notes"]:
        say(f"infield convert: {note}")
    table(str(arguments.output), rows_of(facts))
    return 0


def convert_lightcones(
    sources: Sequence[Path], output: Path, stated: UserMetadata, *, overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """The command as a function; returns facts in plain JSON types.

    Raises:
        InfieldError: Whatever of the input the user can mend; nothing of the output is left then.
    """
    check_new(output, overwrite)
    source = open_lightcone_files(sources, stated)
    files = [{"bytes": path.stat().st_size, "modified": path.stat().st_mtime_ns} for path in sources]
    title = f"21 cm lightcones, {source.files[0].format}"
    run = {"sources": files, **({"resample": 1} if stated.resample else {})}
    writer = lightcone_writer(
        output,
        source.cones,
        run=run,
        title=title,
        overwrite=overwrite,
    )
    with discard_if_empty(writer), progress(quiet=quiet) as bar:
        for i in bar.track(writer.missing_blocks(), description="cones"):
            try:
                cone = source.read(i)
            except InfieldError:  # a corrected file is another one: there is nothing to resume from
                remove_tree(writer.partial)
                writer.release()
                raise
            writer.write_block(i, {TEMPERATURE: cone[None]})
    writer.finish()
    return {"output": str(output), **about(source.cones), "notes": list(source.notes)}


def about(cones: Lightcones) -> dict[str, Any]:
    """Summary of lightcones, in JSON types."""
    axes = cones.grid.axes
    return {
        "cones": cones.samples,
        "shape": list(cones.grid.shape),
        "box_Mpc": list(cones.grid.lengths),
        "cell_Mpc": [axis.spacing for axis in axes],
        "redshift": [float(cones.redshift[0]), float(cones.redshift[-1])],
        "frequency_MHz": [float(cones.frequency[0]), float(cones.frequency[-1])],
        "parameters": {name: [float(v.min()), float(v.max())] for name, v in cones.parameters.items()},
    }


def rows_of(facts: dict[str, Any]) -> dict[str, str]:
    """The same for a table."""
    z, f = facts["redshift"], facts["frequency_MHz"]
    parameters = [f"{name} {low:g} to {high:g}" for name, (low, high) in facts["parameters"].items()]
    return {
        "cones": str(facts["cones"]),
        "cells, x x y x los": " x ".join(map(str, facts["shape"])),
        "box": " x ".join(f"{length:g}" for length in facts["box_Mpc"]) + " Mpc",
        "redshift": f"{z[0]:.4g} to {z[1]:.4g} ({f[0]:.1f} to {f[1]:.1f} MHz)",
        "parameters": ", ".join(parameters) or "none known",
    }
