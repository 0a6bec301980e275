"""The wall-pressure format: what it says of itself, how training reads it, the same bytes after an interruption."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from examples.wall_files import fluctuation, smooth
from examples.zarr_files import contents

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.training.fields import FieldFile
from infield.datasets.wall_pressure.plane_file import WallPlanes, WallPlaneWriter, check_re_tau, open_wall_planes
from infield.physics.wall_pressure.wall_units import WALL_LENGTH

GRID = Grid(
    (
        Axis("z", tuple(11.0 * i for i in range(6)), WALL_LENGTH, True),
        Axis("x", tuple(17.0 * i for i in range(8)), WALL_LENGTH),
    )
)
P = smooth((7, 6, 8))
PLANES = WallPlanes(
    grid=GRID,
    samples=7,
    re_tau=180.0,
    u_tau=0.06,
    half_height=1.0,
    wall="both",
    synthetic=True,
    time=np.repeat([0.1, 0.2, 0.3, 0.4], 2)[:7],
    walls=np.tile([0, 1], 4)[:7],
    provenance={"source": "test.h5"},
    history=("test.h5: mean of each plane removed",),
)
RUN = {"source": "test.h5", "bytes": 123}


def writer(path, planes=PLANES, **changes):
    return WallPlaneWriter(path, planes, **{"run": RUN, "block": 3, **changes})


def write(path, blocks=(0, 1, 2), *, finish=True, **changes):
    w = writer(path, **changes)
    for b in blocks:
        w.write_block(b, P[3 * b : 3 * b + 3])
    if finish:
        w.finish()
    return w


def test_a_file_says_what_it_is(tmp_path):
    write(tmp_path / "p.zarr")
    group, planes = open_wall_planes(tmp_path / "p.zarr")
    assert (planes.grid, planes.samples, planes.re_tau, planes.u_tau) == (GRID, 7, 180.0, 0.06)
    assert planes.nu is None and planes.half_height == 1.0 and planes.synthetic and planes.wall == "both"
    np.testing.assert_array_equal(planes.time, PLANES.time)
    np.testing.assert_array_equal(planes.walls, PLANES.walls)
    assert planes.provenance == {"source": "test.h5"} and planes.history == PLANES.history
    assert (group.attrs["infield_format"], group.attrs["infield_version"]) == ("wall-pressure", 1)
    assert group.attrs["dx_plus"] == 17.0 and group.attrs["dz_plus"] == 11.0 and "nu" not in group.attrs
    assert group.attrs["title"] == "Synthetic stand-in for wall pressure, Re_tau 180"
    plain = xr.open_zarr(tmp_path / "p.zarr", consolidated=False)
    pressure = plain["pressure"]
    assert pressure.dims == ("sample", "z", "x") and pressure.dtype == np.float32 and pressure.attrs["units"] == "1"
    np.testing.assert_allclose(pressure, fluctuation(P), atol=1e-6)
    assert float(np.abs(pressure.mean(("z", "x"))).max()) < 1e-6 < float(np.abs(P.mean((1, 2))).min())
    assert plain["x"].attrs["units"] == "nu/u_tau" and plain["x"].attrs["periodic"] == 0 and plain["z"].periodic == 1
    assert plain["time"].dims == ("sample",) and plain["time"].attrs["units"] == "h/u_tau"
    json.loads((tmp_path / "p.zarr" / "zarr.json").read_text())  # no NaN, which JSON does not have


def test_training_reads_it(tmp_path):
    write(tmp_path / "p.zarr")
    data = FieldFile(str(tmp_path / "p.zarr"), variable="pressure", batch_size=2, validation=0.0)
    data.setup("fit")
    assert data.grid == GRID and data.units == "1" and data.channels == ("pressure",)
    expected = torch.from_numpy(fluctuation(P).astype(np.float32))[:, None]
    torch.testing.assert_close(data.training[list(range(7))], expected, rtol=0, atol=0)


@pytest.mark.parametrize("before", [(), (1,), (2, 0), (0, 1, 2)])
def test_interrupted_run_gives_the_same_bytes(tmp_path, before):
    write(tmp_path / "whole.zarr")
    write(tmp_path / "p.zarr", before, finish=False)
    again = writer(tmp_path / "p.zarr")
    assert again.missing_blocks() == [b for b in range(3) if b not in before]
    for b in again.missing_blocks():
        again.write_block(b, P[3 * b : 3 * b + 3])
    again.finish()
    assert contents(tmp_path / "p.zarr") == contents(tmp_path / "whole.zarr")
    other = write(tmp_path / "other.zarr", finish=False)  # negative control
    other.write_block(1, P[3:6] * 1.001)
    other.finish()
    assert contents(tmp_path / "other.zarr") != contents(tmp_path / "whole.zarr")


def test_another_run_is_not_continued(tmp_path):
    write(tmp_path / "p.zarr", (0,), finish=False)
    with pytest.raises(InfieldError, match="'bytes': found 123, expected 124"):
        writer(tmp_path / "p.zarr", run=RUN | {"bytes": 124})


def test_large_planes_are_stored_in_tiles(tmp_path):
    grid = Grid.regular((4, 2500), names=("z", "x"), units=WALL_LENGTH)
    w = WallPlaneWriter(tmp_path / "p.zarr", WallPlanes(grid=grid, samples=1, re_tau=180.0), run={})
    w.write_block(0, np.random.default_rng(0).standard_normal((1, 4, 2500)))
    w.finish()
    assert open_wall_planes(tmp_path / "p.zarr")[0]["pressure"].encoding["chunks"] == (1, 4, 1024)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_plane_that_is_not_finite_is_refused(tmp_path, bad):
    w, p = writer(tmp_path / "p.zarr"), P[3:6].copy()
    p[1, 2, 3] = bad
    with pytest.raises(InfieldError, match="NaN or infinity in 1 of 48 values of plane 4, expected finite ones"):
        w.write_block(1, p)
    assert w.missing_blocks() == [0, 1, 2]


def _attributes(**changes):
    return lambda path: zarr.open_group(path, mode="r+").attrs.update(changes)


BAD = {
    "unfinished": (_attributes(infield_complete=0), "'infield_complete': found 0, expected 1"),
    "simulation": (_attributes(infield_format="simulation"), "'infield_format': found 'simulation'"),
    "newer": (_attributes(infield_version=9), "expected at most 1"),
    "no flow": (_attributes(Re_tau="high"), "'Re_tau': found 'high'"),
    "lost planes": (lambda path: (path / "pressure/c/1/0/0").unlink(), "'pressure': found 2 of 3 chunks on disk"),
    "lost axis": (lambda path: (path / "x/zarr.json").unlink(), "'x': found a directory without zarr metadata"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_refused_in_one_line(tmp_path, case):
    path = tmp_path / "p.zarr"
    write(path)
    spoil, words = BAD[case]
    spoil(path)
    with pytest.raises(InfieldError) as caught:
        open_wall_planes(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_planes_of_another_flow_are_refused(tmp_path):
    check_re_tau("p.zarr", 180.0, 181.0)
    with pytest.raises(InfieldError, match=r"p.zarr: 'Re_tau': found 500, expected 180; take planes of that flow"):
        check_re_tau("p.zarr", 500.0, 180.0)
