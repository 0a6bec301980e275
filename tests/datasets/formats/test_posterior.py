"""The posterior format: written block by block, continued after a kill, never complete before it is."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from examples.zarr_files import contents

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.datasets.formats.posterior import PosteriorWriter, open_posterior

GRID = Grid((Axis("y", (0.0, 1.0, 3.0), "km"), Axis("x", (0.0, 0.5), "km", True)))
RUN = {
    "sampler": "faps",
    "sampler_parameters": {"steps": 32, "levels": [0.1, 1.0]},
    "prior": "matern",
    "prior_sha256": "ab" * 32,
    "seed": 7,
    "measurement_sha256": "cd" * 32,
}
COST = {"velocity_calls": 40, "operator_calls": 80, "seconds": 0.5}


def writer(path, **changes):
    settings = {"grid": GRID, "channels": ("u", "v"), "units": "m s-1", "samples": 7, "block": 3, "run": RUN, **changes}
    return PosteriorWriter(path, **settings)


def block(b, shape=(2, 3, 2), samples=7, size=3):
    """Samples that depend on their number alone."""
    numbers = range(b * size, min((b + 1) * size, samples))
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in numbers]
    )


def write(path, blocks=(0, 1, 2), finish=True, **changes):
    w = writer(path, **changes)
    for b in blocks:
        w.write_block(b, block(b), COST)
    if finish:
        w.finish({"device": "cpu"}, {"chi_square": 1.02})
    return w


def test_posterior_says_what_it_is(tmp_path):
    write(tmp_path / "p.zarr", dtype="float64")
    posterior = open_posterior(tmp_path / "p.zarr")
    samples = torch.cat([block(b) for b in range(3)]).numpy()
    assert posterior["samples"].dims == ("sample", "channel", "y", "x")
    np.testing.assert_array_equal(posterior["samples"], samples)
    np.testing.assert_allclose(posterior["mean"], samples.mean(0), rtol=1e-14)
    np.testing.assert_allclose(posterior["std"], samples.std(0, ddof=1), rtol=1e-13)
    assert posterior["samples"].attrs["units"] == posterior["mean"].attrs["units"] == "m s-1"
    assert posterior["y"].values.tolist() == [0, 1, 3] and posterior["x"].attrs == {"units": "km", "periodic": 1}
    assert posterior["channel"].attrs["flag_meanings"] == "u v" and (posterior["done"] == 1).all()
    attributes = posterior.attrs
    assert (attributes["infield_format"], attributes["infield_version"], attributes["infield_complete"]) == (
        "posterior",
        1,
        1,
    )
    assert attributes["sampler"] == "faps" and attributes["seed"] == 7 and attributes["prior_sha256"] == "ab" * 32
    assert json.loads(attributes["sampler_parameters"]) == RUN["sampler_parameters"]
    assert json.loads(attributes["cost"]) == {
        "velocity_calls": 120,
        "operator_calls": 240,
        "seconds": 1.5,
        "device": "cpu",
    }
    assert json.loads(attributes["diagnostics"]) == {"chi_square": 1.02}
    assert json.loads(attributes["versions"])["zarr"] == zarr.__version__
    assert zarr.open_group(tmp_path / "p.zarr", mode="r")["samples"].chunks == (3, 2, 3, 2)


@pytest.mark.filterwarnings("error::zarr.errors.UnstableSpecificationWarning")
def test_opens_with_plain_xarray_and_points_keep_their_coordinates(tmp_path):
    points = PointSet(((0.0, 1.0), (2.0, 3.0), (4.0, 5.0)), ("lon", "lat"), "degree")
    w = writer(tmp_path / "p.zarr", grid=points, channels=("t",), samples=2, block=2)
    w.write_block(0, torch.ones(2, 1, 3), COST)
    w.finish()
    posterior = xr.open_zarr(tmp_path / "p.zarr", consolidated=False)
    assert posterior["samples"].dims == ("sample", "point") and posterior["samples"].dtype == np.float32
    assert posterior["lat"].values.tolist() == [1, 3, 5] and set(posterior["mean"].coords) == {"lon", "lat"}


@pytest.mark.parametrize("before", [(), (1,), (2, 0), (0, 1, 2)])
def test_interrupted_run_gives_the_same_bytes(tmp_path, before):
    """Some blocks, then another writer for the rest: every file is the same as of an uninterrupted run."""
    write(tmp_path / "whole.zarr")
    write(tmp_path / "p.zarr", before, finish=False)
    again = writer(tmp_path / "p.zarr")
    assert again.missing_blocks() == [b for b in range(3) if b not in before]
    for b in again.missing_blocks():
        again.write_block(b, block(b), COST)
    again.finish({"device": "cpu"}, {"chi_square": 1.02})
    assert contents(tmp_path / "p.zarr") == contents(tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.zarr", "whole.zarr"]


def test_other_samples_give_other_bytes(tmp_path):
    """Negative control of the test above."""
    write(tmp_path / "whole.zarr")
    w = write(tmp_path / "p.zarr", (0, 1), finish=False)
    w.write_block(2, block(2) + 1e-6, COST)
    w.finish({"device": "cpu"}, {"chi_square": 1.02})
    assert contents(tmp_path / "p.zarr") != contents(tmp_path / "whole.zarr")


def test_a_block_half_written_is_missing(tmp_path, full_disk):
    """Whatever write of a block is the last to succeed, the block does not count before its flag is written."""
    w = write(tmp_path / "p.zarr", (0,), finish=False)
    for writes in range(6):  # diagnostics, samples, three costs, flag
        with full_disk(after=writes), pytest.raises(InfieldError, match=r"full.*resumes from p\.zarr\.partial"):
            w.write_block(1, block(1), COST)
        assert writer(tmp_path / "p.zarr").missing_blocks() == [1, 2]
    with full_disk(after=6):
        w.write_block(1, block(1), COST)
    assert writer(tmp_path / "p.zarr").missing_blocks() == [2]


def test_full_disk_at_any_moment_never_leaves_a_result(tmp_path, full_disk):
    """A run that starts again after every failed write, with room for one more each time, ends with the same bytes."""
    write(tmp_path / "whole.zarr")
    path, refused = tmp_path / "p.zarr", 0
    for room in range(100):
        with full_disk(after=room):
            try:
                w = writer(path)
                for b in w.missing_blocks():
                    w.write_block(b, block(b), COST)
                w.finish({"device": "cpu"}, {"chi_square": 1.02})
                break
            except InfieldError as error:
                assert "is full" in str(error) and not path.exists()
                refused += 1
    assert refused > 20
    assert contents(path) == contents(tmp_path / "whole.zarr")


def test_run_that_was_killed_goes_on(tmp_path):
    """SIGKILL in the middle of writing, in a process of its own."""
    write(tmp_path / "whole.zarr", samples=7, block=3)
    script = """
        import sys
        sys.path[:0] = [sys.argv[2], sys.argv[2] + "/../.."]
        from test_posterior import COST, block, writer
        w = writer(sys.argv[1])
        while True:  # the same two blocks again and again, until killed
            for b in (0, 1):
                w.write_block(b, block(b), COST)
            print("written", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "p.zarr"), os.path.dirname(__file__)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "p.zarr").exists()
    w = writer(tmp_path / "p.zarr")
    assert w.missing_blocks() == [2]
    w.write_block(2, block(2), COST)
    w.finish({"device": "cpu"}, {"chi_square": 1.02})
    assert contents(tmp_path / "p.zarr") == contents(tmp_path / "whole.zarr")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"run": RUN | {"seed": 8}}, "'seed': found 7, expected 8"),
        ({"run": RUN | {"sampler_parameters": {"steps": 16}}}, "'sampler_parameters'"),
        ({"run": RUN | {"measurement_sha256": "00"}}, "'measurement_sha256'"),
        ({"samples": 8}, "'samples': found 7, expected 8"),
        ({"block": 4}, "'block': found 3, expected 4"),
        ({"dtype": "float64"}, "'dtype'"),
        ({"units": "K"}, "'field'"),
        ({"channels": ("u", "w")}, "'field'"),
        ({"grid": Grid.regular((3, 2))}, "'grid_sha256'"),
    ],
)
def test_another_run_does_not_go_on(tmp_path, change, key):
    write(tmp_path / "p.zarr", (0,), finish=False)
    with pytest.raises(InfieldError, match="remove") as caught:
        writer(tmp_path / "p.zarr", **change)
    assert key in str(caught.value) and "p.zarr.partial" in str(caught.value)
    assert writer(tmp_path / "p.zarr").missing_blocks() == [1, 2]


