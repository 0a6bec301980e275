"""The real simulator gives what it gave before; run where INFIELD_21CMFAST names a Python that has py21cmfast."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from infield.core.errors import InfieldError
from infield.physics.cm21.simulator import Simulator21cmFAST


def test_its_cells_are_two_megaparsecs_wide_where_nothing_is_said():
    simulator = Simulator21cmFAST()
    assert simulator.box / simulator.points == 2.0 and simulator.depth == 4 * simulator.points


STAND_IN = """
import json, os, signal, sys
import numpy as np
question, answer = sys.argv[1:]
request = json.load(open(question))
seed = request["seed"]
if seed == 3:
    sys.exit("the last words")
if seed == 4:
    os.kill(os.getpid(), signal.SIGKILL)
errors = {5: "ValueError: no such field", 6: "ModuleNotFoundError: py21cmfast"}
if seed in errors:
    np.savez(answer, error=errors[seed])
else:
    np.savez(answer, brightness_temp=[float(seed)], initial_density=[2.5], distance=[3.5], redshift=[4.5],
             described=json.dumps({**request, "threads": os.environ["OMP_NUM_THREADS"]}))
"""
"""Answers as `run_21cmfast.py` does, by what the seed says, without the simulator."""


@pytest.fixture
def stand_in(tmp_path):
    """Path of a program that runs the stand-in in the place of the simulator's script."""
    (tmp_path / "answers.py").write_text(STAND_IN)
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/answers.py" "$2" "$3"\n')
    program.chmod(0o755)
    return str(program)


def test_what_is_asked_and_what_is_answered(stand_in):
    simulator = Simulator21cmFAST(16, 64.0, 7.5, 74, {"N_STEP_TS": 10}, python=stand_in)
    distance, redshift, described = simulator.line_of_sight({"ION_Tvir_MIN": 4.7})
    assert (distance.tolist(), redshift.tolist()) == ([3.5], [4.5])
    settings = {"N_STEP_TS": 10, "ION_Tvir_MIN": 4.7, "X_RAY_Tvir_MIN": 4.7}  # one temperature for both
    assert described == {"points": 16, "box": 64.0, "redshift": 7.5, "depth": 74, "settings": settings, "seed": 1,
                         "simulate": False, "threads": "1"}  # fmt: skip
    own = Simulator21cmFAST(python=stand_in).line_of_sight({"ION_Tvir_MIN": 4.7, "X_RAY_Tvir_MIN": 5.0})[2]
    assert own["settings"]["X_RAY_Tvir_MIN"] == 5.0
    assert Simulator21cmFAST(python=stand_in).line_of_sight({"HII_EFF_FACTOR": 30.0})[2]["settings"] == {
        "HII_EFF_FACTOR": 30.0
    }
    cone, density = simulator.simulate({}, seed=7)
    assert (cone.tolist(), density.tolist()) == ([7.0], [2.5])


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (3, r"21cmFAST: seed 3, .*: .*its process left with status 1 \(the last words\)"),
        (4, r"its process was ended by SIGKILL \(without a word\)"),
        (5, r"21cmFAST: seed 5, .*: .*ValueError: no such field"),
        (6, r"no package py21cmfast \(ModuleNotFoundError: py21cmfast\), expected it"),
    ],
)
def test_a_simulator_that_fails_says_how(stand_in, seed, words):
    with pytest.raises(InfieldError, match=words):
        Simulator21cmFAST(python=stand_in).simulate({"HII_EFF_FACTOR": 30.0}, seed)


@pytest.mark.parametrize("there", [False, True])
def test_without_a_program_this_python_needs_the_package(monkeypatch, stand_in, there):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if there else None)
    Simulator21cmFAST(python=stand_in).check()
    if there:
        Simulator21cmFAST().check()
    else:
        with pytest.raises(InfieldError, match="no package py21cmfast"):
            Simulator21cmFAST().check()


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(InfieldError, match="no such program"):
        Simulator21cmFAST(python=str(tmp_path / "nothing")).simulate({}, 1)


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
