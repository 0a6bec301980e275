"""Training fields on scattered points: what a file must have, and a prior trained from one through the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.core.grid import PointSet
from infield.datasets.training.point_fields import PointFieldFile
from infield.pipelines.commands.fit import run
from infield.pipelines.package_data import CONFIGS
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.training.flow_matching import TrainingFields

CONFIG = CONFIGS / "fit_points.yaml"


def dataset(n=40, points=30) -> xr.Dataset:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, points))
    waves = rng.standard_normal((n, 2, 1))
    field = 5 + waves[:, 0] * np.sin(6 * x) + waves[:, 1] * np.cos(4 * y)
    coords = {"x": ("station", x, {"units": "m"}), "y": ("station", y, {"units": "m"})}
    return xr.Dataset({"field": (("sample", "station"), field.astype("f4"), {"units": "K"})}, coords)


def written(data: xr.Dataset, folder: Path, suffix=".nc") -> Path:
    path = folder / f"fields{suffix}"
    data.to_zarr(path, consolidated=False) if suffix == ".zarr" else data.to_netcdf(path)
    return path


def opened(path: Path, **settings) -> PointFieldFile:
    data = PointFieldFile(str(path), coordinates=["x", "y"], batch_size=8, **settings)
    data.setup("fit")
    return data


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_fields_and_points_are_those_of_the_file(tmp_path, suffix):
    truth = dataset()
    data = opened(written(truth, tmp_path, suffix), validation=0.25)
    assert isinstance(data, TrainingFields)
    assert isinstance(data.grid, PointSet) and data.grid.shape == (30,) and data.grid.dimension == "station"
    assert (data.grid.names, data.grid.units, data.units, data.channels) == (("x", "y"), "m", "K", ("field",))
    np.testing.assert_array_equal(data.grid.points(), np.stack([truth["x"], truth["y"]], 1))
    assert PointSet.from_json(data.grid_description) == data.grid
    np.testing.assert_array_equal(data.examples()[:, 0], truth["field"].values[:30])
    np.testing.assert_array_equal(torch.cat(list(data.val_dataloader()))[:, 0], truth["field"].values[30:])
    assert next(iter(data.train_dataloader())).shape == (8, 1, 30)


def test_channels_wherever_they_stand(tmp_path):
    truth = dataset()
    two = xr.concat([truth["field"], 2 * truth["field"]], "channel").transpose("sample", "station", "channel")
    data = opened(written(two.to_dataset(name="wind"), tmp_path), variable="wind")
    assert data.channels == ("wind_0", "wind_1") and data.examples().shape == (38, 2, 30)
    assert torch.equal(data.examples()[:, 1], 2 * data.examples()[:, 0])


def test_a_prior_of_scattered_points_by_the_command(tmp_path):
    path = written(dataset(), tmp_path)
    small = {"width": 8, "heads": 2, "blocks": 1, "latents": 9}
    values = {
        **{f"model.init_args.network.init_args.{name}": value for name, value in small.items()},
        "data.init_args.path": path,
        "data.init_args.batch_size": 8,
        "model.init_args.rank": 4,
        "trainer.default_root_dir": tmp_path / "run",
        "trainer.max_steps": 6,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
    }
    argv = ["--config", str(CONFIG), *(word for key, value in values.items() for word in (f"--{key}", str(value)))]
    assert run(argv) == 0
    prior = load_flow_prior(tmp_path / "run" / "prior.ckpt")
    assert prior.units == "K" and prior.covariance.rank == 4
    x = torch.randn(2, 1, 30, dtype=torch.float64)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    site = PointSet.from_json(prior.grid_description)
    moved = PointSet(tuple(site.coordinates[i] for i in order.tolist()), site.names, site.units, site.dimension)
    there = prior.on(moved)
    torch.testing.assert_close(
        there.velocity(x[..., order], 0.3), prior.velocity(x, 0.3)[..., order], rtol=1e-5, atol=1e-5
    )
    assert not torch.allclose(there.velocity(x, 0.3), prior.velocity(x, 0.3))
    with pytest.raises(InfieldError, match="upper"):
        run([*argv, "--model.init_args.network.init_args.upper", "[0.5,-1]"])
    with pytest.raises(InfieldError, match=r"point \d+ of a network: found .*expected a point of the box"):
        run([*argv, "--model.init_args.network.init_args.upper", "[0.5,1]"])


def twin(data: xr.Dataset) -> xr.Dataset:
    x, y = data["x"].copy(), data["y"].copy()
    x[7], y[7] = x[3], y[3]
    return data.assign_coords(x=x, y=y)


def strip_scaling(data: xr.Dataset) -> xr.Dataset:
    del data["y"].attrs["units"]
    return data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (twin, "points 3 and 7 at the same place"),
        (lambda data: data.drop_vars("y"), "'y': found no numbers along 'station'"),
        (strip_scaling, r"'y\.units'"),
        (lambda data: data.rename(field="density"), "expected one of density"),
        (lambda data: data.rename(sample="member"), "found dimensions"),
        (lambda data: data.expand_dims("level", 1), "found dimensions"),
        (lambda data: data.isel(sample=slice(5)), "at least 8"),
        (lambda data: data.assign_coords(x=data["x"].where(data["x"] > 0.5)), r"point 1 at \(nan"),
    ],
)
def test_files_that_cannot_train_are_refused_in_one_line(tmp_path, change, words):
    path = written(change(dataset()), tmp_path)
    with pytest.raises(InfieldError, match=words) as error:
        opened(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_a_sample_that_is_not_finite_is_named(tmp_path):
    data = dataset()
    data["field"][4, 2] = np.nan
    with pytest.raises(InfieldError, match="sample 4"):
        opened(written(data, tmp_path)).examples()
