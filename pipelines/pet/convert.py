"""Images and counts of PET scanners to files; the options are in `convert_options`."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.formats.zarr_group import check_new
from infield.datasets.pet.centiloid import Line, centiloid_line
from infield.datasets.pet.image import PETImage
from infield.datasets.pet.interval import years_between
from infield.datasets.pet.pair import write_pair
from infield.datasets.pet.quantities import SUVR, Dose, becquerel, to_suv, to_suvr
from infield.datasets.pet.readers.open import open_image
from infield.datasets.pet.resolution import at_resolution, cost
from infield.pipelines.run.console import table
from infield.pipelines.run.options import refuse_without

COUNTS = (".hs", ".l.hdr", ".l.hdr.stir", ".lhdr", ".npy", ".mat")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.output.name.endswith((".nii", ".nii.gz")):
        check_new(arguments.output, arguments.overwrite)
    if arguments.source.name.lower().endswith(COUNTS):
        facts = _counts(arguments)
    else:
        facts = _images(arguments)
    if arguments.json:
        print(to_json(facts))
    else:
        table(str(arguments.output), {key.replace("_", " "): str(v) for key, v in facts.items() if key != "output"})
    return 0


def _counts(arguments: argparse.Namespace) -> dict[str, Any]:
    from infield.datasets.formats.measurement import write_measurement
    from infield.datasets.pet.counts import measurement_of
    from infield.datasets.pet.readers.sinograms import open_sinograms

    if arguments.output.suffix != ".zarr":
        raise InfieldError(where="--output", found=f"'{arguments.output.name}'", expected="a measurement, NAME.zarr")
    sinograms = open_sinograms(
        arguments.source,
        bin_width=arguments.bin_width,
        order=arguments.order,
        blank=arguments.blank,
        ring_difference=arguments.ring_difference,
    )
    count = len(sinograms.counts)
    chosen = _range("--slices", arguments.slices, count)
    sinograms = sinograms.planes(chosen)
    if not 0 < arguments.pixel < 1000:
        raise InfieldError(where="--pixel", found=arguments.pixel, expected="a size in mm above 0")
    measurement = measurement_of(sinograms, pixel=arguments.pixel, field_of_view=arguments.field_of_view)
    write_measurement(
        arguments.output,
        measurement,
        overwrite=arguments.overwrite,
        title=f"Counts of {arguments.source.name}; not for diagnosis",
        history="\n".join((f"read from {arguments.source.name}", *sinograms.history)),
    )
    return {
        "output": str(arguments.output),
        "planes": f"{chosen.start} to {chosen.stop - 1} of {count}",
        "counts": int(sinograms.counts.sum()),
        "image": " x ".join(map(str, measurement.grid.shape)),
        "history": "; ".join(sinograms.history),
    }


def _images(arguments: argparse.Namespace) -> dict[str, Any]:
    refuse_without("--to SUVR", arguments.to == "SUVR", arguments, "reference_region", "target", "pipeline")
    refuse_without("--followup FILE", arguments.followup is not None, arguments, "years")
    refuse_without("--resolution MM", arguments.resolution is not None, arguments, "own_resolution")
    own = _own_resolutions(arguments)
    image = _image(arguments.source, arguments, own[0])
    facts: dict[str, Any] = {"output": str(arguments.output), "units": image.units,
                             "shape (z, y, x)": list(image.values.shape),
                             "voxel (z, y, x), mm": [round(mm, 4) for mm in image.voxel],
                             "mean": float(image.values.mean())}  # fmt: skip
    if arguments.target is not None:
        facts |= _region(arguments, image)
    if arguments.resolution is not None:
        facts |= _smoothing(arguments, image)
    if arguments.followup is None:
        image.write(arguments.output, overwrite=arguments.overwrite)
        return facts
    if arguments.output.suffix != ".zarr":
        raise InfieldError(where="--output", found=f"'{arguments.output.name}'", expected="NAME.zarr for two sessions")
    followup = _image(arguments.followup, arguments, own[-1])
    image.check_same_grid(followup.affine, followup.values.shape, str(arguments.followup))
    tracers = [str(i.facts.get("TracerName", "unknown")) for i in (image, followup)]
    if "unknown" not in tracers and tracers[0].lower() != tracers[1].lower():
        raise InfieldError(where=arguments.followup, found=f"tracer {tracers[1]}",
                           expected=f"{tracers[0]}, that of the baseline")  # fmt: skip
    if arguments.target is not None:
        later = _region(arguments, followup)
        facts |= {f"{name}, follow-up": later[name] for name in ("target SUVR", "target Centiloid") if name in later}
    years = years_between(arguments.source, arguments.followup, arguments.years)
    write_pair(arguments.output, image, followup, years, overwrite=arguments.overwrite)
    return facts | {"years": years}


def _own_resolutions(arguments: argparse.Namespace) -> list[float | None]:
    """Width of the point spread of the image, and of the second session."""
    if arguments.resolution is None:
        return [None]
    most = 1 if arguments.followup is None else 2
    if arguments.own_resolution is None or len(arguments.own_resolution) > most:
        raise InfieldError(
            where="--resolution",
            found=f"{len(arguments.own_resolution or [])} numbers of --own-resolution",
            expected="the width of the image's own point spread, in mm, and that of a second session",
        )
    return list(arguments.own_resolution)


def _smoothing(arguments: argparse.Namespace, image: PETImage) -> dict[str, Any]:
    """What smoothing cost, in the target or, without one, in the brighter half of the image."""
    plain = _image(arguments.source, arguments, None)
    inside = plain.values > np.median(plain.values) if arguments.target is None else _mask(arguments.target, image)
    bias, spread = cost(plain.values, image.values, inside)
    where = "the brighter half" if arguments.target is None else "the target"
    return {
        "resolution, mm": arguments.resolution,
        f"smoothing changed the mean of {where} by": f"{bias:+.2%}",
        "and the spread inside it by": f"{spread:+.2%}",
    }


def _image(path: Path, arguments: argparse.Namespace, own: float | None) -> PETImage:
    """One image in the requested quantity and resolution."""
    file = open_image(path, units=arguments.units)
    frames = _range("--frames", arguments.frames, file.frames)
    image = file.image(frames.start, frames.stop - 1)
    try:
        if own is not None:
            image = at_resolution(image, own, arguments.resolution)
        if arguments.to == "SUV":
            image = image.with_values(to_suv(image.values, image.units, _dose(path, image, arguments.weight)), "g/mL")
        elif arguments.to == "SUVR":
            if arguments.reference is None or arguments.reference_region is None:
                raise InfieldError(where="--to SUVR", found="no reference region", expected="--reference MASK and its "
                                   "name, --reference-region NAME")  # fmt: skip
            reference = _mask(arguments.reference, image)
            image = image.with_values(to_suvr(image.values, reference), SUVR, reference=arguments.reference_region)
        elif arguments.to is not None and image.units != arguments.to:
            raise InfieldError(where="units", found=f"'{image.units}'", expected=f"'{arguments.to}'",
                               remedy="activity does not follow from a ratio or from counts")  # fmt: skip
    except InfieldError as error:
        raise error.within(path) from error
    return image


def _mask(path: Path, image: PETImage) -> np.ndarray:
    """A mask on the grid of an image, bool."""
    mask = open_image(path, units="1").image()
    image.check_same_grid(mask.affine, mask.values.shape, str(path))
    kinds = np.unique(mask.values[mask.values > 0])
    if kinds[-1] > 1 + 1e-6 and len(kinds) > 1:
        raise InfieldError(
            where=path,
            found=f"{len(kinds)} values above 0, up to {kinds[-1]:g}: labels of an atlas",
            expected="a mask, of one value above 0 or fractions up to 1",
            remedy="write the labels of one region, e.g. with nilearn.image.math_img('np.isin(img, [8, 47])', img=...)",
        )
    return np.asarray(mask.values > 0.5 * kinds[-1])


def _region(arguments: argparse.Namespace, image: PETImage) -> dict[str, Any]:
    """Mean SUVR of the target, and its Centiloid where pipeline or line are given."""
    suvr = float(image.values[_mask(arguments.target, image)].mean())
    facts: dict[str, Any] = {"target SUVR": suvr}
    tracer = arguments.tracer or image.facts.get("TracerName", "unknown")
    if arguments.centiloid_line is not None:
        slope, intercept, source = arguments.centiloid_line
        try:
            line = Line(tracer, "own", arguments.reference_region, "", float(slope), float(intercept), source)
        except ValueError as error:
            raise InfieldError(
                where="--centiloid-line", found=f"{slope} {intercept}", expected="two numbers"
            ) from error
    elif arguments.pipeline is not None:
        line = centiloid_line(tracer, arguments.pipeline, arguments.reference_region)
    else:
        return facts
    return facts | {
        "target Centiloid": line(suvr),
        "Centiloid line": f"{line.slope:g} SUVR {line.intercept:+g}, {line.source}",
    }


def _dose(path: Path, image: PETImage, weight: float | None) -> Dose | None:
    """From the sidecar, and the weight from participants.tsv; None where a part is missing."""
    facts = image.facts
    weight = _weight(path) if weight is None else weight
    weight = facts.get("PatientWeight") if weight is None else weight
    names = ("InjectedRadioactivity", "InjectedRadioactivityUnits", "InjectionStart", "ImageDecayCorrectionTime")
    if weight is None or any(name not in facts for name in names):
        return None
    amount = becquerel(facts["InjectedRadioactivity"], facts["InjectedRadioactivityUnits"])
    times = facts["InjectionStart"], facts["ImageDecayCorrectionTime"]
    return Dose(amount, float(weight), *times, facts["TracerRadionuclide"])


def _weight(path: Path) -> float | None:
    """`weight` of the participant, kg, from participants.tsv of the data set."""
    subject = path.name.split("_")[0]
    for folder in path.parents[:5]:
        participants = folder / "participants.tsv"
        if participants.is_file():
            with participants.open(encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    text = row.get("weight") or "n/a"
                    if row.get("participant_id") == subject and text != "n/a":
                        try:
                            return float(text)
                        except ValueError:
                            raise InfieldError(
                                where=f"{participants}, {subject}", found=f"weight '{text}'", expected="a number of kg"
                            ) from None
    return None


def _range(option: str, text: str | None, count: int) -> range:
    """N or A-B; all where nothing is given."""
    first, dash, last = (text or f"0-{count - 1}").partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < count):
        raise InfieldError(where=option, found=f"'{text}'", expected=f"N or A-B between 0 and {count - 1}")
    return range(int(first), int(last) + 1)
