r"""A set-up from captures: warp, response, mixing, background and noise of each projector, each with its error.

* Warp: Gray code (`gray_code`), then between pixels from contrasts (`subpixel`).
* Response: light of the ramps above black, averaged over lit pixels with the full level's light as weights, is
  g(level) of each primary; g is a power of the drive, fitted, with the measured values as correction where they depart.
* Mixing: weighted regression of all captures, for each pixel and camera channel (`mixing_fit`).
* Defocus: contrast of the finest patterns, which a Gaussian lowers as exp(-2 pi^2 sigma^2 f^2) at frequency f.
* Indirect light, where depth is given: form factors from geometry; the direct part of each primary solves
  (1 + R K) direct = captured, and R is scaled so that its bounces are those that the darker halves of coarse patterns
  show (direct and global light, Nayar et al. 2006).

Saturated pixels are left out of responses and mixings; pixels that no projector reaches are masked.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import optimize

from infield.core.errors import InfieldError
from infield.datasets.projection_mapping.captures import PRIMARIES, Captures, ProjectorCaptures
from infield.datasets.projection_mapping.gray_code import bits_of, pattern_count
from infield.datasets.projection_mapping.indirect_fit import fit_indirect
from infield.datasets.projection_mapping.mixing_fit import fit_mixing, read_code
from infield.datasets.projection_mapping.subpixel import decode_strong, refine_by_contrast
from infield.physics.projection_mapping.setup import Projector, Setup

SATURATED = 0.998
"""Code, of full scale, from which a pixel is saturated."""
MAX_SATURATED = 0.005
MIN_WHITE = 0.05
"""Least light, of full scale, of the 95 % quantile of white."""
MIN_LIGHT = 0.01
"""Least light, of full scale, of the 99.9 % quantile of white less black, of a projector that is seen."""
MAX_NOT_ADDITIVE = 0.05
MOST_BEYOND = 0.02
"""Share of pixels that may decode to positions which the projector does not have."""
LEAST_RISE = 0.8
"""Share of full light at the lowest level from which a ramp counts as none."""
MAX_FALL = 0.01
"""Of full drive, by how much a ramp may fall from one level to the next."""
LINEAR_GAMMA = 1.08
"""Exponent up to which a response looks as though captures or drives were linearised already."""
ENTRIES = 257
PATCHES = (15, 20)


def calibrate(captures: Captures) -> Setup:
    """The set-up that captures show.

    Raises:
        InfieldError: Captures are missing, saturated, dark, not additive, or of a wrong Gray code or ramp.
    """
    projectors: list[Projector] = []
    facts: dict[str, Any] = {}
    blacks, left_out = [], []
    dark = _mean_black(captures)
    for one in captures.projectors:
        found = _projector(captures, one, dark)
        if found is None:
            left_out.append(one.name)
            continue
        projector, fact, black = found
        projectors.append(projector)
        blacks.append(black)
        facts[one.name] = fact
    for name in left_out:
        warnings.warn(f"projector '{name}' is seen by no camera pixel and is left out", stacklevel=2)
    if not projectors:
        raise InfieldError(where="captures", found="no projector in view of the camera", expected="at least one")
    background = np.mean(blacks, 0)
    facts["background"] = {"sd_between_captures": float(np.std(blacks, 0).mean())}
    facts["left_out"] = left_out
    to_srgb, colour = np.eye(3), "camera RGB read as sRGB"
    if captures.to_srgb is not None:
        to_srgb, colour = captures.to_srgb, "3 x 3 of setup.yaml"
    setup = Setup(background, tuple(projectors), to_srgb, colour, facts=facts)
    return fit_indirect(setup, captures, PATCHES) if captures.geometry else setup


def _mean_black(captures: Captures) -> np.ndarray:
    """Light of the scene with all projectors black: each one's black frame shows it."""
    frames = [captures.light(one.codes("black")) for one in captures.projectors]
    for one, frame in zip(captures.projectors, frames, strict=True):
        _check_size(captures, one, frame.shape[-2:])
    return np.asarray(np.mean(frames, 0))


