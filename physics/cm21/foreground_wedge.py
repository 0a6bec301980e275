r"""The foreground wedge: where smooth spectra appear in an interferometer's Fourier space.

A source at the angle theta from the middle of the field reaches a baseline with the delay of a spectral wave of

    k_par = k_perp sin(theta) D H / (c (1 + z))

(Parsons et al. 2012; Morales et al. 2012; Dillon et al. 2014). So foregrounds of a smooth spectrum lie at smaller
|k_par|, up to the horizon for theta = 90 degrees; instruments spread them beyond by a buffer. With dD/dz = c / H the
slope needs no cosmology but the distances and redshifts of the field.
"""

from __future__ import annotations

import math

import numpy as np


def wedge_slope(distance: np.ndarray, redshift: np.ndarray, horizon: float = 90.0) -> float:
    """k_par over k_perp of the edge of the wedge, at the middle of a segment of the line of sight.

    Arguments:
        distance: Comoving distances of its cells in Mpc, shape `(cells,)`, at least two.
        redshift: Their redshifts.
        horizon: Angle theta in degrees.
    """
    middle = (len(distance) - 1) / 2
    D, z = (float(np.interp(middle, np.arange(len(v)), v)) for v in (distance, redshift))
    dD_dz = (distance[-1] - distance[0]) / (redshift[-1] - redshift[0])
    return math.sin(math.radians(horizon)) * D / (dD_dz * (1 + z))


def outside_wedge(k_perp: np.ndarray, k_par: np.ndarray, slope: float, buffer: float) -> np.ndarray:
    """Modes free of foregrounds: |k_par| > slope k_perp + buffer. Bool, shape `(*k_perp, *k_par)`."""
    return np.abs(k_par) > (slope * k_perp + buffer)[..., None]
