"""Adapter: image cubes in FITS, as the SKA data challenges have them: frequency first, then y and x (in numpy's order).

The WCS gives frequencies (CTYPE FREQ; Hz unless CUNIT differs) and the size of a pixel (degrees). Values are in
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
from astropy import units
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from infield.core.errors import InfieldError
from infield.datasets.cm21.cosmology import LINE_MHZ, cosmology, distances_of
from infield.datasets.cm21.readers.common import RawLightcones, UserMetadata

BOLTZMANN, LIGHT = 1.380649e-23, 299792458.0  # J/K, m/s, both exact
_BEAM = math.pi / (4 * math.log(2))
"""Solid angle of a Gaussian beam over the product of its full widths at half maximum."""

_KELVIN = {"mk": 1.0, "k": 1e3, "kelvin": 1e3, "millikelvin": 1.0, "uk": 1e-3, "microk": 1e-3}
"""Millikelvin in a unit of temperature."""

_IN_HZ = {"": 1.0, "hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}


def fits_cube(path: Path, stated: UserMetadata) -> RawLightcones:
    """The cube in the first image of a FITS file.

    Raises:
        InfieldError: The file is damaged, is no cube with frequencies, or has other units.
    """
    try:
        with fits.open(path, memmap=False, lazy_load_hdus=True) as file:
            number = next(i for i, hdu in enumerate(file) if hdu.header.get("NAXIS", 0) >= 3)
            header = file[number].header.copy()
            beams = _beams(file)
    except StopIteration:
        raise InfieldError(where=path, found="no cube in it", expected="an image of three axes") from None
    except (OSError, TypeError, ValueError) as error:
        raise InfieldError(
            where=path, found=f"no readable FITS ({' '.join(str(error).split())}), copy it again"
        ) from error
    axes = [str(header.get(f"CTYPE{i}", "")).upper() for i in range(1, header["NAXIS"] + 1)]
    sizes = [int(header[f"NAXIS{i}"]) for i in range(1, header["NAXIS"] + 1)]
    spectral = next((i for i, name in enumerate(axes) if i >= 2 and name.startswith("FREQ")), None)
    if spectral is None or any(n != 1 for i, n in enumerate(sizes) if i >= 2 and i != spectral):
        listed = ", ".join(f"{name or '?'} of {n}" for name, n in zip(axes, sizes, strict=True))
        raise InfieldError(
            where=path,
            found=f"the axes {listed}",
            expected="x, y and FREQ, and no further axis with more than one value",
            remedy="cut out one polarisation, and convert velocities or wavelengths to frequencies",
        )
    nx, ny, channels = sizes[0], sizes[1], sizes[spectral]
    frequency = _frequencies(path, header, spectral + 1, channels)
    with np.errstate(divide="ignore"):
        redshift = LINE_MHZ / frequency - 1
    if not ((frequency > 0) & (redshift > 0)).all():
        raise InfieldError(
            where=path,
            found=f"frequencies {frequency.min():g} to {frequency.max():g} MHz",
            expected=f"below {LINE_MHZ:g} and above 0",
        )
    angle = _pixel(path, header)
    default = cosmology()
    universe = cosmology(stated.hubble or default.H0.value, stated.omega_m or default.Om0)
    distance = distances_of(redshift, universe)
    kept = np.sort(distance)[: stated.depth]
    middle = float((kept[0] + kept[-1]) / 2)
    spread = float(kept[-1] / kept[0] - 1)
    factor, words = _to_millikelvin(path, header, frequency, beams)
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
        read=_reader(path, number, len(sizes) - 1 - spectral, len(sizes), factor),
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
        simulated=False,
        unused=("variable", "box", "redshifts", "parameters", "units"),
    )


def _frequencies(path: Path, header: Any, axis: int, channels: int) -> np.ndarray:
    """Of the channels, in MHz; a reference pixel that is not stated is 0 (FITS standard 4.0, table 22)."""
    unit = str(header.get(f"CUNIT{axis}", "")).strip().lower()
    width = _step(header, axis)
    if unit not in _IN_HZ or f"CRVAL{axis}" not in header or not width:
        raise InfieldError(
            where=path,
            found=f"CRVAL{axis} {header.get(f'CRVAL{axis}')}, CDELT{axis} {header.get(f'CDELT{axis}')} in '{unit}'",
            expected="a frequency and a width in Hz",
        )
    start, pixel = float(header[f"CRVAL{axis}"]), float(header.get(f"CRPIX{axis}", 0.0))
    return (start + (np.arange(channels) + 1 - pixel) * width) * _IN_HZ[unit] / 1e6


def _step(header: Any, axis: int) -> float:
    """World coordinate per pixel along an axis that is not turned: CDi_i, or CDELTi PCi_i."""
    if any(str(key).startswith("CD") and "_" in str(key) for key in header):
        return float(header.get(f"CD{axis}_{axis}", 0.0))
    return float(header.get(f"CDELT{axis}", 0.0)) * float(header.get(f"PC{axis}_{axis}", 1.0))


def _pixel(path: Path, header: Any) -> float:
    """Size of a pixel in degrees, whether or not the image is turned."""
    try:
        wcs = WCS(header, naxis=2)
        sizes = [float(scale) for scale in proj_plane_pixel_scales(wcs)]
        units = {str(unit) or "deg" for unit in wcs.wcs.cunit}
    except Exception as error:  # of wcslib, whatever it meets
        raise InfieldError(where=path, found=f"no sky coordinates ({' '.join(str(error).split())})") from error
    if units != {"deg"} or min(sizes) <= 0 or abs(sizes[0] / sizes[1] - 1) > 1e-3 or not _states_pixels(header):
        sizes_text = " x ".join(f"{size:g}" for size in sizes)
        raise InfieldError(
            where=path, found=f"pixels of {sizes_text} {', '.join(units)}", expected="square ones in degrees"
        )
    return sizes[0]


def _states_pixels(header: Any) -> bool:
    return any(key in header for key in ("CDELT1", "CD1_1", "CD1_2"))


def _beams(file: fits.HDUList) -> np.ndarray | None:
    """Solid angles of the beams of channels in sr, from a table BEAMS as CASA writes it; None where there is none."""
    table = next((hdu for hdu in file if hdu.name.upper() == "BEAMS" and isinstance(hdu, fits.BinTableHDU)), None)
    if table is None:
        return None
    axes = []
    for name in ("BMAJ", "BMIN"):
        unit = str(table.columns[name].unit or "arcsec")
        axes.append(np.asarray(table.data[name], dtype=float) * units.Unit(unit).to("rad"))
    return _BEAM * axes[0] * axes[1]


def _to_millikelvin(
    path: Path, header: Any, frequency: np.ndarray, beams: np.ndarray | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """What each channel is multiplied with, `(channels,)`, and a note on it."""
    stated = str(header.get("BUNIT", ""))
    unit = "".join(stated.split()).lower()
    if unit in _KELVIN:
        return np.full(len(frequency), _KELVIN[unit]), ()
    if beams is None and min(float(header.get(key, 0)) for key in ("BMAJ", "BMIN")) > 0:
        beam = _BEAM * math.radians(header["BMAJ"]) * math.radians(header["BMIN"])
        beams = np.full(len(frequency), beam)
    if unit not in ("jy/beam", "jybeam-1", "jybeam^-1") or beams is None or beams.shape != frequency.shape:
        raise InfieldError(
            where=path,
            found=f"BUNIT '{stated}', BMAJ {header.get('BMAJ')}, BMIN {header.get('BMIN')}"
            + ("" if beams is None else f", {len(beams)} beams for {len(frequency)} channels"),
            expected="K, mK, or Jy/beam with a beam (BMAJ and BMIN, or a table BEAMS of all channels)",
        )
    wavelength = LIGHT / (frequency * 1e6)
    kelvin = wavelength**2 * 1e-26 / (2 * BOLTZMANN * beams)
    across = [math.degrees(math.sqrt(omega / _BEAM)) * 60 for omega in (beams.min(), beams.max())]
    size = f"{across[0]:.3g}" if across[0] == across[1] else f"{across[0]:.3g} to {across[1]:.3g}"
    return 1e3 * kelvin, (f"Jy/beam to mK with a beam of {size} arcmin (geometric mean)",)


def _reader(
    path: Path, number: int, spectral: int, axes: int, factor: np.ndarray
) -> Callable[[int, slice], np.ndarray]:
    """By the image, its spectral axis in numpy's order, the number of its axes, and factors of channels."""

    def read(sample: int, cells: slice) -> np.ndarray:
        index = tuple(cells if i == spectral else 0 if i < axes - 2 else slice(None) for i in range(axes))
        try:
            with fits.open(path, memmap=False, lazy_load_hdus=True) as file:
                planes = file[number].section[index]
        except (OSError, TypeError, ValueError) as error:
            raise InfieldError(
                where=path, found=f"a damaged cube ({' '.join(str(error).split())}), copy it again"
            ) from error
        planes = np.asarray(planes, dtype=np.float32)
        scaled = planes.reshape(-1, *planes.shape[-2:]) * factor[cells, None, None].astype(np.float32)
        return np.moveaxis(scaled, (0, 1, 2), (2, 1, 0))

    return read
