"""Every bad input through the command itself: one line that says what, where, found and expected; status 2; no
result."""

import errno
import json
import os
import shutil
import subprocess

import dask
import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from examples.example_files import GAUSSIAN, MIXTURE, checkpoint, counts, line, plane, samples, save
from examples.zarr_files import contents

from infield import InfieldError
from infield.datasets.formats.posterior import open_posterior
from infield.posterior.samplers.base import BLOCK


def of(change):
    """A way to spoil the measurement before it is saved."""
    return lambda dataset, path: save(change(dataset), path)


def after(change):
    """A way to spoil the saved measurement."""

    def spoil(dataset, path):
        save(dataset, path)
        change(path)

    return spoil


def attribute(name, value):
    return of(lambda d: d.assign_attrs({name: value if isinstance(value, str | int) else json.dumps(value)}))


def without_attribute(name):
    return of(lambda d: d.drop_attrs(deep=False).assign_attrs({k: v for k, v in d.attrs.items() if k != name}))


def without_variable(name):
    return of(lambda d: d.drop_vars(name))


def value(name, number):
    def change(dataset):
        values = dataset[name].values.astype(float)
        values[1, 2] = number
        return dataset.assign({name: (dataset[name].dims, values, dataset[name].attrs)})

    return of(change)


def variable(name, dims, values, **attributes):
    return of(lambda d: d.drop_vars(name, errors="ignore").assign({name: (dims, values, attributes)}))


