r"""Indirect light of a calibrated set-up, where the depth of the surface is given.

Captures hold direct light and its bounces, c = (1 + R K_R) direct. R is the reflectance up to a factor: the light of
all projectors, evened out over the surface. The factor follows from the global light that coarse stripes show: a pixel
amid a dark stripe has half of the global light of white (Nayar, Krishnan, Grossberg & Raskar 2006), so

    global / white = 2 min(image, inverse) / white

averaged over the surface is compared with the same of R K_R.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage, optimize

from infield.core.errors import InfieldError
from infield.datasets.projection_mapping.captures import Captures, ProjectorCaptures
from infield.datasets.projection_mapping.gray_code import bits_of
from infield.physics.projection_mapping.indirect import all_bounces, patch_form_factors, positions_from_depth
from infield.physics.projection_mapping.multi_projector import interpolation, pooling
from infield.physics.projection_mapping.setup import Setup

STRIPE_BITS = (2, 3)
"""Which bits from the finest are used: stripes of 8 and 16 pixels, wide against blur and narrow against the surface."""
SOLVE_ROUNDS = 6


def fit_indirect(setup: Setup, captures: Captures, patches: tuple[int, int]) -> Setup:
    """The set-up with indirect light, its mixings without.

    Raises:
        InfieldError: The geometry lacks the focal length.
    """
    geometry = captures.geometry
    focal = geometry.get("focal")
    if not isinstance(focal, int | float) or not focal > 0:
        raise InfieldError(where="setup.yaml", found=f"focal {focal!r}", expected="the focal length in pixels")
    middle = tuple((n - 1) / 2 for n in setup.shape)
    centre = tuple(geometry.get("centre") or middle)
    covered = setup.covered
    points = positions_from_depth(geometry["depth"], float(focal), (float(centre[0]), float(centre[1])))
    K = patch_form_factors(points, covered, patches)
    white = np.stack([np.where(s, p.mixing.sum(1), 0) for p, s in zip(setup.projectors, setup.seen, strict=True)])
    shape = reflectance_shape(white.sum(0), points, covered)
    captured = {one.name: one for one in captures.projectors}
    wanted = np.mean(
        [global_share(captures, captured[p.name], s) for p, s in zip(setup.projectors, setup.seen, strict=True)]
    )

    def share(scale: float) -> float:
        rho = np.clip(scale * shape, 0, 0.98)
        bounce = bounces(white.sum(0), rho, all_bounces(K, rho, covered, patches), patches)
        return float(bounce[:, covered].sum() / white.sum(0)[:, covered].sum())

    top = share(0.95)
    scale = 0.95 if wanted >= top else float(optimize.brentq(lambda a: share(a) - wanted, 0.0, 0.95, xtol=1e-3))
    rho = np.clip(scale * shape, 0, 0.98)
    factors = all_bounces(K, rho, covered, patches)
    projectors = []
    for projector, seen in zip(setup.projectors, setup.seen, strict=True):
        mixing = np.where(seen, projector.mixing, 0.0)
        direct = np.stack([mixing[:, k] - bounces(mixing[:, k], rho, factors, patches) for k in range(3)], 1)
        projectors.append(replace(projector, mixing=direct))
    facts = dict(setup.facts) | {"indirect": {"share": share(scale), "reflectance": float(rho[:, covered].mean())}}
    depth: dict[str, Any] = {}
    if centre == middle:  # a set-up has no other principal point
        depth = {"depth": geometry["depth"], "focal": float(focal)}
    whole = replace(setup, projectors=tuple(projectors), facts=facts, **depth)
    return replace(whole, reflectance=rho, form_factors=factors, patches=patches)


def bounces(captured: np.ndarray, rho: np.ndarray, factors: np.ndarray, patches: tuple[int, int]) -> np.ndarray:
    """R K direct for the direct light of (1 + R K) direct = captured, by iteration; shape `(3, y, x)`."""
    pools = [pooling(n, m) for n, m in zip(captured.shape[-2:], patches, strict=True)]
    ups = [interpolation(n, m) for n, m in zip(captured.shape[-2:], patches, strict=True)]
    bounce = np.zeros_like(captured)
    for _ in range(SOLVE_ROUNDS):
        pooled = (pools[0] @ (captured - bounce) @ pools[1].T).reshape(3, -1)
        received = np.einsum("cij,cj->ci", factors, pooled).reshape(3, *patches)
        bounce = rho * (ups[0] @ received @ ups[1].T)
    return bounce


def reflectance_shape(white: np.ndarray, points: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Reflectance up to a factor, 1 at the 95 % quantile: light of all projectors over its wide average."""
    sigma = 0.15 * white.shape[-1]
    blur = lambda a: ndimage.gaussian_filter(a, (0, sigma, sigma) if a.ndim == 3 else sigma, mode="nearest")  # noqa: E731
    mask = covered.astype(float)
    wide = blur((white * mask).mean(0)) / np.maximum(blur(mask), 1e-6)
    shape = white / np.maximum(wide, 1e-9)
    return np.asarray(shape * mask / max(float(np.quantile(shape[:, covered], 0.95)), 1e-9))


def global_share(captures: Captures, one: ProjectorCaptures, seen: np.ndarray) -> float:
    """Global light of white over all light of it, from the dark halves of coarse stripes."""
    black = captures.light(one.codes("black"))
    white = captures.light(one.codes("white")) - black
    columns, rows = bits_of(one.width), bits_of(one.height)
    lowest = None
    for first, count in ((0, columns), (columns, rows)):
        for bit in STRIPE_BITS:
            if count - 1 - bit < 0:
                continue
            i = 2 * (first + count - 1 - bit)
            for j in (i, i + 1):
                light = captures.light(one.codes(f"graycode_{j:02d}")) - black
                lowest = light if lowest is None else np.minimum(lowest, light)
    if lowest is None or not seen.any():
        return 0.0
    return float(np.clip(2 * lowest[:, seen].sum() / white[:, seen].sum(), 0, 0.9))
