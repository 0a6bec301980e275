"""`infield compare-cones`: scores at the floor for one law, far above it for another, and a page with pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield.datasets.cm21.cosmology import cosmology, redshifts_of
from infield.datasets.cm21.lightcone_file import TEMPERATURE, Lightcones, lightcone_grid, lightcone_writer
from infield.posterior.cm21.summary import LightconeSummary

N, DEPTH, CELL = 8, 16, 4.0


def values(n, seed, mean=-20.0, factor=1.0):
    """Gaussian cones with a level of their own, a third of each slice exactly zero."""
    generator = np.random.default_rng(seed)
    level = mean + 4 * generator.standard_normal((n, 1, 1, DEPTH))
    cones = level + 6 * factor * generator.standard_normal((n, N, N, DEPTH))
    return np.where(generator.random(cones.shape) < 0.33, 0.0, cones).astype(np.float32)


def write(path, cones, cell=CELL, zeta=30.0):
    distance = 9000 + cell * np.arange(DEPTH)
    told = Lightcones(
        grid=lightcone_grid((N, N), cell, distance),
        redshift=redshifts_of(distance, cosmology()),
        samples=len(cones),
        parameters={"HII_EFF_FACTOR": np.full(len(cones), zeta)},
    )
    writer = lightcone_writer(path, told, run={}, title="test")
    for i, cone in enumerate(cones):
        writer.write_block(i, {TEMPERATURE: cone[None]})
    writer.finish()
    return path


@pytest.mark.slow
def test_one_law_is_at_the_floor_and_another_is_not(infield, tmp_path):
    a = write(tmp_path / "a.zarr", values(32, 0))
    b = write(tmp_path / "b.zarr", np.concatenate([values(16, 1), values(16, 2, mean=-10, factor=1.4)]))
    same = infield("compare-cones", a, b, "-o", tmp_path / "same.html", "--second", "0-15", "--json").summary
    assert same["members"] == [32, 16] and same["cells_of_a_chunk"] == 8
    for name, score in same["scores"].items():
        assert 0.5 < score["times_the_floor"] < 1.8, (name, score)
        assert score["floor"]["MAE_std"] == pytest.approx(score["floor_of_halves"]["MAE_std"] * np.sqrt(0.75))
    assert same["exact_zeros"] == pytest.approx([0.33, 0.33], abs=0.01)
    said = infield("compare-cones", a, b, "-o", tmp_path / "other.html", "--second", "16-31", "--chunk", 16, "--json")
    other = said.summary["scores"]
    assert other["global_signal"]["MAE_std"] > 1.2 and other["global_signal"]["times_the_floor"] > 4
    assert other["scattering"]["times_the_floor"] > 4 and other["spectrum"]["times_the_floor"] > 4
    assert other["zeros"]["times_the_floor"] < 1.8  # these are as before
    page = (tmp_path / "same.html").read_text()
    assert (
        page.count("data:image/png") == 6
        and "Fewer than 50 members" in page
        and "http:" not in page
        and "https:" not in page
    )
    assert "different parameters" not in page
    said = infield("compare-cones", a, b, "-o", tmp_path / "same.html")
    said.refused("same.html", "--overwrite")


def test_ensembles_that_cannot_be_compared(infield, tmp_path):
    a = write(tmp_path / "a.zarr", values(4, 0))
    b = write(tmp_path / "b.zarr", values(4, 1), cell=5.0)
    for options, words in (
        ((a, b), ["b.zarr", "cells of 5 Mpc", "expected 8 x 8 x 16 cells of 4 Mpc", "one grid"]),
        ((a, a, "--first", "1-4"), ["--first", "1-4", "0-3"]),
        ((a, a, "--first", "1-1"), ["at least two"]),
        ((a, a, "--chunk", 17), ["--chunk", "4 to 16"]),
    ):
        infield("compare-cones", *options, "-o", tmp_path / "r.html").refused(*words)
        assert not (tmp_path / "r.html").exists()


def test_few_members_have_no_floor_and_others_parameters_a_warning(infield, tmp_path):
    a = write(tmp_path / "a.zarr", values(4, 0))
    b = write(tmp_path / "b.zarr", values(3, 1), zeta=60.0)
    said = infield("compare-cones", a, b, "-o", tmp_path / "r.html")
    assert said.status == 0 and "4 and 3" in said.out and ", floor" not in said.out
    assert "different parameters" in (tmp_path / "r.html").read_text()


def test_summaries_of_batches_are_those_of_all_cones():
    cones = torch.from_numpy(values(5, 0).astype(np.float64))
    edges = torch.linspace(-60, 30, 20, dtype=torch.float64)
    settings = {"spacing": (CELL,) * 3, "cells": 8, "edges": edges, "scales": 2}
    whole = LightconeSummary.of(cones, **settings)
    batches = [LightconeSummary.of(part, **settings) for part in (cones[:2], cones[2:])]
    parts = LightconeSummary.joined(batches)
    for name in ("global_signal", "zeros", "density", "spectrum", "cylindrical", "scattering", "k"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    assert whole.spectrum.shape[:2] == (5, 2) and whole.scattering.shape == (5, 2, 2 + 4)