def cut(name):
    return after(lambda p: (p / name).write_bytes((p / name).read_bytes()[: (p / name).stat().st_size // 2]))


def lost(name):
    return after(lambda p: (p / name).unlink())


def bent(name):
    """Other bytes of the same number."""
    return after(lambda p: (p / name).write_bytes(bytes(b ^ 255 for b in (p / name).read_bytes())))


FIELD = {"dims": ["y", "x"], "channels": ["temperature"], "units": "mK"}
GAUSS = {"law": "gaussian", "variance": 0.01}
MEASUREMENTS = {
    "path missing": (lambda d, p: None, "found nothing there, expected a zarr group"),
    "text": (lambda d, p: p.write_text("hello"), "found no zarr group there, expected"),
    "bytes": (lambda d, p: p.write_bytes(os.urandom(999)), "found no zarr group there, expected"),
    "empty directory": (lambda d, p: p.mkdir(), "found no zarr group there, expected"),
    "numbers in one npy": (lambda d, p: np.save(p.open("wb"), np.ones(3)), "found no zarr group there, expected"),
    "a zarr group of somebody": (
        of(lambda d: d.drop_attrs(deep=False)),
        "'infield_format': found nothing, expected 'measurement'",
    ),
    "lost group metadata": (lost("zarr.json"), "found no zarr group there, expected"),
    "cut group metadata": (cut("zarr.json"), "'zarr.json': found JSONDecodeError"),
    "cut array metadata": (cut("data/zarr.json"), "'zarr.json': found JSONDecodeError"),
    "lost array metadata": (lost("mask/zarr.json"), "'mask': found a directory without zarr metadata"),
    "lost chunk of the data": (lost("data/c/0/0"), "'data': found 0 of 1 chunks on disk, expected all of them"),
    "lost chunk of the mask": (lost("mask/c/0/0"), "'mask': found 0 of 1 chunks on disk, expected all of them"),
    "lost coordinate": (lost("y/c/0"), "'y': found 0 of 1 chunks on disk, expected all of them"),
    "cut chunk of the data": (cut("data/c/0/0"), "'data': found"),
    "cut chunk of the mask": (cut("mask/c/0/0"), "'mask': found"),
    "bent chunk of the data": (bent("data/c/0/0"), "'data': found"),
    "empty chunk of the data": (after(lambda p: (p / "data/c/0/0").write_bytes(b"")), "'data': found"),
    "foreign format": (attribute("infield_format", "posterior"), "found 'posterior', expected 'measurement'"),
    "newer format": (attribute("infield_version", 3), "'infield_version': found 3, expected at most 2"),
    "format without a number": (attribute("infield_version", "x"), "'infield_version': found 'x', expected a whole"),
    "no attribute infield_version": (without_attribute("infield_version"), "'infield_version': found None, expected"),
    "no attribute field": (without_attribute("field"), "'field': found no such attribute, expected a JSON object"),
    "no attribute operator": (without_attribute("operator"), "'operator': found no such attribute, expected a JSON"),
    "no attribute noise": (without_attribute("noise"), "'noise': found no such attribute, expected a JSON object"),
    "no variable data": (without_variable("data"), "'data': found no such variable, expected one of"),
    "no variable mask": (without_variable("mask"), "'mask': found no such variable, expected one of"),
    "no variable x": (without_variable("x"), "'x': found no such variable, expected one of"),
    "no key dims": (attribute("field", {"channels": ["t"], "units": "mK"}), "'field.dims': found None, expected"),
    "no key channels": (attribute("field", {"dims": ["y", "x"], "units": "mK"}), "'field.channels': found None"),
    "no key units": (attribute("field", {"dims": ["y", "x"], "channels": ["t"]}), "'field.units': found None"),
    "no units of the data": (variable("data", ("y", "x"), np.ones((12, 16))), "'data.units': found None, expected"),
    "no units of an axis": (variable("x", "x", np.arange(16.0)), "'x.units': found None, expected"),
    "no name of the operator": (attribute("operator", {"arrays": {"mask": "mask"}}), "'operator':"),
    "no mask of the operator": (attribute("operator", {"name": "mask"}), "'operator':"),
    "no law": (attribute("noise", {"variance": 1.0}), "'noise':"),
    "no variance": (attribute("noise", {"law": "gaussian"}), "'noise':"),
    "operator that is no JSON": (attribute("operator", "{name: mask}"), "'operator': found text that is no JSON"),
    "unknown operator": (attribute("operator", {"name": "telescope"}), "'telescope'", "mask", "fourier"),
    "unknown parameter": (attribute("operator", {"name": "convolution", "parameters": {"speed": 3}}), "'operator':"),
    "unknown deepinv physics": (attribute("operator", {"name": "deepinv:Telescope"}), "Telescope"),
    "unknown law of noise": (attribute("noise", {"law": "cauchy"}), "'cauchy'", "gaussian, "),
    "NaN in the data": (value("data", np.nan), "'data': found NaN or infinity in 1 of 192 values, expected finite"),
    "Inf in the data": (value("data", np.inf), "'data': found NaN or infinity in 1 of 192 values, expected finite"),
    "NaN in the mask": (value("mask", np.nan), "'mask': found NaN or infinity in 1 of 192 values, expected finite"),
    "Inf in the mask": (value("mask", -np.inf), "'mask': found NaN or infinity in 1 of 192 values, expected finite"),
    "two in the mask": (value("mask", 2.0), "found 2.0 in the mask"),
    "mask of another shape": (variable("mask", ("a", "b"), np.ones((16, 12))), "found mask of shape (16, 12)"),
    "data of another shape": (variable("data", ("a", "x"), np.ones((5, 16)), units="K"), "shape (5, 16), expected"),
    "truth of another shape": (variable("truth", ("a", "x"), np.ones((5, 16))), "'truth': found"),
    "noise of level zero": (attribute("noise", GAUSS | {"variance": 0}), "found variance 0, expected"),
    "negative noise level": (attribute("noise", GAUSS | {"variance": -0.5}), "found variance -0.5, expected"),
    "infinite noise level": (attribute("noise", GAUSS | {"variance": float("inf")}), "found variance inf, expected"),
    "noise level in words": (attribute("noise", GAUSS | {"variance": "low"}), "'low': found no such variable"),
    "nothing observed": (variable("observed", ("y", "x"), np.zeros((12, 16))), "'observed': found 0 everywhere"),
}


@pytest.mark.parametrize("case", MEASUREMENTS)
def test_bad_measurement(tmp_path, reconstruct, case):
    spoil, *words = MEASUREMENTS[case]
    path = tmp_path / "m.zarr"
    spoil(plane(), path)
    before = contents(tmp_path)
    reconstruct(path, "-o", tmp_path / "p.zarr", "--samples", 2).refused(str(path), *words)
    assert contents(tmp_path) == before


def test_the_measurement_that_is_spoilt_is_good(tmp_path, reconstruct):
    """Negative control of the test above, by the same harness."""
    said = reconstruct(save(plane(), tmp_path / "m.zarr"), "-o", tmp_path / "p.zarr", "--samples", 2, "--json")
    assert said.summary["samples"] == 2 and said.err == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.zarr", "p.zarr"]


@pytest.mark.parametrize(
    "chatter",
    [
        "import warnings; warnings.warn('a warning')",
        "import logging, distributed; logging.getLogger('distributed.worker').error('Compute Failed')",
        "import sys; print('Traceback', file=sys.stderr)",
    ],
)
def test_the_harness_sees_a_second_line(tmp_path, reconstruct, monkeypatch, chatter):
    """Negative control: a warning, a log record or a print beside the one line would be noticed."""

    def chatty(path):
        exec(chatter)
        raise InfieldError(f"{path}: bad")

    monkeypatch.setattr("infield.pipelines.commands.reconstruct.open_measurement", chatty)
    said = reconstruct(tmp_path / "m.zarr", "-o", tmp_path / "p.zarr")
    assert said.status == 2
    with pytest.raises(AssertionError):
        said.refused()


def described(text):
    return lambda path: (path.with_suffix(".yaml").write_text(text), path.with_suffix(".yaml"))[1]


def spoilt(change):
    """A checkpoint, spoilt."""

    def spoil(path):
        path = checkpoint(path.with_suffix(".ckpt"))
        change(path)
        return path

    return spoil


def _foreign(path):
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "epoch": 3}, path)


def _newer(path):
    entry = torch.load(path, weights_only=True)
    entry["infield_prior"]["version"] = 3
    torch.save(entry, path)


PRIORS = {
    "missing": (lambda path: path, "no such file, and no prior of this name, expected a checkpoint", "matern-3/2"),
    "a folder": (lambda path: (path.mkdir(), path)[1], "found no file there"),
    "a folder named .yaml": (
        lambda path: (path.with_suffix(".yaml").mkdir(), path.with_suffix(".yaml"))[1],
        "expected",
    ),
    "truncated": (spoilt(lambda p: p.write_bytes(p.read_bytes()[:3000])), "cannot be read as a checkpoint"),
    "cut at its end": (spoilt(lambda p: p.write_bytes(p.read_bytes()[:-100])), "cannot be read as a checkpoint"),
    "empty": (spoilt(lambda p: p.write_bytes(b"")), "cannot be read as a checkpoint"),
    "random bytes": (spoilt(lambda p: p.write_bytes(os.urandom(4000))), "cannot be read as a checkpoint"),
    "a foreign torch file": (spoilt(_foreign), "'infield_prior': found no such entry, expected a prior"),
    "of a newer format": (spoilt(_newer), "'infield_prior.version': found 3, expected at most 2"),
    "checkpoint in other units": (
        lambda p: checkpoint(p, units="m s-1"),
        "found units 'm s-1', expected 'K', as the measurement's field",
    ),
    "checkpoint of fewer channels": (
        lambda p: checkpoint(p, channels=2),
        "found 2 channels, expected 1 (",
    ),
    "checkpoint of another grid": (lambda p: checkpoint(p, n=19), "found (17,), expected (19,) as in training"),
    "checkpoint of another extent": (
        lambda p: checkpoint(p, length=3.0),
        "axis 'x' of the measurement: found an extent of 1 1, expected 3 1",
    ),
    "checkpoint in other units of length": (
        lambda p: checkpoint(p, axis_units="km"),
        "found an extent of 1 1, expected 1 km as in training",
    ),
    "no YAML": (described("prior: [gaussian"), "expected YAML"),
    "bytes named .yaml": (
        lambda p: (p.with_suffix(".yaml").write_bytes(b"\xff\xfe\x00\x81"), p.with_suffix(".yaml"))[1],
        "YAML",
    ),
    "empty YAML": (described(""), "key 'prior': found None, expected one of gaussian, mixture"),
    "YAML list": (described("- 1\n- 2"), "key 'prior': found None, expected one of gaussian, mixture"),
    "unknown prior": (described("prior: student"), "found 'student', expected one of gaussian, mixture"),
    "unknown key": (described(GAUSSIAN + "lenght: 3"), "found key 'lenght', expected only"),
    "no law": (described("prior: gaussian"), "found no key 'law'"),
    "unknown law": (described("prior: gaussian\nlaw: {law: brown}"), "brown"),
    "negative length": (described("prior: gaussian\nlaw: {law: matern, nu: 1.5, length: -1}"), "length"),
    "description in other units": (
        described(GAUSSIAN + "units: mm"),
        "found units 'mm', expected 'K', as the measurement's field",
    ),
    "mixture without source": (described(MIXTURE.split("source")[0]), "key 'source': found none"),
    "mixture in other units": (
        described(MIXTURE + "units: mm"),
        "found units 'mm', expected 'K', as the measurement's field",
    ),
}


@pytest.mark.parametrize("case", PRIORS)
def test_bad_prior(tmp_path, reconstruct, case):
    build, *words = PRIORS[case]
    measurement, prior = save(line(), tmp_path / "m.zarr"), build(tmp_path / "prior")
    before = contents(tmp_path)
    said = reconstruct(measurement, "-o", tmp_path / "p.zarr", "--prior", prior, "--samples", 2)
    said.refused(str(prior), *words)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("build", [checkpoint, described(GAUSSIAN + "units: K"), described(MIXTURE + "units: K")])
def test_the_priors_that_are_spoilt_are_good(tmp_path, reconstruct, build):
    """Negative control of the test above."""
    measurement, prior = save(line(), tmp_path / "m.zarr"), build(tmp_path / "prior.ckpt")
    arguments = ["-o", tmp_path / "p.zarr", "--prior", prior, "--samples", 2, "--with", "levels=2", "--json"]
    assert reconstruct(measurement, *arguments).summary["samples"] == 2


def test_more_channels_than_the_prior_has(tmp_path, reconstruct):
    dataset = line()
    field = json.loads(dataset.attrs["field"]) | {"channels": ["u", "v", "w"]}
    dataset["data"] = (("channel", "x"), np.stack([dataset["data"].values] * 3), {"units": "K"})
    path = save(dataset.assign_attrs(field=json.dumps(field)), tmp_path / "m.zarr")
    prior = checkpoint(tmp_path / "prior.ckpt")
    said = reconstruct(path, "-o", tmp_path / "p.zarr", "--prior", prior)
    said.refused(str(prior), "found 1 channels, expected 3 (u, v, w)")
    assert not (tmp_path / "p.zarr").exists() and not (tmp_path / "p.zarr.partial").exists()


def test_a_prior_on_a_grid_for_scattered_points(tmp_path, reconstruct):
    dataset = line().rename_vars(x="position").rename_dims(x="point")
    field = {"dims": ["point"], "coordinates": ["position"], "channels": ["c0"], "units": "K"}
    path = save(dataset.assign_attrs(field=json.dumps(field)), tmp_path / "m.zarr")
    prior = checkpoint(tmp_path / "prior.ckpt")
    said = reconstruct(path, "-o", tmp_path / "p.zarr", "--prior", prior)
    said.refused(str(prior), "on a grid", "scattered points")


FLAGS = {
    **(
        {}
        if torch.cuda.is_available()
        else {"no GPU": (["--device", "cuda"], "--device cuda: found ", "expected auto")}
    ),
    "unknown sampler": (["--sampler", "gibbs"], "'gibbs'", "expected one of faps, "),
    "unknown parameter": (["--with", "speed=3"], "--with: found speed=3", "levels"),
    "parameter without value": (["--with", "levels"], "--with: found levels", "PARAMETER=VALUE"),
    "parameter of another type": (["--with", "levels=many"], "--with levels=many", "found 'many', expected int"),
    "levels below one": (["--with", "levels=0"], "found levels 0"),
    "no samples": (["--samples", "0", "--prior", "PRIOR.ckpt"], "--samples: found 0, expected at least 1"),
    "negative seed": (["--seed", "-1"], "--seed: found -1, expected at least 0"),
    "no workers": (["--workers", "0"], "--workers: found 0, expected at least 1"),
    "samples in words": (["--samples", "many"], "--samples", "'many'"),
    "unknown flag": (["--colour", "red"], "--colour red"),
    "unknown device": (["--device", "abacus"], "--device abacus", "expected auto, cpu"),
    "a device without values": (["--device", "meta"], "--device meta", "expected auto, cpu"),
    "no scheduler": (["--json", "--scheduler", "nowhere"], "--scheduler nowhere: no Dask scheduler answers there"),
    "fit beside a prior": (["--isotropic", "--prior", "PRIOR.ckpt"], "--isotropic: found no fit to data at points"),
    "parameters of a prior without any": (["--at", "A=1"], "--at A: found "),
    "sampler that needs a linear problem": (["--sampler", "exact", "--prior", "PRIOR.ckpt"], "exact", "faps"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_bad_flag(tmp_path, reconstruct, case):
    flags, *words = FLAGS[case]
    measurement, prior = save(line(), tmp_path / "m.zarr"), checkpoint(tmp_path / "prior.ckpt")
    flags = [prior if flag == "PRIOR.ckpt" else flag for flag in flags]
    before = contents(tmp_path)
    reconstruct(measurement, "-o", tmp_path / "p.zarr", *flags).refused(*words)
    assert contents(tmp_path) == before


def test_a_scheduler_that_does_not_answer_leaves_dask_as_it_was(tmp_path, reconstruct):
    before = dask.config.get("scheduler", None)
    reconstruct(save(line(), tmp_path / "m.zarr"), "-o", tmp_path / "p.zarr", "--scheduler", "nowhere")
    assert dask.config.get("scheduler", None) == before


def test_missing_output(tmp_path, reconstruct):
    reconstruct(save(line(), tmp_path / "m.zarr")).refused("-o/--output")


def test_counts_need_a_prior_that_allows_them(tmp_path, reconstruct):
    path = save(counts(), tmp_path / "m.zarr")
    prior = described(GAUSSIAN)(tmp_path / "prior")
    said = reconstruct(path, "-o", tmp_path / "p.zarr", "--prior", prior, "--samples", 2)
    said.refused(str(path), "at the prior's mean, expected a finite number")
    assert not (tmp_path / "p.zarr").exists() and not (tmp_path / "p.zarr.partial").exists()


def test_data_without_signal_are_not_trusted(tmp_path, reconstruct):
    path = save(plane().assign_attrs(noise=json.dumps(GAUSS | {"variance": 100.0})), tmp_path / "m.zarr")
    said = reconstruct(path, "-o", tmp_path / "p.zarr", "--samples", 2)
    assert said.status == 0 and "warning: not to be trusted: the data scatter" in said.err
    with xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as posterior:
        assert posterior.attrs["trusted"] == 0 and "scatter" in posterior.attrs["trusted_because"]


def test_a_sampler_that_diverges_leaves_no_result(tmp_path, reconstruct):
    path = save(line(), tmp_path / "m.zarr")
    flags = ["--sampler", "faps-published", "--with", "step=1e9", "--with", "levels=2", "--samples", 2, "--json"]
    said = reconstruct(path, "-o", tmp_path / "p.zarr", "--prior", "matern-3/2", *flags)
    said.refused(str(tmp_path / "p.zarr"), "NaN or infinity among samples 0 to 1, expected finite values")
    assert [p.name for p in tmp_path.iterdir()] == ["m.zarr"]


@pytest.mark.parametrize("kind", ["posterior", "file", "folder"])
def test_an_output_that_exists_is_left_alone(tmp_path, reconstruct, kind):
    measurement, output = save(line(), tmp_path / "m.zarr"), tmp_path / "p.zarr"
    if kind == "posterior":
        assert reconstruct(measurement, "-o", output, "--samples", 2).status == 0
    elif kind == "file":
        output.write_text("precious")
    else:
        output.mkdir()
        (output / "precious.txt").write_text("precious")
    before = contents(tmp_path)
    said = reconstruct(measurement, "-o", output, "--samples", 2, "--seed", 1)
    said.refused(str(output), "found an existing output, expected a new path")
    said = reconstruct(measurement, "-o", output, "--samples", 2, "--seed", 1, "--overwrite", "--json")
    if kind == "posterior":
        assert said.summary["seed"] == 1 and contents(tmp_path) != before
    else:
        said.refused(str(output), "found something that is no zarr group, which is never overwritten")
        assert contents(tmp_path) == before


def test_a_report_that_exists_is_refused_before_the_work(tmp_path, reconstruct):
    measurement, report = save(line(), tmp_path / "m.zarr"), tmp_path / "r.html"
    report.write_text("precious")
    said = reconstruct(measurement, "-o", tmp_path / "p.zarr", "--samples", 2, "--report", report)
    said.refused(str(report), "found an existing file, expected a new path")
    assert report.read_text() == "precious" and not (tmp_path / "p.zarr").exists()


def test_output_under_what_is_no_folder(tmp_path, reconstruct):
    measurement = save(line(), tmp_path / "m.zarr")
    (tmp_path / "notes").write_text("precious")
    output = tmp_path / "notes" / "deep" / "p.zarr"
    reconstruct(measurement, "-o", output, "--samples", 2).refused(str(output), f"{tmp_path / 'notes'} is no folder")
    assert (tmp_path / "notes").read_text() == "precious"


def test_folders_of_the_output_are_made(tmp_path, reconstruct):
    measurement, output = save(line(), tmp_path / "m.zarr"), tmp_path / "a" / "b" / "p.zarr"
    assert reconstruct(measurement, "-o", output, "--samples", 2).status == 0
    assert samples(output).shape == (2, 17)


@pytest.mark.field
def test_output_in_a_folder_that_may_not_be_written(tmp_path, reconstruct, monkeypatch):
    measurement, folder = save(line(), tmp_path / "m.zarr"), tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):  # root may write anywhere: ask the operating system as another would
        access = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode: os.fspath(path) != os.fspath(folder) and access(path, mode)
        )
    said = reconstruct(measurement, "-o", folder / "p.zarr", "--samples", 2)
    said.refused(str(folder / "p.zarr"), "may not be written", "choose another path")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.98])
