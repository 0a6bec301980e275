"""A DICOM PET series by pydicom: one file a slice, each with a rescale slope of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.pet.decay import HALF_LIFE
from infield.datasets.pet.readers.common import needs, readable
from infield.datasets.pet.readers.frames import FrameFile

PHILIPS_SUV, PHILIPS_ACTIVITY = (0x7053, 0x1000), (0x7053, 0x1009)
"""Private factors from Philips' counts to SUV and to Bq/mL."""

DAY = 86400.0


def open_dicom(path: Path, *, units: str | None = None) -> FrameFile:
    """Open a series: a folder of files, or one of them.

    Raises:
        InfieldError: There is no PET series, there are several, or slices are missing.
    """
    pydicom = needs("pydicom")
    folder = path if path.is_dir() else path.parent
    headers: list[tuple[Any, Path]] = []
    with readable(path, "DICOM"):
        for file in sorted(p for p in folder.iterdir() if p.is_file()):
            try:
                header = pydicom.dcmread(file, stop_before_pixels=True)
            except pydicom.errors.InvalidDicomError:
                continue
            if header.get("Modality") == "PT":
                headers.append((header, file))
    if not headers:
        raise InfieldError(where=path, found="no file of modality PT", expected="a DICOM PET series")
    series = sorted({str(header.SeriesInstanceUID) for header, _ in headers})
    if len(series) > 1:
        raise InfieldError(where=path, found=f"{len(series)} series", expected="one a folder")
    with readable(path, "DICOM"):
        return _series(path, headers, units)


def _series(path: Path, headers: list[tuple[Any, Path]], units: str | None) -> FrameFile:
    first = headers[0][0]
    row, column = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    times = sorted({float(header.get("FrameReferenceTime", 0) or 0) for header, _ in headers})
    stacks = []
    for time in times:
        of_frame = [(h, f) for h, f in headers if float(h.get("FrameReferenceTime", 0) or 0) == time]
        stacks.append(sorted(of_frame, key=lambda pair: float(normal @ np.array(pair[0].ImagePositionPatient, float))))
    positions = np.array([normal @ np.array(h.ImagePositionPatient, dtype=float) for h, _ in stacks[0]])
    steps = np.diff(positions)
    if len({len(stack) for stack in stacks}) > 1 or (len(steps) and not np.allclose(steps, steps[0], rtol=0.01)):
        raise InfieldError(where=path, found="slices at unequal distances, or fewer in some frames",
                           expected="all slices of each frame", remedy="copy the series again")  # fmt: skip
    spacing = [float(s) for s in first.PixelSpacing]  # between rows, between columns
    step = float(steps[0]) if len(steps) else float(first.get("SliceThickness", 1))
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = row * spacing[1], column * spacing[0], normal * step
    lps[:3, 3] = np.array(stacks[0][0][0].ImagePositionPatient, dtype=float)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    stored, factor = str(first.get("Units", "")) or None, 1.0
    if stored == "CNTS" and PHILIPS_ACTIVITY in first:
        stored, factor = "BQML", float(first[PHILIPS_ACTIVITY].value)
    elif stored == "CNTS" and PHILIPS_SUV in first:
        stored, factor = "GML", float(first[PHILIPS_SUV].value)
    durations = [float(stack[0][0].get("ActualFrameDuration", 0) or 0) / 1000 for stack in stacks]

    def read(k: int) -> np.ndarray:
        import pydicom

        with readable(path, "DICOM"):
            slices = []
            for header, file in stacks[k]:
                slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
                slices.append(slope * pydicom.dcmread(file).pixel_array.astype(np.float64) + intercept)
            return factor * np.stack(slices, axis=-1).transpose(1, 0, 2)

    known = all(d > 0 for d in durations)
    return FrameFile(path=path, format="DICOM", frames=len(stacks), read=read, affine=affine, units=units or stored,
                     durations=tuple(durations) if known else None,
                     uncorrected="DecayCorrection NONE" if first.get("DecayCorrection") == "NONE" else None,
                     facts=_facts(headers))  # fmt: skip


def _facts(headers: list[tuple[Any, Path]]) -> dict[str, Any]:
    """Weight, tracer, dose and times in the names of BIDS; times in s of the day, where the series has them.

    Activity is corrected for decay to the start of the series (START) or to the injection (ADMIN).
    """
    first = headers[0][0]
    facts: dict[str, Any] = {}
    if weight := first.get("PatientWeight"):
        facts["PatientWeight"] = float(weight)
    sequence = first.get("RadiopharmaceuticalInformationSequence") or []
    if not len(sequence):
        return facts
    drug = sequence[0]
    if name := drug.get("Radiopharmaceutical"):
        facts["TracerName"] = str(name)
    half = float(drug.get("RadionuclideHalfLife", 0) or 0)
    nuclide = next((name for name, known in HALF_LIFE.items() if abs(half - known) < 0.01 * known), None)
    dose, injected = drug.get("RadionuclideTotalDose"), _seconds(drug.get("RadiopharmaceuticalStartTime"))
    scans = [_seconds(header.get("AcquisitionTime")) for header, _ in headers]
    start = _seconds(first.get("SeriesTime"))
    earliest = min((s for s in scans if s is not None), default=None)
    if start is None or (earliest is not None and start > earliest + 1):  # a series made later, by other software
        start = earliest
    reference = {"START": start, "ADMIN": injected}.get(str(first.get("DecayCorrection", "")))
    if nuclide is None or dose is None or injected is None or reference is None:
        return facts
    if reference < injected:  # past midnight
        reference += DAY
    facts |= {"TracerRadionuclide": nuclide, "InjectedRadioactivity": float(dose), "InjectedRadioactivityUnits": "Bq"}
    return facts | {"InjectionStart": injected, "ImageDecayCorrectionTime": reference}


def _seconds(time: Any) -> float | None:
    """HHMMSS.FFFFFF to s of the day."""
    text = str(time or "")
    if len(text) < 6 or not text[:6].isdecimal():
        return None
    return 3600 * int(text[:2]) + 60 * int(text[2:4]) + float(text[4:])
