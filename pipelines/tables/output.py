"""What `infield convert table` and `grid` have in common: where the result goes, and its summary."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infield.core.json_text import to_json
from infield.pipelines.options import as_option
from infield.pipelines.run.options import add_json

if TYPE_CHECKING:  # not for --help
    from infield.datasets.tables.converted import Converted


def add_output_arguments(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Options that all conversions share."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help="the result")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Refuse an output that cannot be written, before anything is read."""
    from infield.datasets.formats.zarr_group import check_new

    check_new(arguments.output, arguments.overwrite)


def finish(converted: Converted, arguments: argparse.Namespace) -> int:
    """Write a measurement and print its summary; returns the exit status."""
    from infield.pipelines.run.console import say, table

    notes = tuple(re.sub(r"\{(\w+)\}", lambda found: as_option(found[1]), note) for note in converted.notes)
    converted.write(arguments.output, source=Path(str(arguments.source)).name, overwrite=arguments.overwrite)
    for note in notes:
        say(note, quiet=(arguments.quiet or arguments.json) and not note.startswith("warning"))
    facts = summary(converted)
    if arguments.json:
        print(to_json({"output": str(arguments.output), **facts, "notes": notes}))
    elif not arguments.quiet:
        table(str(arguments.output), _rows(converted, facts))
    return 0


def summary(converted: Converted) -> dict[str, Any]:
    """The summary, in plain JSON types."""
    from infield.core.grid import Grid

    measurement, grid = converted.measurement, converted.measurement.grid
    assert isinstance(grid, Grid)
    estimated = getattr(measurement.noise, "estimated", False)
    values = measurement.y[0] if measurement.observed is None else measurement.y[0][measurement.observed]
    return {
        "variable": measurement.channels[0],
        "units": measurement.units,
        **converted.facts,
        "low": float(values.min()),
        "high": float(values.max()),
        "noise": "estimate" if estimated else "known",
        "axes": [
            {
                "name": axis.name,
                "size": axis.size,
                "first": axis.coordinates[0],
                "last": axis.coordinates[-1],
                "units": axis.units,
                "periodic": axis.periodic,
            }
            for axis in grid.axes
        ],
    }


def _rows(converted: Converted, facts: dict[str, Any]) -> dict[str, str]:
    variance = getattr(converted.measurement.noise, "variance", None)
    noise = "to be estimated by `reconstruct` without --prior"
    if facts["noise"] == "known" and variance is not None:
        low, high = float(variance.min()) ** 0.5, float(variance.max()) ** 0.5
        spread = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        noise = f"standard deviation {spread} {facts['units']}"
    rows = {
        "data": f"{facts['data']} of {facts['variable']}, {facts['low']:.4g} to {facts['high']:.4g} {facts['units']}",
        "noise": noise,
    }
    for axis in facts["axes"]:
        closed = ", periodic" if axis["periodic"] else ""
        rows[f"axis {axis['name']}"] = (
            f"{axis['size']} points, {axis['first']:g} to {axis['last']:g} {axis['units']}{closed}"
        )
    return rows