def test_a_full_disk_leaves_no_result_and_the_run_goes_on(tmp_path, reconstruct, full_disk, share):
    measurement, output = save(line(), tmp_path / "m.zarr"), tmp_path / "p.zarr"
    command = [measurement, "-o", output, "--prior", "matern-3/2", "--samples", 2 * BLOCK + 1, "--json"]
    with full_disk(after=10**6) as left:
        assert reconstruct(measurement, "-o", tmp_path / "whole.zarr", *command[3:]).status == 0
        writes = 10**6 - left[0]
    with full_disk(after=int(share * writes)):
        said = reconstruct(*command)
    said.refused(str(output), "is full; make room and start the same command again")
    assert not output.exists()
    partial = tmp_path / "p.zarr.partial"
    if partial.exists():
        with pytest.raises(InfieldError, match="not finished"):
            open_posterior(partial)
    assert reconstruct(*command).summary["samples"] == 2 * BLOCK + 1
    assert samples(output).tobytes() == samples(tmp_path / "whole.zarr").tobytes()


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EDQUOT, "the quota on the disk"), (errno.EFBIG, "a file would exceed the size")]
)
def test_a_quota_and_a_limit_of_files_are_named(tmp_path, reconstruct, full_disk, number, words):
    measurement = save(plane(), tmp_path / "m.zarr")
    with full_disk(after=20, number=number):
        reconstruct(measurement, "-o", tmp_path / "p.zarr", "--samples", 10, "--json").refused(words)


