"""Checkpoints and arrays with one bent bit, as disks and transfers leave them: never loaded with other numbers."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import zarr

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.registry import entry_key
from infield.datasets.formats.posterior import PosteriorWriter
from infield.datasets.formats.simulation import SimulationWriter, Variable
from infield.priors.storage.checkpoint import read_entry_of_any_kind

pytestmark = pytest.mark.field


def stored(entry):
    """Every tensor and number of an entry, flat."""
    if isinstance(entry, dict):
        return [part for key in sorted(entry) for part in stored(entry[key])]
    return [entry.numpy().tobytes() if isinstance(entry, torch.Tensor) else repr(entry)]


@pytest.mark.parametrize("kind", ["prior", "surrogate", "one-step"])
def test_a_bent_bit_in_a_checkpoint(tmp_path, kind):
    """200 places at random: what still loads (padding, dates of the archive) has the very numbers that were written."""
    path = tmp_path / "p.ckpt"
    weights = {f"layer.{i}": torch.randn(40, 40, generator=torch.Generator().manual_seed(i)) for i in range(3)}
    torch.save({entry_key(kind): {"version": 1, "weights": weights, "scale": 2.5, "name": "a prior"}}, path)
    whole, right = path.read_bytes(), stored(read_entry_of_any_kind(path)[1])
    generator, refused = np.random.default_rng(0), 0
    for _ in range(200):
        place, bit = generator.integers(len(whole)), generator.integers(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << int(bit))]) + whole[place + 1 :])
        try:
            found = stored(read_entry_of_any_kind(path)[1])
        except InfieldError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert found == right
    assert refused > 180


def test_torch_alone_would_load_it(tmp_path):
    """Why the checksums are looked at: the negative control."""
    torch.save({"weights": torch.ones(1000)}, tmp_path / "p.ckpt")
    whole = bytearray((tmp_path / "p.ckpt").read_bytes())
    place = bytes(whole).index(np.float32(1).tobytes() * 10) + 2003
    whole[place] ^= 1 << 6
    (tmp_path / "p.ckpt").write_bytes(whole)
    assert (torch.load(tmp_path / "p.ckpt", weights_only=True)["weights"] != 1).any()
    with pytest.raises(InfieldError, match="checksum"):
        read_entry_of_any_kind(tmp_path / "p.ckpt")


@pytest.mark.parametrize("kind", ["posterior", "simulation"])
def test_every_array_that_is_written_has_a_checksum(tmp_path, kind):
    grid = Grid.regular((6,))
    if kind == "posterior":
        writer = PosteriorWriter(
            tmp_path / "o.zarr", grid=grid, channels=("u",), units="1", samples=4, block=2, run={"seed": 0}
        )
        for b in range(2):
            cost = {"velocity_calls": 0, "operator_calls": 0, "seconds": 0}
            writer.write_block(b, torch.randn(2, 1, 6), cost)
    else:
        writer = SimulationWriter(
            tmp_path / "o.zarr", grid=grid, variables=[Variable("u", "a field", "1")], samples=4, block=2, run={}
        )
        for b in range(2):
            writer.write_block(b, {"u": np.random.default_rng(b).standard_normal((2, 6))})
    writer.finish()
    group = zarr.open_group(tmp_path / "o.zarr", mode="r", use_consolidated=False)
    for name, array in group.arrays():
        assert any(type(codec).__name__ == "Crc32cCodec" for codec in array.compressors), name
    name = "samples" if kind == "posterior" else "u"
    chunk = next(path for path in sorted((tmp_path / "o.zarr" / name / "c").rglob("*")) if path.is_file())
    whole = chunk.read_bytes()
    for place in range(0, len(whole), 5):
        chunk.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(Exception, match=r"(?i)checksum|crc"):
            np.asarray(group[name][...])
    shutil.rmtree(tmp_path / "o.zarr")
