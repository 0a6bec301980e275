"""Further situations of the page of `field_situations`: PET images and counts, captures, Parquet, station files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
import yaml
from PIL import Image

from examples.wall_files import binary
from infield.datasets.pet.readers.open import open_image
from infield.datasets.pet.readers.sinograms import open_sinograms
from infield.datasets.projection_mapping.captures import open_captures
from infield.datasets.tables.scattered import Scattered, convert_table
from infield.datasets.tables.table import Layout
from infield.datasets.wall_pressure.readers.common import UserMetadata
from infield.datasets.wall_pressure.readers.open import open_planes

Act = Callable[[Path], object]
IMAGE = np.full((3, 4, 5), 5000.0, np.float32)
INTERFILE_IMAGE = """!INTERFILE :=
name of data file := a.v
imagedata byte order := LITTLEENDIAN
!PET data type := {kind}
!number format := float
!number of bytes per pixel := 4
number of dimensions := 3
!matrix size [1] := 5
!matrix size [2] := 4
!matrix size [3] := 3
scaling factor (mm/pixel) [1] := 2
scaling factor (mm/pixel) [2] := 3
scaling factor (mm/pixel) [3] := 4
!END OF INTERFILE :=
"""
INTERFILE_COUNTS = """!INTERFILE :=
name of data file := a.s
imagedata byte order := LITTLEENDIAN
!number format := float
!NUMBER OF BYTES PER PIXEL := 4
number of dimensions := 4
matrix axis label [4] := segment
!matrix size [4] := 1
matrix axis label [3] := view
!matrix size [3] := 4
matrix axis label [2] := axial coordinate
!matrix size [2] := {{ 2 }}
matrix axis label [1] := tangential coordinate
!matrix size [1] := 5
effective central bin size (cm) := 0.3
distance between rings (cm) := 0.65
!END OF INTERFILE :=
"""
LIST_MODE = "!INTERFILE:=\nnumber of rings:={rings}\n%number of views:=252\n%number of projections:=344\n" \
            "name of data file:=a.l\n"  # fmt: skip


def image(name: str, write: Callable[[Path], object], **asked: object) -> Act:
    def act(folder: Path) -> object:
        write(folder)
        return open_image(folder / name, **asked).image()

    return act


def ecat(folder: Path) -> None:
    """One frame of ECAT 7 by nibabel's own tables of its headers."""
    from nibabel import ecat as tables

    header = tables.EcatHeader(endianness=">")
    header["magic_number"], header["file_type"], header["sw_version"] = b"MATRIX72v", 7, 74
    header["num_frames"], header["num_gates"], header["num_bed_pos"], header["num_planes"] = 1, 1, 0, 3
    header["data_units"], header["isotope_name"], header["ecat_calibration_factor"] = b"Bq/cc", b"F-18", 1.0
    directory = np.zeros((32, 4), ">i4")
    directory[0] = (30, 2, 0, 1)
    part = np.zeros(1, np.dtype(tables.subhdr_dtype).newbyteorder(">"))
    for name, value in (("data_type", 6), ("num_dimensions", 3), ("x_dimension", 5), ("y_dimension", 4),
                        ("z_dimension", 3), ("scale_factor", 2.0), ("x_pixel_size", 0.2), ("y_pixel_size", 0.3),
                        ("z_pixel_size", 0.4), ("frame_duration", 60000)):  # fmt: skip
        part[name] = value
    data = np.full(60, 2500, ">i2").tobytes()
    blocks = -(-len(data) // 512)
    directory[1] = (0x01010001, 3, 3 + blocks, 1)
    content = [header.binaryblock.ljust(512, b"\0"), directory.tobytes(), part.tobytes().ljust(512, b"\0"),
               data.ljust(512 * blocks, b"\0")]  # fmt: skip
    (folder / "a.v").write_bytes(b"".join(content))


def interfile(kind: str = "Image", count: int = 60) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / "a.hv").write_text(INTERFILE_IMAGE.format(kind=kind))
        IMAGE.ravel()[:count].astype("<f4").tofile(folder / "a.v")

    return write


def dicom(modality: str = "PT", units: str = "BQML", slices: tuple[int, ...] = (0, 1, 2)) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        import pydicom

        (folder / "series").mkdir()
        for k in slices:
            header = pydicom.Dataset()
            header.Modality, header.SeriesInstanceUID, header.Units = modality, "1.2.3", units
            header.ImageOrientationPatient, header.PixelSpacing = [1, 0, 0, 0, 1, 0], [3.0, 2.0]
            header.ImagePositionPatient, header.SliceThickness = [10.0, 20.0, 4.0 * k], 4.0
            header.Rows, header.Columns, header.BitsAllocated, header.BitsStored, header.HighBit = 4, 5, 16, 16, 15
            header.PixelRepresentation, header.SamplesPerPixel = 0, 1
            header.PhotometricInterpretation, header.ActualFrameDuration = "MONOCHROME2", 60000
            header.RescaleSlope, header.RescaleIntercept = 2.0, 0.0
            header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.128", f"1.2.3.{k}"
            header.PixelData = np.full((4, 5), 10, np.uint16).tobytes()
            header.file_meta = pydicom.dataset.FileMetaDataset()
            header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            header.save_as(folder / "series" / f"{k}.dcm", enforce_file_format=True)

    return write


