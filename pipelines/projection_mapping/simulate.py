"""Captures of a rendered set-up of projectors, with the truth beside them.

    infield simulate projection -o captures --surface corner --texture mild --projectors 2
    infield simulate projection -o captures --surface relief --texture hard --projectors 4 --height 240 --frames 4

Surfaces: plane, curved, corner, relief. Textures of measured reflectances: mild, hard. 31 bands, a camera of 8 bits
with shot and read noise, Gray codes, white, black and ramps of each projector. The folder is read by `infield convert
projection`; `truth.zarr` in it is the set-up without errors, for `infield project`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.pipelines.projection_mapping.output import output_folder
from infield.pipelines.run.options import Parser, add_json, check_at_least, check_positive

SURFACES, TEXTURES = ("plane", "curved", "corner", "relief"), ("mild", "hard")
"""Names in `datasets.projection_mapping.surfaces`, which is heavy."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument("--surface", choices=SURFACES, default="plane", help="(default plane)")
    parser.add_argument("--texture", choices=TEXTURES, default="mild", help="(default mild)")
    parser.add_argument("--projectors", type=int, default=2, metavar="N", help="1 to 8 (default 2)")
    parser.add_argument("--height", type=int, default=120, metavar="N", help="of the camera's image, in pixels "
                        "(default 120); its width is 4/3 of it")  # fmt: skip
    parser.add_argument(
        "--defocus", type=float, default=0.8, metavar="PIXELS", help="of projectors, in their pixels (default 0.8)"
    )
    parser.add_argument("--albedo", type=float, default=0.7, metavar="A", help="factor of reflectances (default 0.7)")
    parser.add_argument(
        "--electrons", type=float, default=8000.0, metavar="N", help="number at full scale (default 8000)"
    )
    parser.add_argument("--frames", type=int, default=1, metavar="N", help="of each capture (default 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder of this command")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from infield.datasets.projection_mapping.capture import capture_names, write_captures
    from infield.datasets.projection_mapping.renderer import Scene
    from infield.datasets.projection_mapping.setup_file import write_setup
    from infield.physics.projection_mapping.camera import Camera
    from infield.pipelines.run.console import progress, table

    check_at_least(0, defocus=arguments.defocus, seed=arguments.seed)
    check_at_least(24, height=arguments.height)
    check_at_least(1, frames=arguments.frames)
    check_positive(albedo=arguments.albedo, electrons=arguments.electrons)
    if not 1 <= arguments.projectors <= 8:
        raise InfieldError(where="--projectors", found=arguments.projectors, expected="1 to 8")
    if arguments.albedo > 1:
        raise InfieldError(where="--albedo", found=arguments.albedo, expected="at most 1")
    with output_folder(arguments.output, arguments.overwrite) as folder:
        scene = Scene(
            arguments.surface,
            arguments.texture,
            arguments.projectors,
            arguments.height,
            defocus=arguments.defocus,
            albedo=arguments.albedo,
            seed=arguments.seed,
        )
        with progress(quiet=arguments.quiet or arguments.json) as bar:
            total = sum(len(capture_names(*pose.raster)) for pose in scene.poses)
            task = bar.add_task("captures", total=total)
            write_captures(
                folder,
                scene,
                camera=Camera(full_well=arguments.electrons),
                frames=arguments.frames,
                seed=arguments.seed,
                each=lambda: bar.advance(task),
            )
        write_setup(folder / "truth.zarr", scene.truth(), title="Truth of a rendered set-up")
    facts = {
        "output": str(arguments.output),
        "surface": arguments.surface,
        "texture": arguments.texture,
        "projectors": len(scene.poses),
        "captures": total,
        "indirect_share": scene.indirect_share(),
    }
    if arguments.json:
        print(to_json(facts))
    else:
        table(str(arguments.output), {k.replace("_", " "): f"{v:.3g}" if isinstance(v, float) else str(v)
                                      for k, v in facts.items() if k != "output"})  # fmt: skip
    return 0
