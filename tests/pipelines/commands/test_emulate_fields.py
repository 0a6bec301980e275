"""`infield emulate` with a prior of fields: new fields in a file that `infield fit` takes."""

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from infield.core.grid import Axis, Grid
from infield.core.randomness import sample_generator
from infield.datasets.formats.measurement import write_measurement
from infield.datasets.training.fields import FieldFile
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.pipelines.api.loading import load_prior, operator
from infield.priors.draws import draw_fields

GRID = Grid((Axis("depth", tuple(np.arange(6) * 5.0), "m"), Axis("x", tuple(np.arange(9) * 0.5), "km")))
PRIOR = {"prior": "gaussian", "law": {"law": "matern", "nu": 1.5, "length": 4.0}, "mean": 20.0, "scale": 2.0}


@pytest.fixture
def prior(tmp_path):
    path = tmp_path / "matern.yaml"
    path.write_text(yaml.safe_dump(PRIOR))
    return path


@pytest.fixture
def like(tmp_path):
    """A field of temperatures in netCDF, its depths stored from the bottom up."""
    depth, x = (np.array(axis.coordinates) for axis in GRID.axes)
    values = np.zeros((6, 9), "f4")
    coordinates = {"depth": ("depth", depth[::-1], {"units": "m"}), "x": ("x", x, {"units": "km"})}
    field = xr.Dataset({"temperature": (("depth", "x"), values, {"units": "degC"})}, coordinates)
    field.to_netcdf(tmp_path / "like.nc")
    return tmp_path / "like.nc"


def opened(path):
    return xr.open_zarr(path, consolidated=False, decode_times=False)


def test_a_described_prior_is_drawn_on_the_grid_of_a_file(infield, prior, like, tmp_path):
    out = tmp_path / "fields.zarr"
    summary = infield("emulate", "--prior", prior, "--like", like, "--samples", 11, "--seed", 4, "-o", out, "--json")
    assert summary.summary["shape"] == [6, 9] and summary.summary["units"] == "degC"
    assert summary.summary["steps"] is None and summary.summary["channels"] == ["temperature"]
    found = opened(out)
    assert found["field"].dims == ("sample", "depth", "x") and found["field"].attrs["units"] == "degC"
    assert list(found["depth"].values) == [0, 5, 10, 15, 20, 25] and found["x"].attrs["units"] == "km"
    placed = load_prior(prior).on(GRID, 1)
    right = draw_fields(placed, [sample_generator(4, 9)])[0, 0]
    np.testing.assert_allclose(found["field"][9].values, right.numpy(), rtol=1e-5)
    assert summary.summary["mean"] == pytest.approx(float(found["field"].mean()), rel=1e-5)
    assert summary.summary["std"] == pytest.approx(float(found["field"].astype(float).std()), rel=1e-5)


def test_no_field_depends_on_how_many_there_are(infield, prior, like, tmp_path):
    for n in (3, 10):
        status = infield(
            "emulate", "--prior", prior, "--like", like, "--samples", n, "-o", tmp_path / f"{n}.zarr"
        ).status
        assert status == 0
    few, many = (opened(tmp_path / f"{n}.zarr")["field"].values for n in (3, 10))
    assert (few == many[:3]).all() and not (many[:3] == many[3:6]).any()


def test_draws_can_be_trained_on(infield, prior, like, tmp_path):
    out = tmp_path / "fields.zarr"
    assert infield("emulate", "--prior", prior, "--like", like, "--samples", 24, "-o", out).status == 0
    data = FieldFile(str(out), batch_size=8, validation=0.0)
    data.setup("fit")
    assert data.grid == GRID and data.units == "degC" and data.channels == ("field",)
    assert data.examples().shape == (24, 1, 6, 9)


def test_a_learned_prior_is_drawn_on_the_grid_of_its_training(infield, tmp_path):
    out = tmp_path / "gp.zarr"
    facts = infield("emulate", "--prior", "gp_matern", "--samples", 2, "--steps", 3, "-o", out, "--json").summary
    learned = load_prior("gp_matern")
    assert facts["steps"] == 3 and facts["sha256"] == learned.sha256
    found = opened(out)["field"]
    place = [axis["coordinates"] for axis in learned.grid_description["axes"]]
    np.testing.assert_allclose(found[found.dims[1]].values, place[0])
    right = draw_fields(learned, [sample_generator(0, 1)], steps=3)[0, 0]
    np.testing.assert_allclose(found[1].values, right.numpy(), rtol=1e-3, atol=1e-3)


def test_complex_fields_and_channels(infield, prior, tmp_path):
    line = Grid.regular((8,))
    for names in (("real", "imag"), ("u", "v")):
        mask = operator("mask", line, 2, mask=np.ones((2, 8), bool))
        data = Measurement(
            torch.zeros(2, 8), operator=mask, noise=GaussianNoise(torch.tensor(0.1)), channels=names, units="m"
        )
        path, out = tmp_path / f"{names[0]}.zarr", tmp_path / f"drawn-{names[0]}.zarr"
        write_measurement(path, data)
        assert infield("emulate", "--prior", prior, "--like", path, "--samples", 2, "-o", out).status == 0
        right = draw_fields(load_prior(prior).on(line, 2), [sample_generator(0, 0)])[0].numpy()
        found = opened(out)["field"][0].values
        right = right[0] + 1j * right[1] if names[0] == "real" else right
        np.testing.assert_allclose(found, right, rtol=1e-5)


def test_an_offset_that_dwarfs_the_variation_is_stored_in_float64(infield, like, tmp_path):
    path = tmp_path / "deep.yaml"
    path.write_text(yaml.safe_dump({**PRIOR, "mean": 1e8, "scale": 1.0}))
    out = tmp_path / "deep.zarr"
    assert infield("emulate", "--prior", path, "--like", like, "--samples", 40, "-o", out).status == 0
    found = opened(out)["field"]
    assert found.dtype == np.float64 and 0.5 < float(found.std()) < 1.5


def test_what_is_no_prior_of_fields_is_refused(infield, prior, like, tmp_path):
    out = ["-o", tmp_path / "none.zarr"]
    infield("emulate", "--prior", prior, *out).refused("holds for any grid", "--like")
    infield("emulate", "--prior", "one_step_mri", *out).refused(
        "a checkpoint that is a one-step", "infield reconstruct"
    )
    infield("emulate", "--prior", "matern-3/2", *out).refused("fitted to a measurement", "infield reconstruct")
    infield("emulate", "--prior", "gp_matern", "--years", 2, *out).refused("--years", "'prior'", "'bridge'")
    infield("emulate", "--prior", "gp_matern", "--extrapolate", *out).refused("--extrapolate")
    infield("emulate", "--prior", "gp_matern", "--like", like, *out).refused("gp_matern", "grid")
    infield("emulate", "--prior", prior, "--like", tmp_path / "nothing.nc", *out).refused("nothing there")
    infield("emulate", "--prior", prior, "--like", like, "--steps", 0, *out).refused("--steps", "at least 1")
    assert not (tmp_path / "none.zarr").exists()
