"""What the projectors of a set-up can show, as a measurement of a picture: a likelihood without data.

    infield convert gamut setup.zarr -o m.zarr --exposure 0.6 --tolerance 0.01
    infield reconstruct m.zarr -o posterior.zarr --prior PICTURES --sampler faps

The field is a picture, sRGB-coded, channels red, green and blue on the camera's pixels (every Nth with --every); its
log density is -sum d^2 / 2 s^2, d the distance of its light from the gamut of each pixel and s the tolerance. `smc`
draws up to 192 values, `faps` more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core.json_text import to_json
from infield.pipelines.run.options import Parser, add_json, check_at_least, check_positive


def add_arguments(parser: Parser) -> None:
    parser.add_argument("setup", type=Path, metavar="SETUP.zarr", help="a set-up of `infield convert projection`")
    parser.add_argument("--output", type=Path, required=True, metavar="M.zarr", help="the measurement, a new file")
    parser.add_argument(
        "--exposure", type=float, required=True, metavar="E", help="camera light of the picture's white"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.01, metavar="S", help="in linear camera light (default 0.01)"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth pixel (default 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from infield.datasets.formats.measurement import write_measurement
    from infield.datasets.formats.zarr_group import check_new
    from infield.datasets.projection_mapping.setup_file import open_setup
    from infield.physics.projection_mapping.gamut_measurement import gamut_measurement
    from infield.pipelines.run.console import table

    check_positive(exposure=arguments.exposure, tolerance=arguments.tolerance)
    check_at_least(1, every=arguments.every)
    check_new(arguments.output, arguments.overwrite)
    setup = open_setup(arguments.setup)
    measurement = gamut_measurement(setup, arguments.exposure, arguments.tolerance, arguments.every)
    write_measurement(
        arguments.output,
        measurement,
        overwrite=arguments.overwrite,
        title=f"Gamut of {arguments.setup.name}: no data, what projectors can show",
        history=f"exposure {arguments.exposure:g}, tolerance {arguments.tolerance:g}, every {arguments.every} pixels",
    )
    facts = {
        "output": str(arguments.output),
        "pixels": list(measurement.grid.shape),
        "projectors": len(setup.projectors),
        "colour": setup.colour,
    }
    if arguments.json:
        print(to_json(facts))
    else:
        table(str(arguments.output), {k: str(v) for k, v in facts.items() if k != "output"})
    return 0
