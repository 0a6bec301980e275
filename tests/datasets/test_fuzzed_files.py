"""Damaged metadata of every kind of file: read, or refused in one line; never another exception, whatever is there.

The seeds are fixed; each reader gets 200 inputs. What opens keeps the promise that its arrays can be read.
"""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
import yaml
from examples.example_files import plane
from examples.kspace_examples import kspace, write_fastmri
from examples.lightcone_examples import cone, stack, version_4
from examples.wall_files import binary, hdf5

from infield import InfieldError, open_measurement
from infield.core.grid import Grid
from infield.datasets.cm21.readers import common as cm21
from infield.datasets.cm21.readers.open import open_lightcone_files
from infield.datasets.mri.readers.open import open_kspace
from infield.datasets.wall_pressure.readers import common as wall
from infield.datasets.wall_pressure.readers.open import open_planes
from infield.priors.storage.from_yaml import prior_from_description

pytestmark = pytest.mark.field
TRIALS = 200
VALUES = [None, True, False, 0, 1, -1, 2, 7, 0.5, -0.0, 1e308, 1e-308, 10**30, "", "x", "1", "nan", "infinity", "mask",
          "data", [], [0], ["x"], [[1, 2], [3]], {}, {"name": "x"}, {"a": [1]}, float("nan"), float("inf")]  # fmt: skip


def places(node, path=()):
    """Every place in nested JSON, and in JSON that attributes hold as text."""
    if isinstance(node, dict | list):
        yield from ((path, key) for key in (node if isinstance(node, dict) else range(len(node))))
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(value, (*path, key))


def mutated(description, rng):
    """A copy with one to three places replaced by another value, removed, or doubled."""
    found = json.loads(json.dumps(description))
    for _ in range(rng.integers(1, 4)):
        everywhere = list(places(found))
        if not everywhere:
            break
        path, key = everywhere[rng.integers(len(everywhere))]
        parent = found
        for step in path:
            parent = parent[step]
        how = rng.random()
        if how < 0.2:
            del parent[key]
        elif how < 0.3 and isinstance(parent, dict):
            parent[f"{key}_"] = parent[key]
        else:
            parent[key] = VALUES[rng.integers(len(VALUES))]
    return found


def one_line(act, *arguments):
    """Whether an input was accepted; anything but one line of ours fails the test."""
    try:
        act(*arguments)
    except InfieldError as error:
        assert str(error) and "\n" not in str(error)
        return False
    return True


def test_measurements(tmp_path):
    """Metadata of group and arrays, with the JSON texts in its attributes as JSON."""
    path = tmp_path / "m.zarr"
    plane((4, 5)).to_zarr(path, zarr_format=3, consolidated=False)
    files = sorted(path.rglob("zarr.json"))
    whole = {file: file.read_text() for file in files}
    rng, accepted = np.random.default_rng(0), 0
    for trial in range(TRIALS):
        file = path / "zarr.json" if trial % 2 else files[rng.integers(len(files))]
        description = json.loads(whole[file])
        texts = [k for k, v in description["attributes"].items() if isinstance(v, str) and v.startswith("{")]
        for key in texts:
            description["attributes"][key] = json.loads(description["attributes"][key])
        if trial % 20 == 0:
            file.write_text(whole[file][: rng.integers(len(whole[file]))])
        else:
            bent = mutated(description, rng)
            attributes = bent.get("attributes")
            for key in texts if isinstance(attributes, dict) else ():
                if isinstance(attributes.get(key), dict | list):
                    attributes[key] = json.dumps(attributes[key])
            file.write_text(json.dumps(bent))
        accepted += one_line(open_measurement, path)
        file.write_text(whole[file])
    assert one_line(open_measurement, path) and 0 < accepted < TRIALS // 2


@pytest.mark.parametrize("key", ["array as a list", "chunk of size 0"])
def test_kinds_that_were_not_foreseen(tmp_path, key):
    path = tmp_path / "m.zarr"
    plane((4, 5)).to_zarr(path, zarr_format=3, consolidated=False)
    file = path / ("zarr.json" if key == "array as a list" else "data/zarr.json")
    described = json.loads(file.read_text())
    if key == "array as a list":
        described["attributes"]["operator"] = json.dumps({"name": "mask", "arrays": {"mask": ["mask"]}})
    else:
        described["chunk_grid"]["configuration"]["chunk_shape"] = [0, 5]
    file.write_text(json.dumps(described))
    assert not one_line(open_measurement, path)


