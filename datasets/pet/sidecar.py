"""Metadata of a PET image from a BIDS sidecar, checked (BIDS 1.11, schema 1.11.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infield.core.checks import is_number
from infield.core.errors import InfieldError
from infield.datasets.pet.decay import HALF_LIFE, decay_factor, half_life

REQUIRED = (
    *("Manufacturer", "ManufacturersModelName", "Units", "TracerName", "TracerRadionuclide"),
    *("InjectedRadioactivity", "InjectedRadioactivityUnits", "InjectedMass", "InjectedMassUnits"),
    *("SpecificRadioactivity", "SpecificRadioactivityUnits", "ModeOfAdministration", "TimeZero", "ScanStart"),
    *("InjectionStart", "FrameTimesStart", "FrameDuration", "AcquisitionMode", "ImageDecayCorrected"),
    *("ImageDecayCorrectionTime", "ReconMethodName", "ReconMethodParameterLabels", "ReconFilterType"),
    "AttenuationCorrection",
)
MAY_BE_UNKNOWN = ("InjectedMass", "InjectedMassUnits", "SpecificRadioactivity", "SpecificRadioactivityUnits")
"""Fields of which "n/a" is legal."""

INFUSION = (*("InfusionRadioactivity", "InfusionStart", "InfusionSpeed", "InfusionSpeedUnits", "InjectedVolume"),)
"""Fields that a bolus with infusion needs."""

NUMBERS = ("InjectedRadioactivity", "ScanStart", "InjectionStart", "ImageDecayCorrectionTime")
OVERLAP = 0.1
"""Seconds by which a frame may end after the next one starts: rounding."""


def read_sidecar(image: Path) -> dict[str, Any]:
    """The sidecar of an image with what it inherits: JSON files of the folders above, up to the data set's root, whose
    entities and suffix are among the image's (BIDS, inheritance principle).

    Raises:
        InfieldError: There is none, or one is no JSON object.
    """
    stem = image.name.removesuffix(".gz").removesuffix(".nii")
    entities = set(stem.split("_"))
    found: dict[str, Any] = {}
    applies = []
    for depth, folder in enumerate((image.parent, *image.parent.parents[:6])):
        for path in sorted(folder.glob("*.json")):
            parts = path.stem.split("_")
            if parts[-1] == stem.split("_")[-1] and set(parts) <= entities:
                applies.append((depth, -len(parts), path))
        if (folder / "dataset_description.json").is_file():
            break
    for _, _, path in sorted(applies, reverse=True):
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InfieldError(where=path, found=" ".join(str(error).split()), expected="a JSON object") from error
        if not isinstance(content, dict):
            raise InfieldError(where=path, found=type(content).__name__, expected="a JSON object")
        found |= content
    if not found:
        raise InfieldError(
            where=image,
            found="no sidecar",
            expected=f"{stem}.json beside it, as BIDS has it",
            remedy="write one with dcm2niix or pypet2bids, or name the units ({units})",
            parameters=["units"],
        )
    return found


def check_sidecar(fields: Mapping[str, Any], frames: int) -> None:
    """Check required and conditional fields, numbers and frames.

    Arguments:
        fields: As `read_sidecar` gives them.
        frames: Size of the image's fourth axis.

    Raises:
        InfieldError: The first kind of fault; of missing fields all are named.
    """
    missing = [name for name in (*REQUIRED, *_conditional(fields)) if name not in fields]
    if missing:
        raise InfieldError(where="sidecar", found=f"no {', '.join(missing)}", expected="them, as BIDS requires")
    unknown = [name for name in REQUIRED if fields[name] == "n/a" and name not in MAY_BE_UNKNOWN]
    if unknown:
        raise InfieldError(
            where="sidecar",
            found=f"'n/a' for {', '.join(unknown)}",
            expected=f"values: 'n/a' is legal for {', '.join(MAY_BE_UNKNOWN)} alone",
        )
    for name in NUMBERS:
        if not is_number(fields[name]):
            raise InfieldError(where=f"sidecar: {name}", found=repr(fields[name]), expected="a finite number")
    check_frames(fields["FrameTimesStart"], fields["FrameDuration"], frames)
    late = fields["InjectionStart"] - fields["ImageDecayCorrectionTime"]
    if late > fields["FrameDuration"][0]:
        raise InfieldError(
            where="sidecar",
            found=f"an injection {late:g} s after the time to which decay is corrected (ImageDecayCorrectionTime)",
            expected=f"at most one frame, {fields['FrameDuration'][0]:g} s, after it",
        )


def decay_factors(fields: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Factors that correct frames for decay to ImageDecayCorrectionTime; None where the image is corrected.

    Raises:
        InfieldError: ImageDecayCorrected is neither true nor false, or the half-life is not known.
    """
    corrected = fields["ImageDecayCorrected"]
    if not isinstance(corrected, bool):
        raise InfieldError(where="sidecar: ImageDecayCorrected", found=repr(corrected), expected="true or false")
    if corrected:
        return None
    half = half_life(str(fields["TracerRadionuclide"]))
    if half is None:
        raise InfieldError(
            where="sidecar",
            found=f"an image that is not corrected for the decay of '{fields['TracerRadionuclide']}'",
            expected=f"one that is, or a half-life known here ({', '.join(HALF_LIFE)})",
        )
    reference = fields["ImageDecayCorrectionTime"]
    frames = zip(fields["FrameTimesStart"], fields["FrameDuration"], strict=True)
    return tuple(decay_factor(start - reference, duration, half) for start, duration in frames)


