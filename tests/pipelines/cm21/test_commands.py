"""`infield simulate 21cm` and `infield convert lightcone` as a person meets them."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import xarray as xr
from examples import fake_21cmfast
from examples.zarr_files import contents

from infield import InfieldError
from infield.datasets.cm21.cosmology import cosmology, frequencies_of, redshifts_of
from infield.datasets.cm21.lightcone_file import DENSITY, SEED, TEMPERATURE, open_lightcones
from infield.physics.cm21.telescopes import spiral
from infield.pipelines.cm21.parameter_design import Design, cone_seeds

SIZE = ("--points", 4, "--box-size", 16, "--depth", 6, "--workers", 1, "--json")


@pytest.fixture
def simulate(infield):
    return lambda *arguments: infield("simulate", "21cm", *arguments)


@pytest.fixture
def simulator(tmp_path, monkeypatch):
    return fake_21cmfast.install(tmp_path / "site", monkeypatch)


def test_a_hypercube_has_one_point_in_every_slice():
    design = Design.parse([], [])
    points = design.points(50, seed=3)
    for name, (low, high) in {"ION_Tvir_MIN": (4, 6), "HII_EFF_FACTOR": (10, 250)}.items():
        slices = np.floor((points[name] - low) / (high - low) * 50)
        assert sorted(slices) == list(range(50))
    assert not np.array_equal(points["ION_Tvir_MIN"], design.points(50, seed=4)["ION_Tvir_MIN"])
    assert abs(np.corrcoef(points["ION_Tvir_MIN"], points["HII_EFF_FACTOR"])[0, 1]) < 0.5  # not one slice for both


def test_fixed_parameters_leave_the_rest_of_the_box():
    design = Design.parse([], ["ION_Tvir_MIN=4.8"])
    assert set(design.ranges) == {"HII_EFF_FACTOR"} and set(design.points(3, 0)["ION_Tvir_MIN"]) == {4.8}
    ensemble = Design.parse([], ["ION_Tvir_MIN=4.8", "HII_EFF_FACTOR=30"]).points(3, 0)
    assert {name: set(values) for name, values in ensemble.items()} == {"ION_Tvir_MIN": {4.8}, "HII_EFF_FACTOR": {30}}
    assert list(Design.parse([("L_X", "38", "42")], []).ranges) == ["L_X"]


def test_seeds_of_cones_do_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(cone_seeds(20, 5)[:8], cone_seeds(8, 5))
    assert len(set(cone_seeds(1000, 5))) == 1000 and (cone_seeds(1000, 5) > 0).all()
    assert not set(cone_seeds(50, 5)) & set(cone_seeds(50, 6))


@pytest.mark.parametrize(
    ("ranges", "fixed", "words"),
    [
        ([("L_X", "42", "38")], [], "lower and a higher"),
        ([("L_X", "a", "38")], [], "'a', expected a finite number"),
        ([], ["L_X"], "'', expected a finite number"),
        ([("L_X", "38", "42")], ["L_X=40"], "L_X twice"),
        ([], ["L_X=40", "L_X=41"], "twice"),
    ],
)
def test_designs_that_are_none(ranges, fixed, words):
    with pytest.raises(InfieldError, match=words):
        Design.parse(ranges, fixed)


def test_cones_are_the_simulator_s_also_after_it_died(simulate, simulator, tmp_path, monkeypatch):
    """The simulator ends its process at the second cone, as C code does; what was done is not done again."""
    run = ("-n", 3, "--seed", 2, "--with", "L_X=40.0", *SIZE)
    said = simulate("-o", tmp_path / "whole.zarr", *run)
    assert said.summary["cones"] == 3 and said.summary["shape"] == [4, 4, 6]
    group, cones = open_lightcones(tmp_path / "whole.zarr")
    seeds = group[SEED].values
    np.testing.assert_array_equal(seeds, cone_seeds(3, 2))
    for i in range(3):
        noise = np.random.default_rng(seeds[i]).standard_normal((4, 4, 6))
        expected = group["HII_EFF_FACTOR"].values[i] + noise
        np.testing.assert_allclose(group[TEMPERATURE][i], expected, rtol=1e-6)
        begun = np.random.default_rng((seeds[i], 1)).standard_normal((8, 8, 8))
        np.testing.assert_allclose(group[DENSITY][i], begun, rtol=1e-6)
    assert group[DENSITY].dims == ("sample", "box_x", "box_y", "box_los")
    np.testing.assert_array_equal(group["ION_Tvir_MIN"], Design.parse([], []).points(3, 2)["ION_Tvir_MIN"])
    assert cones.redshift[0] == pytest.approx(7.51) and cones.grid.spacing == pytest.approx((4, 4, 4))
    np.testing.assert_allclose(group["frequency"], frequencies_of(cones.redshift))
    assert cones.provenance["simulator"] == "21cmFAST 4.1.1" and cones.provenance["settings"]["L_X"] == 40
    assert json.loads(group.attrs["parameters"]) == ["ION_Tvir_MIN", "HII_EFF_FACTOR"] and group.attrs["seed"] == 2

    simulator.unlink()
    monkeypatch.setenv("FAKE_FAILS_AT", "2")
    said = simulate("-o", tmp_path / "killed.zarr", *run)
    said.refused("cone 1", "SIGABRT", str(seeds[1]))
    assert not (tmp_path / "killed.zarr").exists() and (tmp_path / "killed.zarr.partial").exists()
    monkeypatch.delenv("FAKE_FAILS_AT")
    assert simulate("-o", tmp_path / "killed.zarr", *run).status == 0
    done = [int(line) for line in simulator.read_text().split()]
    assert done.count(seeds[0]) == 1 and done.count(seeds[1]) == 2 and set(done) == set(seeds.tolist())
    assert contents(tmp_path / "killed.zarr") == contents(tmp_path / "whole.zarr")


def test_settings_that_the_simulator_refuses(simulate, simulator, tmp_path, monkeypatch):
    said = simulate("-o", tmp_path / "c.zarr", "-n", 2, "--with", "NONSENSE=1", *SIZE)
    assert said.status == 2 and "NONSENSE is not a valid keyword" in said.err and said.err.count("\n") == 1
    said = simulate("-o", tmp_path / "c.zarr", "-n", 2, "--redshift", 34.99, *SIZE)
    assert said.status == 2 and "35, where the simulation begins" in said.err
    said = simulate("-o", tmp_path / "c.zarr", "--range", "OMm", 0.2, 0.4, *SIZE)
    assert said.status == 2 and "--range OMm" in said.err
    monkeypatch.setenv("FAKE_VERSION", "3.4.0")
    said = simulate("-o", tmp_path / "c.zarr", "-n", 2, *SIZE)
    assert said.status == 2 and "found 21cmFAST 3.4.0, expected version 4" in said.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["site"]  # nothing half-written


def test_without_the_simulator_one_line_says_how_to_install_it(simulate, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    absent = "py21cmfast"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == absent else find(name, *more))
    said = simulate("-o", tmp_path / "c.zarr", "-n", 2, *SIZE)
    assert said.status == 2 and said.err.count("\n") == 1 and not any(tmp_path.iterdir())
    assert all(word in said.err for word in ("pip install 'infield[cm21]'", "libgsl-dev", "libfftw3-dev"))
    said = simulate("-o", tmp_path / "c.zarr", "-n", 2, "--python", tmp_path / "none", *SIZE)
    assert said.status == 2 and "no such program" in said.err


def npz(path, values, **changes):
    z = 8.0 + 0.01 * np.arange(values.shape[-1])
    np.savez(path, **({"brightness_temp": values, "redshift": z, "box_len_Mpc": 16.0} | changes))


def test_convert_tells_what_it_found(infield, tmp_path):
    values = np.random.default_rng(0).standard_normal((2, 4, 4, 6)).astype(np.float32)
    npz(
        tmp_path / "c.npz",
        values,
        params=np.array([[4.5, 20], [5, 30]]),
        param_names=["ION_Tvir_MIN", "HII_EFF_FACTOR"],
    )
    said = infield("convert", "lightcone", tmp_path / "c.npz", "-o", tmp_path / "c.zarr", "--json")
    assert said.summary["cones"] == 2 and said.summary["parameters"]["HII_EFF_FACTOR"] == [20, 30]
    assert said.summary["redshift"] == pytest.approx([8.0, 8.05])
    assert ["mK, as the file does not state units" in note for note in said.summary["notes"]] == [True]
    np.testing.assert_array_equal(open_lightcones(tmp_path / "c.zarr")[0][TEMPERATURE], values)
    said = infield("convert", "lightcone", tmp_path / "c.npz", "-o", tmp_path / "d.zarr", "--depth", 4)
    assert said.status == 0 and "4 x 4 x 4" in said.out and "8 to 8.03" in said.out


def test_convert_leaves_nothing_of_bad_cones(infield, tmp_path):
    """The second cone holds NaN: the first was written by then, and is removed again."""
    values = np.ones((2, 4, 4, 6), np.float32)
    values[1, 0, 0, 0] = np.nan
    npz(tmp_path / "c.npz", values)
    said = infield("convert", "lightcone", tmp_path / "c.npz", "-o", tmp_path / "c.zarr")
    assert said.status == 2 and said.err.count("\n") == 1
    assert all(word in said.err for word in ("c.npz", "NaN", "1 of 96 voxels", "cone 1"))
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]
    said = infield("convert", "lightcone", tmp_path / "c.npz", "-o", tmp_path / "c.zarr", "--box-size", -1)
    assert said.status == 2 and "--box-size" in said.err


def test_what_a_file_says_itself_is_not_stated_beside_it(infield, tmp_path):
    """Distances in the file make a cosmology beside them idle; without them it is what the distances come from."""
    values, place = np.ones((4, 4, 6), np.float32), tmp_path / "c.zarr"
    npz(tmp_path / "d.npz", values, distance_Mpc=9000 + 4.0 * np.arange(6))
    command = ("convert", "lightcone", tmp_path / "d.npz", "-o", place, "--hubble", 70)
    infield(*command).refused("d.npz: found --hubble, expected none for a file of this kind (numpy arrays)")
    assert not place.exists()
    npz(tmp_path / "c.npz", values)
    assert infield("convert", "lightcone", tmp_path / "c.npz", "-o", place, "--hubble", 70).status == 0


def test_convert_says_that_it_turned_a_cone_round(infield, tmp_path):
    npz(tmp_path / "c.npz", np.ones((4, 4, 6)), redshift=9 - 0.012 * np.arange(6))
    said = infield("convert", "lightcone", tmp_path / "c.npz", "-o", tmp_path / "c.zarr")
    assert said.status == 0 and "turned round" in said.err


def observe(infield, cones, path, *options):
    """By few antennas, which are counted fast."""
    layout = () if "--layout" in options else ("--layout", cones.with_name("some.csv"))
    return infield("convert", "lightcone-observation", cones, "-o", path, "--json", *layout, *options)


@pytest.fixture
def smooth_cones(infield, tmp_path):
    """Two Gaussian cones of a red spectrum on 128 Mpc."""
    k = np.hypot(np.hypot(*np.meshgrid(*[np.fft.fftfreq(8)] * 2, indexing="ij"))[..., None], np.fft.fftfreq(16))
    k[0, 0, 0] = 1
    white = np.fft.fftn(np.random.default_rng(0).standard_normal((2, 8, 8, 16)), axes=(1, 2, 3))
    values = np.fft.ifftn(white * k**-1.5, axes=(1, 2, 3)).real
    z = redshifts_of(9000.0 + 16 * np.arange(16), cosmology())
    npz(tmp_path / "c.npz", (40 * values / values.std()).astype(np.float32), box_len_Mpc=128.0, redshift=z)
    infield("convert", "lightcone", tmp_path / "c.npz", "-o", tmp_path / "c.zarr")
    places = "".join(f"{east},{north}\n" for east, north in spiral(60, 250.0))
    (tmp_path / "some.csv").write_text("east_m,north_m\n" + places)
    return tmp_path / "c.zarr"


def test_a_cone_is_reconstructed_from_its_observation(infield, smooth_cones, tmp_path):
    """The whole road by commands, with the default prior: nearer to the truth than zero is, and the data are fitted."""
    facts = observe(
        infield, smooth_cones, tmp_path / "m.zarr", "--hours", 30000, "--index", 1, "--cells", "2-9"
    ).summary
    assert facts["channels"] == 8 and facts["antennas"] == 60 and 0.2 < facts["share_of_modes"] < 1
    said = infield("reconstruct", tmp_path / "m.zarr", "-o", tmp_path / "p.zarr", "--samples", 12, "--json")
    assert said.status == 0, said.err
    posterior = xr.open_zarr(tmp_path / "p.zarr", consolidated=False)
    truth = xr.open_zarr(tmp_path / "m.zarr", consolidated=False)["truth"].values
    truth = truth - truth.mean((0, 1))  # the mean of a channel is not measured
    mean = posterior["mean"].values.reshape(truth.shape)
    mean = mean - mean.mean((0, 1))
    assert np.corrcoef(mean.ravel(), truth.ravel())[0, 1] > 0.5
    assert said.summary["chi_square"] == pytest.approx(1, abs=0.3)


def test_observations_with_a_wedge_a_beam_and_a_layout(infield, smooth_cones, tmp_path):
    plain = observe(infield, smooth_cones, tmp_path / "a.zarr").summary
    cut = observe(infield, smooth_cones, tmp_path / "b.zarr", "--wedge", 30, "--wedge-buffer", 0.02, "--beam").summary
    assert cut["wedge_slope"] == pytest.approx(1.8, abs=0.2) and cut["visibilities"] < plain["visibilities"]
    group = xr.open_zarr(tmp_path / "b.zarr", consolidated=False)
    assert group["data"].dims == ("part", "kx", "ky", "channel") and group["k_los"].attrs["units"] == "rad Mpc-1"
    assert group["beam_fwhm"].dims == ("los",) and group["frequency"].attrs["units"] == "MHz"
    assert plain["telescope"] == "some (ska-low-like antennas)"
    (tmp_path / "few.csv").write_text("east_m,north_m\n0,0\n150,0\n0,150\n")
    few = observe(infield, smooth_cones, tmp_path / "c2.zarr", "--layout", tmp_path / "few.csv").summary
    assert few["antennas"] == 3 and few["visibilities"] < plain["visibilities"] and few["telescope"].startswith("few")


def test_observations_that_cannot_be(infield, smooth_cones, tmp_path):
    for options, words in (
        (("--index", 2), ["--index", "0 to 1"]),
        (("--cells", "4"), ["--cells", "0-15"]),
        (("--cells", "4-16"), ["--cells", "0-15"]),
        (("--hours", 0), ["--hours"]),
        (("--wedge", 91), ["--wedge", "0 to 90"]),
        (("--wedge-buffer", 0.0), ["--wedge-buffer: found no --wedge"]),
        (("--wedge", 30, "--wedge-buffer", -1), ["--wedge-buffer: found -1"]),
        (("--channels-per-segment", 1), ["--channels-per-segment: found 1, expected at least 2"]),
        (("--channels-per-segment", 3), ["--channels-per-segment", "whole stretches"]),
        (("--hours-per-day", -1), ["--hours-per-day: found -1"]),
        (("--wedge", 90, "--wedge-buffer", 5), ["no mode that is measured"]),
        (("--cells-per-channel", 5), ["channels of 5 cells on 16"]),
        (("--layout", "none.csv"), ["none.csv", "no such file"]),
    ):
        observe(infield, smooth_cones, tmp_path / "m.zarr", *options).refused(*words)
        assert not (tmp_path / "m.zarr").exists()
