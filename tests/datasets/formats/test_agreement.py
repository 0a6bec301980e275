"""Parts of a measurement file are matched by the names of their axes, and their units are compared by meaning."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from examples.example_files import checkpoint, line, plane, save

from infield import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.measurement import open_measurement
from infield.pipelines.run.prior_choice import _check_order, choose_prior


def square() -> xr.Dataset:
    """As many rows as columns, so that nothing but names can tell them apart."""
    return plane((9, 9))


@pytest.mark.parametrize("names", [["data"], ["mask"], ["truth"], ["data", "mask", "truth"]])
def test_axes_stored_in_another_order_are_exchanged_by_name(tmp_path, names):
    right = open_measurement(save(square(), tmp_path / "right.zarr"))
    exchanged = square().assign({name: square()[name].transpose("x", "y") for name in names})
    found = open_measurement(save(exchanged, tmp_path / "exchanged.zarr"))
    for one, other in ((found.y, right.y), (found.observed, right.observed), (found.truth, right.truth)):
        assert torch.equal(one, other)
    assert not torch.equal(right.y, right.y.mT)  # the negative control: an exchange unseen would change the data


def test_a_variance_stored_in_another_order_goes_with_its_data(tmp_path):
    variance = np.arange(1.0, 82).reshape(9, 9)
    noise = json.dumps({"law": "gaussian", "variance": "v"})
    dataset = square().assign(v=(("y", "x"), variance)).assign_attrs(noise=noise)
    dataset = dataset.assign(v=dataset["v"].transpose("x", "y"))
    assert torch.equal(open_measurement(save(dataset, tmp_path / "m.zarr")).noise.variance[0], torch.tensor(variance))


@pytest.mark.parametrize(("found", "expected"), [("celsius", "kelvin"), ("K", "mK"), ("m", "K")])
def test_data_in_other_units_than_their_field_are_refused(tmp_path, found, expected):
    dataset = line(units=expected)
    dataset["data"].attrs["units"] = found
    with pytest.raises(InfieldError, match=f"found '{found}', expected those of the field, '{expected}'"):
        open_measurement(save(dataset, tmp_path / "m.zarr"))


@pytest.mark.parametrize(("found", "expected"), [("K", "kelvin"), ("1", "K"), ("m/s", "m s-1")])
def test_other_spellings_and_unstated_units_pass(tmp_path, found, expected):
    dataset = line(units=expected)
    dataset["data"].attrs["units"] = found
    assert open_measurement(save(dataset, tmp_path / "m.zarr")).units == expected


def test_a_checkpoint_in_kelvin_serves_a_field_in_k_and_no_field_in_celsius(tmp_path):
    kelvin = open_measurement(save(line(units="kelvin"), tmp_path / "k.zarr"))
    celsius = open_measurement(save(line(units="celsius"), tmp_path / "c.zarr"))
    prior = str(checkpoint(tmp_path / "p.ckpt", units="K"))
    assert choose_prior(prior, kelvin).prior.units == "K"
    with pytest.raises(InfieldError, match="found units 'K', expected 'celsius', as the measurement's field"):
        choose_prior(prior, celsius)


def test_a_prior_of_the_same_axes_in_another_order_is_refused():
    learned = SimpleNamespace(grid_description=Grid.regular((8, 8), names=("x", "y")).to_json())
    _check_order(Path("p.ckpt"), learned, Grid.regular((8, 8), names=("x", "y")))
    _check_order(Path("p.ckpt"), learned, Grid.regular((8, 8), names=("lat", "lon")))
    with pytest.raises(InfieldError, match=r"found a prior of fields along \(x, y\), expected \(y, x\)"):
        _check_order(Path("p.ckpt"), learned, Grid.regular((8, 8), names=("y", "x")))
