"""Distances beside astropy's published cosmologies, redshifts beside distances, and the frequency of the line."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.cosmology import Planck15, Planck18

from infield.datasets.cm21.cosmology import (
    LINE_MHZ,
    NEUTRINOS_V3,
    NEUTRINOS_V4,
    cosmology,
    distances_of,
    frequencies_of,
    redshifts_of,
)

REDSHIFTS = np.array([0.1, 5.0, 8.0, 12.0, 30.0, 80.0])


@pytest.mark.parametrize("published", [Planck15, Planck18])
def test_distances_are_those_of_published_cosmologies(published):
    """Both have 3.046 neutrinos, one of 0.06 eV, and photons of 2.7255 K, as 21cmFAST 3 has them."""
    ours = cosmology(published.H0.value, published.Om0, published.Ob0, NEUTRINOS_V3)
    expected = published.comoving_distance(REDSHIFTS).value
    assert distances_of(REDSHIFTS, ours) == pytest.approx(expected, rel=1e-9)
    for other in (
        cosmology(published.H0.value, published.Om0, published.Ob0, 3.5),
        cosmology(published.H0.value, published.Om0 * 1.001, published.Ob0, NEUTRINOS_V3),
    ):
        assert np.abs(distances_of(REDSHIFTS, other) / expected - 1).max() > 1e-5  # a control


def test_the_default_is_planck_2018_with_the_neutrinos_of_the_standard_model():
    """N_eff is 3.0440 +- 0.0002 (Bennett et al. 2021)."""
    assert pytest.approx(3.0440, abs=0.0002) == NEUTRINOS_V4
    ours = cosmology()
    assert (ours.Om0, ours.H0.value) == pytest.approx((Planck18.Om0, Planck18.H0.value), abs=1e-3)
    assert ours.Ob0 == pytest.approx(Planck18.Ob0, abs=1e-4) and ours.Neff == pytest.approx(NEUTRINOS_V4)
    assert distances_of(REDSHIFTS, ours) == pytest.approx(Planck18.comoving_distance(REDSHIFTS).value, rel=1e-4)


def test_redshifts_are_found_again():
    universe = cosmology()
    assert redshifts_of(distances_of(REDSHIFTS, universe), universe) == pytest.approx(REDSHIFTS, rel=1e-9)
    for distance in (0.0, -1.0, float(distances_of(np.array([100.1]), universe)[0]), np.nan):
        with pytest.raises(ValueError, match="expected 0 to redshift 100"):
            redshifts_of(np.array([5000.0, distance]), universe)


def test_the_line_is_at_21_cm():
    assert 299792.458 / LINE_MHZ == pytest.approx(211.061, abs=1e-3)  # mm
    assert frequencies_of(np.array([0.0, 1.0, 9.0])) == pytest.approx([LINE_MHZ, LINE_MHZ / 2, LINE_MHZ / 10])