PRIORS = [
    {"prior": "gaussian", "law": {"law": "matern", "nu": 1.5, "length": 0.1}, "mean": 0.5, "scale": 2.0, "units": "K"},
    {"prior": "gaussian", "law": {"law": "white"}, "source": {"law": "matern", "nu": 0.7, "length": 0.3}},
    {
        "prior": "mixture",
        "components": [
            {"weight": 0.5, "law": {"law": "matern", "nu": 1.5, "length": 0.05}},
            {"weight": 0.5, "law": {"law": "matern", "nu": 1.5, "length": 0.3}},
        ],
        "source": {"law": "matern", "nu": 0.5, "length": 0.01},
    },
]


def test_descriptions_of_priors():
    """What is accepted has a source that draws finite fields."""
    rng, accepted, grid = np.random.default_rng(1), 0, Grid.regular((5,))

    def build(description):
        prior = prior_from_description(description, grid, 1)
        field = prior.source.sample(1, torch.Generator().manual_seed(0))
        assert torch.isfinite(field).all(), description

    for trial in range(TRIALS):
        text = yaml.safe_dump(mutated(PRIORS[trial % 3], rng))
        accepted += one_line(build, yaml.safe_load(text))
    assert 0 < accepted < TRIALS
    assert not one_line(build, {"prior": "gaussian", "law": {"law": "matern", "nu": 1.5, "length": 1e308}})


def damage(file, rng):
    """One to three attributes or arrays of an HDF5 file replaced, removed, cut, emptied or filled with NaN."""
    for _ in range(rng.integers(1, 4)):
        items: list[str] = []
        file.visit(items.append)
        owner = file[items[rng.integers(len(items))]] if items and rng.random() < 0.85 else file
        keys = list(owner.attrs)
        if keys and (rng.random() < 0.6 or not isinstance(owner, h5py.Dataset)):
            key = keys[rng.integers(len(keys))]
            del owner.attrs[key]
            value = VALUES[rng.integers(len(VALUES))]
            if isinstance(value, int | float | str) and rng.random() < 0.8:
                owner.attrs[key] = float(value) if isinstance(value, int) and abs(value) > 2**62 else value
        elif isinstance(owner, h5py.Dataset):
            name, values = owner.name, np.asarray(owner)
            attributes = dict(owner.attrs)
            how = rng.integers(6)
            del file[name]
            if how == 0:
                continue
            if how == 1 and values.ndim:
                values = values[: len(values) // 2]
            elif how == 2 and values.dtype.kind in "fc" and values.size:
                values = values.copy()
                values.flat[rng.integers(values.size)] = np.nan
            elif how == 3:
                values = values[None]
            elif how == 4:
                values = np.zeros(0, values.dtype if values.dtype.kind in "fciu" else np.float32)
            elif how == 5:
                values = np.array(VALUES[rng.integers(3, 12)], dtype=float)
            file.create_dataset(name, data=values)
            for key, value in attributes.items():
                if not key.isupper():  # those of dimension scales refer to what was removed
                    file[name].attrs[key] = value


def read_lightcones(path):
    source = open_lightcone_files([path], cm21.UserMetadata())
    source.read(0)


def read_planes(path):
    with open_planes(path, wall.UserMetadata()) as source:
        source.read(range(min(2, source.planes.samples)))


def read_kspace(path):
    with open_kspace(path) as file:
        assert file is not None


WRITERS = {
    "native lightcone": ("c.h5", lambda path: version_4(path, cone()), read_lightcones),
    "stack of lightcones": ("s.h5", lambda path: stack(path, np.stack([cone(i) for i in range(2)])), read_lightcones),
    "wall planes": ("p.h5", lambda path: hdf5(path), read_planes),
    "k-space": ("k.h5", lambda path: write_fastmri(path, kspace((16, 12))[None]), read_kspace),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(WRITERS))
def test_hdf5_files(tmp_path, kind):
    name, write, read = WRITERS[kind]
    (tmp_path / "whole").mkdir()
    whole, path = tmp_path / "whole" / name, tmp_path / name
    write(whole)
    assert one_line(read, whole)
    rng, accepted = np.random.default_rng(list(WRITERS).index(kind)), 0
    for trial in range(TRIALS):
        shutil.copyfile(whole, path)
        if trial % 10 == 0:
            path.write_bytes(whole.read_bytes()[: rng.integers(whole.stat().st_size)])
        else:  # bytes that are bent at random can crash libhdf5 itself
            with h5py.File(path, "r+") as file:
                damage(file, rng)
        accepted += one_line(read, path)
    assert 0 < accepted < TRIALS


def test_descriptors_of_binary_planes(tmp_path):
    binary(tmp_path)
    whole = yaml.safe_load((tmp_path / "p.yaml").read_text())
    rng, accepted = np.random.default_rng(9), 0
    for _ in range(TRIALS):
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(mutated(whole, rng)))
        accepted += one_line(read_planes, tmp_path / "p.yaml")
    assert 0 < accepted < TRIALS
