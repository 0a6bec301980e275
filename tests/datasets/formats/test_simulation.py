"""Data sets of many samples: written block by block, continued after a kill, never complete before they are."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from examples.zarr_files import contents

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.formats.simulation import SimulationWriter, Variable, open_simulation
from infield.datasets.training.fields import FieldFile

GRID = Grid((Axis("y", (0.0, 1.0, 3.0), "km"), Axis("x", (0.0, 0.5), "km", True)))
VARIABLES = (Variable("coefficient", "source of heat", "K s-1"), Variable("solution", "temperature", "K"))
RUN = {"kind": "poisson", "parameters": {"alpha": 2.0, "shape": [3, 2]}, "seed": 7}


def writer(path, **changes):
    settings = {"grid": GRID, "variables": VARIABLES, "samples": 7, "block": 3, "run": RUN, **changes}
    return SimulationWriter(path, **settings)


def block(b, samples=7, size=3):
    """Samples that depend on their number alone."""
    numbers = range(b * size, min((b + 1) * size, samples))
    both = np.stack([np.random.default_rng(i).standard_normal((2, 3, 2)) for i in numbers], 1)
    return {"coefficient": both[0], "solution": both[1]}


def write(path, blocks=(0, 1, 2), finish=True, **changes):
    w = writer(path, **changes)
    for b in blocks:
        w.write_block(b, block(b))
    if finish:
        w.finish()
    return w


def test_a_data_set_says_what_it_is(tmp_path):
    write(tmp_path / "s.zarr", dtype="float64")
    group = open_simulation(tmp_path / "s.zarr")
    for name, units in (("coefficient", "K s-1"), ("solution", "K")):
        np.testing.assert_array_equal(group[name], np.concatenate([block(b)[name] for b in range(3)]))
        assert group[name].dims == ("sample", "y", "x") and group[name].attrs["units"] == units
    assert group["solution"].attrs["long_name"] == "temperature"
    assert group["y"].values.tolist() == [0, 1, 3] and group["x"].attrs == {"units": "km", "periodic": 1}
    assert group.attrs["kind"] == "poisson" and group.attrs["seed"] == 7 and group.attrs["infield_complete"] == 1
    assert json.loads(group.attrs["parameters"]) == RUN["parameters"]
    assert json.loads(group.attrs["versions"])["zarr"] == zarr.__version__
    assert group.attrs["Conventions"].startswith("CF-") and (group["done"] == 1).all()
    plain = xr.open_zarr(tmp_path / "s.zarr", consolidated=False)
    assert plain["solution"].encoding["chunks"] == (3, 3, 2)


def test_training_reads_it(tmp_path):
    write(tmp_path / "s.zarr")
    data = FieldFile(str(tmp_path / "s.zarr"), variable="coefficient", batch_size=2, validation=0.0)
    data.setup("fit")
    assert data.grid == GRID and data.units == "K s-1" and len(data.training) == 7
    first = torch.from_numpy(block(0)["coefficient"].astype(np.float32))[:, None]
    torch.testing.assert_close(data.training[[0, 1, 2]], first, rtol=0, atol=0)


@pytest.mark.parametrize("before", [(), (1,), (2, 0), (0, 1, 2)])
def test_interrupted_run_gives_the_same_bytes(tmp_path, before):
    write(tmp_path / "whole.zarr")
    write(tmp_path / "s.zarr", before, finish=False)
    again = writer(tmp_path / "s.zarr")
    assert again.missing_blocks() == [b for b in range(3) if b not in before]
    for b in again.missing_blocks():
        again.write_block(b, block(b))
    again.finish()
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zarr", "whole.zarr"]


def test_other_samples_give_other_bytes(tmp_path):
    """Negative control of the test above."""
    write(tmp_path / "whole.zarr")
    w = write(tmp_path / "s.zarr", (0, 1), finish=False)
    w.write_block(2, {name: values + 1e-6 for name, values in block(2).items()})
    w.finish()
    assert contents(tmp_path / "s.zarr") != contents(tmp_path / "whole.zarr")


def test_full_disk_at_any_moment_never_leaves_a_result(tmp_path, full_disk):
    """A run that starts again after every few failed writes ends with the same bytes."""
    write(tmp_path / "whole.zarr")
    path, refused = tmp_path / "s.zarr", 0
    for room in range(0, 100, 3):
        with full_disk(after=room):
            try:
                w = writer(path)
                for b in w.missing_blocks():
                    w.write_block(b, block(b))
                w.finish()
                break
            except InfieldError as error:
                assert "is full" in str(error) and not path.exists()
                refused += 1
    assert refused > 4
    assert contents(path) == contents(tmp_path / "whole.zarr")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"run": RUN | {"seed": 8}}, "'seed': found 7, expected 8"),
        ({"run": RUN | {"parameters": {"alpha": 2.5}}}, "'parameters'"),
        ({"samples": 8}, "'samples': found 7, expected 8"),
        ({"block": 4}, "'block'"),
        ({"dtype": "float64"}, "'dtype'"),
        ({"variables": VARIABLES[:1]}, "'variables'"),
        ({"grid": Grid.regular((3, 2))}, "'grid'"),
    ],
)
def test_another_run_does_not_go_on(tmp_path, change, key):
    write(tmp_path / "s.zarr", (0,), finish=False)
    with pytest.raises(InfieldError, match="remove") as caught:
        writer(tmp_path / "s.zarr", **change)
    assert key in str(caught.value) and "\n" not in str(caught.value)


def test_samples_that_are_not_finite_or_of_another_shape_are_not_written(tmp_path):
    w = writer(tmp_path / "s.zarr")
    for value in (np.nan, np.inf, 1e39):  # the last does not fit into float32
        spoiled = block(1)
        spoiled["solution"][2, 0, 1] = value
        with pytest.raises(InfieldError, match="NaN or infinity in the solution of sample 5"):
            w.write_block(1, spoiled)
    for wrong in (block(2), {"solution": block(0)["solution"]}):
        with pytest.raises(ValueError, match="expected"):
            w.write_block(0, wrong)
    with pytest.raises(InfieldError, match="3 missing blocks"):
        w.finish()


def test_existing_data_set_is_replaced_only_at_the_end_and_when_told(tmp_path):
    write(tmp_path / "s.zarr")
    before = contents(tmp_path / "s.zarr")
    with pytest.raises(InfieldError, match="existing"):
        writer(tmp_path / "s.zarr")
    w = write(tmp_path / "s.zarr", finish=False, run=RUN | {"seed": 8}, overwrite=True)
    assert contents(tmp_path / "s.zarr") == before
    w.finish()
    assert open_simulation(tmp_path / "s.zarr").attrs["seed"] == 8


def _attributes(**changes):
    return lambda path: zarr.open_group(path, mode="r+").attrs.update(changes)


def _lose(name):
    return lambda path: (path / name).unlink()


BAD = {
    "partial": (_attributes(infield_complete=0), "'infield_complete': found 0, expected 1"),
    "posterior": (_attributes(infield_format="posterior"), "'infield_format': found 'posterior'"),
    "newer": (_attributes(infield_version=9), "expected at most 1"),
    "lost samples": (_lose("solution/c/1/0/0"), "'solution': found 2 of 3 chunks on disk"),
    "lost flags": (_lose("done/c/2"), "'done': found 2 of 3 chunks on disk"),
    "lost metadata": (_lose("coefficient/zarr.json"), "'coefficient': found a directory without zarr metadata"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_set_is_refused_in_one_line(tmp_path, case):
    path = tmp_path / "s.zarr"
    write(path)
    spoil, expected = BAD[case]
    spoil(path)
    with pytest.raises(InfieldError) as caught:
        open_simulation(path)
    assert expected in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
