r"""Which modes of the sky an array measures, and for how long: Earth rotation synthesis, gridded.

A baseline with east, north components (E, N) at latitude phi has X = -N sin phi, Y = E, Z = N cos phi in the frame of
the celestial equator, and towards hour angle H and declination delta, in units of length (Thompson, Moran & Swenson
2017, chapter 4)

    u = X sin H + Y cos H,
    v = -X sin delta cos H + Y sin delta sin H + Z cos delta.

Divided by the wavelength they count waves, and a field of length L at comoving distance D has the modes u = n D / L.
"""

from __future__ import annotations

import numpy as np

from infield.physics.cm21.telescopes import LIGHT


def baselines(positions: np.ndarray) -> np.ndarray:
    """East and north of every pair of antennas in m, shape `(pairs, 2)`; of a baseline and its opposite, one."""
    first, second = np.triu_indices(len(positions), 1)
    return positions[second] - positions[first]


def uv_tracks(east_north: np.ndarray, latitude: float, declination: float, hour_angles: np.ndarray) -> np.ndarray:
    """u and v in m while the Earth turns, shape `(hour angles, baselines, 2)`.

    Arguments:
        east_north: Baselines in m, shape `(baselines, 2)`.
        latitude: Latitude of the array in degrees.
        declination: Declination of the middle of the field in degrees.
        hour_angles: In hours.
    """
    phi, delta, H = np.radians(latitude), np.radians(declination), np.radians(15 * np.asarray(hour_angles))[:, None]
    east, north = east_north[:, 0], east_north[:, 1]
    X, Y, Z = -north * np.sin(phi), east, north * np.cos(phi)
    u = X * np.sin(H) + Y * np.cos(H)
    v = -X * np.sin(delta) * np.cos(H) + Y * np.sin(delta) * np.sin(H) + Z * np.cos(delta)
    return np.stack([u, v], axis=-1)


def grid_uv_counts(
    uv: np.ndarray, points: tuple[int, int], lengths: tuple[float, float], distance: float, frequency: float
) -> np.ndarray:
    """Number of uv samples nearest to each mode; a sample counts for both k and -k.

    Arguments:
        uv: In m, shape `(..., 2)`.
        points: Points of the field along x and y.
        lengths: Lengths of the field in Mpc.
        distance: Comoving, in Mpc.
        frequency: In MHz.

    Returns:
        Shape `(nx, ny // 2 + 1)`, kx in the order of `fftfreq`; samples beyond the highest mode are left out.
    """
    waves_to_modes = np.array(lengths) / distance * (frequency * 1e6 / LIGHT)
    nx, ny = points
    n = np.rint(uv.reshape(-1, 2) * waves_to_modes)
    n = n[(np.abs(n[:, 0]) <= (nx - 1) // 2) & (np.abs(n[:, 1]) <= (ny - 1) // 2)].astype(np.int64)
    counts = np.bincount(n[:, 0] % nx * ny + n[:, 1] % ny, minlength=nx * ny).reshape(nx, ny)
    mirrored = np.roll(counts[::-1, ::-1], (1, 1), (0, 1))  # an opposite baseline measures the mirror image
    return (counts + mirrored)[:, : ny // 2 + 1].astype(float)
