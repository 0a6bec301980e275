from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.datasets.training.field_pairs import FieldPairs
from infield.datasets.training.fields import EpochOrder
from infield.priors.surrogates.training import TrainingPairs


def dataset(n=40, space=(5, 6)) -> xr.Dataset:
    field = np.random.default_rng(0).standard_normal((n, *space)).astype("f4")
    coords = {d: (d, 0.5 * np.arange(k), {"units": "m"}) for d, k in zip("yx", space, strict=True)}
    dims = ("sample", "y", "x")
    variables = {"coefficient": (dims, field, {"units": "K"}), "solution": (dims, field**2, {"units": "K2"})}
    return xr.Dataset(variables, coords)


def opened(tmp_path, data: xr.Dataset, **settings) -> FieldPairs:
    data.to_zarr(tmp_path / "pairs.zarr", consolidated=False)
    pairs = FieldPairs(str(tmp_path / "pairs.zarr"), batch_size=8, **{"validation": 0.25} | settings)
    pairs.setup("fit")
    return pairs


@pytest.mark.parametrize("memory_gib", [0.0, 1.0])
def test_pairs_stay_together(tmp_path, memory_gib):
    truth = dataset()
    pairs = opened(tmp_path, truth, memory_gib=memory_gib)
    assert isinstance(pairs, TrainingPairs)
    assert pairs.units == ("K", "K2") and pairs.channels == (("coefficient",), ("solution",))
    batches = list(pairs.train_dataloader())
    order = list(EpochOrder(30, 0, lambda: 0))
    assert len(batches) == 3
    for i, (x, u) in enumerate(batches):
        expected = torch.from_numpy(truth["coefficient"].values[order[8 * i : 8 * i + 8]])[:, None]
        assert torch.equal(x, expected) and torch.equal(u, x**2)
    assert not torch.equal(batches[0][1], batches[1][0] ** 2)
    x, u = pairs.held_out(1000)
    assert torch.equal(x[:, 0], torch.from_numpy(truth["coefficient"].values[30:])) and torch.equal(u, x**2)
    assert len(pairs.held_out(4)[0]) == 4 and len(pairs.examples()[0]) == 30
    assert torch.equal(torch.cat([u for _, u in pairs.val_dataloader()]), u)


def test_the_solver_that_made_them_is_known_where_the_file_says_so(tmp_path):
    assert opened(tmp_path, dataset()).operator is None
    operator = {"name": "darcy", "parameters": {"coefficient": "log"}}
    told = {"infield_format": "simulation", "parameters": json.dumps({"law": {}, "operator": operator})}
    (tmp_path / "told").mkdir()
    assert opened(tmp_path / "told", dataset().assign_attrs(told)).operator == operator


def with_nan(data: xr.Dataset) -> xr.Dataset:
    data["solution"][3, 2] = np.nan
    return data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_nan, "'solution': found NaN or infinity in sample 3"),
        (lambda data: data.drop_vars("solution"), "'solution': found no such variable"),
        (
            lambda data: data.assign(solution=data["solution"].transpose("sample", "x", "y")),
            "'solution': found dimensions",
        ),
        (lambda data: data.isel(sample=slice(6)), "at least 8"),
    ],
)
def test_files_that_hold_no_pairs_are_refused_in_one_line(tmp_path, change, words):
    with pytest.raises(InfieldError, match=words) as error:
        opened(tmp_path, change(dataset())).examples()
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path / "pairs.zarr"))
