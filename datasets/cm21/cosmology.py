"""Distances, redshifts and frequencies of the 21 cm line.

Comoving distances are those of a flat universe with radiation and neutrinos as the Planck 2018 cosmology has them:
photons of 2.7255 K, one neutrino of 0.06 eV. The number of neutrinos is 3.046 in what 21cmFAST 3 used and 3.044 in what
version 4 uses; without radiation and neutrinos z = 12 would be misplaced by 0.12.
"""

from __future__ import annotations

import numpy as np
from astropy import units
from astropy.cosmology import FlatLambdaCDM

LINE_MHZ = 1420.405751768
"""Rest frequency of the hyperfine line of neutral hydrogen (Hellwig et al. 1970)."""

NEUTRINOS_V3, NEUTRINOS_V4 = 3.046, 3.044
_LARGEST = 100.0  # redshift up to which distances are inverted


def cosmology(
    hubble: float = 67.66,
    omega_m: float = 0.30964144154550644,
    omega_b: float = 0.04897468161869667,
    neutrinos: float = NEUTRINOS_V4,
) -> FlatLambdaCDM:
    """A flat cosmology; by default that of 21cmFAST 4.

    Arguments:
        hubble: H_0 in km/s/Mpc.
        omega_m: Density of matter over the critical density.
        omega_b: That of baryons.
        neutrinos: Effective number of neutrino species.
    """
    masses = [0.0, 0.0, 0.06] * units.eV
    return FlatLambdaCDM(
        H0=hubble, Om0=omega_m, Ob0=omega_b, Tcmb0=2.7255 * units.K, Neff=neutrinos, m_nu=masses, name="flat"
    )


def distances_of(redshift: np.ndarray, universe: FlatLambdaCDM) -> np.ndarray:
    """Comoving distances in Mpc, shape of `redshift`."""
    return np.asarray(universe.comoving_distance(redshift).to_value(units.Mpc))


def redshifts_of(distance: np.ndarray, universe: FlatLambdaCDM) -> np.ndarray:
    """Redshifts at comoving distances in Mpc, by Newton's method: dD/dz = c / H(z). Shape of `distance`.

    Raises:
        ValueError: A distance is not positive, or beyond redshift 100.
    """
    distance = np.asarray(distance, dtype=float)
    knots = np.linspace(0.0, _LARGEST, 401)
    reached = distances_of(knots, universe)
    if not ((distance > 0) & (distance < reached[-1])).all():
        raise ValueError(f"found distances {distance.min():g} to {distance.max():g} Mpc, expected 0 to redshift 100")
    z = np.interp(distance, reached, knots)
    speed_of_light = 299792.458  # km/s
    for _ in range(6):  # the error squares at each step, from some 1e-3
        z = z - (distances_of(z, universe) - distance) * universe.H(z).value / speed_of_light
    return z


def frequencies_of(redshift: np.ndarray) -> np.ndarray:
    """Observed frequency of the line in MHz."""
    return LINE_MHZ / (1 + np.asarray(redshift))
