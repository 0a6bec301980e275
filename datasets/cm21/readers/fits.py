"""Adapter: image cubes in FITS, as the SKA data challenges have them: frequency first, then y and x (in numpy's order).

The WCS tells frequencies (CTYPE FREQ; Hz unless CUNIT says otherwise) and the size of a pixel (degrees). Values are in
mK, K or Jy/beam; the latter become a brightness temperature, T = lambda^2 S / (2 k Omega), with the solid angle of the
beam Omega = pi BMAJ BMIN / (4 ln 2). Planes are read one part at a time.

A cube has one angle a pixel, a lightcone one length a cell: x and y here are those at the middle of the kept band, and
channels of equal width are cells of unequal depth. Nothing is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from infield.core.errors import InfieldError
from infield.datasets.cm21.cosmology import LINE_MHZ, cosmology, distances_of
from infield.datasets.cm21.readers.common import RawLightcones, UserMetadata

BOLTZMANN, LIGHT = 1.380649e-23, 299792458.0  # J/K, m/s, both exact
_IN_HZ = {"": 1.0, "hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}


def fits_cube(path: Path, stated: UserMetadata) -> RawLightcones:
    """The cube in the first image of a FITS file.

    Raises:
        InfieldError: The file is damaged, is no cube with frequencies, or has other units.
    """
    try:
        with fits.open(path, memmap=True) as file:
            number = next(i for i, hdu in enumerate(file) if hdu.header.get("NAXIS", 0) >= 3)
            header = file[number].header.copy()
    except StopIteration:
        raise InfieldError(where=path, found="no cube in it", expected="an image of three axes") from None
    except (OSError, TypeError, ValueError) as error:
        raise InfieldError(
            where=path, found=f"no readable FITS ({' '.join(str(error).split())}), copy it again"
        ) from error
    axes = [str(header.get(f"CTYPE{i}", "")).upper() for i in range(1, header["NAXIS"] + 1)]
    sizes = [int(header[f"NAXIS{i}"]) for i in range(1, header["NAXIS"] + 1)]
    if not (len(axes) >= 3 and axes[2].startswith("FREQ") and all(n == 1 for n in sizes[3:])):
        told = ", ".join(f"{name or '?'} of {n}" for name, n in zip(axes, sizes, strict=True))
        raise InfieldError(
            where=path, found=f"the axes {told}", expected="x, y, FREQ (numpy: frequency first) and no more"
        )
    nx, ny, channels = sizes[:3]
    frequency = _frequencies(path, header, channels)
    redshift = LINE_MHZ / frequency - 1
    if not (redshift > 0).all():
        raise InfieldError(
            where=path,
            found=f"frequencies {frequency.min():g} to {frequency.max():g} MHz",
            expected=f"below {LINE_MHZ:g}",
        )
    angle = _pixel(path, header)
    default = cosmology()
    universe = cosmology(stated.hubble or default.H0.value, stated.omega_m or default.Om0)
    distance = distances_of(redshift, universe)
    kept = np.sort(distance)[: stated.depth]
    middle = float((kept[0] + kept[-1]) / 2)
    spread = float(kept[-1] / kept[0] - 1)
    factor, words = _to_millikelvin(path, header, frequency)
    return RawLightcones(
        path=path,
        format="FITS cube",
        samples=1,
        points=(nx, ny),
        cell=math.radians(angle) * middle,
        distance=distance,
        redshift=redshift,
        parameters={},
        seeds=None,
        read=_reader(path, number, len(sizes), factor),
        provenance={
            "telescope": str(header.get("TELESCOP", "")),
            "object": str(header.get("OBJECT", "")),
            "pixel_deg": angle,
            "units": str(header.get("BUNIT", "")),
        },
        history=(
            *words,
            f"x and y in Mpc at a distance of {middle:.1f} Mpc; across the band an angle's length varies by "
            f"{spread:.1%}",
        ),
        unused=("variable", "box", "redshifts", "parameters"),
    )


def _frequencies(path: Path, header: Any, channels: int) -> np.ndarray:
    """Of the channels, in MHz."""
    unit = str(header.get("CUNIT3", "")).strip().lower()
    if unit not in _IN_HZ or "CRVAL3" not in header or "CDELT3" not in header:
        raise InfieldError(
            where=path,
            found=f"CRVAL3 {header.get('CRVAL3')}, CDELT3 {header.get('CDELT3')} in '{unit}'",
            expected="a frequency and a width in Hz",
        )
    start, step, pixel = (float(header[key]) for key in ("CRVAL3", "CDELT3", "CRPIX3"))
    return (start + (np.arange(channels) + 1 - pixel) * step) * _IN_HZ[unit] / 1e6


def _pixel(path: Path, header: Any) -> float:
    """Size of a pixel in degrees."""
    sizes = [abs(float(header.get(f"CDELT{i}", 0))) for i in (1, 2)]
    if min(sizes) <= 0 or abs(sizes[0] / sizes[1] - 1) > 1e-3:
        raise InfieldError(where=path, found=f"pixels of {sizes[0]:g} x {sizes[1]:g} degrees", expected="square ones")
    return sizes[0]


def _to_millikelvin(path: Path, header: Any, frequency: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """What each channel is multiplied with, `(channels,)`, and what to say of it."""
    unit = "".join(str(header.get("BUNIT", "")).split()).lower()
    if unit in ("mk", "k"):
        return np.full(len(frequency), 1.0 if unit == "mk" else 1e3), ()
    if unit != "jy/beam" or float(header.get("BMAJ", 0)) <= 0 or float(header.get("BMIN", 0)) <= 0:
        raise InfieldError(
            where=path,
            found=f"BUNIT '{header.get('BUNIT')}', BMAJ {header.get('BMAJ')}, BMIN {header.get('BMIN')}",
            expected="K, mK, or Jy/beam with a beam",
        )
    beam = math.pi * math.radians(header["BMAJ"]) * math.radians(header["BMIN"]) / (4 * math.log(2))
    wavelength = LIGHT / (frequency * 1e6)
    kelvin = wavelength**2 * 1e-26 / (2 * BOLTZMANN * beam)
    words = f"Jy/beam to mK with a beam of {header['BMAJ'] * 60:.3g} x {header['BMIN'] * 60:.3g} arcmin"
    return 1e3 * kelvin, (words,)


def _reader(path: Path, number: int, axes: int, factor: np.ndarray) -> Callable[[int, slice], np.ndarray]:
    def read(sample: int, cells: slice) -> np.ndarray:
        try:
            with fits.open(path, memmap=True) as file:
                section = file[number].section
                planes = section[cells] if axes == 3 else section[(*(0,) * (axes - 3), cells)]
        except (OSError, TypeError, ValueError) as error:
            raise InfieldError(
                where=path, found=f"a damaged cube ({' '.join(str(error).split())}), copy it again"
            ) from error
        scaled = np.asarray(planes, dtype=np.float32) * factor[cells, None, None].astype(np.float32)
        return np.moveaxis(scaled, (0, 1, 2), (2, 1, 0))

    return read