def _check_size(captures: Captures, one: ProjectorCaptures, shape: tuple[int, ...]) -> None:
    if shape != captures.shape:
        raise InfieldError(
            where=one.folder, found=f"images of {shape}", expected=f"{captures.shape} as the first projector's"
        )


def _projector(
    captures: Captures, one: ProjectorCaptures, dark: np.ndarray
) -> tuple[Projector, dict[str, Any], np.ndarray] | None:
    codes = {name: one.codes(name) for name in ("white", "black")}
    shape = codes["white"].shape[-2:]
    _check_size(captures, one, shape)
    saturated = (codes["white"] >= SATURATED).any(0)
    if saturated.mean() > MAX_SATURATED:
        raise InfieldError(
            where=one.folder / "white.png",
            found=f"{100 * saturated.mean():.1f} % of the pixels saturated",
            expected=f"at most {100 * MAX_SATURATED:g} %",
            remedy="shorten the exposure and capture again",
        )
    white, black = captures.light(codes["white"]), captures.light(codes["black"])
    if np.quantile((white - black).max(0), 0.999) < MIN_LIGHT:
        return None
    if np.quantile(white.max(0), 0.95) < MIN_WHITE:
        raise InfieldError(
            where=one.folder / "white.png",
            found=f"a dark white, {np.quantile(white.max(0), 0.95):.3f} of full scale at 95 % of the pixels",
            expected=f"at least {MIN_WHITE}",
            remedy="lengthen the exposure and capture again",
        )
    code = read_code(captures, one, dark)
    gray = code.gray
    _check_order(one, gray, 255 * (codes["white"] - codes["black"]).mean(0))
    lit = 255 * (codes["white"] - codes["black"]).mean(0) > _lit_threshold(codes)
    refined = refine_by_contrast(gray, lit, code.contrast, one.height, one.width)
    seen = np.isfinite(refined.warp).all(0)
    if seen.sum() < 16:
        return None
    ramps = {
        (k, level): captures.light(one.codes(f"{primary}_{level:03d}")) - dark
        for k, primary in enumerate(PRIMARIES)
        for level in one.levels
    }
    full = [ramps[k, one.levels[-1]] for k in range(3)]
    difference = np.abs(white - black - sum(full))[:, seen & ~saturated].sum(0)
    apart = float(np.median(difference / np.maximum((white - black)[:, seen & ~saturated].sum(0), 1e-6)))
    if apart > MAX_NOT_ADDITIVE:
        raise InfieldError(
            where=one.folder,
            found=f"white {100 * apart:.0f} % off the sum of red, green and blue",
            expected=f"at most {100 * MAX_NOT_ADDITIVE:g} %",
            remedy="switch the projector's white segment or dynamic mode off, or correct `coding` in setup.yaml",
        )
    response, gammas, response_error = _response(one, ramps, seen & ~saturated)
    levels = np.array(one.levels) / 255
    g = np.stack([np.interp(levels, np.linspace(0, 1, ENTRIES), table) for table in response])
    lit = [[ramps[k, level] + dark for level in one.levels] for k in range(3)]
    fitted = fit_mixing(lit, g, white, dark, len(captures.projectors), code, seen & ~saturated)
    mixing = fitted.mixing
    size = np.linalg.norm(mixing[:, :, seen], axis=(0, 1))
    mixing_error = float(np.median(np.linalg.norm(fitted.error[:, :, seen], axis=(0, 1)) / np.maximum(size, 1e-6)))
    defocus = estimate_defocus(one, gray, 255 * codes["white"].mean(0), 255 * codes["black"].mean(0), captures, seen)
    fact = {
        "seen": float(seen.mean()),
        "warp_error": float(np.median(refined.error[seen])),
        "gammas": gammas,
        "response_error": response_error,
        "mixing_error": mixing_error,
        "noise_sd": float(np.sqrt(fitted.noise[0] + fitted.noise[1] * np.median(white[:, seen]))),
        "noise_variance": list(fitted.noise),
        "additivity": apart,
        "saturated": float(saturated.mean()),
        "defocus": defocus,
    }
    if max(gammas) < LINEAR_GAMMA:
        warnings.warn(
            f"the response of '{one.name}' is a straight line (exponents {', '.join(f'{g:.2f}' for g in gammas)}): "
            "were its captures linearised already, or is `coding` of the camera wrong?",
            stacklevel=3,
        )
    warp = np.where(seen & ~saturated, refined.warp, np.nan)
    return Projector(one.name, (one.height, one.width), warp, mixing, response, defocus), fact, black


