"""`infield emulate`: cones of a prior in the file of lightcones, the same after a kill, and what is refused."""

from __future__ import annotations

import json

import examples.lightcone_prior_example as example
import numpy as np
import pytest
import torch
from examples.zarr_files import contents

from infield import InfieldError
from infield.datasets.cm21.lightcone_file import SEED, TEMPERATURE, open_lightcones
from infield.pipelines.cm21.parameter_design import Design, cone_seeds
from infield.priors.cm21.prior import LightconePrior
from infield.priors.cm21.prior_entry import load_lightcone_prior

POINT = "ION_Tvir_MIN: 4.8\nHII_EFF_FACTOR: 131.341\n"


@pytest.fixture
def prior(tmp_path):
    return example.save(tmp_path / "p.ckpt")


@pytest.fixture
def run(infield, prior, tmp_path):
    """The command on a text of parameters; small unless told otherwise."""

    def emulated(params, *options, output="e.zarr"):
        (tmp_path / "params.yaml").write_text(params)
        files = ("--prior", prior, "--params", tmp_path / "params.yaml", "-o", tmp_path / output)
        return infield("emulate", *files, "--steps", 2, "--workers", 2, *options, "--json")

    return emulated


def test_the_file_holds_what_the_prior_draws_from_its_seeds(run, prior, tmp_path):
    facts = run(POINT, "--samples", 3, "--seed", 5).summary
    assert facts["cones"] == 3 and facts["shape"] == [4, 4, 12] and facts["velocity_calls"] == 2
    assert facts["extrapolated"] == [] and facts["parameters"]["ION_Tvir_MIN"] == [4.8, 4.8]
    group, cones = open_lightcones(tmp_path / "e.zarr")
    np.testing.assert_array_equal(group[SEED], cone_seeds(3, 5))
    loaded = load_lightcone_prior(prior)
    np.testing.assert_allclose(cones.redshift, loaded.redshift)
    assert cones.grid.spacing == pytest.approx((4, 4, 4)) and cones.grid.axes[0].periodic
    for i in range(3):
        point = {name: float(values[i]) for name, values in cones.parameters.items()}
        assert point == {"ION_Tvir_MIN": 4.8, "HII_EFF_FACTOR": 131.341}
        generator = torch.Generator().manual_seed(int(cones.seeds[i]))
        np.testing.assert_array_equal(group[TEMPERATURE][i], loaded.draw(point, generator, steps=2)[0])
    assert not np.array_equal(group[TEMPERATURE][0], group[TEMPERATURE][1])
    assert cones.provenance["prior"]["sha256"] == loaded.sha256 == facts["sha256"] and loaded.sha256
    assert cones.provenance["velocity_calls"] == 2 and "small" in cones.history[0]


def test_an_emulator_draws_where_the_prior_has_one(infield, tmp_path):
    path = example.save(tmp_path / "s.ckpt", with_emulator=True)
    (tmp_path / "params.yaml").write_text(POINT)

    def emulated(output, *options):
        files = ("--prior", path, "--params", tmp_path / "params.yaml", "-o", tmp_path / output)
        return infield("emulate", *files, "--samples", 2, "--seed", 5, "--json", *options).summary

    facts, by_flow = emulated("s.zarr"), emulated("f.zarr", "--steps", 2)
    assert facts["emulator"] and facts["velocity_calls"] == 1
    assert not by_flow["emulator"] and by_flow["velocity_calls"] == 2
    group, cones = open_lightcones(tmp_path / "s.zarr")
    loaded, generator = load_lightcone_prior(path), torch.Generator().manual_seed(int(cones.seeds[1]))
    point = {name: float(values[1]) for name, values in cones.parameters.items()}
    np.testing.assert_array_equal(group[TEMPERATURE][1], loaded.draw(point, generator)[0])
    assert cones.provenance["emulator"] == {"prior": "none"} and "the emulator of the prior" in cones.history[0]
    other, about = open_lightcones(tmp_path / "f.zarr")
    assert not np.allclose(group[TEMPERATURE], other[TEMPERATURE], atol=1e-3)
    assert "emulator" not in about.provenance and "emulator" not in about.history[0]


