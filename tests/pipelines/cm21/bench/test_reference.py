"""The simulator's side of notebook 40 in one file: what is read is what was summarised, and what the bench uses."""

from __future__ import annotations

import dataclasses

import examples.lightcone_prior_example as example
import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.datasets.cm21.lightcone_file import DENSITY, TEMPERATURE, Lightcones, lightcone_grid, lightcone_writer
from infield.datasets.cm21.observation import Observation
from infield.physics.cm21.telescopes import TELESCOPES
from infield.pipelines.cm21.bench.reference import REFERENCE, load_reference, main, make_reference
from infield.pipelines.cm21.bench.telescope import half_ionised, wiener_prior
from infield.posterior.cm21.summary import LightconeSummary

N, DEPTH, MEMBERS = 8, 80, 5
PRIOR = example.prior(points=N, depth=DEPTH)
EDGES = torch.linspace(-50, 50, 11, dtype=torch.float64)


def cones(seed):
    """Noise about a mean, the nearer the more of it ionised."""
    white = np.random.default_rng(seed).standard_normal((MEMBERS, N, N, DEPTH))
    z = np.linspace(0, 1, DEPTH)
    return np.where(white < 3 - 6 * z, 0.0, 5 + 10 * z + white).astype(np.float32)


def write(path, values, zeta, points=N, boxes=None):
    told = Lightcones(
        grid=lightcone_grid((points, points), example.CELL, PRIOR.distance),
        redshift=PRIOR.redshift,
        samples=len(values),
        parameters={"HII_EFF_FACTOR": np.asarray(zeta)},
        seeds=np.arange(len(values)),
    )
    writer = lightcone_writer(path, told, run={}, title="test", box=None if boxes is None else boxes.shape[1:])
    for i, cone in enumerate(values):
        writer.write_block(i, {TEMPERATURE: cone[None]} | ({} if boxes is None else {DENSITY: boxes[i][None]}))
    writer.finish()
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    for i, zeta in enumerate((30.0, 130.0)):
        write(folder / f"ref{i}.zarr", cones(i), np.full(MEMBERS, zeta))
    assert main([str(folder / "ref0.zarr"), str(folder / "ref1.zarr"), "-o", str(folder / "reference.npz")]) == 0
    return folder


def test_initial_conditions_of_the_truth_are_kept(files, tmp_path):
    boxes = np.random.default_rng(9).standard_normal((MEMBERS, 16, 16, 16)).astype(np.float32)
    path = write(tmp_path / "begun.zarr", cones(0), np.full(MEMBERS, 30.0), boxes=boxes)
    make_reference([path], tmp_path / "begun.npz")
    box = load_reference(tmp_path / "begun.npz").box
    assert box.shape == (16, 16, 16) and np.allclose(box, boxes[0].transpose(2, 0, 1), atol=2e-3)
    assert load_reference(files / "reference.npz").box is None


def test_what_is_read_is_what_was_summarised(files):
    reference = load_reference(files / "reference.npz")
    assert [dict(one.point) for one in reference.ensembles] == [{"HII_EFF_FACTOR": 30.0}, {"HII_EFF_FACTOR": 130.0}]
    assert np.array_equal(reference.cones.redshift, PRIOR.redshift) and reference.cones.grid.shape == (N, N, DEPTH)
    for i, one in enumerate(reference.ensembles):
        values = torch.from_numpy(cones(i)).double()
        spacing = (example.CELL,) * 3
        expected = LightconeSummary.of(values, spacing, N, EDGES)
        again = reference.summary(one.point, values)
        for name in ("global_signal", "zeros", "spectrum", "k"):
            torch.testing.assert_close(getattr(one, name), getattr(expected, name), rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(getattr(again, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
        part, cells = one.part(slice(2 * N, 5 * N), N), values[..., 2 * N : 5 * N]
        torch.testing.assert_close(part.spectrum, reference.summary({}, cells).spectrum, rtol=1e-5, atol=1e-5)
        assert part.zeros.shape == (MEMBERS, 3 * N)
        with pytest.raises(ValueError, match="expected edges"):
            one.part(slice(1, N), N)


def test_truth_and_wiener_filtering_are_those_of_the_bench(files):
    reference = load_reference(files / "reference.npz")
    values = torch.from_numpy(cones(0)).double()
    cells = half_ionised((values == 0).double().mean((0, 1, 2)))
    assert reference.cells == cells and abs(float((reference.truth == 0).double().mean()) - 0.5) < 0.1
    assert torch.equal(reference.truth, values[0, ..., cells])
    expected, found = wiener_prior(values[1:, ..., cells]), reference.wiener
    torch.testing.assert_close(found.covariance.diagonal, expected.covariance.diagonal, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found.standardisation.shift, expected.standardisation.shift)


def test_a_telescope_sees_the_truth(files):
    reference = load_reference(files / "reference.npz")
    short = dataclasses.replace(TELESCOPES["hera-like"](None), hours_a_day=1.0)
    measurement = reference.measure(Observation(telescope=short, hours=1000.0), 3)
    assert torch.equal(measurement.truth[0, 0], reference.truth) and measurement.units == "mK"
    seen = measurement.operator.observed
    white = ((measurement.y - measurement.operator.A(measurement.truth))[0] / measurement.noise.variance.sqrt())[seen]
    assert 0.7 < float(white.square().mean()) < 1.3 and len(white) > 100


def test_inputs_that_are_refused(files, tmp_path, capsys):
    two = write(tmp_path / "two.zarr", cones(0), np.arange(MEMBERS))
    one = write(tmp_path / "one.zarr", cones(0)[:1], np.ones(1))
    for path, words in ((two, "one point of the parameters"), (one, "an ensemble of several seeds")):
        with pytest.raises(InfieldError, match=words):
            make_reference([path], tmp_path / "out.npz")
    assert main([str(files / "ref0.zarr"), "-o", str(files / "reference.npz")]) == 1
    assert "found an existing file" in capsys.readouterr().err
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("missing.npz", "text.npz"):
        with pytest.raises(InfieldError, match="expected one of cm21_reference"):
            load_reference(tmp_path / name)
    np.savez(tmp_path / "other.npz", version=1)
    with pytest.raises(InfieldError, match=r"no cell, .*expected one of cm21_reference"):
        load_reference(tmp_path / "other.npz")
    np.savez(tmp_path / "newer.npz", version=99)
    with pytest.raises(InfieldError, match="version 99"):
        load_reference(tmp_path / "newer.npz")


def test_the_shipped_file():
    reference = load_reference(REFERENCE)
    assert REFERENCE.stat().st_size < 1_000_000
    assert reference.box.shape == (64, 64, 64) and 2.5 < float(reference.box.std()) < 3.2  # of 2 Mpc cells, today
    assert reference.cones.grid.shape == (32, 32, 512) and reference.truth.shape == (32, 32, 64)
    assert [len(one.zeros) for one in reference.ensembles] == [30, 30]
    assert reference.cones.provenance["settings"]["M_MIN_in_Mass"] is False  # where ION_Tvir_MIN counts
    assert 0.3 < float((reference.truth == 0).double().mean()) < 0.7