def test_foreign_partial_is_refused(tmp_path):
    (tmp_path / "p.zarr.partial").mkdir()
    with pytest.raises(InfieldError, match="remove"):
        writer(tmp_path / "p.zarr")


def test_existing_posterior_is_refused_and_replaced_only_at_the_end(tmp_path):
    write(tmp_path / "p.zarr")
    before = contents(tmp_path / "p.zarr")
    with pytest.raises(InfieldError, match="existing"):
        writer(tmp_path / "p.zarr")
    other = RUN | {"seed": 8}
    w = write(tmp_path / "p.zarr", finish=False, run=other, overwrite=True)
    assert contents(tmp_path / "p.zarr") == before
    w.finish()
    assert open_posterior(tmp_path / "p.zarr").attrs["seed"] == 8
    assert [p.name for p in tmp_path.iterdir()] == ["p.zarr"]


def test_posterior_that_appeared_meanwhile_is_kept(tmp_path):
    w = write(tmp_path / "p.zarr", finish=False)
    (tmp_path / "p.zarr").mkdir()
    with pytest.raises(InfieldError, match="existing"):
        w.finish()
    (tmp_path / "p.zarr").rmdir()
    writer(tmp_path / "p.zarr").finish()
    open_posterior(tmp_path / "p.zarr")