def test_ranges_are_a_hypercube_and_points_share_the_cones(run, tmp_path):
    run("ION_Tvir_MIN: [4.5, 5]\nHII_EFF_FACTOR: 3e1\n", "--samples", 4, "--seed", 2)
    _, cones = open_lightcones(tmp_path / "e.zarr")
    expected = Design({"ION_Tvir_MIN": (4.5, 5.0)}, {"HII_EFF_FACTOR": 30.0}).points(4, 2)
    for name, values in expected.items():
        np.testing.assert_array_equal(cones.parameters[name], values)
    points = "- {ION_Tvir_MIN: 4.4, HII_EFF_FACTOR: 30}\n- {HII_EFF_FACTOR: 60, ION_Tvir_MIN: 5}\n"
    facts = run(points, "--samples", 4, output="two.zarr").summary
    _, cones = open_lightcones(tmp_path / "two.zarr")
    assert list(cones.parameters["ION_Tvir_MIN"]) == [4.4, 4.4, 5, 5]
    assert list(cones.parameters["HII_EFF_FACTOR"]) == [30, 30, 60, 60] and facts["cones"] == 4
    run(points, "--samples", 3, output="odd.zarr").refused("--samples", "3 cones for the 2 points", "multiple")


def test_a_run_that_stopped_ends_with_the_same_bytes(run, tmp_path, monkeypatch):
    run(POINT, "--samples", 4, output="whole.zarr")
    drawn = []

    def until_the_third(*arguments, **settings):
        drawn.append(1)
        if len(drawn) == 3:
            raise InfieldError("the third")
        return original(*arguments, **settings)

    original = LightconePrior.draw
    monkeypatch.setattr(LightconePrior, "draw", until_the_third)
    stopped = run(POINT, "--samples", 4, "--workers", 1, output="part.zarr")
    stopped.refused("the third")
    assert (tmp_path / "part.zarr.partial").exists() and not (tmp_path / "part.zarr").exists()
    other = run("ION_Tvir_MIN: 4.9\nHII_EFF_FACTOR: 131.341\n", "--samples", 4, output="part.zarr")
    other.refused("part.zarr.partial", "provenance", "remove")  # cones of two points would be in one file
    run(POINT, "--samples", 4, output="part.zarr")
    assert contents(tmp_path / "part.zarr") == contents(tmp_path / "whole.zarr")
    assert len(drawn) <= 6  # what was done is not done again: 3 or 4 before, 2 after


