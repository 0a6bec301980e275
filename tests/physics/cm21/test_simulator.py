"""The real simulator gives what it gave before; run where INFIELD_21CMFAST names a Python that has py21cmfast."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from infield.physics.cm21.simulator import Simulator21cmFAST


def test_its_cells_are_two_megaparsecs_wide_where_nothing_is_said():
    simulator = Simulator21cmFAST()
    assert simulator.box / simulator.points == 2.0 and simulator.depth == 4 * simulator.points


@pytest.mark.slow
def test_a_cone_of_the_real_simulator_is_that_of_its_own_file():
    """The same settings and seed as a file that 21cmFAST 4.1.1 saved by itself: the same line of sight and voxels."""
    for name in ("INFIELD_21CMFAST", "INFIELD_DATA"):
        if name not in os.environ:
            pytest.skip(f"{name} is not set")
    settings = {"USE_TS_FLUCT": False, "HIRES_TO_LOWRES_FACTOR": 2, "N_STEP_TS": 10, "ZPRIME_STEP_FACTOR": 1.05}
    settings |= {"Z_HEAT_MAX": 25.0, "M_MIN_in_Mass": True}  # as the template has it, and the file
    simulator = Simulator21cmFAST(16, 64.0, 7.51, 74, settings, python=os.environ["INFIELD_21CMFAST"])
    parameters = {"ION_Tvir_MIN": 4.699, "HII_EFF_FACTOR": 30.0}
    distance, redshift, described = simulator.line_of_sight(parameters)
    cone, density = simulator.simulate(parameters, seed=7)
    with h5py.File(Path(os.environ["INFIELD_DATA"]) / "cm21" / "native_v4.1.1_tiny16_nots.h5") as file:
        np.testing.assert_allclose(distance, file["lightcone_distances"], rtol=1e-12)
        np.testing.assert_allclose(cone, file["lightcones/brightness_temp"], atol=1e-4)
    assert redshift[0] == pytest.approx(7.51, abs=1e-6) and described["version"].startswith("4.")
    another, _ = simulator.simulate(parameters, seed=8)
    assert np.abs(another - cone).max() > 1
    assert density.shape == (described["box"],) * 3 == (32, 32, 32)
    coarse = density.reshape(16, 2, 16, 2, 16, 2).mean((1, 3, 5))  # cell i of the cone lies in slice i of the box
    seen = [slice_ for slice_ in range(16) if cone[..., slice_].std() > 0]
    found = [
        abs(np.corrcoef(cone[..., i].ravel(), coarse[..., (i + off) % 16].ravel())[0, 1])
        for off in (0, 8)
        for i in seen
    ]
    assert np.mean(found[: len(seen)]) > 2 * np.mean(found[len(seen) :])


@pytest.mark.slow
def test_the_virial_temperature_counts():
    """With the template's own M_MIN_in_Mass it would not: cones of 10^4 and 10^6 K would be the same."""
    if "INFIELD_21CMFAST" not in os.environ:
        pytest.skip("INFIELD_21CMFAST is not set")
    settings = {"USE_TS_FLUCT": False, "HIRES_TO_LOWRES_FACTOR": 2, "ZPRIME_STEP_FACTOR": 1.1}
    for inert in (False, True):
        simulator = Simulator21cmFAST(
            16, 64.0, 7.51, 32, settings | ({"M_MIN_in_Mass": True} if inert else {}), os.environ["INFIELD_21CMFAST"]
        )
        zeros = [
            float((simulator.simulate({"ION_Tvir_MIN": tvir, "HII_EFF_FACTOR": 60.0}, seed=7)[0] == 0).mean())
            for tvir in (4.0, 6.0)
        ]
        assert zeros[0] == zeros[1] if inert else zeros[0] > zeros[1] + 0.5, zeros
