"""`reconstruct --slices`: volumes from a prior of slices, the same whoever evaluates them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from distributed import LocalCluster
from examples.example_files import checkpoint, line, plane, samples, save

MATERN = "prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 0.3}\n"
FEW = ["--sampler", "dds", "--with", "levels=4", "--samples", 2, "--seed", 3, "--json"]

FAPS = ["--sampler", "faps"]


def volume(depth=5, side=8, std=0.1) -> xr.Dataset:
    rng = np.random.default_rng(0)
    z, y, x = np.arange(depth) / depth, np.arange(side) / side, np.arange(side) / side
    truth = np.sin(6 * y + 1)[:, None] * np.cos(5 * x) + 0.2 * z[:, None, None]
    mask = rng.random(truth.shape) < 0.3
    data = np.where(mask, truth + std * rng.standard_normal(truth.shape), 0.0)
    return xr.Dataset(
        {
            "data": (("z", "y", "x"), data, {"units": "1"}),
            "mask": (("z", "y", "x"), mask.astype("int8")),
            "truth": (("z", "y", "x"), truth, {"units": "1"}),
        },
        coords={n: (n, c, {"units": "1", "periodic": int(n != "z")}) for n, c in (("z", z), ("y", y), ("x", x))},
        attrs={
            "Conventions": "CF-1.11",
            "infield_format": "measurement",
            "infield_version": 1,
            "field": json.dumps({"dims": ["z", "y", "x"], "channels": ["c0"], "units": "1"}),
            "operator": json.dumps({"name": "mask", "arrays": {"mask": "mask"}}),
            "noise": json.dumps({"law": "gaussian", "variance": std**2}),
        },
    )


@pytest.fixture
def prior(tmp_path):
    (tmp_path / "prior.yaml").write_text(MATERN)
    return tmp_path / "prior.yaml"


@pytest.fixture
def measured(tmp_path):
    return save(volume(), tmp_path / "m.zarr")


def test_the_same_volumes_by_any_workers(tmp_path, reconstruct, measured, prior):
    command = [measured, "--prior", prior, *FEW]
    first = reconstruct(*command, "-o", tmp_path / "a.zarr", "--slices", 2, "--workers", 1)
    assert first.summary["sampler"] == "dds" and "too small" in first.summary["caveat"] and first.err == ""
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        said = reconstruct(*command, "-o", tmp_path / "c.zarr", "--slices", 2, "--scheduler", cluster.scheduler_address)
    assert said.status == 0, said.err
    assert samples(tmp_path / "a.zarr").shape == (2, 5, 8, 8)
    np.testing.assert_array_equal(samples(tmp_path / "c.zarr"), samples(tmp_path / "a.zarr"))
    whole = reconstruct(*command, "-o", tmp_path / "d.zarr", "--slices", 5)
    assert whole.status == 0
    np.testing.assert_allclose(samples(tmp_path / "d.zarr"), samples(tmp_path / "a.zarr"), rtol=1e-4, atol=1e-5)


def test_samplers_that_know_no_slices_serve_volumes_slice_by_slice(tmp_path, reconstruct, measured, prior):
    said = reconstruct(
        measured, "--prior", prior, "--samples", 1, "--slices", 5, "--json", "-o", tmp_path / "p.zarr", *FAPS
    )
    assert "caveat" not in said.summary and said.summary["sampler"] == "faps-flow"


def test_other_groups_do_not_go_on_with_a_run(tmp_path, reconstruct, measured, prior, monkeypatch):
    command = [measured, "--prior", prior, *FEW, "-o", tmp_path / "a.zarr"]
    from infield.pipelines.commands import reconstruct as module

    draw, drawn = module.draw_block, []

    def interrupted(*arguments):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(arguments)
        return draw(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "draw_block", interrupted)
        assert reconstruct(*command, "--slices", 2).status != 0
    assert (tmp_path / "a.zarr.partial").exists()
    reconstruct(*command, "--slices", 3).refused("slices_a_task")
    assert reconstruct(*command, "--slices", 2).status == 0
    reconstruct(*command[:-1], tmp_path / "b.zarr", "--slices", 2)
    np.testing.assert_array_equal(samples(tmp_path / "a.zarr"), samples(tmp_path / "b.zarr"))


def test_what_is_refused(tmp_path, reconstruct, measured, prior):
    out = ["-o", tmp_path / "a.zarr", "--slices"]
    flat = save(plane(), tmp_path / "flat.zarr")
    reconstruct(flat, "--prior", prior, *out, 2).refused("--slices", "2 axes", "expected a volume")
    reconstruct(measured, *out, 2).refused("--slices", "--prior")
    reconstruct(measured, "--prior", "matern-3/2", *out, 2).refused("--slices", "matern-3/2")
    reconstruct(measured, "--prior", prior, *out, 0).refused("--slices", "at least 1")
    reconstruct(measured, "--prior", prior, *out, 2, "--tiles", 4, 4, 4).refused("--slices", "--tiles")
    on_line = checkpoint(tmp_path / "line.ckpt", units="1")
    reconstruct(measured, "--prior", on_line, *out, 2).refused("line.ckpt", "(17,)", "(8, 8)")
    of_line = [save(line(), tmp_path / "line.zarr"), "--prior", prior]
    reconstruct(*of_line, "-o", tmp_path / "a.zarr", "--sampler", "dds").refused("dds", "expected a volume")
    assert not (tmp_path / "a.zarr").exists() and not (tmp_path / "a.zarr.partial").exists()