def test_one_sample_has_no_standard_deviation(tmp_path):
    w = writer(tmp_path / "p.zarr", samples=1, block=4)
    w.write_block(0, block(0)[:1], COST)
    w.finish()
    assert np.isnan(open_posterior(tmp_path / "p.zarr")["std"]).all()


def test_mean_and_deviation_survive_a_large_offset(tmp_path):
    """A sum of squares would lose all digits here."""
    w = writer(tmp_path / "p.zarr", dtype="float64")
    for b in range(3):
        w.write_block(b, block(b) + 1e8, COST)
    w.finish()
    spread = torch.cat([block(b) for b in range(3)]).std(0)
    np.testing.assert_allclose(open_posterior(tmp_path / "p.zarr")["std"], spread, rtol=1e-6)


def test_samples_that_are_not_finite_or_of_another_shape_are_not_written(tmp_path):
    w = writer(tmp_path / "p.zarr")
    for value in (float("nan"), float("inf"), 1e39):  # the last does not fit into float32
        with pytest.raises(InfieldError, match="NaN or infinity among samples 0 to 2"):
            w.write_block(0, torch.full((3, 2, 3, 2), value, dtype=torch.float64), COST)
    with pytest.raises(ValueError, match="expected"):
        w.write_block(2, block(0), COST)
    with pytest.raises(InfieldError, match="3 missing blocks"):
        w.finish()
    assert w.missing_blocks() == [0, 1, 2]


def _attributes(**changes):
    return lambda path: zarr.open_group(path, mode="r+").attrs.update(changes)


def _incomplete(path):
    zarr.open_group(path, mode="r+")["done"][6] = 2


def _lose(name):
    return lambda path: (path / name).unlink()


BAD = {
    "partial": (_attributes(infield_complete=0), "'infield_complete': found 0, expected 1"),
    "measurement": (_attributes(infield_format="measurement"), "'infield_format': found 'measurement'"),
    "newer": (_attributes(infield_version=9), "'infield_version': found 9, expected at most 1"),
    "sample not done": (_incomplete, "'done': found 1 samples that are not written"),
    "lost samples": (_lose("samples/c/1/0/0/0"), "'samples': found 2 of 3 chunks on disk"),
    "lost flags": (_lose("done/c/2"), "'done': found 2 of 3 chunks on disk"),
    "lost mean": (_lose("mean/c/0/0/0"), "'mean': found 0 of 1 chunks"),
    "lost metadata": (_lose("std/zarr.json"), "'std': found a directory without zarr metadata"),
    "lost coordinate": (_lose("y/c/0"), "'y': found 0 of 1 chunks on disk"),
    "no group": (_lose("zarr.json"), "no zarr group"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_posterior_is_refused_in_one_line(tmp_path, case):
    path = tmp_path / "p.zarr"
    write(path)
    open_posterior(path)
    spoil, expected = BAD[case]
    spoil(path)
    with pytest.raises(InfieldError) as caught:
        open_posterior(path)
    assert expected in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_partial_posterior_never_looks_complete(tmp_path):
    write(tmp_path / "p.zarr", finish=False)
    with pytest.raises(InfieldError, match="not finished"):
        open_posterior(tmp_path / "p.zarr.partial")
    with pytest.raises(InfieldError, match="found nothing there"):
        open_posterior(tmp_path / "p.zarr")
