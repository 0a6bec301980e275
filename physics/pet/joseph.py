"""The system matrix of parallel-beam tomography by Joseph's method.

P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Transactions on Medical Imaging
1982: a ray is followed along the axis of the image that it is nearest to, from one line of pixel centres to the next,
and the image is interpolated linearly between the two pixels beside it on each line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def joseph_matrix(x: np.ndarray, y: np.ndarray, angles: np.ndarray, positions: np.ndarray) -> csr_matrix:
    r"""Line integrals of an image along the rays :math:`x \cos\theta + y \sin\theta = s`.

    Arguments:
        x: Coordinates of the columns about the centre of rotation, equally spaced, mm, shape `(n_x,)`.
        y: Coordinates of the rows, likewise, shape `(n_y,)`.
        angles: theta, radians, shape `(n_angles,)`.
        positions: s of the bins, mm, shape `(n_bins,)`.

    Returns:
        Shape `(n_angles * n_bins, n_y * n_x)`, in mm, float64; outside of the image the field is zero.
    """
    from scipy.sparse import csr_matrix  # a fifth of a second of a processor

    n_x, n_y = len(x), len(y)
    d_x, d_y = (float(c[1] - c[0]) if len(c) > 1 else 1.0 for c in (x, y))
    rows, columns, weights = [], [], []
    for k, theta in enumerate(angles):
        cos, sin = np.cos(theta), np.sin(theta)
        if abs(cos) * d_y >= abs(sin) * d_x:  # the direction (-sin, cos) follows y: one crossing a row of the image
            across = ((positions[:, None] - y * sin) / cos - x[0]) / d_x
            n_across, stride_across, stride_along, step = n_x, 1, n_x, d_y / abs(cos)
        else:
            across = ((positions[:, None] - x * cos) / sin - y[0]) / d_y
            n_across, stride_across, stride_along, step = n_y, n_x, 1, d_x / abs(sin)
        along = stride_along * np.arange(across.shape[1])
        ray = k * len(positions) + np.arange(len(positions))[:, None]
        left = np.floor(across).astype(int)
        for pixel, weight in ((left, left + 1 - across), (left + 1, across - left)):
            inside = (pixel >= 0) & (pixel < n_across) & (weight > 0)
            rows.append(np.broadcast_to(ray, across.shape)[inside])
            columns.append((pixel * stride_across + along)[inside])
            weights.append(step * weight[inside])
    shape = (len(angles) * len(positions), n_y * n_x)
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return csr_matrix(entries, shape=shape)
