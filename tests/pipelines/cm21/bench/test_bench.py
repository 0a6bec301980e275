"""Bench cm21 on tiny cones: every row and figure is there, and each figure tells a wrong ensemble from a right one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import examples.lightcone_prior_example as example
import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.datasets.cm21.lightcone_file import TEMPERATURE, Lightcones, lightcone_grid, lightcone_writer
from infield.pipelines.bench.records import Bench
from infield.pipelines.cm21.bench import costs as cm21_costs
from infield.pipelines.cm21.bench import memory as cm21_memory
from infield.pipelines.cm21.bench.cases import Case, Training, open_cases
from infield.pipelines.cm21.members import members_of

N, DEPTH = 8, 24
PRIOR = example.prior(points=N, depth=DEPTH)
Z = np.linspace(0, 1, DEPTH)


def cones(zeta, seed, shift=0.0, factor=1.0):
    """Cones whose mean, contrast and exact zeros follow zeta (`(n,)`), with a level of their own."""
    generator = np.random.default_rng(seed)
    at = np.asarray(zeta)[:, None, None, None] / 250
    white = generator.standard_normal((len(at), N, N, DEPTH))
    smooth = (white + np.roll(white, 1, 1) + np.roll(white, 1, 2) + np.roll(white, 1, 3)) / 2
    level = 20 * at + 10 * Z + 2 * generator.standard_normal((len(at), 1, 1, 1))
    values = level + (3 + 4 * at) * factor * smooth + shift
    return np.where(smooth < -1.5 + 1.5 * at - Z, 0.0, values).astype(np.float32)


def write(path, values, tvir, zeta, points=N, distance=PRIOR.distance):
    parameters = {"ION_Tvir_MIN": np.broadcast_to(tvir, len(values)), "HII_EFF_FACTOR": np.asarray(zeta)}
    told = Lightcones(
        grid=lightcone_grid((points, points), example.CELL, distance),
        redshift=PRIOR.redshift[: len(distance)],
        samples=len(values),
        parameters=parameters,
    )
    writer = lightcone_writer(path, told, run={}, title="test")
    for i, cone in enumerate(values):
        writer.write_block(i, {TEMPERATURE: cone[None]})
    writer.finish()
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cones")
    generator = np.random.default_rng(0)
    zeta = 10 + 240 * generator.random(64)
    write(folder / "train.zarr", cones(zeta, 1), 4 + 2 * generator.random(64), zeta)
    for i, value in enumerate((60.0, 180.0)):
        write(folder / f"ref{i}.zarr", cones(np.full(24, value), 2 + i), 5.0, np.full(24, value))
    torch.save({"infield_lightcones": example.to_entry(PRIOR)}, folder / "p.ckpt")
    return folder


def arguments(files, *more):
    references = (files / "ref0.zarr", files / "ref1.zarr")
    return "bench", "cm21", "--simulations", files / "train.zarr", "--reference", *references, *more


def test_the_command(infield, files, tmp_path):
    said = infield(
        *arguments(files, "--prior", files / "p.ckpt"),
        "--quick",
        "--parts",
        "emulation",
        "costs",
        "--simulator-seconds",
        "8",
        "--records",
        tmp_path / "b.json",
    )
    assert said.status == 0, said.err
    records = json.loads((tmp_path / "b.json").read_text())["records"]
    found = {}
    for r in records:
        found.setdefault((r["method"], r["metric"]), []).append(r["value"])
    for method in ("simulator", "prior", "gaussian", "unconditional"):
        for name in ("global_signal", "spectrum", "cylindrical", "scattering", "zeros"):
            assert len(found[method, f"{name}_floors"]) == len(found[method, f"{name}_MAE_std_floor"]) == 2
            assert len(found[method, f"{name}_MAE_sigma"]) == 2
        assert len(found[method, "spectrum_rel"]) == len(found[method, "zeros_within"]) == 2
        assert {f"spectrum_rel_{chunk}" for chunk in range(3)} <= {metric for m, metric in found if m == method}
    assert found["prior", "velocity_calls"] == [2, 2]  # two steps of the flow
    assert len(found["prior", "seconds"]) == 16 and found["simulator", "core_seconds"] == [8]
    asked = {method: values[0] for (method, metric), values in found.items() if metric == "reached"}
    assert len(asked) == 6 and asked["network calls a cone"] == 1
    assert asked["global signal, floors"] == 0  # weights are random
    told = found["seconds, the simulator's over ours", "found"]
    assert told[0] == pytest.approx(8 / np.mean(found["prior", "core_seconds"]))
    assert "gaussian" in said.out and "0.1 to 0.5 rad/Mpc" in said.out


def case(files) -> tuple[Case, Training]:
    members = members_of(files / "train.zarr", None, "")
    (found,) = open_cases([files / "ref1.zarr"], members, PRIOR, None, seed=0)
    return found, Training(members, list(PRIOR.ranges))


def judged(one: Case, values: torch.Tensor) -> dict[str, float]:
    bench = Bench("cm21", 0)
    one.judge(bench, "it", one.summary_of(lambda numbers: values[numbers.start : numbers.stop], len(values)))
    return {r.metric: r.value for r in bench.records}


def test_figures_tell_right_ensembles_from_wrong_ones(files):
    one, training = case(files)
    zeta = np.full(24, 180.0)
    right = judged(one, torch.from_numpy(cones(zeta, 10)))
    for name in ("global_signal", "spectrum", "scattering", "zeros"):
        assert 0.4 < right[f"{name}_floors"] < 2, (name, right)
    assert right["zeros_within"] > 0.9 and right["spectrum_rel"] < 0.15
    shifted = judged(one, torch.from_numpy(cones(zeta, 10, shift=6.0)))
    assert shifted["global_signal_floors"] > 4 * right["global_signal_floors"]
    assert shifted["zeros_floors"] == right["zeros_floors"]
    stronger = judged(one, torch.from_numpy(cones(zeta, 10, factor=1.3)))
    assert stronger["spectrum_floors"] > 2 * right["spectrum_floors"] and stronger["spectrum_rel"] > 0.2
    assert stronger["scattering_floors"] > 2 * right["scattering_floors"]

    law = training.gaussian(one.point)
    generator = torch.Generator().manual_seed(0)
    gaussian = judged(one, law.draw(lambda shape: torch.randn(24, *shape, generator=generator, dtype=torch.float64)))
    assert gaussian["global_signal_floors"] < 2 and gaussian["spectrum_rel"] < 0.15  # what it is made to have
    assert gaussian["zeros_within"] < 0.1 and gaussian["zeros_floors"] > 5  # and what it cannot have
    with pytest.raises(InfieldError, match="NaN or infinity in cones that were drawn"):
        judged(one, torch.full((24, N, N, DEPTH), torch.nan))
    elsewhere = judged(one, torch.from_numpy(cones(10 + 240 * np.random.default_rng(5).random(24), 11)))
    assert elsewhere["zeros_within"] < 1 and elsewhere["global_signal_floors"] > right["global_signal_floors"]


def test_the_simulator_beside_itself_is_at_the_floor(files):
    one, _ = case(files)
    bench = Bench("cm21", 0)
    one.judge_simulator(bench, "simulator")
    found = {r.metric: r.value for r in bench.records}
    assert 0.4 < found["global_signal_floors"] < 2 and found["spectrum_rel"] < 0.4
    mean = np.mean([half["global_signal_MAE_std"] for half in one.halves])
    assert found["global_signal_MAE_std_floor"] == pytest.approx(mean)


def test_inputs_that_are_refused(infield, files, tmp_path):
    prior = ("--prior", files / "p.ckpt")
    write(tmp_path / "few.zarr", cones(np.full(4, 60.0), 0), 5.0, np.full(4, 60.0))
    write(tmp_path / "many.zarr", cones(np.linspace(60, 70, 8), 0), 5.0, np.linspace(60, 70, 8))
    write(tmp_path / "far.zarr", cones(np.full(8, 300.0), 0), 5.0, np.full(8, 300.0))
    write(tmp_path / "short.zarr", cones(np.full(8, 60.0), 0)[..., :12], 5.0, np.full(8, 60.0), N, PRIOR.distance[:12])
    for name, words in (
        ("few.zarr", ["few.zarr", "4 cones", "at least 8"]),
        ("many.zarr", ["many.zarr", "HII_EFF_FACTOR 60 to 70", "one point"]),
        ("far.zarr", ["far.zarr", "HII_EFF_FACTOR", "300", "10 to 250"]),
        ("short.zarr", ["short.zarr", "8 x 8 x 12", "one grid"]),
        ("none.zarr", ["none.zarr", "nothing there"]),
    ):
        files_of = ("--simulations", files / "train.zarr", "--reference", tmp_path / name)
        infield("bench", "cm21", *files_of, *prior).refused(*words)
    moved = example.save(tmp_path / "moved.ckpt", points=N, depth=DEPTH, distance=9100.0)
    infield(*arguments(files, "--prior", moved)).refused("ref0.zarr", "9000.0", "9100.0", "trained on")
    for options, words in (
        (prior[:0], ["--simulations TRAIN.zarr", "--prior P.ckpt"]),
        ((*prior, "--draws", 1), ["--draws"]),
        ((*prior, "--steps", 0), ["--steps"]),
        ((*prior, "--simulator-seconds", "nan"), ["--simulator-seconds"]),
        ((*prior, "--parts", "speed"), ["--parts", "speed", "emulation", "costs"]),
        (("--prior", files / "no.ckpt"), ["no.ckpt", "no file there"]),
    ):
        infield(*arguments(files, *options)).refused(*words)
    infield("bench", "mixture", "--steps", 3).refused("unrecognized arguments: --steps 3")
    infield("bench", "gp-regression", "--prior", "best").refused("--prior", "best", "closed-form", "learned")


@pytest.mark.slow
def test_memory_is_of_processes_of_their_own(files):
    """Here of shallow cones; the ratio is of the last depth to the first one."""
    bench = Bench("cm21", 0)
    ratio = cm21_memory.add_memory(bench, files / "p.ckpt", (8, 40))
    found = {(r.method, r.metric): r.value for r in bench.records}
    assert ratio == found["depth 40", "peak_mib"] / found["depth 8", "peak_mib"]
    assert found["depth 40", "peak_mib"] > 50 and 0 <= found["depth 40", "added_mib"] < found["depth 40", "peak_mib"]


def test_seconds_of_the_simulator_leave_out_its_start(monkeypatch):
    """With a stand-in that uses a core for as long as it says."""

    class Simulator:
        def __init__(self, points, box, redshift, depth, settings, python):
            self.given = points, box, depth, settings, python
            assert self.given == (N, 32, DEPTH, {"N_STEP_TS": 10}, "python3")

        def line_of_sight(self, point):
            burn(user=0.25, system=0.5)

        def simulate(self, point, seed):
            burn(user=4.0, system=1.0)

    used = {"children_user": 16.0, "children_system": 8.0}  # of what ran before

    def burn(user, system):
        used["children_user"] += user
        used["children_system"] += system

    monkeypatch.setattr(cm21_costs, "Simulator21cmFAST", Simulator)
    monkeypatch.setattr(cm21_costs, "os", SimpleNamespace(times=lambda: SimpleNamespace(**used)))
    settings = {"N_STEP_TS": 10, "HII_DIM": N, "BOX_LEN": 32, "X_RAY_Tvir_MIN": "ION_Tvir_MIN"}
    told = Lightcones(
        grid=lightcone_grid((N, N), example.CELL, PRIOR.distance),
        redshift=PRIOR.redshift,
        samples=1,
        parameters={},
        provenance={"settings": settings},
    )
    assert cm21_costs.simulator_core_seconds(told, {}, "python3") == 5.0 - 0.75
