"""The channel format: what it says of itself, and what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray as xr

from infield import InfieldError
from infield.datasets.wall_pressure.channel_file import PROFILES, ChannelLayout, ChannelWriter, open_channel

LAYOUT = ChannelLayout(
    re_tau=180.0,
    lengths=(math.pi, 1.0),
    points=(8, 5, 4),
    y=np.array([-1, -0.7, 0, 0.7, 1]),
    times=0.5 * np.arange(1, 6),
)
RUN = {"Re_tau": 180.0, "seed": 3}


def write(path, layout=LAYOUT, **settings):
    return ChannelWriter(path, layout, **{"block": 2, "run": RUN, **settings})


def found(times, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"wall_pressure": (2, 4, 8), "wall_shear": (2,), **dict.fromkeys(PROFILES, (5,))}
    return {name: rng.random((len(times), *shape)) for name, shape in shapes.items()}


def written(path):
    writer = write(path)
    for b in range(writer.blocks):
        writer.write_block(b, found(writer.sample_range(b), b))
    writer.finish()


def test_it_opens_with_plain_xarray_and_says_what_it_is(tmp_path):
    path = tmp_path / "c.zarr"
    written(path)
    group = xr.open_zarr(path, consolidated=False)
    assert group["wall_pressure"].dims == ("time", "wall", "z", "x") and group["wall_pressure"].dtype == np.float32
    np.testing.assert_array_equal(group["time"], [0.5, 1, 1.5, 2, 2.5])
    np.testing.assert_allclose(group["x"], np.arange(8) * math.pi / 8)
    np.testing.assert_allclose(group["z"], np.arange(4) / 4)
    assert all(group[name].attrs["units"] == "1" for name in ("x", "y", "z", "time", "wall_pressure", "uv"))
    assert group["x"].attrs["periodic"] == 1 and group["wall"].attrs["flag_meanings"] == "bottom top"
    told = group.attrs
    assert (told["Re_tau"], told["u_tau"], told["half_height"], told["seed"]) == (180.0, 1.0, 1.0, 3)
    assert told["nu"] == 1 / 180 and told["Conventions"].startswith("CF-") and "torch" in json.loads(told["versions"])
    assert told["dx_plus"] == pytest.approx(math.pi / 8 * 180) and told["dz_plus"] == pytest.approx(45)
    assert told["dy_plus"] == pytest.approx([0.3 * 180, 0.7 * 180])
    np.testing.assert_allclose(told["u_tau_measured"], np.sqrt(group["wall_shear"].values.mean()))
    np.testing.assert_array_equal(group["uv"][2:4], found(range(2), 1)["uv"])
    assert open_channel(path).sizes["time"] == 5


def test_restart_files_come_whole_and_go_with_their_run(tmp_path):
    path, restart = tmp_path / "c.zarr", tmp_path / "c.zarr.restart.npz"
    writer = write(path)
    assert writer.read_restart() is None
    state = {"modes": np.array([1 + 2j]), "time": np.array(0.1)}
    writer.save_restart({"modes": np.zeros(3)})
    writer.save_restart(state)
    kept = write(path).read_restart()
    assert kept.keys() == state.keys() and all(np.array_equal(kept[k], state[k]) for k in state)
    assert {f.name for f in tmp_path.iterdir()} == {"c.zarr.partial", "c.zarr.lock", restart.name}
    with pytest.raises(InfieldError, match=r"'Re_tau': found 180.0, expected 395.0; finish that run .*partial"):
        write(path, run={"Re_tau": 395.0, "seed": 3})
    with pytest.raises(InfieldError, match=r"'seed': found 3, expected 4"):
        write(path, run={"Re_tau": 180.0, "seed": 4})
    with pytest.raises(InfieldError, match=r"'dtype': found 'float32', expected 'float64'"):
        write(path, dtype="float64")
    whole = restart.read_bytes()
    for damaged in (b"", whole[:100], b"not a restart file", whole[:-200]):
        restart.write_bytes(damaged)
        with pytest.raises(InfieldError, match=r"restart.npz: found a damaged restart file .* remove"):
            writer.read_restart()
    np.savez(restart, run=np.array("{}"))
    with pytest.raises(InfieldError, match="found the restart file of another run"):
        writer.read_restart()
    writer.remove()
    assert list(tmp_path.iterdir()) == []
    restart.write_bytes(b"of a run that is gone")
    assert write(path).read_restart() is None


def test_what_is_not_finished_is_refused(tmp_path, full_disk):
    path = tmp_path / "c.zarr"
    writer = write(path)
    writer.write_block(0, found(range(2)))
    with pytest.raises(InfieldError, match="'done': found 2 missing blocks, expected all 3"):
        writer.finish()
    with pytest.raises(InfieldError, match="'infield_complete': found 0, expected 1"):
        open_channel(tmp_path / "c.zarr.partial")
    with full_disk(2), pytest.raises(InfieldError, match="is full; make room and start the same command again"):
        writer.write_block(1, found(range(2)))
    assert writer.missing_blocks() == [1, 2]


def test_a_full_disk_keeps_the_restart_file_before(tmp_path, monkeypatch):
    writer = write(tmp_path / "c.zarr")
    writer.save_restart({"time": np.array(1.0)})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infield.datasets.wall_pressure.channel_file.np.savez", full)
    with pytest.raises(InfieldError, match="is full; make room"):
        writer.save_restart({"time": np.array(2.0)})
    assert float(writer.read_restart()["time"]) == 1.0
    assert {f.name for f in tmp_path.iterdir()} == {"c.zarr.partial", "c.zarr.lock", "c.zarr.restart.npz"}


def test_a_file_that_lost_something_is_refused(tmp_path):
    path = tmp_path / "c.zarr"
    written(path)
    next((path / "wall_pressure").rglob("c/1/*/*/*")).unlink()
    with pytest.raises(InfieldError, match="'wall_pressure': found 2 of 3 chunks on disk"):
        open_channel(path)
    with pytest.raises(InfieldError, match="found an existing output"):
        write(path)
