"""Adapters: files in the layouts that there are, read right and lazily; what is wrong with one, in one line."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from examples.wall_files import (
    DESCRIPTOR,
    JHTDB_NU,
    JHTDB_U_TAU,
    NT,
    NX,
    NZ,
    RE_TAU,
    U_TAU,
    H,
    binary,
    coordinates,
    hdf5,
    jhtdb,
    netcdf,
    smooth,
    times,
)

from infield import InfieldError
from infield.datasets.wall_pressure.readers.checks import neighbour_correlation
from infield.datasets.wall_pressure.readers.common import UserMetadata
from infield.datasets.wall_pressure.readers.open import open_planes


def read(path, **stated):
    """All planes of a file, what it says of them, and the notes."""
    with open_planes(path, UserMetadata(**stated)) as source:
        return source.read(range(source.planes.samples)), source.planes, source.notes


def check_air(p, planes, expected, *, periodic=True):
    """Planes of the flow of `wall_files`: values, positions, times and numbers in wall units."""
    np.testing.assert_allclose(p, expected, rtol=1e-6, atol=1e-6)
    z, x = (values * RE_TAU / H for values in coordinates(*planes.grid.shape))
    np.testing.assert_allclose(planes.grid.axes[0].coordinates, z, rtol=1e-9)
    np.testing.assert_allclose(planes.grid.axes[1].coordinates, x, rtol=1e-9)
    assert [axis.periodic for axis in planes.grid.axes] == [periodic] * 2
    assert planes.re_tau == pytest.approx(RE_TAU) and all(axis.units == "nu/u_tau" for axis in planes.grid.axes)
    np.testing.assert_allclose(np.unique(planes.time), times() * U_TAU / H, rtol=1e-9)


@pytest.mark.parametrize("dims", [("time", "z", "x"), ("time", "x", "z"), ("x", "time", "z"), ("z", "x", "time")])
def test_hdf5_with_named_axes(tmp_path, dims):
    """Any order of axes is put right by their names, and said."""
    p = hdf5(tmp_path / "p.h5", dims=dims)
    found, planes, notes = read(tmp_path / "p.h5", lengths=(4 * np.pi, 4 / 3 * np.pi))
    check_air(found, planes, p)
    exchanged = any("exchanged" in note for note in notes)
    assert exchanged == (dims.index("x") < dims.index("z")) == any("exchanged" in line for line in planes.history)
    assert planes.provenance["variable"] == "p_wall" and planes.provenance["axes"] == list(dims)


def test_hdf5_without_lengths_is_taken_as_open(tmp_path):
    p = hdf5(tmp_path / "p.h5")
    found, planes, notes = read(tmp_path / "p.h5")
    check_air(found, planes, p, periodic=False)
    assert sum("taken as open" in note for note in notes) == 2


@pytest.mark.parametrize("dims", [("time", "z", "x"), ("time", "x", "z"), ("x", "z", "time")])
def test_hdf5_without_names_is_understood_by_sizes(tmp_path, dims):
    p = hdf5(tmp_path / "p.h5", dims=dims, scales=False)
    found, planes, notes = read(tmp_path / "p.h5", lengths=(4 * np.pi, 4 / 3 * np.pi))
    check_air(found, planes, p)
    assert any(f"axes found by their sizes: {','.join(dims)}" in note for note in notes)


def test_hdf5_of_equal_sizes_needs_names(tmp_path):
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["p"], file["x"], file["z"] = smooth((3, 8, 8)), np.arange(8.0), np.arange(8.0)
        file.attrs["Re_tau"], file.attrs["half_height"], file.attrs["u_tau"] = 180.0, 1.0, 1.0
    with pytest.raises(InfieldError, match="no way to match them with the coordinates"):
        read(tmp_path / "p.h5")
    found, planes, _ = read(tmp_path / "p.h5", order=("time", "z", "x"))
    np.testing.assert_allclose(found, smooth((3, 8, 8)))
    assert planes.grid.spacing[0] == pytest.approx(180)
    turned, _, _ = read(tmp_path / "p.h5", order=("time", "x", "z"))
    np.testing.assert_allclose(turned, found.transpose(0, 2, 1))


def test_labels_and_scalars_of_hdf5(tmp_path):
    """Axes named by labels, numbers of the flow as data sets of one value, everything in a group."""
    p = smooth()
    z, x = coordinates()
    with h5py.File(tmp_path / "p.h5", "w") as file:
        group = file.create_group("wall/lower")
        group["p"] = p
        for i, name in enumerate(("t", "z", "x")):
            group["p"].dims[i].label = name
        group["z"], group["x"], group["t"] = z, x, times()
        file["utau"], file["Retau"], file["h"] = np.array([1.0]), np.array([RE_TAU]), np.array([H])
    found, planes, _ = read(tmp_path / "p.h5", wall="bottom")
    np.testing.assert_allclose(found, p)
    assert planes.grid.spacing[1] == pytest.approx(x[1] * RE_TAU / H) and planes.wall == "bottom"
    np.testing.assert_allclose(planes.time, times() / H)


@pytest.mark.parametrize("kind", [{"format": "NETCDF4"}, {"format": "NETCDF3_64BIT"}, {"packed": True}])
def test_netcdf_with_both_walls(tmp_path, kind):
    p = netcdf(tmp_path / "p.nc", **kind)
    tolerance = 1e-3 if "packed" in kind else 1e-9
    found, planes, notes = read(tmp_path / "p.nc")
    assert notes == () and planes.wall == "both" and planes.samples == 2 * NT
    np.testing.assert_allclose(found, p.reshape(-1, NZ, NX), atol=tolerance)  # bottom, top, bottom, ...
    np.testing.assert_array_equal(planes.walls, [0, 1] * NT)
    check_air(found, planes, found)
    np.testing.assert_allclose(planes.time[:4], np.repeat(times()[:2] * U_TAU / H, 2))
    top, planes, _ = read(tmp_path / "p.nc", wall="top")
    np.testing.assert_allclose(top, p[:, 1], atol=tolerance)
    assert planes.wall == "top" and planes.walls is None


def test_blocks_are_parts_of_the_whole(tmp_path):
    """Of both walls, blocks may begin with either."""
    p = netcdf(tmp_path / "p.nc").reshape(-1, NZ, NX)
    with open_planes(tmp_path / "p.nc", UserMetadata()) as source:
        for start in range(10):
            for stop in range(start + 1, 11):
                np.testing.assert_allclose(source.read(range(start, stop)), p[start:stop])


def test_zarr_planes(tmp_path):
    netcdf(tmp_path / "p.nc")
    xr.open_dataset(tmp_path / "p.nc").to_zarr(tmp_path / "p.zarr", consolidated=False)
    found, planes, _ = read(tmp_path / "p.zarr")
    check_air(found, planes, smooth((NT, 2, NZ, NX)).reshape(-1, NZ, NX))


def test_a_simulated_channel(tmp_path):
    """The file of `infield simulate channel`, by its own writer: in units of h and u_tau, both walls."""
    channel_file = pytest.importorskip("infield.datasets.wall_pressure.channel_file")
    y = -np.cos(np.pi * np.arange(9) / 8)
    layout = channel_file.ChannelLayout(re_tau=RE_TAU, lengths=(3.0, 1.2), points=(NX, 9, NZ), y=y, times=times())
    writer = channel_file.ChannelWriter(tmp_path / "c.zarr", layout, block=NT, run={"seed": 0}, dtype="float64")
    p = smooth((NT, 2, NZ, NX))
    arrays = {name: np.zeros((NT, 9)) for name in channel_file.PROFILES}
    writer.write_block(0, {"wall_pressure": p, "wall_shear": np.ones((NT, 2)), **arrays})
    with pytest.raises(InfieldError, match="is not finished"):
        read(tmp_path / "c.zarr.partial")
    writer.finish()
    found, planes, notes = read(tmp_path / "c.zarr")
    np.testing.assert_allclose(found, p.reshape(-1, NZ, NX))
    assert notes == () and planes.re_tau == RE_TAU and planes.wall == "both" and planes.u_tau == 1
    assert planes.grid.spacing == pytest.approx((1.2 / NZ * RE_TAU, 3.0 / NX * RE_TAU))
    assert all(axis.periodic for axis in planes.grid.axes)
    np.testing.assert_allclose(planes.time, np.repeat(times(), 2))
    assert planes.provenance["format"] == "channel" and not planes.synthetic


LAYOUTS = {
    "stream": {},
    "big endian float32": {"written": ">f4", "dtype": "float32", "byte_order": "big"},
    "header": {"offset": 12},
    "records": {"records": True},
    "z fastest": {"fastest": "zxt", "order": ["z", "x", "time"]},
    "time fastest": {"fastest": "txz", "order": ["time", "x", "z"]},
    "uncounted": {"nstep": None},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_raw_binary(tmp_path, layout):
    p = binary(tmp_path, **LAYOUTS[layout])
    found, planes, notes = read(tmp_path / "p.yaml")
    check_air(found, planes, p)
    assert notes == () and planes.wall == "top" and planes.provenance["descriptor"] == "p.yaml"
    assert planes.u_tau == U_TAU and planes.provenance["source"] == "p.bin"


WRONG_BINARY = {
    "z and x changed": ({"nx": NZ, "nz": NX}, "where z and x change places"),
    "another order": ({"order": ["z", "x", "time"]}, "where z and x change places"),
    "more steps": ({"nstep": NT + 1}, f"{NT} planes of {NX} x {NZ} float64 and 0 bytes more, expected {NT + 1} planes"),
    "another type": ({"dtype": "float32"}, f"{2 * NT} planes"),
    "another size": ({"nx": NX + 1}, "it is truncated, or the descriptor is of another file"),
    "records": ({"record_marker": 4}, "it is truncated, or the descriptor"),
    "no spacing": ({"lengths": None}, "'z': found neither positions nor a length of the domain for its 12 points"),
    "no flow": ({"u_tau": None, "nu": None}, "found no Re_tau, nor u_tau and nu"),
    "another flow": ({"re_tau": 500}, "which make Re_tau 180, expected the stated Re_tau 500"),
    "no number": ({"nu": "1.5e-5"}, "'nu': found '1.5e-5', expected a number (YAML takes 1.0e-4 for a number"),
    "unknown word": ({"ny": 3}, "found the entries ny, expected some of"),
    "no file": ({"file": "q.bin"}, "'file': found nothing at"),
    "no size": ({"nx": None}, "'nx': found nothing, expected a whole number of at least 2"),
    "side": ({"wall": "left"}, "'wall': found 'left', expected bottom or top"),
}


@pytest.mark.parametrize("case", WRONG_BINARY)
def test_wrong_descriptor(tmp_path, case):
    entries, words = WRONG_BINARY[case]
    binary(tmp_path, **entries)
    refused(tmp_path / "p.yaml", words, whose=tmp_path)


def test_wrong_markers(tmp_path):
    binary(tmp_path, records=True, byte_order="big")
    refused(tmp_path / "p.yaml", "found record markers", whose=tmp_path)


def test_order_is_asked_of_the_values_only_where_they_can_tell():
    """Smooth planes are told apart from wrongly read ones; noise and constants are not held against anybody."""
    p = smooth((1, 12, 20))[0]
    assert min(neighbour_correlation(p)) > 0.5 > 0.25 > min(neighbour_correlation(p.ravel().reshape(20, 12)))
    assert neighbour_correlation(np.ones((3, 4))) == (1.0, 1.0)
    assert abs(min(neighbour_correlation(np.random.default_rng(0).standard_normal((40, 50))))) < 0.1


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("whole", [True, False])
def test_jhtdb_cut_outs(tmp_path, local, whole):
    p = jhtdb(tmp_path / "channel.h5", local=local, whole=whole)
    found, planes, _ = read(tmp_path / "channel.h5", flow=None if local else "channel")
    np.testing.assert_allclose(found, p, rtol=2e-6, atol=2e-6)
    assert planes.re_tau == pytest.approx(JHTDB_U_TAU / JHTDB_NU) and planes.wall == "bottom"
    share = 1.0 if whole else 0.1
    spacing = np.array([3 * np.pi / 12, 8 * np.pi / 20]) * share * planes.re_tau
    np.testing.assert_allclose(planes.grid.spacing, spacing, rtol=1e-6)
    assert [axis.periodic for axis in planes.grid.axes] == [whole, whole]
    np.testing.assert_allclose(planes.time, 0.0065 * np.arange(3) * JHTDB_U_TAU)
    assert planes.provenance["frames"] == [1, 3] and planes.provenance["y"] == [-1.0]


@pytest.mark.parametrize("named", [True, False])
def test_jhtdb_a_single_frame_has_a_time_where_the_flow_has_a_step(tmp_path, named):
    jhtdb(tmp_path / "c.h5", frames=(5,))
    stated = {"flow": "channel"} if named else {"u_tau": JHTDB_U_TAU, "nu": JHTDB_NU}
    planes = read(tmp_path / "c.h5", **stated)[1]
    if named:
        np.testing.assert_allclose(planes.time, [0.0065 * 4 * JHTDB_U_TAU])
    else:
        assert planes.time is None


def test_jhtdb_by_the_numbers_of_its_flow(tmp_path):
    """Another flow than the known ones: by its u_tau and nu; times are not known, gaps between frames are."""
    p = jhtdb(tmp_path / "c.h5", frames=(4, 5, 9), y=(1.0,))
    found, planes, notes = read(tmp_path / "c.h5", u_tau=JHTDB_U_TAU, nu=JHTDB_NU)
    np.testing.assert_allclose(found, p, rtol=2e-6, atol=2e-6)
    assert planes.wall == "top" and planes.time is None and any("1 gap in time" in note for note in notes)


def refused(path, words, *, whose=None, **stated):
    with pytest.raises(InfieldError) as caught:
        read(path, **stated)
    message, of_an_argument = str(caught.value), caught.value.where == "{flow}"
    assert words in message and "\n" not in message and (str(whose or path) in message or of_an_argument)


def change(path, action):
    with h5py.File(path, "r+") as file:
        action(file)


def put(name, values):
    def action(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update({k: v for k, v in attributes.items() if k == "units"})

    return lambda path: change(path, action)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


PERIODS = {"lengths": (4 * np.pi, 4 / 3 * np.pi)}
BAD = {
    "missing": ({}, lambda path: path.unlink(), {}, "found nothing there"),
    "truncated": ({}, cut, {}, "truncated, damaged or of another format"),
    "text": ({}, lambda path: path.write_text("pressure"), {}, "found something that cannot be read"),
    "no planes": ({}, lambda path: change(path, lambda file: file.__delitem__("p_wall")), {}, "found the arrays none"),
    "two arrays": (
        {},
        lambda path: change(path, lambda f: f.__setitem__("p", f["p_wall"][:])),
        {},
        "name it (variable)",
    ),
    "no such variable": ({}, None, {"variable": "q"}, "found no array 'q', expected one of p_wall"),
    "no spacing": (
        {"scales": False},
        lambda path: change(path, lambda file: file.__delitem__("x")),
        {"order": ("time", "z", "x")},
        "'x': found neither positions nor a length of the domain for its 20 points",
    ),
    "no units": ({"units": False, "attributes": False}, None, {"re_tau": 180}, "no half height, nor u_tau and nu"),
    "uneven": ({"scales": False}, put("x", np.geomspace(1, 2, NX)), {}, "'x': found uneven positions"),
    "another Re_tau": ({}, None, {"re_tau": 500}, "found re_tau 180, expected 500 as stated; it is of another flow"),
    "contradiction": (
        {},
        lambda path: change(path, lambda file: file.attrs.update(Re_tau=395.0)),
        {},
        "which make Re_tau 180, expected the stated Re_tau 395",
    ),
    "wrong order": ({}, None, {"order": ("time", "x", "z")}, "found an axis that is z in the file and x in the order"),
    "short order": ({"scales": False}, None, {"order": ("z", "x")}, "expected 3 different names out of time, wall"),
    "wrong order unnamed": (
        {"scales": False},
        None,
        {"order": ("time", "x", "z"), **PERIODS},
        "found 12 positions of 'z' for an axis of 20 points, expected as many: the axes are in another order",
    ),
    "exchanged lengths": (
        {},
        None,
        {"lengths": (4 / 3 * np.pi, 4 * np.pi)},
        "which 'x' spans; the planes are in another order than stated",
    ),
    "another length": (
        {},
        None,
        {"lengths": (16 * np.pi, 4 / 3 * np.pi)},
        "span 12.57 half heights, expected the 50.27",
    ),
    "ends twice": (
        {"scales": False},
        put("x", np.linspace(0, 4 * np.pi * H, NX)),
        PERIODS,
        "the last point repeats the first, leave it out",
    ),
    "time goes back": ({"scales": False}, put("time", [0.1, 0.2, 0.2, 0.3, 0.4]), {}, "found 0.2 after 0.2 at plane 2"),
    "NaN in time": ({"scales": False}, put("time", [0.1, 0.2, np.nan, 0.3, 0.4]), {}, "'time': found NaN"),
    "other wall": ({}, None, {"wall": "both"}, "found one wall, expected both"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(tmp_path, case):
    settings, spoil, stated, words = BAD[case]
    path = tmp_path / "p.h5"
    hdf5(path, **settings)
    if spoil is not None:
        spoil(path)
    refused(path, words, **stated)


JHTDB_BAD = {
    "no name": ({}, {}, "found a cut-out of the flow 'of no name', expected one of channel, channel5200"),
    "unknown name": ({}, {"flow": "isotropic1024"}, "flow: found 'isotropic1024'"),
    "inside": (
        {"y": (-0.5, 0.1)},
        {"flow": "channel"},
        "'ycoor': found planes from y = -0.5 to 0.1, the nearest at y+",
    ),
    "another flow": ({"local": True}, {"u_tau": 0.06, "nu": 5e-5}, "found u_tau 0.049968, expected 0.06 as stated"),
}


@pytest.mark.parametrize("case", JHTDB_BAD)
def test_bad_cut_out(tmp_path, case):
    settings, stated, words = JHTDB_BAD[case]
    jhtdb(tmp_path / "c.h5", **settings)
    refused(tmp_path / "c.h5", words, **stated)


def test_gaps_in_time_are_said_and_kept(tmp_path):
    p = hdf5(tmp_path / "p.h5", scales=False)
    put("time", [0.0, 0.1, 0.2, 0.7, 0.8])(tmp_path / "p.h5")
    found, planes, notes = read(tmp_path / "p.h5")
    np.testing.assert_allclose(found, p)
    assert any("1 gap in time, the longest of 5 usual steps" in note for note in notes)
    assert planes.provenance["time_gaps"] == [(3, pytest.approx(5))] and any("gap" in line for line in planes.history)
    put("time", [0.0, 0.1, 0.2, 0.3, 0.4])(tmp_path / "p.h5")  # negative control
    assert read(tmp_path / "p.h5")[1].provenance["time_gaps"] == []


def test_positions_that_are_rounded_are_even(tmp_path):
    """float32 positions far from 0, as databases have them."""
    hdf5(tmp_path / "p.h5", scales=False)
    put("x", (25 + 0.0123 * np.arange(NX)).astype(np.float32))(tmp_path / "p.h5")
    _, planes, _ = read(tmp_path / "p.h5")
    assert planes.grid.axes[1].uniform


def test_nothing_is_read_before_it_is_asked_for(tmp_path, monkeypatch):
    """Of a data set of 0.4 TB on paper, two planes are read, the first of them to open it."""
    with h5py.File(tmp_path / "p.h5", "w") as file:
        data = file.create_dataset("p", (100_000, 512, 1024), chunks=(1, 512, 1024), dtype="f8", fillvalue=0.0)
        for i, name in enumerate(("time", "z", "x")):
            data.dims[i].label = name
        last = 2.0 + np.arange(512.0)[:, None] + np.sin(np.arange(1024.0))
        data[99_999] = last
        file["z"], file["x"] = 5.0 * np.arange(512), 10.0 * np.arange(1024)
        for name in "zx":
            file[name].attrs["units"] = "nu/u_tau"
        file.attrs["Re_tau"] = 500.0
    values, plain = {"p": 0, "z": 0}, h5py.Dataset.__getitem__

    def counting(dataset, *arguments):
        found = plain(dataset, *arguments)
        name = dataset.name.strip("/")
        values[name] = values.get(name, 0) + np.size(found)
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    with open_planes(tmp_path / "p.h5", UserMetadata()) as source:
        assert values["p"] == 512 * 1024 and values["z"] > 0
        assert np.array_equal(source.read(range(99_999, 100_000))[0], last)
    assert source.planes.samples == 100_000 and values["p"] == 2 * 512 * 1024


def test_a_damaged_chunk_is_one_line(tmp_path):
    netcdf(tmp_path / "p.nc")
    xr.open_dataset(tmp_path / "p.nc").to_zarr(tmp_path / "p.zarr", consolidated=False)
    chunk = next((tmp_path / "p.zarr" / "pressure" / "c").rglob("0"))
    while chunk.is_dir():
        chunk = next(iter(chunk.iterdir()))
    chunk.write_bytes(b"damaged")
    refused(tmp_path / "p.zarr", "found something that cannot be read")
    assert zarr.open_group(tmp_path / "p.zarr", mode="r")["z"].shape == (NZ,)


def test_every_statement_is_a_field():
    """What the command passes on and what the adapters read are the same."""
    names = {field.name for field in dataclasses.fields(UserMetadata)}
    assert {"re_tau", "u_tau", "nu", "half_height", "rho", "order", "lengths", "wall", "flow", "variable"} == names
    assert DESCRIPTOR["nx"] == NX
