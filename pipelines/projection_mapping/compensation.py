"""Compensation for one target: from a set-up and an image file to a folder of pictures and a report."""

from __future__ import annotations

import time
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.projection_mapping.images import Picture, eight_bits, fit_to, read_codes, read_picture, write_png
from infield.physics.projection_mapping.colour import decode, delta_e_2000, encode
from infield.physics.projection_mapping.compensate import Compensation, compensate
from infield.physics.projection_mapping.gamut import IN_GAMUT, largest_gain
from infield.physics.projection_mapping.setup import Setup

FULL_RED = 0.1
"""Distance from the gamut, in linear light, that is drawn as full red."""


def prepared(setup: Setup, off: list[str], mask: Path | None, correction: Path | None) -> Setup:
    """The set-up with projectors switched off, a mask and a correction of the warp.

    Raises:
        InfieldError: A name is unknown, or a file does not fit.
    """
    setup = setup.without(*off) if off else setup
    if correction is not None:
        setup = _corrected(setup, correction)
    if mask is not None:
        codes = read_codes(mask)
        keep = codes.reshape(*codes.shape[:2], -1).max(-1) > 0
        if keep.shape != setup.shape:
            raise InfieldError(where=mask, found=f"{keep.shape} pixels", expected=f"{setup.shape}, those of the camera")
        dark = tuple(replace(p, warp=np.where(keep, p.warp, np.nan)) for p in setup.projectors)
        setup = replace(setup, projectors=dark)
    if not setup.covered.any():
        raise InfieldError(where="set-up", found="no pixel that a projector reaches", expected="some")
    return setup


def _corrected(setup: Setup, path: Path) -> Setup:
    if not path.is_file():
        raise InfieldError(where=path, found="nothing there", expected="offsets as .npy", remedy="check the path")
    try:
        offsets = np.asarray(np.load(path), np.float64)
    except (ValueError, OSError, EOFError):
        raise InfieldError(where=path, found="no array of numbers", expected="offsets as .npy") from None
    count = len(setup.projectors)
    offsets = np.broadcast_to(offsets, (count, *offsets.shape)) if offsets.ndim == 3 else offsets
    if offsets.ndim != 4 or offsets.shape[0] != count or offsets.shape[-1] != 2 or not np.isfinite(offsets).all():
        raise InfieldError(where=path, found=f"an array of shape {offsets.shape}", expected="(rows, columns, 2)")
    at = [np.linspace(0, n - 1, m) for n, m in zip(offsets.shape[1:3], setup.shape, strict=True)]
    grid = np.meshgrid(*at, indexing="ij")
    corrected = []
    for p, offset in zip(setup.projectors, offsets, strict=True):
        moved = np.stack([ndimage.map_coordinates(offset[..., i], grid, order=1) for i in (0, 1)])
        corrected.append(replace(p, warp=p.warp + moved))
    return replace(setup, projectors=tuple(corrected))


def default_exposure(setup: Setup) -> float:
    """Light of white that the median pixel can show."""
    columns = setup.columns()
    white = np.tile(np.linalg.solve(setup.to_srgb, np.ones(3)), (len(columns), 1))
    gain = largest_gain(columns, white)
    return float(np.nanmedian(gain))


def exposure_or_default(setup: Setup, exposure: float | None) -> float:
    """The exposure that is given, or the default one.

    Raises:
        InfieldError: No pixel can show anything.
    """
    found = default_exposure(setup) if exposure is None else exposure
    if not found > 0:
        raise InfieldError(
            where="set-up", found="gamuts that are one point in most pixels", expected="light of projectors"
        )
    return found


def project(
    setup: Setup,
    target: Path,
    folder: Path,
    *,
    exposure: float | None = None,
    **choices: Any,
) -> dict[str, Any]:
    """Compensate for one target and write the folder.

    Arguments:
        setup: The set-up.
        target: An image file.
        folder: Where the pictures go; it exists.
        exposure: Camera light of the target's white.
        choices: As of `compensate`.

    Returns:
        The report, in JSON types.

    Raises:
        InfieldError: The target is no image, or no pixel can show anything.
    """
    picture = fit_to(read_picture(target), setup.shape)
    return project_picture(setup, picture, target.name, folder, exposure=exposure, **choices)


