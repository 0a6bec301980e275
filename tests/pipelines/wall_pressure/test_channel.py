"""A channel flow as a person makes it: what it stores, the same bytes whatever happens, one line for errors."""

from __future__ import annotations

import shutil
import signal

import numpy as np
import pytest
import torch
from examples.zarr_files import contents

from infield.datasets.wall_pressure.channel_file import ChannelWriter, open_channel
from infield.physics.wall_pressure.channel.boxes import BOXES
from infield.physics.wall_pressure.channel.channel_statistics import plane_means
from infield.physics.wall_pressure.channel.initial_condition import turbulent_start
from infield.physics.wall_pressure.channel.solver import ChannelFlowSolver
from infield.pipelines.wall_pressure import channel, channel_run

SMALL = ("--re-tau", 100, "--points", 8, 17, 8, "--spin-up", 0.05, "--turnovers", 0.12, "--interval", 0.02, "--json")


@pytest.fixture
def simulate(infield):
    return lambda *arguments: infield("simulate", "channel", *arguments)


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (channel, channel_run):
        monkeypatch.setattr(module, "BLOCK", 2)


def test_it_stores_the_flow_at_its_times(simulate, tmp_path):
    path = tmp_path / "c.zarr"
    said = simulate(*SMALL, "-o", path, "--dtype", "float64", "--seed", 3)
    summary = said.summary
    assert said.err == "" and summary["times"] == 6 and summary["points"] == [8, 17, 8] and summary["turbulent"]
    group = open_channel(path)
    assert group["wall_pressure"].shape == (6, 2, 8, 8)
    np.testing.assert_allclose(group["time"], 0.02 * np.arange(1, 7))
    assert np.abs(group["wall_pressure"].values.mean((2, 3))).max() < 1e-13
    flow = ChannelFlowSolver(0.01, BOXES["minimal"].lengths_at(100), (8, 17, 8))
    state = turbulent_start(flow, torch.Generator().manual_seed(3), time=-0.05)
    for _ in range(200):
        state = flow.advance(state, (0.05 + 0.04) / 200)
    pressure, means = flow.wall_pressure(state), plane_means(flow, state)
    for name, exact in (("wall_pressure", pressure), ("uu", means.uu), ("wall_shear", means.wall_shear)):
        stored = torch.from_numpy(group[name].values[1])
        assert float((stored - exact).norm() / exact.norm()) < 1e-2, name
    assert float((torch.from_numpy(group["wall_pressure"].values[0]) - pressure).norm() / pressure.norm()) > 0.1
    assert not (tmp_path / "c.zarr.restart.npz").exists()
    simulate(*SMALL, "-o", path).refused("found an existing output", "--overwrite")
    again = simulate(*SMALL, "-o", path, "--overwrite").summary
    assert again["seed"] == 0 and open_channel(path)["wall_pressure"].dtype == np.float32