def _lit_threshold(codes: dict[str, np.ndarray]) -> float:
    """Least code difference of white and black that counts as lit: 40, or less where the exposure was short."""
    lit = 255 * np.quantile((codes["white"] - codes["black"]).mean(0), 0.95)
    return float(min(40.0, 0.15 * lit))


def _check_order(one: ProjectorCaptures, gray: np.ndarray, lit: np.ndarray) -> None:
    """Refuse a Gray code in another order, or with pictures and inverses swapped: rows and columns must be smooth.

    Raises:
        InfieldError: Positions jump within the camera's view of the projector.
    """
    if len(gray) != pattern_count(one.height, one.width):
        raise InfieldError(where=one.folder, found=f"{len(gray)} images", expected=pattern_count(one.height, one.width))
    decoded, cell = decode_strong(gray, lit > 0.25 * np.quantile(lit, 0.95), one.height, one.width)
    whole, _ = decode_strong(gray, decoded.lit, 2 ** bits_of(one.height), 2 ** bits_of(one.width))
    beyond = (whole.column > one.width - 1 + cell) | (whole.row > one.height - 1 + cell)
    if whole.valid.any() and (share := float(beyond[whole.valid].mean())) > MOST_BEYOND:
        raise InfieldError(
            where=one.folder,
            found=f"a Gray code of positions beyond the projector in {100 * share:.0f} % of the pixels",
            expected=f"a projector of {one.width} x {one.height} (width x height), columns before rows",
        )
    both = decoded.valid[:, 1:] & decoded.valid[:, :-1]
    if both.sum() < 16:
        bright = (gray[0::2] > gray[1::2]).any(0) & (lit > 0.25 * np.quantile(lit, 0.95))
        if bright.mean() > 0.1 and decoded.valid.mean() < 0.02:
            raise InfieldError(
                where=one.folder, found="a Gray code that cannot be decoded", expected="columns, then rows, most "
                f"significant bit first, each followed by its inverse, of {one.width} x {one.height}",
            )  # fmt: skip
        return
    steps = [np.abs(np.diff(part, axis=1))[both] for part in (decoded.column, decoded.row)]
    jumps = float(np.mean((steps[0] + steps[1]) > 0.1 * one.width + 2 * cell))
    mirrored = _turn(decoded.column, decoded.row, decoded.valid, 2 * cell) < 0
    if jumps > (0.01 if mirrored else 0.05):
        raise InfieldError(
            where=one.folder,
            found=f"a Gray code whose positions jump in {100 * jumps:.0f} % of the pixels",
            expected=f"OpenCV's order for {one.width} x {one.height}: columns first, most significant bit first, each "
            "pattern followed by its inverse",
        )
    if mirrored:
        warnings.warn(
            f"the picture of projector '{one.name}' is mirrored: right behind a screen or by a mirror; else rows and "
            "columns of its Gray code, or patterns and inverses, are exchanged",
            stacklevel=4,
        )


def _turn(column: np.ndarray, row: np.ndarray, valid: np.ndarray, largest: float) -> float:
    """Determinant of the mean local derivative of (column, row) along (x, y): below 0 where the picture is mirrored."""
    slopes = []
    for part in (column, row):
        for axis in (1, 0):
            step = np.diff(part, axis=axis)
            both = np.diff(valid.astype(int), axis=axis) == 0
            both &= valid[:, 1:] if axis else valid[1:]
            small = step[both & (np.abs(step) <= largest)]
            slopes.append(float(small.mean()) if small.size else 0.0)
    return slopes[0] * slopes[3] - slopes[1] * slopes[2]


