"""`reconstruct --tiles`: the same bytes in turn, on threads and on processes, after a kill, and without a worker."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from infield.core.randomness import SampleStreams
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.wall_pressure.sensors import WallSensors, write_wall_measurement
from infield.physics.wall_pressure.wall_units import wall_grid
from infield.pipelines.run import tiles
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import White
from infield.priors.networks.fno import FNO
from infield.priors.networks.patched import Patched
from infield.priors.networks.unet import UNet
from infield.priors.storage.flow_entry import ENTRY, to_entry
from infield.priors.wall_pressure.synthetic import WallPressure

SHORT, GRID = wall_grid(180, 2 * math.pi, math.pi), wall_grid(180, 8 * math.pi, math.pi)


def prior() -> LearnedFlow:
    torch.manual_seed(0)
    unet = UNet(1, 2, (4, 8), 1, True, False)
    nn.init.normal_(unet.head.weight, std=0.05)
    return LearnedFlow(
        name="test",
        network=Patched(unet, (16, 16), (8, 8)).eval().requires_grad_(False),
        source=White().covariance_in(Hartley(2), SHORT),
        covariance=Covariance.diagonal_in(Hartley(2), WallPressure(180).spectrum(SHORT).clamp_min(1e-8)[None]),
        mean=torch.zeros(1, *SHORT.shape).double(),
        standardisation=Standardisation(torch.zeros(1, 1, 1).double(), torch.ones(1, 1, 1).double()),
        skip="gaussian",
        grid_description=SHORT.to_json(),
        units="1",
        channels=("pressure",),
        provenance={"source": {"law": "white"}, "data": {"Re_tau": 180.0}},
    )


@pytest.fixture
def files(tmp_path):
    """A prior of patches and a measurement on a longer domain, and the common part of a command."""
    torch.save({ENTRY: to_entry(prior())}, tmp_path / "prior.ckpt")
    truth = WallPressure(180).draw(GRID, SampleStreams(1, [0]).normal)[0]
    measurement = WallSensors.random(GRID, 0.005, 1).measure(truth, 0.2, 2)
    write_wall_measurement(tmp_path / "m.zarr", measurement, re_tau=180, synthetic=True)
    return tmp_path


def command(folder, output, *more, levels=3):
    settings = ("--tiles", 24, 64, "--halo", 8, 16, "--with", f"levels={levels}", "--samples", 6, "--json")
    return (folder / "m.zarr", "-o", folder / output, "--prior", folder / "prior.ckpt", *settings, *more)


def samples(path) -> np.ndarray:
    with open_posterior(path) as posterior:
        return posterior["samples"].values


@pytest.mark.slow
def test_in_turn_and_on_workers_the_same_bytes(files, reconstruct):
    summary = reconstruct(*command(files, "turn.zarr")).summary
    assert summary["tiles"] == 8 and 1 < summary["seen_over_owned"] < 4 and 0.3 < summary["chi_square"] < 3
    expected = samples(files / "turn.zarr")
    assert reconstruct(*command(files, "threads.zarr", "--workers", 2)).status == 0
    assert np.array_equal(samples(files / "threads.zarr"), expected)
    assert reconstruct(*command(files, "other.zarr", "--seed", 1)).status == 0
    assert not np.array_equal(samples(files / "other.zarr"), expected)  # negative control
    fewer = reconstruct(*command(files, "fewer.zarr", "--samples", 5)).summary
    assert fewer["samples"] == 5 and np.array_equal(samples(files / "fewer.zarr"), expected[:5])
    with open_posterior(files / "turn.zarr") as posterior:
        assert set(posterior.variables) >= {"samples", "mean", "std", "z", "x"} and "tile_state" not in posterior
        np.testing.assert_allclose(posterior["mean"], expected.mean(0), atol=1e-6)
        np.testing.assert_allclose(posterior["std"], expected.std(0, ddof=1), atol=1e-6)
    chunks = zarr.open_group(files / "turn.zarr")["samples"].chunks
    assert chunks == (4, 24, 64)


def test_the_chi_square_is_that_of_the_samples(files, reconstruct):
    from infield.datasets.formats.measurement import open_measurement

    summary = reconstruct(*command(files, "p.zarr")).summary
    stored = torch.from_numpy(samples(files / "p.zarr").astype(float))[:, None]
    expected = float(open_measurement(files / "m.zarr").chi_square(stored).mean())
    assert summary["chi_square"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.field
def test_contradicting_data_are_said_and_marked(files, reconstruct):
    """Two sensors at nearly one place, a thousand noise levels apart; the control is the file as it was measured."""
    for name, wrong in (("right", False), ("wrong", True)):
        group = zarr.open_group(files / "m.zarr", mode="r+", use_consolidated=False)
        if wrong:
            group["data"][0] = 200.0
        quick = [part for part in command(files, f"{name}.zarr", "--samples", 2) if part not in ("--json",)]
        said = reconstruct(*("levels=1" if part == "levels=3" else part for part in quick))
        assert ("not to be trusted: data chi-square" in said.err) == wrong, said.err
        with open_posterior(files / f"{name}.zarr") as posterior:
            assert posterior.attrs["trusted"] == (0 if wrong else "unchecked")


def test_a_run_that_was_killed_goes_on(files, reconstruct, monkeypatch):
    assert reconstruct(*command(files, "whole.zarr")).status == 0
    done, advance = [], tiles.advance_tile

    def until_killed(*arguments):
        if len(done) == 17:
            raise KeyboardInterrupt
        done.append(arguments)
        advance(*arguments)

    monkeypatch.setattr(tiles, "advance_tile", until_killed)
    assert reconstruct(*command(files, "p.zarr")).status == 130
    assert not (files / "p.zarr").exists() and (files / "p.zarr.partial").exists()
    monkeypatch.setattr(tiles, "advance_tile", lambda *arguments: (done.append(arguments), advance(*arguments)))
    reconstruct(*command(files, "p.zarr", "--seed", 3)).refused("'seed': found 0, expected 3")
    said = reconstruct(*command(files, "p.zarr"))
    assert said.status == 0, said.err
    assert np.array_equal(samples(files / "p.zarr"), samples(files / "whole.zarr"))
    assert len(done) == 2 * 3 * 8  # nothing was done twice


@pytest.mark.slow
def test_a_level_that_is_done_again_changes_nothing(files, reconstruct, monkeypatch):
    """As when a scheduler asks a second worker for what a dead one had finished, or had not quite."""
    assert reconstruct(*command(files, "once.zarr")).status == 0
    advance = tiles.advance_tile

    def twice(setup, block, level, tile, *after):
        advance(setup, block, level, tile)
        store = tiles._store(setup)
        store._level[(block, *tile)] = level  # as if the flag had not been written
        advance(setup, block, level, tile)
        advance(setup, block, max(level - 1, 0), tile)  # long done: its input is overwritten by now

    monkeypatch.setattr(tiles, "advance_tile", twice)
    assert reconstruct(*command(files, "twice.zarr")).status == 0
    assert np.array_equal(samples(files / "twice.zarr"), samples(files / "once.zarr"))


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_sample(files, reconstruct, monkeypatch):
    from distributed import LocalCluster

    expected = reconstruct(*command(files, "turn.zarr", levels=12)).summary
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        victim, killed, tasks = cluster.workers[0].pid, [], tiles._tasks

        def until_one_is_killed(*arguments):
            for count, _ in enumerate(tasks(*arguments), 1):
                if count == 20:
                    os.kill(victim, signal.SIGKILL)
                    killed.append(int(zarr.open_group(files / "p.zarr.partial")["tile_level"][...].sum()))
                yield

        monkeypatch.setattr(tiles, "_tasks", until_one_is_killed)
        said = reconstruct(*command(files, "p.zarr", "--scheduler", cluster.scheduler_address, levels=12))
    assert said.status == 0 and killed and killed[0] < 2 * 12 * 8  # it was at work
    assert np.array_equal(samples(files / "p.zarr"), samples(files / "turn.zarr"))
    assert expected["samples"] == 6


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--sampler", "faps-published"), "expected --sampler faps"),
        (("--with", "steps=3"), "no parameter but levels"),
        (("--prior", "matern-3/2"), "checkpoint of a prior of patches"),
        (("--tiles", 8), "expected one"),
        (("--halo", 8, -1), "expected at least 1 and 0"),
        (("--workers", 0), "--workers: found 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(files, reconstruct, more, words):
    reconstruct(*command(files, "p.zarr", *more)).refused(words)
    assert not (files / "p.zarr").exists() and not (files / "p.zarr.partial").exists()


def test_a_halo_alone_or_another_prior_is_refused(files, reconstruct):
    halo = (files / "m.zarr", "-o", files / "p.zarr", "--prior", files / "prior.ckpt", "--halo", 8, 8)
    reconstruct(*halo).refused("--halo", "found no --tiles")
    other = replace(prior(), network=FNO(1, 2, 4, 4, 1))
    torch.save({ENTRY: to_entry(other)}, files / "prior.ckpt")
    reconstruct(*command(files, "p.zarr")).refused("m.zarr", "prior.ckpt", "expected a prior of patches")


def test_a_grid_of_another_spacing_is_refused(files, reconstruct):
    grid = wall_grid(180, 8 * math.pi, math.pi, dx_plus=10.0)
    measurement = WallSensors.random(grid, 0.005, 1).measure(torch.zeros(grid.shape), 0.2, 2)
    write_wall_measurement(files / "m.zarr", measurement, re_tau=180, synthetic=True, overwrite=True)
    reconstruct(*command(files, "p.zarr")).refused("spacing along 'x' is 17.67", "found a spacing of 10")


def test_another_flow_than_the_priors_is_stated(files, reconstruct):
    assert "note" not in reconstruct(*command(files, "same.zarr")).summary
    measurement = WallSensors.random(GRID, 0.005, 1).measure(torch.zeros(GRID.shape), 0.2, 2)
    write_wall_measurement(files / "m.zarr", measurement, re_tau=500, synthetic=True, overwrite=True)
    whole = (
        files / "m.zarr",
        "-o",
        files / "q.zarr",
        "--prior",
        files / "prior.ckpt",
        "--with",
        "levels=2",
        "--samples",
        2,
    )
    for said in (reconstruct(*command(files, "p.zarr")), reconstruct(*whole, "--json")):
        assert "found Re_tau 500, the prior was trained at Re_tau 180" in said.summary["note"]
    said = reconstruct(*whole, "--overwrite")
    assert said.status == 0 and "its longest ones are too weak; fine-tune it" in said.err


def test_plugins_that_take_part_are_recorded(files, reconstruct, monkeypatch):
    """A network of another package inside the patches; without one the file names none."""
    inner = type(prior().network.inner)
    monkeypatch.setattr(tiles.registry, "plugin_of", lambda group, thing: {"theirs": "1.2"} if thing is inner else {})
    reconstruct(*command(files, "named.zarr"))
    monkeypatch.undo()
    reconstruct(*command(files, "plain.zarr"))
    with open_posterior(files / "named.zarr") as named, open_posterior(files / "plain.zarr") as plain:
        assert json.loads(named.attrs["plugins"]) == {"theirs": "1.2"} and "plugins" not in plain.attrs