def test_interruptions_do_not_matter(simulate, tmp_path, small_blocks, monkeypatch):
    """After any number of steps: in the spin-up, in a block, in the last one."""
    whole, path = tmp_path / "whole.zarr", tmp_path / "c.zarr"
    steps = simulate(*SMALL, "-o", whole).summary["steps"]
    advance = ChannelFlowSolver.advance
    for stop in (2, steps // 2, steps - 3):
        left = [stop]

        def killed(self, *arguments, left=left):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return advance(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(ChannelFlowSolver, "advance", killed)
            assert simulate(*SMALL, "-o", path).status == 130
        assert not path.exists() and (tmp_path / "c.zarr.restart.npz").exists()
        if stop == 2:
            simulate(*SMALL, "-o", path, "--seed", 1).refused("'seed': found 0, expected 1", "c.zarr.partial")
            simulate(*SMALL, "-o", path, "--re-tau", 120).refused("'Re_tau': found 100.0, expected 120.0")
            simulate(*SMALL, "-o", path, "--interval", 0.04).refused("'interval': found 0.02, expected 0.04")
        assert simulate(*SMALL, "-o", path).summary["steps"] < steps
        assert contents(path) == contents(whole), stop
        assert {f.name for f in tmp_path.iterdir()} == {"whole.zarr", "c.zarr"}
        simulate(*SMALL, "-o", path, "--seed", 1, "--overwrite")
        assert contents(path) != contents(whole)  # negative control
        shutil.rmtree(path)


@pytest.mark.parametrize("name", ["save_restart", "write_block", "finish"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_interruptions_of_writing_do_not_matter(simulate, tmp_path, small_blocks, monkeypatch, name, when):
    """A process that is killed before or after something is written, and so keeps nothing of what came later."""
    whole, path = tmp_path / "whole.zarr", tmp_path / "c.zarr"
    assert simulate(*SMALL, "-o", whole).status == 0
    method, save, calls = getattr(ChannelWriter, name), ChannelWriter.save_restart, []

    def killed(self, *arguments):
        calls.append(name)
        if when == "after":
            method(self, *arguments)
        if name == "finish" or len(calls) > 1:
            raise KeyboardInterrupt
        if when == "before":
            method(self, *arguments)

    for keeps in (True, False):  # what is interrupted by hand keeps its state, what is killed does not
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(ChannelWriter, name, killed)
            if name != "save_restart" and not keeps:
                patch.setattr(ChannelWriter, "save_restart", lambda self, arrays: calls or save(self, arrays))
            assert simulate(*SMALL, "-o", path).status == 130
        if not (name == "finish" and when == "after"):
            assert not path.exists()
            assert simulate(*SMALL, "-o", path).status == 0
        assert contents(path) == contents(whole) and not (tmp_path / "c.zarr.restart.npz").exists()
        shutil.rmtree(path)


def test_saving_often_does_not_matter(simulate, tmp_path, monkeypatch):
    assert simulate(*SMALL, "-o", tmp_path / "a.zarr").status == 0
    monkeypatch.setattr(channel_run, "SAVE_SECONDS", 0.0)
    assert simulate(*SMALL, "-o", tmp_path / "b.zarr").status == 0
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


@pytest.mark.slow
def test_a_killed_process_goes_on(start_held, simulate, tmp_path):
    """SIGKILL of a process of its own, some blocks on disk."""
    path, partial = tmp_path / "c.zarr", tmp_path / "c.zarr.partial"
    arguments = ("--points", 16, 33, 16, "--spin-up", 0.1, "--turnovers", 0.8, "--interval", 0.01, "--json")
    process = start_held("infield", "simulate", "channel", *arguments, "-o", path, held_after=1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not path.exists() and partial.exists()
    assert simulate(*arguments, "-o", path).status == 0
    assert simulate(*arguments, "-o", tmp_path / "whole.zarr").status == 0
    assert contents(path) == contents(tmp_path / "whole.zarr")


def test_threads_belong_to_the_run_and_are_given_back(simulate, tmp_path, monkeypatch):
    before, path = torch.get_num_threads(), tmp_path / "c.zarr"

    def seen(self, *arguments):
        assert torch.get_num_threads() == 2
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ChannelFlowSolver, "advance", seen)
        assert simulate(*SMALL, "-o", path, "--threads", 2).status == 130
    assert torch.get_num_threads() == before
    simulate(*SMALL, "-o", path).refused("'threads': found 2, expected 1")


def test_a_flow_that_becomes_laminar_is_told(simulate, tmp_path):
    slow = ("--re-tau", 2, "--points", 4, 9, 4, "--spin-up", 2, "--turnovers", 1, "--interval", 0.5)
    said = simulate(*slow, "-o", tmp_path / "c.zarr")
    assert said.status == 0 and "the flow has become laminar; take a longer spin-up" in said.err


BAD = {
    "box": (["--box", "huge"], "'huge'", "choose from"),
    "re_tau": (["--re-tau", 0], "--re-tau: found 0.0, expected a finite number above zero"),
    "negative": (["--re-tau", "-180"], "--re-tau: found -180.0"),
    "nan": (["--re-tau", "nan"], "--re-tau: found nan"),
    "word": (["--re-tau", "high"], "--re-tau", "'high'"),
    "odd x": (["--points", 31, 65, 32], "found 31 points in x, expected an even number of at least 4"),
    "odd z": (["--points", 32, 65, 33], "found 33 points in z, expected an even number"),
    "few y": (["--points", 32, 4, 32], "found 4, expected at least 5"),
    "two points": (["--points", 32, 64], "--points: expected 3 arguments"),
    "turnovers": (["--turnovers", 0], "--turnovers: found 0.0"),
    "interval": (["--interval", 0.07], "--turnovers: found 15, expected whole intervals of 0.07"),
    "spin-up": (["--spin-up", -1], "--spin-up: found -1.0, expected a finite number of at least 0"),
    "cfl": (["--cfl", 0], "--cfl: found 0.0"),
    "seed": (["--seed", -1], "--seed: found -1"),
    "threads": (["--threads", 0], "--threads: found 0"),
    "device": (["--device", "abacus"], "--device: found 'abacus', expected one that works here"),
    "blow-up": (
        ["--points", 8, 17, 8, "--cfl", 40],
        "a flow that blew up at time",
        "with CFL number 40, expected at most 1.73",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(simulate, tmp_path, case):
    arguments, *words = BAD[case]
    simulate("-o", tmp_path / "c.zarr", *arguments).refused(*words)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_the_run_goes_on(simulate, tmp_path, small_blocks, full_disk):
    whole, path = tmp_path / "whole.zarr", tmp_path / "c.zarr"
    assert simulate(*SMALL, "-o", whole).status == 0
    with full_disk(40):
        simulate(*SMALL, "-o", path).refused("is full; make room and start the same command again")
    assert simulate(*SMALL, "-o", path).status == 0
    assert contents(path) == contents(whole)


def test_boxes_keep_their_spacings():
    minimal, full = BOXES["minimal"], BOXES["full"]
    assert minimal.points_at(180) == (32, 65, 32) and full.points_at(180) == (128, 129, 128)
    for re_tau in (100, 180, 395, 590, 1000):
        for box in (minimal, full):
            (lx, lz), (nx, ny, nz) = box.lengths_at(re_tau), box.points_at(re_tau)
            assert nx % 2 == nz % 2 == 0 and ny % 2 == 1
            for length, points, own, there in ((lx, nx, 0, 0), (lz, nz, 1, 2)):
                spacing = box.lengths[own] / box.points[there] * 180
                assert spacing * (1 - 2 / points) <= length * re_tau / points <= spacing * (1 + 1e-9)
    assert minimal.lengths_at(360)[0] == pytest.approx(minimal.lengths[0] / 2) and full.lengths_at(360) == full.lengths


REFERENCE = {5: 4.81, 10: 8.52, 20: 12.29, 30: 13.87, 40: 14.72}
"""Mean velocity of Moser, Kim & Mansour 1999 (Phys. Fluids 11, 943) at Re_tau 178, at some y+."""


@pytest.mark.slow
def test_turbulence_near_the_walls_is_that_of_larger_boxes(simulate, tmp_path):
    """A minimal box on few points for 6 turnovers: its averages still wander by some 5 %."""
    path = tmp_path / "c.zarr"
    coarse = ("--points", 24, 49, 24, "--spin-up", 6, "--turnovers", 6, "--interval", 0.1)
    assert simulate(*coarse, "-o", path, "--json").summary["turbulent"]
    group = open_channel(path).mean("time")
    y_plus, half = 180 * (1 + group["y"].values), 25
    u, vv = ((group[name].values + group[name].values[::-1]) / 2 for name in ("u_mean", "vv"))
    uv = (group["uv"].values - group["uv"].values[::-1]) / 2
    for place, reference in REFERENCE.items():
        assert np.interp(place, y_plus[:half], u[:half]) == pytest.approx(reference, rel=0.08), place
    assert (-uv[:half]).max() == pytest.approx(0.72, rel=0.12) and vv.max() == pytest.approx(0.70, rel=0.25)
    shear = group["wall_shear"].values.mean()
    stress = 1 / 180 * np.gradient(u, group["y"].values) - uv
    inside = slice(8, half)
    np.testing.assert_allclose(stress[inside], -group["y"].values[inside], atol=0.1)  # the balance of momentum
    assert shear == pytest.approx(1, abs=0.12)
    laminar = 90 * (1 - group["y"].values ** 2)  # negative control
    assert np.interp(30, y_plus[:half], laminar[:half]) > 1.5 * REFERENCE[30]


def test_boxes_are_those_that_were_published():
    """Spacings of Moser, Kim & Mansour 1999, table 1; extents of the minimal unit of Jimenez & Moin 1991."""
    x, z = BOXES["full"].lengths_at(180)
    nx, ny, nz = BOXES["full"].points_at(180)
    assert (nx, ny, nz) == (128, 129, 128)
    assert (180 * x / nx, 180 * z / nz) == pytest.approx((17.7, 5.9), abs=0.05)
    assert tuple(180 * length for length in BOXES["minimal"].lengths_at(180)) == pytest.approx((565, 192), abs=0.5)