def test_a_disk_that_is_really_full(tmp_path, reconstruct):
    """A file system in memory with room for less than the samples."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = ["-o", "size=256k"]
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", *size, "none", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no permission to mount a small file system")
    try:
        measurement = save(plane((40, 50)), tmp_path / "m.zarr")
        prior = described(GAUSSIAN)(tmp_path / "prior")
        said = reconstruct(measurement, "-o", disk / "p.zarr", "--prior", prior, "--sampler", "exact")
        said.refused(str(disk / "p.zarr"), f"the disk that holds {disk} is full")
        assert [p.name for p in disk.iterdir()] == ["p.zarr.partial"]
        with pytest.raises(InfieldError, match="not finished"):
            open_posterior(disk / "p.zarr.partial")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_debug_shows_the_traceback(tmp_path, reconstruct):
    said = reconstruct(tmp_path / "m.zarr", "-o", tmp_path / "p.zarr", "--debug")
    assert said.status == 2 and "Traceback (most recent call last)" in said.err and "InfieldError" in said.err
    assert said.err.splitlines()[-1].startswith("infield reconstruct: ")


def test_what_nobody_foresaw_is_one_line_as_well(tmp_path, reconstruct, monkeypatch):
    monkeypatch.setattr("infield.pipelines.commands.reconstruct.open_measurement", lambda path: 1 / 0)
    said = reconstruct(tmp_path / "m.zarr", "-o", tmp_path / "p.zarr")
    assert said.status == 1 and said.err.count("\n") == 1 and "ZeroDivisionError" in said.err
    assert "Traceback" in reconstruct(tmp_path / "m.zarr", "-o", tmp_path / "p.zarr", "--debug").err


def test_a_worker_that_fails_is_one_line_in_a_process_of_its_own(tmp_path, process):
    """There Dask's own log would reach the screen."""
    path = save(counts(), tmp_path / "m.zarr")
    said = process("reconstruct", path, "-o", tmp_path / "p.zarr", "--prior", described(GAUSSIAN)(tmp_path / "prior"))
    said.refused(str(path), "at the prior's mean, expected a finite number")


def test_a_partial_posterior_is_no_measurement_and_no_result(tmp_path, reconstruct):
    measurement, output = save(line(), tmp_path / "m.zarr"), tmp_path / "p.zarr"
    assert reconstruct(measurement, "-o", output, "--samples", 2).status == 0
    zarr.open_group(output, mode="r+").attrs["infield_complete"] = 0
    with pytest.raises(InfieldError, match="'infield_complete': found 0, expected 1"):
        open_posterior(output)
    said = reconstruct(output, "-o", tmp_path / "q.zarr")
    said.refused(str(output), "'infield_format': found 'posterior', expected 'measurement'")
    assert xr.open_zarr(output, consolidated=False).attrs["infield_complete"] == 0