def _response(
    one: ProjectorCaptures, ramps: dict[tuple[int, int], np.ndarray], usable: np.ndarray
) -> tuple[np.ndarray, list[float], float]:
    """Table of g for each primary, exponents of the fitted powers, and the rms distance of the measured levels."""
    levels = np.array(one.levels) / 255
    table, gammas, errors = np.empty((3, ENTRIES)), [], []
    at = np.linspace(0, 1, ENTRIES)
    for k, primary in enumerate(PRIMARIES):
        full = ramps[k, one.levels[-1]][:, usable]
        own = full.mean(1).argmax()
        weight = full[own]
        g = np.array([float((ramps[k, level][own][usable] * weight).sum() / (weight**2).sum()) for level in one.levels])
        if g[0] > LEAST_RISE:
            raise InfieldError(
                where=one.folder,
                found=f"a ramp of {primary} with {100 * g[0]:.0f} % of full light at level {one.levels[0]}",
                expected=f"less than {100 * LEAST_RISE:.0f} %",
                remedy="capture it again: all of its levels show the same",
            )
        falls = np.diff(np.concatenate([[0], g]))
        if falls.min() < -MAX_FALL:
            worst = int(falls.argmin())
            raise InfieldError(
                where=one.folder,
                found=f"a ramp of {primary} that falls by {-falls.min():.3f} up to level {one.levels[worst]}",
                expected="one that rises",
                remedy="capture it again, with dynamic modes off",
            )
        gamma = float(optimize.minimize_scalar(lambda e, g=g: ((levels**e - g) ** 2).sum(), bounds=(0.3, 5)).x)
        error = float(np.sqrt(((levels**gamma - g) ** 2).mean()))
        if error > 0.01:  # no power: what was measured, made monotone
            line = np.interp(at, np.concatenate([[0], levels]), np.concatenate([[0], np.maximum.accumulate(g)]))
            table[k] = line / line[-1]
        else:
            table[k] = at**gamma
        gammas.append(gamma)
        errors.append(error)
    return table, gammas, float(max(errors))


def estimate_defocus(
    one: ProjectorCaptures, gray: np.ndarray, white: np.ndarray, black: np.ndarray, captures: Captures, seen: np.ndarray
) -> float:
    """Standard deviation of the blur in projector pixels, from the contrast of the finest stripes.

    Arguments:
        one: The projector.
        gray, white, black: Captures in codes of 8 bits.
        captures: Give the coding.
        seen: Where.
    """
    linear = lambda codes: captures.light(codes / 255)  # noqa: E731
    span = np.maximum(linear(white) - linear(black), 1e-6)[seen]
    columns = bits_of(one.width)
    widths = []
    for bit, period in ((columns - 1, 4), (columns - 2, 8)):  # a stripe of Gray code is two steps wide
        contrast = (linear(gray[2 * bit]) - linear(gray[2 * bit + 1]))[seen] / span
        measured = float(np.sqrt(np.mean(np.clip(contrast, -1, 1) ** 2)))
        widths.append((measured, period))

    def misfit(sigma: float) -> float:
        return sum((_stripe_contrast(sigma, period) - measured) ** 2 for measured, period in widths)

    found = optimize.minimize_scalar(misfit, bounds=(0.0, 4.0), method="bounded")
    return float(found.x) if found.x > 0.05 else 0.0


def _stripe_contrast(sigma: float, period: float) -> float:
    """Root mean square of a square wave of unit amplitude, blurred by a Gaussian and by one pixel's square."""
    odd = np.arange(1, 40, 2)
    fall = np.exp(-2 * (np.pi * sigma * odd / period) ** 2)
    return float(np.sqrt(np.sum(0.5 * (4 / (np.pi * odd) * fall) ** 2)))
