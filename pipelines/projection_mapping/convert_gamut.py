"""What the projectors of a set-up can show, as a measurement of a picture: a likelihood without data.

    infield convert gamut setup.zarr -o m.zarr --exposure 0.6 --tolerance 0.01
    infield convert gamut setup.zarr -o m.zarr --exposure 0.6 --edges 1 --depth 1 --like picture.png 1
    infield reconstruct m.zarr -o posterior.zarr --prior pictures --sampler diffpir

The field is a picture, sRGB-coded, channels red, green and blue on the camera's pixels (every Nth with --every); its
log density is -sum d^2 / 2 s^2, d the distance of its light from the gamut of each pixel and s the tolerance, plus a
term for each guide (docs/howto/projection.md has them). `smc` draws up to 192 values, `diffpir` guides larger pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core.json_text import to_json
from infield.pipelines.projection_mapping.guides_options import add_guides, guides_of
from infield.pipelines.run.options import Parser, add_json, check_positive


def add_arguments(parser: Parser) -> None:
    parser.add_argument("setup", type=Path, metavar="SETUP.zarr", help="a set-up of `infield convert projection`")
    parser.add_argument("--output", type=Path, required=True, metavar="M.zarr", help="the measurement, a new file")
    parser.add_argument(
        "--exposure", type=float, required=True, metavar="E", help="camera light of the picture's white"
    )
    add_guides(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from infield.datasets.formats.measurement import write_measurement
    from infield.datasets.formats.zarr_group import check_new
    from infield.datasets.projection_mapping.setup_file import open_setup
    from infield.pipelines.projection_mapping.cooperation import cooperative_measurement
    from infield.pipelines.run.console import table

    check_positive(exposure=arguments.exposure)
    guided = guides_of(arguments)
    check_new(arguments.output, arguments.overwrite)
    setup = open_setup(arguments.setup)
    measurement = cooperative_measurement(setup, exposure=arguments.exposure, **guided)
    followed = {name: guided[name] for name in ("edges", "depth") if guided[name]}
    if guided["like"] is not None:
        followed["like"] = guided["like"][1]
    write_measurement(
        arguments.output,
        measurement,
        overwrite=arguments.overwrite,
        title=f"Gamut of {arguments.setup.name}: no data, what projectors can show",
        history=", ".join(
            [
                *(f"{name} {weight:g}" for name, weight in followed.items()),
                f"exposure {arguments.exposure:g}",
                f"tolerance {arguments.tolerance:g}",
                f"every {arguments.every} pixels",
            ]
        ),
    )
    facts = {
        "output": str(arguments.output),
        "pixels": list(measurement.grid.shape),
        "projectors": len(setup.projectors),
        "colour": setup.colour,
        **({"guides": followed} if followed else {}),
    }
    if arguments.json:
        print(to_json(facts))
    else:
        table(str(arguments.output), {k: str(v) for k, v in facts.items() if k != "output"})
    return 0