def test_parts_of_the_line_of_sight_and_other_sizes(run, prior, tmp_path):
    z = load_lightcone_prior(prior).redshift
    facts = run(POINT, "--samples", 1, "--redshift-range", z[2], z[9] + 1e-8, "--depth", 6, "--points", 8).summary
    assert facts["shape"] == [8, 8, 6] and facts["redshift"] == pytest.approx([z[2], z[7]])
    for options, words in (
        (("--depth", 13), ["--depth", "13", "2 to 12", f"{z[0]:.4g}"]),
        (("--redshift-range", z[4], z[-1], "--depth", 10), ["--depth", "2 to 8"]),
        (("--redshift-range", 6, z[3]), ["--redshift-range", "6 to", "the range of the prior"]),
        (("--redshift-range", z[3], 30), ["--redshift-range", "30"]),
        (("--redshift-range", z[5], z[3]), ["--redshift-range", "lower and a higher"]),
        (("--redshift-range", z[3], "nan"), ["--redshift-range", "nan"]),
        (("--redshift-range", z[3] + 1e-4, z[3] + 2e-4), ["--redshift-range", "0 cells"]),
        (("--points", 3), ["3 x 3", "multiples of 2"]),
        (("--points", 0), ["--points"]),
        (("--steps", 0), ["--steps"]),
        (("--samples", 0), ["--samples"]),
        (("--device", "cuda:99"), ["--device cuda:99"]),
    ):
        run(POINT, *options, output="no.zarr").refused(*words)
        assert not list(tmp_path.glob("no.zarr*"))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("ION_Tvir_MIN: 4.8\n", ["no HII_EFF_FACTOR", "ION_Tvir_MIN, HII_EFF_FACTOR"]),
        (POINT + "L_X: 40\n", ["unknown L_X"]),
        ("ION_Tvir_MIN: 6.5\nHII_EFF_FACTOR: 30\n", ["ION_Tvir_MIN", "6.5", "4 to 6", "--extrapolate"]),
        ("ION_Tvir_MIN: [4, 6.5]\nHII_EFF_FACTOR: 30\n", ["ION_Tvir_MIN", "6.5", "4 to 6", "--extrapolate"]),
        ("ION_Tvir_MIN: [5, 4]\nHII_EFF_FACTOR: 30\n", ["5 to 4", "lower and a higher"]),
        ("ION_Tvir_MIN: [4, 5, 6]\nHII_EFF_FACTOR: 30\n", ["[4, 5, 6]", "[LOW, HIGH]"]),
        ("ION_Tvir_MIN: .nan\nHII_EFF_FACTOR: 30\n", ["ION_Tvir_MIN", "nan", "finite"]),
        ("ION_Tvir_MIN: yes\nHII_EFF_FACTOR: 30\n", ["True", "finite"]),
        ("ION_Tvir_MIN: high\nHII_EFF_FACTOR: 30\n", ["'high'", "finite"]),
        ("ION_Tvir_MIN: {a: 1}\nHII_EFF_FACTOR: 30\n", ["{'a': 1}", "finite"]),
        ("", ["None", "NAME: VALUE"]),
        ("[]", ["[]", "NAME: VALUE"]),
        ("4.8", ["4.8", "NAME: VALUE"]),
        ("a: [", ["expected YAML"]),
        ("- {ION_Tvir_MIN: 4.8, HII_EFF_FACTOR: 30}\n- {ION_Tvir_MIN: 5}", ["point 1", "as in point 0"]),
        ("- {ION_Tvir_MIN: [4, 5], HII_EFF_FACTOR: 30}", ["a range within a list"]),
    ],
)
def test_parameters_that_are_refused(run, tmp_path, params, words):
    run(params).refused("params.yaml", *words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.ckpt", "params.yaml"]


def test_extrapolation_is_said_in_the_file(run, tmp_path):
    said = run("ION_Tvir_MIN: 6.5\nHII_EFF_FACTOR: [5, 30]\n", "--samples", 2, "--extrapolate")
    told = ["ION_Tvir_MIN 6.5, training 4 to 6", "HII_EFF_FACTOR 5, training 10 to 250"]
    assert said.summary["extrapolated"] == told
    _, cones = open_lightcones(tmp_path / "e.zarr")
    assert cones.provenance["extrapolated"] == told and cones.history[1] == f"extrapolated: {told[0]}"
    run("ION_Tvir_MIN: .inf\nHII_EFF_FACTOR: 30\n", "--extrapolate", output="no.zarr").refused("inf")


def test_priors_that_are_none(infield, tmp_path):
    (tmp_path / "params.yaml").write_text(POINT)
    torch.save({"infield_pmrf": {"version": 1}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing")
    for name, words in (
        ("other.ckpt", ["other.ckpt", "lightcones", "is a pmrf"]),
        ("text.ckpt", ["text.ckpt", "cannot be read"]),
        ("none.ckpt", ["none.ckpt", "no such file"]),
    ):
        files = ("--prior", tmp_path / name, "--params", tmp_path / "params.yaml", "-o", tmp_path / "e.zarr")
        infield("emulate", *files).refused(*words)
    example.save(tmp_path / "p.ckpt")
    files = ("--prior", tmp_path / "p.ckpt", "--params", tmp_path / "no.yaml", "-o", tmp_path / "e.zarr")
    infield("emulate", *files).refused("no.yaml", "no file there")
    assert not list(tmp_path.glob("e.zarr*"))


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bytes(start_held, infield, tmp_path):
    """kill -9 amid the cones."""
    (tmp_path / "params.yaml").write_text(POINT)
    example.save(tmp_path / "p.ckpt")
    common = ("emulate", "--prior", tmp_path / "p.ckpt", "--params", tmp_path / "params.yaml", "--samples", 4)
    common += ("--steps", 2, "--workers", 1, "--json", "-o")
    killed = start_held("infield", *common, tmp_path / "killed.zarr", held_after=2)
    killed.kill()
    killed.communicate()
    assert len(list((tmp_path / "killed.zarr.partial").glob("brightness_temp/c/*"))) == 2
    infield(*common, tmp_path / "killed.zarr")
    infield(*common, tmp_path / "whole.zarr")
    one, two = contents(tmp_path / "killed.zarr"), contents(tmp_path / "whole.zarr")
    assert [name for name in {*one, *two} if one.get(name) != two.get(name)] == []
    assert json.loads((tmp_path / "whole.zarr" / "zarr.json").read_text())["attributes"]["infield_complete"] == 1