def project_picture(
    setup: Setup,
    picture: Picture,
    name: str,
    folder: Path,
    *,
    exposure: float | None = None,
    **choices: Any,
) -> dict[str, Any]:
    """Compensate for one picture of the camera's size and write the folder; the rest is as of `project`."""
    began = time.perf_counter()
    exposure = exposure_or_default(setup, exposure)
    light = exposure * decode(torch.from_numpy(picture.code)).numpy()
    wanted = np.einsum("ij,jyx->iyx", np.linalg.inv(setup.to_srgb), light)
    found = compensate(setup, wanted, **choices)
    for projector, codes in zip(setup.projectors, found.codes, strict=True):
        write_png(folder / f"{projector.name}.png", codes)
    facts = report(setup, found, exposure)
    facts |= {"target": name, "notes": list(picture.notes), "colour": setup.colour, "exposure": exposure}
    facts |= {"choices": {k: v for k, v in choices.items()}, "seconds": time.perf_counter() - began}
    _write_maps(setup, found, folder)
    (folder / "report.json").write_text(to_json(facts, indent=1) + "\n", encoding="utf-8")
    _write_page(folder, facts, [p.name for p in setup.projectors])
    return facts


def report(setup: Setup, found: Compensation, exposure: float) -> dict[str, Any]:
    """Figures of a compensation, by prediction: PSNR of the sRGB code with data range 1 and CIEDE2000 under D65 over
    covered pixels."""
    covered = setup.covered
    shown, wanted = (np.einsum("ij,jyx->iyx", setup.to_srgb, a) for a in (found.appearance, found.scaled.target))
    error = (_coded(shown) - _coded(wanted))[:, covered]
    return {
        "covered": float(covered.mean()),
        "outside": found.outside(covered),
        "mean_distance": float(found.distance[covered].mean()),
        "psnr": float(-10 * np.log10(max(float((error**2).mean()), 1e-12))),
        "delta_e_2000": float(delta_e_2000(shown, wanted)[covered].mean()),
        "largest_exposure": found.scaled.fits * exposure,
        "clipped": {
            p.name: {"at_zero": float(c[0]), "at_full_drive": float(c[1])}
            for p, c in zip(setup.projectors, found.clipped, strict=True)
        },
    }


def _coded(light: np.ndarray) -> np.ndarray:
    return np.asarray(encode(torch.from_numpy(np.ascontiguousarray(light, np.float64))).clamp(0, 1).numpy())


def maps_of(setup: Setup, found: Compensation) -> dict[str, np.ndarray]:
    """Pictures of a compensation, 8 bits, `(y, x, 3)`: target, appearance, residual, distance from the gamut."""
    shown, wanted = (np.einsum("ij,jyx->iyx", setup.to_srgb, a) for a in (found.appearance, found.scaled.target))
    covered = setup.covered
    residual = 0.5 + 2 * (_coded(shown) - _coded(wanted)) * covered
    far = found.distance / FULL_RED
    red = np.stack([np.ones_like(far), 1 - far, 1 - far]) * (found.distance > IN_GAMUT)
    images = {
        "appearance": _coded(shown) * covered,
        "target": _coded(wanted) * covered,
        "residual": residual,
        "gamut": np.where(found.distance > IN_GAMUT, red, 0.25 * covered),
    }
    return {name: eight_bits(image) for name, image in images.items()}


def _write_maps(setup: Setup, found: Compensation, folder: Path) -> None:
    for name, image in maps_of(setup, found).items():
        write_png(folder / f"{name}.png", image)
    if (found.scaled.gain != 1).any():
        write_png(folder / "gain.png", np.round(255 * np.clip(found.scaled.gain, 0, 1)).astype(np.uint8))


def _write_page(folder: Path, facts: dict[str, Any], names: list[str]) -> None:
    pictures = ["target", "appearance", "residual", "gamut", *names]
    words = {
        "residual": "residual (code, grey is none, times 2)",
        "gamut": f"outside the gamut (red: {FULL_RED} and more)",
    }
    rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(in_words(v))}</td></tr>" for k, v in facts.items())
    images = "".join(
        f'<figure><img src="{escape(n)}.png" width="400"><figcaption>{escape(words.get(n, n))}</figcaption></figure>'
        for n in pictures
    )
    page = f"<!doctype html><meta charset=utf-8><title>Projection</title><table>{rows}</table>{images}\n"
    (folder / "report.html").write_text(page, encoding="utf-8")


def in_words(value: Any) -> str:
    """A figure of the report as text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {in_words(v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
