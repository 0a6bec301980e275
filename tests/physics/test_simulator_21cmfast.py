"""The real simulator gives what it gave before; run where INFIELD_21CMFAST names a Python that has py21cmfast."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from infield.physics.simulator_21cmfast import Simulator21cmFAST


@pytest.mark.slow
def test_a_cone_of_the_real_simulator_is_that_of_its_own_file():
    """The same settings and seed as a file that 21cmFAST 4.1.1 saved by itself: the same line of sight and voxels."""
    for name in ("INFIELD_21CMFAST", "INFIELD_DATA"):
        if name not in os.environ:
            pytest.skip(f"{name} is not set")
    settings = {"USE_TS_FLUCT": False, "HIRES_TO_LOWRES_FACTOR": 2, "N_STEP_TS": 10, "ZPRIME_STEP_FACTOR": 1.05}
    simulator = Simulator21cmFAST(
        16, 64.0, 7.51, 74, {**settings, "Z_HEAT_MAX": 25.0}, python=os.environ["INFIELD_21CMFAST"]
    )
    parameters = {"ION_Tvir_MIN": 4.699, "HII_EFF_FACTOR": 30.0}
    distance, redshift, described = simulator.line_of_sight(parameters)
    cone = simulator.simulate(parameters, seed=7)
    with h5py.File(Path(os.environ["INFIELD_DATA"]) / "cm21" / "native_v4.1.1_tiny16_nots.h5") as file:
        np.testing.assert_allclose(distance, file["lightcone_distances"], rtol=1e-12)
        np.testing.assert_allclose(cone, file["lightcones/brightness_temp"], atol=1e-4)
    assert redshift[0] == pytest.approx(7.51, abs=1e-6) and described["version"].startswith("4.")
    another = simulator.simulate(parameters, seed=8)
    assert np.abs(another - cone).max() > 1
