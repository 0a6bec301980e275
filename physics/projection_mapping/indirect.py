r"""Indirect light of a surface whose geometry is known: form factors between coarse patches, with all bounces.

A patch j of area A_j sends to a point i at distance d the share cos(theta_i) cos(theta_j) A_j / (pi d^2) of its
radiosity (Goral et al. 1984). With reflectances rho of the patches, all bounces together are
K (1 - rho K)^-1 of the direct light.
"""

from __future__ import annotations

import numpy as np

from infield.physics.projection_mapping.multi_projector import pooling


def positions_from_depth(depth: np.ndarray, focal: float, centre: tuple[float, float]) -> np.ndarray:
    """Points in the view of a pinhole camera, shape `(3, y, x)` in the units of the depth.

    Arguments:
        depth: Along the optical axis, shape `(y, x)`.
        focal: Focal length in pixels.
        centre: Principal point (y, x) in pixels.
    """
    y, x = np.meshgrid(*(np.arange(n) - c for n, c in zip(depth.shape, centre, strict=True)), indexing="ij")
    return np.stack([x / focal * depth, y / focal * depth, depth])


def patch_form_factors(positions: np.ndarray, covered: np.ndarray, patches: tuple[int, int]) -> np.ndarray:
    """Form factors between the patches of a camera's image, receiver first, shape `(patches, patches)`.

    Arguments:
        positions: Shape `(3, y, x)`; the camera is at the origin.
        covered: Pixels of the surface, shape `(y, x)`.
        patches: Number of patches down and across.

    Returns:
        K for averages over all pixels of a patch, those that are not covered counting as 0. Patches do not hide one
        another.
    """
    down, across = (np.gradient(positions, axis=axis) for axis in (1, 2))
    vector = np.cross(down, across, axis=0)  # its length is the area in view of a pixel
    vector = np.where((vector * positions).sum(0) > 0, -vector, vector)
    pools = [pooling(n, m) for n, m in zip(covered.shape, patches, strict=True)]
    pool = lambda image: (pools[0] @ (image * covered) @ pools[1].T).reshape(*image.shape[:-2], -1)  # noqa: E731
    share = pool(np.ones(covered.shape))
    present = share > 1e-6
    safe = np.where(present, share, 1)
    at, area_vector = pool(positions) / safe, pool(vector)
    pixels = covered.size / (patches[0] * patches[1])
    area = np.linalg.norm(area_vector, axis=0)
    normal = area_vector / np.maximum(area, 1e-300)
    apart = at[:, None, :] - at[:, :, None]  # from receiver i to sender j
    d2 = (apart**2).sum(0)
    np.fill_diagonal(d2, 1.0)
    away = np.einsum("ci,cij->ij", normal, apart)
    back = -np.einsum("cj,cij->ij", normal, apart)
    K = np.clip(away, 0, None) * np.clip(back, 0, None) * (area * pixels) / (np.pi * d2**2)
    np.fill_diagonal(K, 0)
    return np.where(present[:, None] & present[None], np.minimum(K / safe, 1.0), 0)


def all_bounces(
    form_factors: np.ndarray, reflectance: np.ndarray, covered: np.ndarray, patches: tuple[int, int]
) -> np.ndarray:
    """K (1 - rho K)^-1 for each camera channel, shape `(3, patches, patches)`.

    Arguments:
        form_factors: K of `patch_form_factors`.
        reflectance: Shape `(3, y, x)`.
        covered, patches: As there.
    """
    pools = [pooling(n, m) for n, m in zip(covered.shape, patches, strict=True)]
    rho = (pools[0] @ (reflectance * covered) @ pools[1].T).reshape(3, -1)
    eye = np.eye(len(form_factors))
    return np.stack([form_factors @ np.linalg.inv(eye - r[:, None] * form_factors) for r in rho])
