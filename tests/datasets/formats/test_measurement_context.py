"""Side information in a measurement's file: written and read again, or refused in one line that names the key."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from examples.example_files import plane, save

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.transform import Window
from infield.datasets.formats.measurement import open_measurement, write_measurement
from infield.physics.context import Quantity
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator

GRID = Grid.regular((4, 5), 2.0)
DESCRIPTION = {"name": "convolution", "parameters": {"gaussian_width": 0.2}, "arrays": {}}


def measured(channels, **context):
    operator, size = build_operator(DESCRIPTION, {}, GRID, len(channels)), (1, len(channels), 4, 5)
    known = {name: Quantity(*value) for name, value in context.items()}
    noise = GaussianNoise(0.1)
    return Measurement(
        y=torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64), operator=operator,
        noise=noise, grid=GRID, channels=channels, description=DESCRIPTION, context=known,
    )  # fmt: skip


def field(channels, seed=1):
    return torch.randn((1, channels, 4, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("channels", [("a",), ("real", "imag"), ("u", "v", "w")])
def test_it_is_read_as_it_was_written(tmp_path, channels):
    context = {
        "Re_tau": (180.0, "1"),
        "image": (field(1), "mK"),
        "data": (field(len(channels)), "m"),
        "two": (field(2), "s"),
    }
    measurement = measured(channels, **context)
    write_measurement(tmp_path / "m.zarr", measurement)
    again = open_measurement(tmp_path / "m.zarr")
    assert set(again.context) == set(context) and again.attributes["infield_version"] == 2
    for name, (value, units) in context.items():
        found = again.context[name]
        assert found.units == units and torch.equal(torch.as_tensor(found.value), torch.as_tensor(value))
    assert torch.equal(again.y, measurement.y)  # the context of the name `data` is another variable
    write_measurement(tmp_path / "again.zarr", again)
    assert open_measurement(tmp_path / "again.zarr").digest == again.digest


def test_a_file_without_one_stays_of_version_1_and_its_digest_too(tmp_path):
    write_measurement(tmp_path / "m.zarr", measured(("a",)))
    before = open_measurement(tmp_path / "m.zarr")
    assert before.attributes["infield_version"] == 1 and not before.context
    write_measurement(tmp_path / "n.zarr", measured(("a",), Re_tau=(180.0, "1")))
    assert open_measurement(tmp_path / "n.zarr").digest != before.digest


def test_numbers_that_a_file_of_version_1_carries_along_are_known(tmp_path):
    """But not what its operator or its noise names, what is no number, or not finite."""
    numbers = {"Re_tau": 180.0, "flag": np.int8(1), "gone": np.inf, "words": "text", "pair": ("p", [1.0, 2.0])}
    dataset = plane().assign({k: v if isinstance(v, tuple) else ((), v) for k, v in numbers.items()})
    context = open_measurement(save(dataset, tmp_path / "m.zarr")).context
    assert {name: quantity.number for name, quantity in context.items()} == {"Re_tau": 180.0, "flag": 1.0}


def test_it_goes_along_to_another_precision_and_not_onto_another_grid():
    measurement = measured(("a",), Re_tau=(180.0, "1"), image=(field(1), "mK"))
    single = measurement.to(dtype=torch.float32)
    assert single.context["image"].value.dtype == torch.float32 and single.context["Re_tau"].number == 180
    assert set(measurement.pullback(Window((4, 5), (6, 6))).context) == {"Re_tau"}


REFUSED = {
    "version 1": (dict(infield_version=1), "'context': found it in a file of version 1, expected 'infield_version' 2"),
    "no variable": (dict(context={"a": "missing"}), "'missing': found no such variable"),
    "no name": (dict(context={"a": 3.0}), "'context.a': found 3.0, expected the name of a variable"),
    "no object": (dict(context=[1]), "'context': found list, expected a JSON object"),
    "no units": (dict(context={"a": "mask"}), "'mask.units': found None, expected the units of the quantity"),
    "turned": (dict(context={"a": "turned"}), "'turned': found float64 along ('r', 'q') of shape (16, 12), expected a"),
    "pair": (dict(context={"a": "pair"}), "'pair': found float64 along ('p',) of shape (2,), expected a real number"),
    "not finite": (dict(context={"a": "gone"}), "'gone': found NaN or infinity in 1 of 1 values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, case):
    changes, message = REFUSED[case]
    units = {"units": "1"}
    more = {
        "turned": (("r", "q"), np.ones((16, 12)), units),
        "pair": ("p", [1.0, 2.0], units),
        "gone": ((), np.inf, units),
    }
    attributes = {"infield_version": 2, "context": {"a": "truth"}} | changes
    attributes["context"] = json.dumps(attributes["context"])
    path = save(
        plane().assign({n: xr.Variable(*v) for n, v in more.items()}).assign_attrs(attributes), tmp_path / "m.zarr"
    )
    with pytest.raises(InfieldError) as caught:
        open_measurement(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_fields_on_another_grid_and_numbers_that_are_none_are_refused():
    with pytest.raises(InfieldError, match="context 'image': found a field of shape"):
        measured(("a",), image=(torch.ones(1, 1, 5, 4), "1"))
    with pytest.raises(InfieldError, match="found NaN or infinity in 1 of 1 values"):
        Quantity(float("nan"))
