"""Baselines while the Earth turns, beside derivatives of the delay in horizontal coordinates; and counts of modes."""

from __future__ import annotations

import numpy as np
import pytest

from infield.physics.cm21.uv_coverage import baselines, grid_uv_counts, uv_tracks

METRES_PER_MHZ = 299.792458


def towards(latitude: float, declination: float, hours: np.ndarray) -> np.ndarray:
    """East and north components of the unit vector to a place of the sky, from altitude and azimuth, shape `(2, h)`."""
    phi, delta, H = np.radians(latitude), np.radians(declination), np.radians(15 * hours)
    north = np.sin(delta) * np.cos(phi) - np.cos(delta) * np.cos(H) * np.sin(phi)
    return np.stack([-np.cos(delta) * np.sin(H), north])


@pytest.mark.parametrize(("latitude", "declination"), [(-26.8, -27.0), (52.9, 30.0), (-30.7, 10.0)])
def test_u_and_v_are_derivatives_of_the_delay(latitude, declination):
    """u = dw / (cos(delta) d alpha) with alpha = -H, and v = dw / d delta, w = b . s."""
    b = np.array([[100.0, 0.0], [0.0, 100.0], [35.0, -80.0]])
    hours = np.array([-3.0, -0.5, 0.0, 2.0])
    found = uv_tracks(b, latitude, declination, hours)
    assert found.shape == (4, 3, 2)
    step = 1e-4
    along = towards(latitude, declination, hours - step / 15) - towards(latitude, declination, hours + step / 15)
    across = towards(latitude, declination + step, hours) - towards(latitude, declination - step, hours)
    scale = 2 * np.radians(step)
    u = np.einsum("be,eh->hb", b, along) / scale / np.cos(np.radians(declination))
    v = np.einsum("be,eh->hb", b, across) / scale
    assert found[..., 0] == pytest.approx(u, abs=1e-5) and found[..., 1] == pytest.approx(v, abs=1e-5)


def test_every_pair_is_one_baseline():
    positions = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 2.0]])
    assert baselines(positions).tolist() == [[1, 0], [5, 2], [4, 2]]


@pytest.mark.parametrize("points", [(6, 6), (7, 5), (6, 7)])
def test_samples_are_counted_at_k_and_minus_k(points):
    """At 100 MHz and L / D = (0.1, 0.2), n_x = u / 29.98 m and n_y = u / 14.99 m."""
    unit = np.array([METRES_PER_MHZ / 100 / 0.1, METRES_PER_MHZ / 100 / 0.2])
    samples = [(0, 0), (1, 2), (1, 2), (-2, 1), (2, -1), (2.4, -0.4), (3, 0), (0, 3), (-1, 0), (40, 1)]
    counts = grid_uv_counts(np.array(samples) * unit, points, (100.0, 200.0), 1000.0, 100.0)
    nx, ny = points
    assert counts.shape == (nx, ny // 2 + 1)
    whole = np.zeros((nx, ny))
    for kx, ky in samples:
        kx, ky = round(kx), round(ky)
        if abs(kx) <= (nx - 1) // 2 and abs(ky) <= (ny - 1) // 2:  # no mode without an opposite one
            whole[kx % nx, ky % ny] += 1
            whole[-kx % nx, -ky % ny] += 1
    assert whole.sum() > 12 and (counts == whole[:, : ny // 2 + 1]).all()