def counts(values: np.ndarray, **asked: object) -> Act:
    def act(folder: Path) -> object:
        (folder / "a.hs").write_text(INTERFILE_COUNTS.format())
        values.astype("<f4").tofile(folder / "a.s")
        return open_sinograms(folder / "a.hs", **asked)

    return act


def list_mode(words: list[int], rings: int = 64) -> Act:
    def act(folder: Path) -> object:
        (folder / "a.l.hdr").write_text(LIST_MODE.format(rings=rings))
        np.array(words, "<u4").tofile(folder / "a.l")
        return open_sinograms(folder / "a.l.hdr")

    return act


def array(shape: tuple[int, ...], **asked: object) -> Act:
    def act(folder: Path) -> object:
        np.save(folder / "a.npy", np.ones(shape))
        return open_sinograms(folder / "a.npy", **asked)

    return act


def captures(entries: dict | str, images: bool = True, decode: bool = False) -> Act:
    def act(folder: Path) -> object:
        if entries:
            text = entries if isinstance(entries, str) else yaml.safe_dump(entries)
            (folder / "setup.yaml").write_text(text, encoding="utf-8")
        if images:
            (folder / "p").mkdir()
            Image.fromarray(np.full((4, 6, 3), 128, np.uint8)).save(folder / "p" / "white.png")
        found = open_captures(folder)
        return found.projectors[0].check_gray_codes() if decode else found

    return act


def no_parquet(folder: Path) -> object:
    (folder / "t.parquet").write_text("lon,lat,t\n")
    return table(folder / "t.parquet")


def stations(ragged: bool) -> Act:
    def act(folder: Path) -> object:
        along = "place" if ragged else "station"
        xr.Dataset(
            {name: (along if name != "t" else "station", FRAME[name].to_numpy()) for name in FRAME},
        ).to_netcdf(folder / "t.nc")
        return table(folder / "t.nc")

    return act


def table(path: Path) -> object:
    return convert_table(path, Scattered(value="t", at=("lon", "lat"), grid=(0.5, 0.5), layout=Layout()))


def described(fault: str = "") -> Act:
    def act(folder: Path) -> object:
        binary(folder)
        if fault == "short":
            path = folder / "p.bin"
            path.write_bytes(path.read_bytes()[:-8])
        with open_planes(folder / "p.yaml", UserMetadata()) as found:
            return found

    return act


RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"lon": 8 + RNG.random(9), "lat": 50 + RNG.random(9), "t": RNG.random(9)})
SETUP = {"projectors": [{"name": "p", "width": 8, "height": 4}]}
WHOLE = np.ones(40)

DEVICES: dict[str, dict[str, Act]] = {
    "PET image, ECAT 7": {
        "one frame": image("a.v", ecat),
        "one frame, cut short": image("a.v", lambda f: (ecat(f), os.truncate(f / "a.v", 1600))),
        "an empty file": image("a.v", lambda f: (f / "a.v").write_bytes(b"")),
    },
    "PET image, Interfile": {
        "one frame, units stated": image("a.hv", interfile(), units="Bq/mL"),
        "no units": image("a.hv", interfile()),
        "counts in place of an image": image("a.hv", interfile("Emission"), units="Bq/mL"),
        "a truncated data file": image("a.hv", interfile(count=50), units="Bq/mL"),
    },
    "PET image, DICOM": {
        "a series": image("series", dicom()),
        "counts per second": image("series", dicom(units="CNTS")),
        "another modality": image("series", dicom("MR")),
        "a missing slice": image("series", dicom(slices=(0, 1, 3))),
        "an empty folder": image("series", lambda f: (f / "series").mkdir()),
    },
    "PET counts, Interfile": {
        "sinograms": counts(WHOLE),
        "randoms subtracted": counts(np.where(np.arange(40) == 3, -1.0, 1.0)),
        "no whole numbers": counts(np.full(40, 0.5)),
        "a truncated data file": counts(np.ones(39)),
    },
    "PET counts, list mode": {
        "Siemens mMR": list_mode([3 | 1 << 30, 5 | 1 << 30, 9]),
        "another scanner": list_mode([3 | 1 << 30], rings=32),
        "an event beyond the planes": list_mode([4084 * 252 * 344]),
    },
    "PET counts, arrays": {
        "angle by radial, a bin width": array((6, 9), bin_width=3.0),
        "no bin width": array((6, 9)),
        "three axes without names": array((2, 6, 9), bin_width=3.0),
        "three axes, stated": array((2, 6, 9), bin_width=3.0, order=("plane", "angle", "radial")),
    },
    "captures of projectors": {
        "a folder with setup.yaml": captures(SETUP),
        "no setup.yaml": captures({}),
        "no YAML": captures("projectors: [", images=False),
        "a projector without captures": captures(SETUP, images=False),
        "no Gray code": captures(SETUP, decode=True),
        "an unknown coding": captures(SETUP | {"camera": {"coding": "log"}}),
        "levels that do not end at 255": captures(SETUP | {"levels": [10, 20, 30]}),
    },
    "table, Parquet": {"text under this name": no_parquet},
    "table, netCDF of stations": {"along one dimension": stations(False), "ragged": stations(True)},
    "wall planes, raw binary": {"with a descriptor": described(), "a file cut short": described("short")},
}
