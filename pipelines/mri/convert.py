"""K-space of an MR scanner to a measurement.

    infield convert mri KSPACE.npy -o brain.zarr
    infield convert mri file1000000.h5 -o brain.zarr --slice 8 --acceleration 4
    infield convert mri scan.mrd -o brain --slice all
    infield convert mri file1000000.h5 -o volume.zarr --slice 4-11 --volume

A slice of complex k-space to a measurement, from numpy (.npy, .npz: coil, ky, kx, zeros where nothing was sampled),
fastMRI (.h5), ISMRMRD (.h5, .mrd), BART (.cfl with .hdr) and MATLAB (.mat). Coil maps (ESPIRiT) and noise are estimated
from the data where the file does not tell them; --acceleration leaves samples of a complete slice out. Several slices
(--slice all, --slice 3-12) become a folder with a measurement for each, one after the other; or with --volume one
measurement of a volume (z, y, x), for `infield reconstruct --slices`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.formats.zarr_group import check_new
from infield.datasets.mri.convert import Undersampling, convert_mri
from infield.datasets.mri.masks import MASKS, POISSON, Seed, name_seed
from infield.datasets.mri.readers.arrays import AVERAGED, AXES, CHOSEN
from infield.datasets.mri.readers.common import ArrayLayout
from infield.datasets.mri.readers.open import open_kspace
from infield.datasets.mri.volume import convert_mri_volume
from infield.pipelines.run.console import say, table
from infield.pipelines.run.options import Parser, add_json, check_at_least, refuse_without


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="FILE", help="the raw data")
    parser.add_argument("--output", type=Path, required=True, metavar="MEASUREMENT.zarr",
                        help="the measurement, or a folder of them, new")  # fmt: skip
    parser.add_argument("--hold-out", type=float, default=0.0, metavar="FRACTION",
                        help="fraction of the samples to set aside, to test predictions on (default 0)")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N",
                        help="seed of what is held out and of the mask (default 0)")  # fmt: skip
    parser.add_argument("--slice", metavar="N|A-B|all", help="which slices, of a file with several, from 0")
    parser.add_argument(
        "--volume", action="store_true", help="the slices (default: all) become one measurement of a volume"
    )
    parser.add_argument("--resolution", type=float, metavar="MM",
                        help="coarsen the image to about this pixel size in mm by cropping k-space, to match the "
                        "prior's spacing (default: as it is)")  # fmt: skip
    parser.add_argument("--coils-from", metavar="espirit|file|uniform|PATH",
                        help="coil maps: by ESPIRiT, those of the file, one uniform coil, or those of another file "
                        "(default: the file's own; uniform for one coil; else ESPIRiT)")  # fmt: skip
    parser.add_argument("--crop", type=float, metavar="SHARE",
                        help="ESPIRiT's crop: eigenvalue, a fraction of 1, below which maps are 0; lower keeps "
                        "darker tissue (default 0.95)")  # fmt: skip
    parser.add_argument("--noise", type=float, metavar="SD",
                        help="sd of the noise of the real and of the imaginary part of each coil, in units of the file "
                        "(default: noise lines, or estimated)")  # fmt: skip
    parser.add_argument("--noise-from", type=Path, metavar="FILE.npy",
                        help="noise alone (coil, samples), complex, or its covariance (coil, coil)")  # fmt: skip
    parser.add_argument(
        "--unchecked",
        action="store_true",
        help="accept what looks like no k-space, and maps that do not fit; the file says so",
    )
    thinning = parser.add_argument_group("leave samples of a complete slice out, and keep its image as the truth")
    thinning.add_argument("--acceleration", type=float, metavar="R", help="all samples over those kept, e.g. 4 or 8")
    thinning.add_argument("--mask", choices=MASKS, help="as fastMRI defines them (default random); or Poisson-disc")
    thinning.add_argument("--centre-fraction", type=float, metavar="FRACTION",
                          help="fraction of the lines that is kept in the middle (default 0.32 / R)")  # fmt: skip
    thinning.add_argument("--mask-seed", metavar="N|name",
                          help="seed of the mask; name: fastMRI's from the file's name (default --seed)")  # fmt: skip
    thinning.add_argument("--along", choices=["ky", "kx"], help="leave out lines of this axis (default: the phases)")
    array = parser.add_argument_group("a plain array (.npy, .npz, .mat, .cfl, .h5), where it does not say")
    array.add_argument("--variable", metavar="NAME", help="its name; or that of one scan in an MRD file")
    axes = ", ".join((*AXES, *CHOSEN, AVERAGED))
    array.add_argument("--order", type=lambda text: tuple(text.split(",")), metavar="AXES",
                       help=f"its axes of {axes}, as its shape is printed, e.g. ky,kx,coil")  # fmt: skip
    array.add_argument("--at", metavar="AXIS=N,...", help="which time and echo, of axes with several, e.g. echo=0")
    array.add_argument("--voxel", type=float, nargs=2, metavar="MM", help="size of a point along y and x, in mm")
    array.add_argument("--image", action="store_true", help="it holds complex images; their k-space is computed")
    parser.rename("--accelerate", "--acceleration")
    parser.rename("--center-fraction", "--centre-fraction")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.hold_out < 1:
        raise InfieldError(where="--hold-out", found=arguments.hold_out, expected="a fraction of at least 0, below 1")
    _refuse_unused(arguments)
    if arguments.voxel is not None and not all(0 < mm < math.inf for mm in arguments.voxel):
        raise InfieldError(
            where="--voxel", found=" ".join(map(str, arguments.voxel)), expected="two sizes in mm, above 0"
        )
    layout = ArrayLayout(
        variable=arguments.variable, order=arguments.order, at=_places(arguments.at), image=arguments.image
    )
    numbers = _numbers(arguments, layout)
    if arguments.volume or numbers is None or isinstance(numbers, int):
        facts = _convert(arguments, layout, numbers, arguments.output)
        if arguments.json:
            print(to_json(facts))
        else:
            rows = {key.replace("_", " "): str(value) for key, value in facts.items() if key != "output"}
            table(str(arguments.output), rows)
        return 0
    outputs = {number: arguments.output / f"slice_{number:03d}.zarr" for number in numbers}
    for output in outputs.values():
        check_new(output, arguments.overwrite)
    found = {number: _convert(arguments, layout, number, output) for number, output in outputs.items()}
    if arguments.json:
        print(to_json({"output": str(arguments.output), "slices": list(found.values())}))
    else:
        rows = {
            output.name: f"{' x '.join(map(str, found[number]['shape']))}, {found[number]['coils']} coils, "
            f"acceleration {found[number]['acceleration']:.2f}, scale {found[number]['scale']:.4g}"
            for number, output in outputs.items()
        }
        table(str(arguments.output), rows)
    return 0


def _places(text: str | None) -> tuple[tuple[str, int], ...]:
    """Axes and numbers as `--at` gives them."""
    found = []
    for part in (text or "").split(",") if text else ():
        axis, equals, number = part.partition("=")
        if axis not in CHOSEN or not equals or not number.isdecimal():
            raise InfieldError(where="--at", found=f"'{part}'", expected=f"{' or '.join(CHOSEN)}, = and a number")
        found.append((axis, int(number)))
    return tuple(found)


def _numbers(arguments: argparse.Namespace, layout: ArrayLayout) -> int | range | None:
    """Slices to convert: one by its number, several, or None for the only one."""
    text = arguments.slice or ("all" if arguments.volume else None)
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    with open_kspace(arguments.source, layout) as file:
        count = file.slices
    first, dash, last = ("0", "-", str(count - 1)) if text == "all" else text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) < count):
        raise InfieldError(
            where=arguments.source,
            found=f"--slice {text}",
            expected="a number, two with a dash between, or all",
            remedy=f"there are slices 0 to {count - 1}",
        )
    return range(int(first), int(last) + 1)


def _convert(
    arguments: argparse.Namespace, layout: ArrayLayout, numbers: int | range | None, output: Path
) -> dict[str, Any]:
    """Convert one slice, or several to a volume; returns what there is to tell of it, in plain JSON types."""
    check_new(output, arguments.overwrite)
    settings: dict[str, Any] = {
        "hold_out": arguments.hold_out,
        "seed": arguments.seed or 0,
        "coils_from": arguments.coils_from,
        "undersampling": _undersampling(arguments),
        "resolution": arguments.resolution,
        "voxel": arguments.voxel and tuple(arguments.voxel),
        "layout": layout,
        "noise": arguments.noise,
        "noise_from": arguments.noise_from,
        "unchecked": arguments.unchecked,
    }
    if arguments.crop is not None:
        if not 0 <= arguments.crop < 1:
            raise InfieldError(where="--crop", found=arguments.crop, expected="at least 0, below 1")
        settings["crop"] = arguments.crop
    if arguments.volume:
        slices = numbers if isinstance(numbers, range) else [numbers or 0]
        converted = convert_mri_volume(arguments.source, slices, **settings)
    else:
        assert not isinstance(numbers, range)
        converted = convert_mri(arguments.source, slice_number=numbers, **settings)
    converted.write(output, overwrite=arguments.overwrite)
    for warning in converted.warnings:
        say(f"warning: {warning}", quiet=arguments.json)
    measurement = converted.measurement
    coils, shape = int(measurement.y.shape[2]), list(measurement.grid.shape)
    return {
        "output": str(output),
        "coils": coils,
        "shape": shape,
        "samples": int(measurement.count // (2 * coils)),
        "held_out_samples": int(converted.held_out_mask.sum()),
        "acceleration": float(math.prod(shape) * 2 * coils / measurement.count),
        "calibration_width": converted.calibration_width,
        "truth": measurement.truth is not None,
        "scale": converted.scale,
        "maps_unexplained": converted.unexplained,
        "maps_outside": converted.outside,
        "warnings": list(converted.warnings),
    }


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """Refuse options of the mask without a mask, and a seed of nothing."""
    accelerated = arguments.acceleration is not None
    refuse_without("--acceleration R", accelerated, arguments, "mask", "centre_fraction", "mask_seed", "along")
    if arguments.along is not None and arguments.mask == POISSON:
        raise InfieldError(where="--along", found=f"--mask {POISSON}", expected="a mask of lines with it")
    random = arguments.hold_out > 0 or (accelerated and arguments.mask_seed is None)
    if arguments.seed is not None and not random:
        raise InfieldError(
            where="--seed", found="nothing random", expected="--hold-out above 0, or a mask without --mask-seed"
        )
    check_at_least(0, seed=arguments.seed)


def _undersampling(arguments: argparse.Namespace) -> Undersampling | None:
    """What to leave out, as the options say."""
    if arguments.acceleration is None:
        return None
    seed: Seed = arguments.seed or 0
    if arguments.mask_seed == "name":
        seed = name_seed(arguments.source.name)
    elif arguments.mask_seed is not None:
        if not arguments.mask_seed.isdecimal():
            raise InfieldError(
                where="--mask-seed", found=f"'{arguments.mask_seed}'", expected="a whole number or 'name'"
            )
        seed = int(arguments.mask_seed)
    return Undersampling(
        acceleration=arguments.acceleration,
        mask=arguments.mask or "random",
        centre_fraction=arguments.centre_fraction,
        seed=seed,
        lines=None if arguments.along is None else ["ky", "kx"].index(arguments.along),
    )