def check_frames(starts: Any, durations: Any, frames: int) -> None:
    """Check the times of frames against each other and the image.

    Raises:
        InfieldError: Lists of unlike or wrong length, durations that are none, or frames that overlap.
    """
    for name, values in (("FrameTimesStart", starts), ("FrameDuration", durations)):
        if not isinstance(values, list) or not values or not all(is_number(value) for value in values):
            raise InfieldError(
                where=f"sidecar: {name}", found=f"{values!r:.60}", expected="a list of numbers of seconds"
            )
    if not len(starts) == len(durations) == frames:
        raise InfieldError(
            where="sidecar",
            found=f"{len(starts)} FrameTimesStart and {len(durations)} FrameDuration"
            + (", which holds end times" if _are_end_times(starts, durations) else ""),
            expected=f"{frames}, the frames of the image",
            remedy="the image or the sidecar is incomplete",
        )
    if min(durations) <= 0:
        raise InfieldError(where="sidecar: FrameDuration", found=f"{min(durations):g} s", expected="above 0")
    ends = [start + duration for start, duration in zip(starts, durations, strict=True)]
    overlaps = [i for i in range(frames - 1) if ends[i] > starts[i + 1] + OVERLAP]
    if overlaps and _are_end_times(starts, durations):
        raise InfieldError(
            where="sidecar: FrameDuration",
            found="the times at which frames end",
            expected="how long they last",
            remedy="subtract FrameTimesStart",
        )
    if overlaps:
        i = overlaps[0]
        raise InfieldError(
            where="sidecar",
            found=f"{len(overlaps)} of {frames} frames that overlap the next (frame {i} ends at {ends[i]:g} s)",
            expected=f"an end by {starts[i + 1]:g} s, where frame {i + 1} starts",
        )


def _are_end_times(starts: Sequence[float], durations: Sequence[float]) -> bool:
    if len(starts) < 3 or len(starts) != len(durations):
        return False
    later = [abs(end - start) <= OVERLAP for end, start in zip(durations, starts[1:], strict=False)]
    return sum(later) > len(later) / 2


def _conditional(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of fields that others require."""
    names: tuple[str, ...] = ()
    labels = fields.get("ReconMethodParameterLabels", ["none"])
    if "none" not in (labels if isinstance(labels, list) else [labels]):
        names += ("ReconMethodParameterUnits", "ReconMethodParameterValues")
    kinds = fields.get("ReconFilterType", "none")
    if "none" not in [str(kind).lower() for kind in (kinds if isinstance(kinds, list) else [kinds])]:
        names += ("ReconFilterSize",)
    return names + (INFUSION if fields.get("ModeOfAdministration") == "bolus-infusion" else ())
