"""Planes that people write in other ways, against the plain file of the same planes."""

import h5py
import numpy as np
import pytest
from examples.wall_files import LX, LZ, NX, NZ, RHO, U_TAU, H, binary, coordinates, hdf5, smooth, times

from infield import InfieldError
from infield.datasets.wall_pressure.readers.checks import check_values, unusual_level
from infield.datasets.wall_pressure.readers.common import UserMetadata
from infield.datasets.wall_pressure.readers.open import open_planes

pytestmark = pytest.mark.field


def opened(path, **stated):
    with open_planes(path, UserMetadata(**stated)) as source:
        return source.read(range(source.planes.samples)), source.planes, source.notes


def rewritten(path, p, z=None, x=None):
    """The planes of `hdf5` with values and positions of their own."""
    hdf5(path, smooth())
    with h5py.File(path, "r+") as file:
        for name, values in (("z", z), ("x", x)):
            if values is not None:
                attributes = dict(file[name].attrs)
                del file[name]
                file[name] = values
                file[name].attrs["units"] = attributes["units"]
        attributes = {"units": "Pa"}
        del file["p_wall"]
        data = file.create_dataset("p_wall", data=p * RHO * U_TAU**2)
        data.attrs.update(attributes)
        for i, name in enumerate(("time", "z", "x")):
            data.dims[i].label = name


@pytest.mark.parametrize("axes", [("x",), ("z",), ("z", "x")])
def test_axes_that_decrease_are_turned_with_their_values(tmp_path, axes):
    p, (z, x) = smooth(), coordinates()
    hdf5(tmp_path / "plain.h5", p)
    back_z, back_x = (slice(None, None, -1 if name in axes else None) for name in ("z", "x"))
    rewritten(tmp_path / "p.h5", p[:, back_z, back_x], z[back_z], x[back_x])
    (expected, plain, _), (found, planes, notes) = opened(tmp_path / "plain.h5"), opened(tmp_path / "p.h5")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for axis, other in zip(planes.grid.axes, plain.grid.axes, strict=True):
        np.testing.assert_allclose(axis.coordinates, other.coordinates, rtol=1e-12, atol=1e-9)
    assert [note.split(",")[0] for note in notes if "turned" in note] == [f"{name} turned" for name in axes]
    unturned = opened(tmp_path / "plain.h5")[0][:, back_z, back_x]
    assert np.abs(unturned - expected).max() > 0.5  # negative control: the values alone are others


def test_a_last_point_that_repeats_the_first_closes_the_period(tmp_path):
    p, (z, x) = smooth(), coordinates()
    hdf5(tmp_path / "plain.h5", p)
    closed = np.concatenate([p, p[..., :1]], axis=-1)
    both = np.concatenate([closed, closed[:, :1]], axis=-2)
    rewritten(tmp_path / "x.h5", closed, None, np.append(x, LX))
    rewritten(tmp_path / "zx.h5", both, np.append(z, LZ), np.append(x, LX))
    expected = opened(tmp_path / "plain.h5")[0]
    for name, periodic in (("x", [False, True]), ("zx", [True, True])):
        found, planes, notes = opened(tmp_path / f"{name}.h5")
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert [axis.periodic for axis in planes.grid.axes] == periodic
        assert sum("repeats the first" in note for note in notes) == len(name)
        assert planes.grid.spacing[1] * NX == pytest.approx(LX * 0.27 / 1.5e-5)


def test_where_only_lengths_are_known_the_spacing_is_that_of_the_points_that_differ(tmp_path):
    """Of a raw array with its last column repeated: L / n, and not L / (n + 1)."""
    p = smooth()
    (tmp_path / "closed").mkdir(), (tmp_path / "plain").mkdir()
    binary(tmp_path / "plain", p)
    binary(tmp_path / "closed", np.concatenate([p, p[..., :1]], axis=-1), nx=NX + 1)
    expected, plain, _ = opened(tmp_path / "plain" / "p.yaml")
    found, planes, _ = opened(tmp_path / "closed" / "p.yaml")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert planes.grid.spacing == pytest.approx(plain.grid.spacing) and planes.grid.shape == (NZ, NX)


def test_planes_that_merely_vary_little_keep_their_last_point(tmp_path):
    """Negative controls: constant along an axis, and nearly periodic."""
    p = np.broadcast_to(smooth()[:, :, :1], (5, NZ, NX)) + 1e-9
    rewritten(tmp_path / "p.h5", p)
    assert opened(tmp_path / "p.h5")[1].grid.shape == (NZ, NX)
    q = smooth()
    q[..., -1] = q[..., 0] + 1e-4 * q.std()
    rewritten(tmp_path / "q.h5", q)
    assert opened(tmp_path / "q.h5")[1].grid.shape == (NZ, NX)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.__setitem__(2, 0.0), "found the value 0 at 100% of the points of plane 2, expected a pressure"),
        (lambda p: p[3].__setitem__(slice(0, 7), 0.0), "the value 0 at 5[0-9]% of the points of plane 3"),
        (lambda p: p[1].__setitem__((3, 4), 1e30), "found 8.7.*e.28 in plane 1"),
        (lambda p: p[4].__setitem__((0, 0), 9.96921e36), "in plane 4, .* times as far from its median"),
    ],
)
def test_planes_that_were_never_filled_and_values_of_no_flow_are_refused(tmp_path, spoil, words):
    p = smooth()
    spoil(p)
    hdf5(tmp_path / "p.h5", p)
    with open_planes(tmp_path / "p.h5", UserMetadata()) as source, pytest.raises(InfieldError, match=words):
        source.read(range(source.planes.samples))


def test_rare_and_strong_events_are_of_the_flow():
    """Of wall pressure, single values lie 20 and more standard deviations off."""
    planes = smooth()
    planes[0, 3, 4] = 500.0
    check_values("p", planes, 0)
    assert unusual_level(planes[1]) == [] and unusual_level(planes[1] * np.nan) == []
    assert "its units" in unusual_level(planes[1] * 100)[0] and "its units" in unusual_level(planes[1] / 100)[0]


def test_a_density_that_is_left_out_shows_in_the_level(tmp_path):
    hdf5(tmp_path / "p.h5", smooth() * 1000)  # hPa taken for Pa, say
    assert any("fluctuations are" in note for note in opened(tmp_path / "p.h5")[2])
    hdf5(tmp_path / "q.h5", smooth())
    assert not any("fluctuations are" in note for note in opened(tmp_path / "q.h5")[2])


def test_numbers_of_the_flow_as_text(tmp_path):
    hdf5(tmp_path / "plain.h5")
    hdf5(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5", "r+") as file:
        for name in ("Re_tau", "u_tau", "nu", "half_height", "rho"):
            file.attrs[name] = str(file.attrs[name])
    (expected, plain, _), (found, planes, _) = opened(tmp_path / "plain.h5"), opened(tmp_path / "p.h5")
    assert np.array_equal(found, expected) and planes.re_tau == plain.re_tau and planes.half_height == H
    np.testing.assert_allclose(planes.time, times() * U_TAU / H)
