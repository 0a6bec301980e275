"""Pictures for projectors: the drives that make a surface look as nearly as possible like a target.

    infield project setup.zarr --target picture.png -o OUT
    infield project setup.zarr --target picture.png -o OUT --error lab --scale smooth --bits 16
    infield project setup.zarr --frames FOLDER -o OUT
    infield project setup.zarr --paradigm cooperative --prior pictures --samples 8 -o OUT
    infield project --views ring.yaml --paradigm cooperative --prior pictures -o OUT
    infield project setup.zarr --page --prior pictures

The set-up is one of `infield convert projection`. The folder gets a PNG for each projector, the predicted appearance,
the residual, the distance from the gamut, and a report. The target is sRGB-coded and is cropped to the camera's aspect.
With `--paradigm cooperative` there is no target: pictures are drawn from a prior under the gamut (as `infield convert
gamut` and `infield reconstruct` do), and each is compensated for, in a folder of its own.
What is no correct prediction: pixels that no projector reaches are masked, never guessed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.physics.projection_mapping.choices import ERRORS, SCALES
from infield.pipelines.projection_mapping.guides_options import add_guides, guides_of
from infield.pipelines.projection_mapping.output import output_folder
from infield.pipelines.run.options import Parser, add_json, check_at_least, check_positive


def add_arguments(parser: Parser) -> None:
    parser.add_argument("setup", type=Path, nargs="?", metavar="SETUP.zarr", help="a set-up of `infield convert "
                        "projection`; none with --views")  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--target", type=Path, metavar="IMAGE", help="what the surface is to look like")
    what.add_argument("--frames", type=Path, metavar="FOLDER", help="a sequence of such pictures, in order of names")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="a new folder; with --page that of the first "
                        "picture that is saved")  # fmt: skip
    parser.add_argument("--page", action="store_true", help="choose in a browser on this machine, with previews; "
                        "Ctrl-C ends it")  # fmt: skip
    parser.add_argument("--port", type=int, default=0, metavar="N", help="of the page (default: any free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the page's address, and open nothing")
    parser.add_argument("--paradigm", choices=("adversarial", "cooperative"), default="adversarial",
                        help="any target, or pictures that suit the surface (default adversarial)")  # fmt: skip
    add_guides(parser)
    parser.add_argument("--prior", metavar="NAME", help="of pictures, as of `infield reconstruct`; cooperative alone")
    parser.add_argument("--views", type=Path, metavar="RING.yaml", help="views around an object, in turn; cooperative "
                        "alone")  # fmt: skip
    parser.add_argument("--samples", type=int, default=8, metavar="N", help="pictures to draw (default 8)")
    parser.add_argument("--sampler", default="diffpir", metavar="NAME", help="as of `infield reconstruct` (default "
                        "diffpir, guided draws)")  # fmt: skip
    parser.add_argument("--with", dest="settings", action="append", default=[], metavar="PARAMETER=VALUE",
                        help="of the sampler; may be repeated")  # fmt: skip
    parser.add_argument("--exposure", type=float, metavar="E", help="camera light of the target's white (default: what "
                        "the median pixel can show of it)")  # fmt: skip
    parser.add_argument("--error", choices=ERRORS, default="coded", help="what is minimised: linear light, the sRGB "
                        "code or Lab (default coded)")  # fmt: skip
    parser.add_argument("--scale", choices=SCALES, default="none",
                        help="one gain, or a smooth gain and lift against traces of the surface (default "
                        "none)")  # fmt: skip
    parser.add_argument("--iterations", type=int, metavar="N", help="of the joint solve; 0 for pixel by pixel alone "
                        "(default 60, of a sequence 0)")  # fmt: skip
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8, help="of the projectors' pictures (default 8)")
    parser.add_argument("--dither", action="store_true", help="round at random, so that means of neighbours are right")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of dither and samples (default 0)")
    parser.add_argument("--off", action="append", default=[], metavar="NAME", help="a projector that stays black; may "
                        "be repeated")  # fmt: skip
    parser.add_argument(
        "--mask", type=Path, metavar="IMAGE", help="of the camera's size: 0 where the surface stays dark"
    )
    parser.add_argument("--warp-correction", type=Path, metavar="FILE.npy", help="offsets of the warp (v, u) in "
                        "projector pixels on a coarse grid over the image: (rows, columns, 2)")  # fmt: skip
    parser.add_argument("--mpcdi", action="store_true", help="write warp and blend for other programs too: "
                        "warp.mpcdi, profile 2d")  # fmt: skip
    parser.add_argument("--uv-map", choices=("exr", "tif"), help="likewise, a UV map of each projector: EXR, or TIFF "
                        "of 16 bits")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder of this command")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    return _serve(arguments) if arguments.page else _write(arguments)


def _serve(arguments: argparse.Namespace) -> int:
    if arguments.setup is None:
        raise InfieldError(where="--page", found="no set-up", expected="SETUP.zarr")
    if arguments.frames:
        raise InfieldError(where="--frames", found="--page", expected="one picture, by --target")
    for name in ("views", "off", "mpcdi", "uv_map", "dither", "exposure", "iterations", "edges", "depth", "seed"):
        if getattr(arguments, name):
            raise InfieldError(where=f"--{name.replace('_', '-')}", found="--page", expected="choices on the page")
    from infield.pipelines.projection_mapping.page import Session, serve

    output = arguments.output or Path("projection")
    drawing = arguments.sampler, tuple(arguments.settings)
    session = Session(
        arguments.setup, output, arguments.prior, arguments.target, *drawing, mask=arguments.mask,
        correction=arguments.warp_correction, like=Path(arguments.like[0]) if arguments.like else None,
    )  # fmt: skip
    serve(session, arguments.port, not arguments.no_browser)
    return 0


def _write(arguments: argparse.Namespace) -> int:
    from infield.datasets.projection_mapping.setup_file import open_setup
    from infield.pipelines.projection_mapping.compensation import in_words, prepared, project
    from infield.pipelines.projection_mapping.exchange import write_mpcdi, write_uv_maps
    from infield.pipelines.projection_mapping.frames import project_frames
    from infield.pipelines.run.console import table

    guided = _checked_guides(arguments)
    iterations = arguments.iterations
    if iterations is None:
        iterations = 0 if arguments.frames else 60
    check_at_least(0, iterations=iterations, seed=arguments.seed)
    check_at_least(1, samples=arguments.samples)
    check_positive(exposure=1 if arguments.exposure is None else arguments.exposure)
    with output_folder(arguments.output, arguments.overwrite) as folder:
        choices = {
            "exposure": arguments.exposure,
            "error": arguments.error,
            "scale": arguments.scale,
            "iterations": iterations,
            "bits": arguments.bits,
            "dither": arguments.dither,
            "seed": arguments.seed,
        }
        drawing = {"samples": arguments.samples, "sampler": arguments.sampler, "settings": arguments.settings}
        if arguments.views:
            from infield.pipelines.projection_mapping.ring import open_ring, project_ring

            del guided["like"]
            facts = project_ring(open_ring(arguments.views), arguments.prior, folder, **drawing, **guided, **choices)
        else:
            setup = prepared(open_setup(arguments.setup), arguments.off, arguments.mask, arguments.warp_correction)
            if arguments.paradigm == "cooperative":
                from infield.pipelines.projection_mapping.cooperation import project_samples

                facts = project_samples(setup, arguments.prior, folder, **drawing, **guided, **choices)
            else:
                run_one = project_frames if arguments.frames else project
                facts = run_one(setup, arguments.frames or arguments.target, folder, **choices)
            if arguments.mpcdi:
                write_mpcdi(folder / "warp.mpcdi", setup)
            if arguments.uv_map:
                write_uv_maps(folder, setup, f".{arguments.uv_map}")
    facts = {"output": str(arguments.output), **facts}
    if facts["outside"] > 0.5:
        print(
            f"infield project: {100 * facts['outside']:.0f} % of the picture lies outside the gamut of the projectors; "
            f"98 % of it would be inside up to --exposure {facts['largest_exposure']:.3g}",
            file=sys.stderr,
        )
    if arguments.json:
        print(to_json(facts))
    else:
        table(str(arguments.output), {k.replace("_", " "): in_words(v) for k, v in facts.items() if k != "output"})
    return 0


def _checked_guides(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a cooperative run takes.

    Raises:
        InfieldError: Options of one paradigm are given with the other, or one lacks what it needs.
    """
    if arguments.output is None:
        raise InfieldError(where="infield project", found="no --output", expected="a new folder")
    cooperative, pictures = arguments.paradigm == "cooperative", arguments.target or arguments.frames
    if cooperative and (pictures or not arguments.prior):
        raise InfieldError(
            where="--paradigm cooperative",
            found="a target" if pictures else "no prior",
            expected="a prior of pictures, and no target",
            remedy="leave the target out" if pictures else "name a prior by --prior",
        )
    of_one = [
        n for n in ("setup", "off", "mask", "warp_correction", "mpcdi", "uv_map", "like") if getattr(arguments, n)
    ]
    if arguments.views and of_one:
        raise InfieldError(
            where="--views", found=of_one[0].replace("_", "-"), expected="views alone, which name their set-ups"
        )
    if not arguments.views and arguments.setup is None:
        raise InfieldError(where="infield project", found="no set-up", expected="SETUP.zarr, or --views RING.yaml")
    given = [n for n in ("edges", "depth", "like", "prior", "views") if getattr(arguments, n)]
    if not cooperative and given:
        raise InfieldError(where=f"--{given[0]}", found="the adversarial paradigm", expected="--paradigm cooperative")
    if not cooperative and not pictures:
        raise InfieldError(
            where="infield project", found="no picture", expected="--target, --frames, or --paradigm cooperative"
        )
    return guides_of(arguments)
