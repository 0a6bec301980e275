"""Captures of projectors to a set-up: warp, response, mixing, background and noise, each with its error.

    infield convert projection CAPTURES -o setup.zarr

CAPTURES holds setup.yaml and a folder for each projector with white.png, black.png, ramps of its primaries
(red_028.png, ..., blue_255.png) and a Gray code in OpenCV's order (graycode_00.png, ...); `infield simulate projection`
writes such folders, and `infield.datasets.projection_mapping.captures` states the layout. Depth of the surface, where
setup.yaml names it, switches indirect light on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core.json_text import to_json
from infield.pipelines.run.options import Parser, add_json


def add_arguments(parser: Parser) -> None:
    parser.add_argument("captures", type=Path, metavar="CAPTURES", help="a folder with setup.yaml")
    parser.add_argument("--output", type=Path, required=True, metavar="SETUP.zarr", help="the set-up, a new file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from infield.datasets.formats.zarr_group import check_new
    from infield.datasets.projection_mapping.calibrate import calibrate
    from infield.datasets.projection_mapping.captures import open_captures
    from infield.datasets.projection_mapping.setup_file import write_setup
    from infield.pipelines.run.console import table

    check_new(arguments.output, arguments.overwrite)
    setup = calibrate(open_captures(arguments.captures))
    write_setup(arguments.output, setup, overwrite=arguments.overwrite, title=f"Set-up of {arguments.captures.name}")
    covered = float(setup.covered.mean())
    facts = {
        "output": str(arguments.output),
        "covered": covered,
        "colour": setup.colour,
        "projectors": dict(setup.facts),
    }
    if arguments.json:
        print(to_json(facts))
        return 0
    rows = {
        "camera": f"{setup.shape[1]} x {setup.shape[0]}, {100 * covered:.1f} % covered",
        "colour": setup.colour,
    }
    for projector in setup.projectors:
        fact = setup.facts[projector.name]
        rows[projector.name] = (
            f"seen {100 * fact['seen']:.1f} %, warp +- {fact['warp_error']:.3f} px, exponents "
            f"{', '.join(f'{g:.3f}' for g in fact['gammas'])} +- {fact['response_error']:.4f}, mixing +- "
            f"{100 * fact['mixing_error']:.2g} %, defocus {fact['defocus']:.2f} px"
        )
    if "indirect" in setup.facts:
        rows["indirect light"] = f"{100 * setup.facts['indirect']['share']:.1f} %"
    table(str(arguments.output), rows)
    return 0
