"""Lightcones as damaged runs and other conventions leave them, with values worked out independently."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from astropy import units
from astropy.cosmology import Planck18
from astropy.io import fits
from examples.lightcone_examples import CELL, DEPTH, N, cone, distances, stack, version_3, version_4

from infield import InfieldError
from infield.datasets.cm21.readers.common import UserMetadata
from infield.datasets.cm21.readers.open import open_lightcone_files

pytestmark = pytest.mark.field


def read(*paths, **stated):
    source = open_lightcone_files(paths, UserMetadata(**stated))
    return np.stack([source.read(i) for i in range(source.cones.samples)]), source


def refused(*paths, words, **stated):
    with pytest.raises(InfieldError) as error:
        read(*paths, **stated)
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message


def arrays(folder, *, redshift=None, scale=1.0, box=N * CELL, **others):
    """An .npz of one cone with cubic cells of 4 Mpc from z = 7.51 on, by Planck 2018 of astropy; its path."""
    grid = np.linspace(7.4, 7.9, 4001)
    distance = Planck18.comoving_distance(7.51).to_value(units.Mpc) + CELL * np.arange(DEPTH)
    z = np.interp(distance, Planck18.comoving_distance(grid).to_value(units.Mpc), grid)
    entries = {"redshift": z if redshift is None else redshift(z), "box_len_Mpc": box, **others}
    np.savez(folder / "c.npz", brightness_temp=cone() * scale, **entries)
    return folder / "c.npz", z, distance


def test_right_arrays(tmp_path):
    """What all of the refusals below differ from; distances follow from the redshifts."""
    path, z, distance = arrays(tmp_path)
    found, source = read(path)
    np.testing.assert_allclose(found[0], cone(), rtol=1e-6)
    np.testing.assert_allclose(source.cones.redshift, z)
    np.testing.assert_allclose(source.cones.grid.axes[2].coordinates, distance, rtol=1e-3)
    assert any("taken to be in mK" in note for note in source.notes)
    path, z, _ = arrays(tmp_path, distance_Mpc=distance)
    np.testing.assert_allclose(read(path)[1].cones.grid.axes[2].coordinates, distance)


@pytest.mark.parametrize(
    ("redshift", "words"),
    [
        (lambda z: 1420.405751768 / (1 + z), ["frequencies in MHz", "7.51"]),
        (lambda z: 1420.405751768e6 / (1 + z), ["frequencies in Hz", "7.51"]),
        (lambda z: 1.420405751768 / (1 + z), ["cells of 4 Mpc across", "units of the redshifts"]),
        (lambda z: -z, ["those of the 21 cm line"]),
    ],
    ids=["MHz", "Hz", "GHz", "negative"],
)
def test_what_is_no_redshift(tmp_path, redshift, words):
    path, _, _ = arrays(tmp_path, redshift=redshift)
    refused(path, words=["c.npz", *words])


def test_the_remedy_for_frequencies_works(tmp_path):
    path, z, _ = arrays(tmp_path, redshift=lambda z: 1420.405751768 / (1 + z))
    frequency = np.load(path)["redshift"]
    np.savetxt(tmp_path / "z.txt", 1420.405751768 / frequency - 1)
    np.testing.assert_allclose(read(path, redshifts=tmp_path / "z.txt")[1].cones.redshift, z)
    np.savetxt(tmp_path / "f.txt", frequency)
    refused(path, redshifts=tmp_path / "f.txt", words=["f.txt", "frequencies in MHz"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d * 0.6766, ["Mpc/h", "divide them by h"]),
        (lambda d: d - d[0], ["a distance of", "check the units"]),
        (lambda d: d[::-1], ["increase with redshift"]),
        (lambda d: d / 306.6, ["check the units"]),  # Gly in place of Mpc: 0.3066 Mpc a Mly
    ],
    ids=["Mpc/h", "from the first cell", "reversed", "Gly"],
)
def test_distances_that_do_not_fit_the_redshifts(tmp_path, change, words):
    _, _, distance = arrays(tmp_path)
    refused(arrays(tmp_path, distance_Mpc=change(distance))[0], words=["c.npz", "distance", *words])
    if "Mpc/h" in words:  # the remedy is followed
        mended = change(distance) / 0.6766
        _, source = read(arrays(tmp_path, distance_Mpc=mended)[0])
        np.testing.assert_allclose(source.cones.grid.axes[2].coordinates, distance)


def test_distances_of_a_stack_are_checked_too(tmp_path):
    stack(tmp_path / "s.h5", np.stack([cone(i) for i in range(2)]))
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["redshifts_distances"][1] *= 0.677
    refused(tmp_path / "s.h5", words=["s.h5", "Mpc/h"])


def test_a_box_in_mpc_over_h(tmp_path):
    path, _, _ = arrays(tmp_path, box=N * CELL * 0.6766)
    refused(path, words=["whose ratio is h", "box"])
    _, source = read(path, box=N * CELL)
    assert source.cones.grid.spacing[0] == pytest.approx(CELL)


def test_kelvin_are_not_taken_for_millikelvin(tmp_path):
    path, _, _ = arrays(tmp_path, scale=1e-3)
    refused(path, words=["look like K", 'units="K"'])
    found, source = read(path, units="K")
    np.testing.assert_allclose(found[0], cone(), rtol=1e-5)
    assert not any("mK" in note for note in source.notes)
    np.testing.assert_allclose(read(path, units="mK")[0][0], cone() * 1e-3, rtol=1e-5)
    refused(path, units="Jy", words=["units", "mK or K"])


@pytest.mark.parametrize("write", [version_3, version_4])
def test_a_cone_that_is_not_between_its_nodes(tmp_path, write):
    write(tmp_path / "c.h5", cone())
    key = "InputParameters/node_redshifts" if write is version_4 else "node_redshifts"
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file[key] = 7.4 * 1.02 ** np.arange(12)[::-1]
    read(tmp_path / "c.h5")  # z 7.51 to 7.63
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file[key][...] = 9.0 * 1.02 ** np.arange(12)[::-1]
    refused(tmp_path / "c.h5", words=["node_redshifts", "slices 0 to 9", "simulate it again"])
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["distances" if write is version_3 else "lightcone_distances"][...] = distances() - 1800
    refused(tmp_path / "c.h5", words=["node_redshifts", "redshifts 3.7"])


def damaged(change):
    values = cone()
    change(values)
    return values


def unfilled(values):
    values[..., :3] = 0


def gap(values):
    values[..., [4, 6, 7]] = 0


def tail(values):
    values[..., 8:] = 0


@pytest.mark.parametrize(
    ("change", "words"),
    [(unfilled, "slices 0 to 2"), (gap, "slices 4, 6 to 7"), (tail, "slices 8 to 9")],
    ids=["near end", "gap", "far end"],
)
@pytest.mark.parametrize("kind", ["native", "stack", "arrays", "with density"])
def test_slices_never_filled(tmp_path, change, words, kind):
    values = damaged(change)
    if kind == "native":
        version_3(path := tmp_path / "c.h5", values)
    elif kind == "with density":
        version_4(path := tmp_path / "c.h5", values)
        with h5py.File(path, "r+") as file:
            file["lightcones/density"][...] = np.where(values.any((0, 1)), file["lightcones/density"][...], 0)
    elif kind == "stack":
        stack(path := tmp_path / "c.h5", values[None])
    else:
        path, _, _ = arrays(tmp_path)
        np.savez(path, **{**np.load(path), "brightness_temp": values})
    refused(path, words=["never filled", words, "of 10"])
    if change is tail:  # the remedy is followed
        np.testing.assert_allclose(read(path, depth=8)[0][0], values[..., :8], rtol=1e-6)


def test_an_ionised_end_is_no_damage(tmp_path):
    """Slices that become ionised step by step, and an ionised universe whose density is not zero, pass."""
    values = cone() + 1
    generator = np.random.default_rng(3)
    for i in range(6):
        values[..., i][generator.random((N, N)) >= max(i - 1, 0) / 8] = 0
    version_3(tmp_path / "c.h5", values)
    np.testing.assert_array_equal(read(tmp_path / "c.h5")[0][0], values)
    assert not values[..., :2].any()


def test_values_that_no_signal_has(tmp_path):
    def wild(values):
        values[1, 2, 5] = 1e30

    version_4(tmp_path / "c.h5", damaged(wild))
    refused(tmp_path / "c.h5", words=["1e+30 mK", "slice 5", "damaged"])


def fits_file(path, planes, header, *, beams=None, integers=False, stokes=False):
    """A FITS cube `(frequency, y, x)` from 160 MHz downwards by 0.5 MHz, in mK unless the header has other units."""
    told = {
        "CTYPE1": "RA---SIN", "CDELT1": -16 / 3600, "CTYPE2": "DEC--SIN", "CDELT2": 16 / 3600, "CTYPE3": "FREQ",
        "CRVAL3": 160e6, "CRPIX3": 1.0, "CDELT3": -0.5e6, "CUNIT3": "Hz", "BUNIT": "mK",
    }  # fmt: skip
    data = planes.astype(np.float32)
    if integers:
        hdu = fits.PrimaryHDU(np.round((planes - 1.5) / 0.01).astype(np.int16))
        told |= {"BSCALE": 0.01, "BZERO": 1.5}
    else:
        hdu = fits.PrimaryHDU(data[:, None] if stokes else data)
    told |= header
    hdu.header.update({key: value for key, value in told.items() if value is not None})
    tables = [] if beams is None else [beams]
    fits.HDUList([hdu, *tables]).writeto(path)
    return 160.0 - 0.5 * np.arange(len(planes))


def planes(channels=6, ny=4, nx=4):
    return np.round(20 * np.random.default_rng(2).standard_normal((channels, ny, nx)), 2)


FREQUENCY_FOURTH = {
    "CTYPE3": "STOKES", "CRVAL3": 1.0, "CDELT3": 1.0, "CUNIT3": None,
    "CTYPE4": "FREQ", "CRVAL4": 160e6, "CRPIX4": 1.0, "CDELT4": -0.5e6, "CUNIT4": "Hz",
}  # fmt: skip


@pytest.mark.parametrize(
    ("header", "settings", "scale", "first"),
    [
        ({}, {}, 1.0, 160.0),
        ({}, {"integers": True}, 1.0, 160.0),
        ({"CRPIX3": None}, {}, 1.0, 159.5),  # pixel 0 is at 160 MHz, the first is pixel 1
        ({"BUNIT": "Kelvin"}, {}, 1e3, 160.0),
        ({"BUNIT": "uK"}, {}, 1e-3, 160.0),
        ({"CRVAL3": 160.0, "CDELT3": -0.5, "CUNIT3": "MHz"}, {}, 1.0, 160.0),
        (FREQUENCY_FOURTH, {"stokes": True}, 1.0, 160.0),
        (
            {"CDELT1": None, "CDELT2": None, "CDELT3": None, "CD1_1": -16 / 3600, "CD2_2": 16 / 3600, "CD3_3": -0.5e6},
            {},
            1.0,
            160.0,
        ),
    ],
    ids=["plain", "integers", "no CRPIX3", "Kelvin", "microkelvin", "MHz", "CASA's order", "CD matrix"],
)
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_fits_cubes_of_other_codes(tmp_path, header, settings, scale, first, suffix):
    p = planes()
    frequency = fits_file(tmp_path / f"c{suffix}", p, header, **settings) - 160 + first
    found, source = read(tmp_path / f"c{suffix}")
    np.testing.assert_allclose(source.cones.frequency, frequency, rtol=1e-9)
    np.testing.assert_allclose(found[0], np.moveaxis(p, (0, 1, 2), (2, 1, 0)) * scale, atol=2e-5 * scale)


def test_a_table_of_beams(tmp_path):
    """Of each channel its own beam: T = lambda^2 S / (2 k Omega), Omega = pi BMAJ BMIN / (4 ln 2)."""
    p, n = planes(), 6
    major, minor = 60.0 + np.arange(n), 50.0 + np.arange(n)
    columns = [
        fits.Column(name, "E", unit="arcsec", array=values) for name, values in (("BMAJ", major), ("BMIN", minor))
    ]
    table = fits.BinTableHDU.from_columns(columns, name="BEAMS")
    frequency = fits_file(tmp_path / "c.fits", p, {"BUNIT": "Jy/beam", "CASAMBM": True}, beams=table)
    omega = np.pi * major * minor / (4 * np.log(2)) * (np.pi / 180 / 3600) ** 2
    factor = 1e3 * (299792458.0 / frequency / 1e6) ** 2 * 1e-26 / (2 * 1.380649e-23 * omega)
    expected = np.moveaxis(p * factor[:, None, None], (0, 1, 2), (2, 1, 0))
    np.testing.assert_allclose(read(tmp_path / "c.fits")[0][0], expected, rtol=1e-5)
    table = fits.BinTableHDU.from_columns([c for c in table.columns], name="BEAMS", nrows=3)
    fits_file(tmp_path / "d.fits", p, {"BUNIT": "Jy/beam"}, beams=table)
    refused(tmp_path / "d.fits", words=["3 beams for 6 channels"])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"CTYPE3": "VRAD"}, ["VRAD of 6", "convert velocities"]),
        ({"CDELT1": None, "CDELT2": None}, ["square ones in degrees"]),
        ({"BUNIT": "Jy/pixel"}, ["Jy/pixel", "BEAMS"]),
        ({"CUNIT3": "m/s"}, ["'m/s'", "in Hz"]),
    ],
)
def test_fits_cubes_that_say_too_little(tmp_path, header, words):
    fits_file(tmp_path / "c.fits", planes(), header)
    refused(tmp_path / "c.fits", words=["c.fits", *words])


def test_flagged_channels_are_not_data(tmp_path):
    p = planes()
    p[2] = 0
    fits_file(tmp_path / "c.fits", p, {})
    refused(tmp_path / "c.fits", words=["slice 2", "never filled"])


def test_channels_of_equal_width_are_resampled(tmp_path):
    """A field that is linear along the line of sight is the same on even cells; without the option they are uneven."""
    frequency = 160 - 2.0 * np.arange(8)
    z = 1420.405751768 / frequency - 1
    distance = Planck18.comoving_distance(z).to_value(units.Mpc)
    p = (distance - distance[0])[:, None, None] * np.ones((8, 4, 4)) + 1
    fits_file(tmp_path / "c.fits", p, {"CDELT3": -2e6})
    _, source = read(tmp_path / "c.fits")
    assert not source.cones.grid.axes[2].uniform
    found, source = read(tmp_path / "c.fits", resample=True)
    los = np.array(source.cones.grid.axes[2].coordinates)
    assert source.cones.grid.axes[2].uniform and los[0] == pytest.approx(distance[0], rel=1e-4)
    np.testing.assert_allclose(found[0, 0, 0], los - los[0] + 1, rtol=1e-3)
    np.testing.assert_allclose(Planck18.comoving_distance(source.cones.redshift).to_value(units.Mpc), los, rtol=1e-4)


def test_a_hubble_constant_in_km_per_s(tmp_path):
    version_4(tmp_path / "c.h5", cone())
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["InputParameters/cosmo_params"].attrs["hlittle"] = 67.7
    refused(tmp_path / "c.h5", words=["'hlittle': found 67.7", "divide it by 100"])
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["InputParameters/cosmo_params"].attrs["hlittle"] = 67.7 / 100  # the remedy
    read(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["lightcone_distances"][...] *= 1e3  # kpc
    refused(tmp_path / "c.h5", words=["'lightcone_distances'", "expected 0 to redshift 100"])


@pytest.mark.parametrize("write", [version_3, version_4])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d * 1e-3, ["cells of 4 Mpc across and 0.004 Mpc"]),
        (lambda d: d * 0.677, ["whose ratio is h", "save the cone again"]),
        (lambda d: d[0] + 4 * (d - d[0]), ["cells of 4 Mpc across and 16 Mpc"]),
    ],
)
def test_distances_of_a_native_cone_in_other_units(tmp_path, write, change, words):
    write(tmp_path / "c.h5", cone())
    read(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["distances" if write is version_3 else "lightcone_distances"][...] = change(distances())
    refused(tmp_path / "c.h5", words=words)


def test_a_cone_of_version_3_begins_where_it_states(tmp_path):
    version_3(tmp_path / "c.h5", cone())
    read(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file.attrs["redshift"] = 9.0
    refused(tmp_path / "c.h5", words=["'redshift': found 9 and distances from redshift 7.51 on"])


def test_one_universe_twice(tmp_path):
    """The same file is refused; of two files the notes state it. Another seed or parameter is another universe."""
    for name, seed, zeta in (("a", 7, 30.0), ("b", 7, 30.0), ("c", 8, 30.0), ("d", 7, 31.0)):
        version_4(tmp_path / f"{name}.h5", cone(), seed=seed, zeta=zeta)
    files = {name: tmp_path / f"{name}.h5" for name in "abcd"}
    refused(files["a"], files["c"], files["a"], words=["a.h5: found the same file twice"])
    assert any("1 of 3 cones have the seed" in n for n in read(files["a"], files["b"], files["c"])[1].notes)
    assert not any("have the seed" in note for note in read(files["a"], files["c"], files["d"])[1].notes)


def test_a_cone_of_zeros_alone(tmp_path):
    path, _, _ = arrays(tmp_path, scale=0.0)
    refused(path, words=["zeros alone in slices 0 to 9 of 10"])
