"""Lightcones of every format end in one order, with the right redshifts; what does not fit is refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy import units
from astropy.cosmology import FlatLambdaCDM
from examples.lightcone_examples import (
    CELL,
    DEPTH,
    Z0,
    N,
    cone,
    cube,
    distances,
    redshift_of,
    stack,
    version_3,
    version_4,
)

from infield import InfieldError
from infield.core.grid import Grid
from infield.datasets.cm21.cosmology import cosmology, distances_of, frequencies_of, redshifts_of
from infield.datasets.cm21.lightcone_file import (
    SEED,
    TEMPERATURE,
    Lightcones,
    lightcone_grid,
    lightcone_writer,
    open_lightcones,
)
from infield.datasets.cm21.readers import py21cmfast, sanity
from infield.datasets.cm21.readers.common import UserMetadata
from infield.datasets.cm21.readers.open import open_lightcone_files
from infield.datasets.formats.simulation import SimulationWriter, Variable
from infield.datasets.training.fields import FieldFile


def read(*paths, **stated):
    source = open_lightcone_files(paths, UserMetadata(**stated))
    return np.stack([source.read(i) for i in range(source.cones.samples)]), source


def refused(*paths, words, **stated):
    with pytest.raises(InfieldError) as error:
        read(*paths, **stated)
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_redshifts_and_distances_are_inverse():
    universe = cosmology()
    z = np.array([0.01, 1.0, 7.51, 12.0, 35.0, 99.0])
    np.testing.assert_allclose(redshifts_of(distances_of(z, universe), universe), z, rtol=1e-10)
    with pytest.raises(ValueError, match="redshift 100"):
        redshifts_of(np.array([1e5]), universe)


@pytest.mark.parametrize(("write", "neutrinos"), [(version_4, 3.044), (version_3, 3.046)])
def test_native_files(tmp_path, write, neutrinos):
    values = write(tmp_path / "c.h5", cone())
    found, source = read(tmp_path / "c.h5")
    np.testing.assert_array_equal(found[0], values)
    cones = source.cones
    assert cones.grid.shape == (N, N, DEPTH) and cones.grid.spacing == pytest.approx((CELL,) * 3)
    assert [axis.periodic for axis in cones.grid.axes] == [True, True, False]
    assert cones.redshift[0] == pytest.approx(Z0, abs=1e-8)
    universe = cosmology(67.7, 0.31, 0.049, neutrinos)
    np.testing.assert_allclose(distances_of(cones.redshift, universe), cones.grid.axes[2].coordinates, rtol=1e-12)
    np.testing.assert_allclose(cones.frequency, 1420.405751768 / (1 + cones.redshift))
    assert {name: v.tolist() for name, v in cones.parameters.items()} == {"ION_Tvir_MIN": [4.7], "HII_EFF_FACTOR": [30]}
    assert cones.seeds.tolist() == [7]
    assert cones.provenance["simulation"]["simulator"].startswith("21cmFAST")


def test_a_cosmology_without_neutrinos_would_misplace_redshifts(tmp_path):
    """Why the exact cosmology matters: the negative control of the test above."""
    version_4(tmp_path / "c.h5", cone())
    plain = FlatLambdaCDM(H0=67.7, Om0=0.31)
    assert abs(redshifts_of(distances()[:1], plain)[0] - Z0) > 0.03


def test_several_native_files_keep_what_varies(tmp_path):
    for i, zeta in enumerate((20.0, 40.0)):
        version_4(tmp_path / f"{i}.h5", cone(i), seed=i, zeta=zeta, L_X=40.0 + i, M_TURN=8.7)
    found, source = read(tmp_path / "0.h5", tmp_path / "1.h5")
    np.testing.assert_array_equal(found, np.stack([cone(0), cone(1)]))
    assert list(source.cones.parameters) == [
        "ION_Tvir_MIN",
        "HII_EFF_FACTOR",
        "L_X",
    ]  # X_RAY_Tvir_MIN repeats the first
    assert source.cones.parameters["L_X"].tolist() == [40, 41] and source.cones.seeds.tolist() == [0, 1]
    _, source = read(tmp_path / "0.h5", tmp_path / "1.h5", parameters=("M_TURN",))
    assert list(source.cones.parameters) == ["M_TURN"]
    refused(tmp_path / "0.h5", parameters=("ZETA",), words=["parameters: found", "ZETA", "HII_EFF_FACTOR"])


def test_versions_mix_and_depth_cuts(tmp_path):
    version_4(tmp_path / "4.h5", cone())
    version_3(tmp_path / "3.h5", cone(1, (N, N, DEPTH + 5)))
    refused(tmp_path / "4.h5", tmp_path / "3.h5", words=[f"{DEPTH} cells", f"{DEPTH + 5}", "depth=10"])
    found, source = read(tmp_path / "4.h5", tmp_path / "3.h5", depth=6)
    np.testing.assert_array_equal(found[1], cone(1, (N, N, DEPTH + 5))[..., :6])
    assert source.cones.grid.shape[2] == 6 == len(source.cones.redshift)
    refused(tmp_path / "4.h5", depth=11, words=["depth: found 11", "2 to 10"])


def test_mixed_boxes_are_refused(tmp_path):
    version_4(tmp_path / "a.h5", cone())
    version_4(tmp_path / "b.h5", cone(), cell=5.0)
    version_4(tmp_path / "c.h5", cone(0, (6, 6, DEPTH)), points=6)
    for other in ("b", "c"):
        refused(tmp_path / "a.h5", tmp_path / f"{other}.h5", words=[f"{other}.h5", "one box", "4 x 4 cells on 16 x 16"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.__delitem__("lightcone_distances"), ["lightcone_distances", "no such key", "4.1.1", "3.4"]),
        (lambda f: f.__delitem__("lightcones/brightness_temp"), ["brightness_temp", "density", "(variable)"]),
        (lambda f: f["InputParameters/simulation_options"].attrs.__delitem__("BOX_LEN"), ["BOX_LEN", "None"]),
        (lambda f: f["InputParameters/simulation_options"].attrs.modify("HII_DIM", 8), ["found shape", "(8, 8, 10)"]),
        (lambda f: f.attrs.modify("last_completed_lcidx", 5), ["last_completed_lcidx", "stopped before its end"]),
    ],
)
def test_other_keys_of_native_files_are_refused(tmp_path, change, words):
    version_4(tmp_path / "c.h5", cone())
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        change(file)
    refused(tmp_path / "c.h5", words=["c.h5", *words])


def test_old_files_of_version_3_are_refused(tmp_path):
    version_3(tmp_path / "c.h5", cone(), distance=None)
    refused(tmp_path / "c.h5", words=["'distances'", "3.4.0", "no such key"])


def test_another_field_is_no_temperature(tmp_path):
    version_4(tmp_path / "c.h5", cone())
    refused(tmp_path / "c.h5", variable="density", words=["density", "no brightness temperature"])


def test_voxels_that_are_not_finite_are_named(tmp_path):
    values = cone()
    values[1, 2, 3] = np.nan
    version_4(tmp_path / "c.h5", values)
    refused(tmp_path / "c.h5", words=["c.h5", "1 of 160 voxels", "cone 0"])
    found, _ = read(tmp_path / "c.h5", depth=3)  # what is cut off does not matter
    assert np.isfinite(found).all()


def test_stack(tmp_path):
    values = np.stack([cone(i) for i in range(3)])
    parameters = stack(tmp_path / "s.h5", values)
    found, source = read(tmp_path / "s.h5")
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(source.cones.parameters["HII_EFF_FACTOR"], parameters[:, 1])
    assert source.cones.grid.spacing == pytest.approx((CELL,) * 3) and len(source.cones.redshift) == DEPTH
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file["params/values"]
        file["params/values"] = parameters[:2]
    refused(tmp_path / "s.h5", words=["params/values", "(2, 2)", "(3, 2)"])


def npz(path, values, **changes):
    arrays = {"redshift": redshift_of(np.linspace(160, 155, values.shape[-1])), "cell_Mpc": CELL}
    np.savez(path, **({"brightness_temp": values} | arrays | changes))


def test_npz_in_hundredths_with_parameters(tmp_path):
    centi = np.random.default_rng(0).integers(-3000, 3000, (2, N, N, DEPTH)).astype(np.int16)
    names, parameters = ["log10_Tvir_K", "zeta_HII_EFF_FACTOR"], np.array([[4.1, 30], [5.2, 60]])
    z = redshifts_of(distances(), cosmology())
    np.savez(tmp_path / "s.npz", brightness_temp_centi_mK=centi, params=parameters, param_names=names, seed=[3, 4],
             redshift=z, distance_Mpc=distances(), box_len_Mpc=N * CELL)  # fmt: skip
    found, source = read(tmp_path / "s.npz")
    np.testing.assert_allclose(found, centi * 0.01, atol=2e-6)
    assert source.cones.parameters["ION_Tvir_MIN"].tolist() == [4.1, 5.2] and source.cones.seeds.tolist() == [3, 4]
    np.testing.assert_array_equal(source.cones.grid.axes[2].coordinates, distances())


def test_a_reversed_line_of_sight_is_turned_round(tmp_path):
    z = redshift_of(np.linspace(155, 160, DEPTH))  # descending
    npz(tmp_path / "r.npz", cone(), redshift=z)
    found, source = read(tmp_path / "r.npz")
    np.testing.assert_array_equal(found[0], cone()[..., ::-1])
    assert (np.diff(source.cones.redshift) > 0).all() and (np.diff(source.cones.grid.axes[2].coordinates) > 0).all()
    assert any("turned round" in note for note in source.notes) and "turned round" in "".join(source.cones.history)
    found, source = read(tmp_path / "r.npz", depth=4)
    np.testing.assert_array_equal(found[0], cone()[..., :-5:-1])  # the four lowest redshifts
    np.testing.assert_allclose(source.cones.redshift, z[:-5:-1])
    z[3], z[4] = z[4], z[3]
    npz(tmp_path / "w.npz", cone(), redshift=z)
    refused(tmp_path / "w.npz", words=["neither ascend nor descend"])


def test_arrays_as_tools21cm_has_them(tmp_path):
    """A plain array needs redshifts and a box; both forms of the list of redshifts are read."""
    np.save(tmp_path / "c.npy", cone())
    z = redshift_of(np.linspace(160, 155, DEPTH))
    np.save(tmp_path / "z.npy", z)
    np.savetxt(tmp_path / "z.txt", z)
    for name in ("z.npy", "z.txt"):
        found, source = read(tmp_path / "c.npy", redshifts=tmp_path / name, box=N * CELL, hubble=70.0, omega_m=0.27)
        np.testing.assert_array_equal(found[0], cone())
        distance = distances_of(z, cosmology(70.0, 0.27))
        np.testing.assert_allclose(source.cones.grid.axes[2].coordinates, distance, rtol=1e-6)
    refused(tmp_path / "c.npy", words=["no redshifts", "(redshifts)"])
    refused(tmp_path / "c.npy", redshifts=tmp_path / "z.txt", words=["(box)"])
    refused(tmp_path / "c.npy", redshifts=tmp_path / "none.txt", box=1.0, words=["none.txt", "one number a line"])
    np.save(tmp_path / "first.npy", np.moveaxis(cone(), -1, 0))  # line of sight first, as make_lightcone has it
    refused(tmp_path / "first.npy", redshifts=tmp_path / "z.txt", box=1.0, words=["10 redshifts", "expected 4", "last"])


@pytest.mark.parametrize("stokes", [False, True])
def test_fits_in_jansky_per_beam(tmp_path, stokes):
    planes = np.random.default_rng(0).standard_normal((5, 3, 6)) * 1e-3
    frequency = cube(tmp_path / "c.fits", planes, stokes=stokes)
    found, source = read(tmp_path / "c.fits")
    beam = units.Quantity(np.pi * 0.02 * 0.015 / (4 * np.log(2)), "deg2")
    for i, f in enumerate(frequency):  # descending frequency is ascending redshift
        to_kelvin = units.brightness_temperature(units.Quantity(f, "MHz"), beam)
        expected = units.Quantity(planes[i].astype(np.float32), "Jy").to_value("mK", to_kelvin)
        np.testing.assert_allclose(found[0][:, :, i], expected.T, rtol=2e-6)
    np.testing.assert_allclose(source.cones.frequency, frequency, rtol=1e-12)
    distance = np.array(source.cones.grid.axes[2].coordinates)
    np.testing.assert_allclose(distance, distances_of(redshift_of(frequency), cosmology()), rtol=1e-12)
    assert source.cones.grid.spacing[0] == pytest.approx(np.radians(16 / 3600) * (distance[0] + distance[-1]) / 2)
    assert "Jy/beam to mK" in source.cones.history[0]


def test_fits_ascending_in_kelvin(tmp_path):
    planes = np.random.default_rng(0).standard_normal((5, 3, 6)).astype(np.float32)
    cube(tmp_path / "c.fits", planes, unit="K", step=0.5, cunit="MHz")
    refused(tmp_path / "c.fits", words=["frequencies", "expected below"])  # 160e6 MHz
    cube(tmp_path / "d.fits", planes, unit="K", step=0.5e6)
    found, source = read(tmp_path / "d.fits", depth=2)
    np.testing.assert_allclose(found[0], 1e3 * np.transpose(planes[:2:-1], (2, 1, 0)), rtol=1e-6)
    assert source.cones.redshift[0] == pytest.approx(redshift_of(162.0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"ctype": "VELO"}, ["VELO", "FREQ"]), ({"unit": "Jy/pixel"}, ["Jy/pixel", "Jy/beam"])],
)
def test_other_cubes_are_refused(tmp_path, changes, words):
    cube(tmp_path / "c.fits", np.zeros((5, 3, 6)), **changes)
    refused(tmp_path / "c.fits", words=["c.fits", *words])


@pytest.mark.parametrize("name", ["c.h5", "c.npz", "c.npy", "c.fits", "c.txt"])
def test_files_that_are_none_are_refused(tmp_path, name):
    refused(tmp_path / name, words=[name, "nothing there"])
    (tmp_path / name).write_bytes(b"not a lightcone" * 100)
    refused(tmp_path / name, words=[name])


def test_the_file_of_lightcones(tmp_path):
    """What is written is read again, is a simulation file for training, and opens lazily."""
    version_4(tmp_path / "c.h5", cone(), seed=11)
    version_4(tmp_path / "d.h5", cone(), seed=12)
    _, source = read(tmp_path / "c.h5", tmp_path / "d.h5")
    writer = lightcone_writer(tmp_path / "c.zarr", source.cones, run={}, title="test")
    for i in range(2):
        writer.write_block(i, {TEMPERATURE: source.read(i)[None]})
    writer.finish()
    group, cones = open_lightcones(tmp_path / "c.zarr")
    np.testing.assert_array_equal(group[TEMPERATURE][1], cone())
    assert group[TEMPERATURE].dims == ("sample", "x", "y", "los") and group[TEMPERATURE].attrs["units"] == "mK"
    assert group["frequency"].attrs["units"] == "MHz" and group["los"].attrs["units"] == "Mpc"
    assert group[SEED].values.tolist() == [11, 12] and group["ION_Tvir_MIN"].attrs["units"] == "log10(K)"
    np.testing.assert_array_equal(cones.redshift, source.cones.redshift)
    assert cones.grid == source.cones.grid and cones.history == source.cones.history
    data = FieldFile(str(tmp_path / "c.zarr"), TEMPERATURE, batch_size=1, validation=0, statistics=3)
    with pytest.raises(InfieldError, match="2 samples to train on"):  # it gets as far as counting them
        data.setup("fit")
    assert data.grid == cones.grid and data.units == "mK"


def test_a_simulation_of_another_kind_is_no_lightcone(tmp_path):
    grid = Grid.regular((3, 3))
    writer = SimulationWriter(
        tmp_path / "s.zarr", grid=grid, variables=[Variable("a", "a")], samples=1, block=1, run={}
    )
    writer.write_block(0, {"a": np.zeros((1, 3, 3))})
    writer.finish()
    with pytest.raises(InfieldError, match=r"brightness_temp.*expected lightcones"):
        open_lightcones(tmp_path / "s.zarr")


def test_redshifts_must_ascend():
    grid = lightcone_grid((2, 2), 1.0, np.array([1.0, 2.0]))
    with pytest.raises(InfieldError, match="z ascending"):
        Lightcones(grid=grid, redshift=np.array([2.0, 1.0]), samples=1, parameters={})
    np.testing.assert_allclose(frequencies_of(np.array([0.0])), 1420.405751768)


REAL = ["native_v4.1.1_tiny16_nots.h5", "native_v4.1.1_tiny16_ts_rsd.h5", "native_v3.4.0_tiny16_nots.h5"]


@pytest.mark.parametrize("name", REAL)
def test_files_of_the_real_simulator(name):
    if "INFIELD_DATA" not in os.environ:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    found, source = read(Path(os.environ["INFIELD_DATA"]) / "cm21" / name)
    assert found.shape == (1, 16, 16, 74) and found.dtype == np.float32
    assert source.cones.redshift[0] == pytest.approx(7.51, abs=1e-7)  # what the simulator was asked for
    assert source.cones.grid.spacing == pytest.approx((4.0,) * 3) and source.cones.seeds.tolist() == [7]
    assert source.cones.parameters["ION_Tvir_MIN"][0] == pytest.approx(4.699)
    assert -400 < found.min() < found.max() < 100 and 0 < (found == 0).mean() < 1


def test_the_set_of_64_of_the_real_simulator():
    if "INFIELD_DATA" not in os.environ:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    path = Path(os.environ["INFIELD_DATA"]) / "cm21" / "set64_v4.1.1_32x32x256.npz"
    source = open_lightcone_files([path], UserMetadata(depth=8))
    cones = source.cones
    assert cones.samples == 64 and cones.grid.shape == (32, 32, 8)
    assert set(cones.parameters) == {"ION_Tvir_MIN", "HII_EFF_FACTOR"}
    # its redshifts and distances agree with the cosmology of the simulator
    universe = cosmology()
    np.testing.assert_allclose(distances_of(cones.redshift, universe), cones.grid.axes[2].coordinates, rtol=1e-5)


def test_parameters_are_the_attributes_that_are_finite_numbers():
    attributes = {
        "whole": 3, "half": np.float32(0.5), "one": np.array([7]), "flag": True, "text": "4",
        "pair": np.array([1.0, 2.0]), "nothing": np.nan, "endless": np.inf,
    }  # fmt: skip
    assert py21cmfast._numbers(attributes) == {"whole": 3.0, "half": 0.5, "one": 7.0}
    assert [py21cmfast._number(Path("c.h5"), attributes, key) for key in ("whole", "one")] == [3, 7]
    for key in ("flag", "text", "pair", "nothing", "endless", "missing"):
        with pytest.raises(InfieldError, match=f"'{key}'.*expected a finite number above zero"):
            py21cmfast._number(Path("c.h5"), attributes, key)
    with pytest.raises(InfieldError, match="found 0"):
        py21cmfast._number(Path("c.h5"), {"size": 0}, "size")


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([4], "slice 4"),
        ([0, 1, 2], "slices 0 to 2"),
        ([0, 1, 3, 5, 6], "slices 0 to 1, 3, 5 to 6"),
        ([0, 2, 4, 6, 8, 9], "slices 0, 2, 4 and 2 more"),
        ([1, 3, 5, 7], "slices 1, 3, 5 and 1 more"),
    ],
)
def test_slices_in_words(indices, words):
    assert sanity.slices(np.array(indices)) == words
