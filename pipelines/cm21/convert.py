"""21 cm lightcones as users have them to one file of lightcones."""

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
from infield.pipelines.run.options import Parser, add_json, check_positive
from infield.pipelines.run.subcommand import Subcommand

_LIGHTCONES = """Lightcones to one file: brightness temperatures (sample, x, y, los) in mK, z ascending.

    infield convert lightcone cone_*.h5 -o cones.zarr
    infield convert lightcone cone.npy --redshifts z.txt --box-size 128 -o cones.zarr

FILE is what 21cmFAST 4 or 3.4 saves (HDF5), a stack of ml21cm (HDF5), numpy arrays (.npz, or .npy as tools21cm has
them), or a FITS cube with frequency first. Redshifts, frequencies and comoving distances become coordinates; the
parameters and the seed of each cone, where the file tells them, variables. Cones of one file are of one box and one
line of sight. A killed run goes on.
"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("sources", type=Path, nargs="+", metavar="FILE", help="the lightcones")
    parser.add_argument("--output", type=Path, required=True, metavar="CONES.zarr", help="the lightcones, a new file")
    parser.add_argument("--variable", metavar="NAME", help="field of the file (default brightness_temp)")
    parser.add_argument(
        "--depth", type=int, metavar="CELLS", help="cells to keep, from the lowest redshift on (default all)"
    )
    parser.add_argument("--parameters", type=lambda text: tuple(text.split(",")), metavar="NAMES",
                        help="parameters to keep (default ION_Tvir_MIN, HII_EFF_FACTOR and what varies)")  # fmt: skip
    plain = parser.add_argument_group("plain arrays and cubes, where the file does not say")
    plain.add_argument("--redshifts", type=Path, metavar="FILE", help="redshifts of the cells: .npy, or one a line")
    plain.add_argument("--box-size", type=float, metavar="MPC", help="size across, in comoving Mpc")
    plain.add_argument("--hubble", type=float, metavar="H0", help="Hubble constant, in km/s/Mpc (default 67.66)")
    plain.add_argument("--omega-m", type=float, metavar="OM",
                       help="density of matter, as a fraction of the critical one (default 0.3096)")  # fmt: skip
    plain.add_argument("--units", choices=["mK", "K"], help="of the temperatures (default mK)")
    parser.add_argument("--resample", action="store_true",
                        help="interpolate along the line of sight to even comoving distances")  # fmt: skip
    parser.rename("--box", "--box-size")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


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
            except InfieldError:  # a file that is mended is another one: there is nothing to go on from
                remove_tree(writer.partial)
                writer.release()
                raise
            writer.write_block(i, {TEMPERATURE: cone[None]})
    writer.finish()
    return {"output": str(output), **about(source.cones), "notes": list(source.notes)}


def about(cones: Lightcones) -> dict[str, Any]:
    """What there is to tell of lightcones, in JSON types."""
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


LIGHTCONES = Subcommand(_LIGHTCONES, add_arguments, run)
