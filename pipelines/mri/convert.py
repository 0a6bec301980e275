"""K-space of an MR scanner to a measurement; the options are in `convert_options`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.formats.zarr_group import check_new
from infield.datasets.mri.convert import Undersampling, convert_mri
from infield.datasets.mri.masks import POISSON, Seed, name_seed
from infield.datasets.mri.readers.arrays import CHOSEN
from infield.datasets.mri.readers.common import ArrayLayout
from infield.datasets.mri.readers.open import open_kspace
from infield.datasets.mri.volume import convert_mri_volume
from infield.pipelines.run.console import say, table
from infield.pipelines.run.options import check_at_least, refuse_without


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
    """Convert one slice, or several to a volume; returns its summary, in plain JSON types."""
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
    """The undersampling of the options."""
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
