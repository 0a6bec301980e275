"""A package of somebody else's adds one of each, by entry points alone, and is used from the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from examples.example_files import GAUSSIAN, kspace, plane, save
from examples.processes import Forked

import infield
from infield.pipelines.cli import main

PLUGIN = Path(__file__).parent / "plugin"
PACKAGE, VERSION = "infield-example-plugin", "0.3.1"
SOURCE = Path(infield.__file__).parents[1]


def install(folder: Path, target: Path) -> Path:
    """Install a copy of a package, so that the build leaves nothing behind in the source."""
    copy = target.with_name(f"{target.name}-source")
    shutil.copytree(folder, copy)
    pytest.importorskip("pip", reason="no pip here, with which the plug-in is installed (uv venv --seed)")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", target, copy]
    done = subprocess.run([*map(str, pip), "--quiet"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(PLUGIN, tmp_path_factory.mktemp("site") / "packages")


def python(*arguments: object, paths: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (*paths, SOURCE)))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )


def command(*arguments: object, paths: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `infield ...`: in a process of its own where packages are added, else in this one, which has none."""
    if not paths:
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            status = main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())
    started = Forked("infield", *arguments, paths=paths)
    out, err = started.communicate()
    return subprocess.CompletedProcess(arguments, started.returncode, out, err)


def written(path: Path, **changes: object) -> Path:
    """A measurement of a whole field, with other attributes."""
    attributes = {name: json.dumps(value) for name, value in changes.items()}
    return save(plane().drop_vars("mask").assign_attrs(attributes), path)


def reconstructed(tmp_path: Path, measurement: Path, *arguments: object, paths: tuple[Path, ...]) -> xr.Dataset:
    (tmp_path / "prior.yaml").write_text(GAUSSIAN)
    output = tmp_path / "posterior.zarr"
    said = command("reconstruct", measurement, "-o", output, "--prior", tmp_path / "prior.yaml",
                   "--samples", 2, "--workers", 1, *arguments, paths=paths)  # fmt: skip
    assert said.returncode == 0, said.stderr
    return xr.open_zarr(output, consolidated=False)


def test_the_command(installed):
    assert command("example-hello", "--name", "world", paths=(installed,)).stdout == "hello world\n"
    helped = command("--help", paths=(installed,)).stdout
    assert "example-hello" in helped and "One of each" in helped
    assert "no command 'example-hello'" in command("example-hello").stderr


def test_the_operator_and_the_noise_model(tmp_path, installed):
    operator = {"name": "example-gain", "parameters": {"gain": 2.0}}
    noise = {"law": "example-laplace", "scale": 0.1}
    measurement = written(tmp_path / "m.zarr", operator=operator, noise=noise)
    found = reconstructed(tmp_path, measurement, paths=(installed,))
    assert json.loads(found.attrs["plugins"]) == {PACKAGE: VERSION}
    half = plane()["data"].values / 2
    assert np.isfinite(found["samples"]).all() and half.shape == found["samples"].shape[-2:]
    said = command("reconstruct", measurement, "-o", tmp_path / "q.zarr", "--samples", 2)
    assert said.returncode == 2 and "example-gain" in said.stderr and said.stderr.count("\n") == 1


def test_the_operator_is_the_one_that_acts(tmp_path, installed):
    """Of y = 2 x, known almost exactly, the posterior is y / 2."""
    operator = {"name": "example-gain", "parameters": {"gain": 2.0}}
    measurement = written(tmp_path / "m.zarr", operator=operator, noise={"law": "gaussian", "variance": 1e-8})
    found = reconstructed(tmp_path, measurement, "--sampler", "exact", paths=(installed,))
    np.testing.assert_allclose(found["samples"].values[0].squeeze(), plane()["data"].values / 2, atol=1e-3)


def test_the_sampler(tmp_path, installed):
    measurement = save(plane(), tmp_path / "m.zarr")
    found = reconstructed(
        tmp_path, measurement, "--sampler", "example-prior-draws", "--with", "shift=1000", paths=(installed,)
    )
    assert float(found["samples"].mean()) == pytest.approx(1000, abs=20)
    assert json.loads(found.attrs["plugins"]) == {PACKAGE: VERSION}


def test_nothing_is_said_of_packages_that_were_not_used(tmp_path, installed):
    found = reconstructed(tmp_path, save(plane(), tmp_path / "m.zarr"), "--sampler", "exact", paths=(installed,))
    assert "plugins" not in found.attrs


def test_the_reader(tmp_path, installed):
    np.save(tmp_path / "k.npy", kspace())
    (tmp_path / "scan.raw8").write_bytes(b"8 bytes." + (tmp_path / "k.npy").read_bytes())
    said = command("convert", "mri", tmp_path / "scan.raw8", "-o", tmp_path / "m.zarr", paths=(installed,))
    assert said.returncode == 0, said.stderr
    plain = command("convert", "mri", tmp_path / "k.npy", "-o", tmp_path / "n.zarr")
    assert plain.returncode == 0, plain.stderr
    one, other = (xr.open_zarr(tmp_path / name, consolidated=False) for name in ("m.zarr", "n.zarr"))
    np.testing.assert_array_equal(one["data"], other["data"])
    assert json.loads(one.attrs["plugins"]) == {PACKAGE: VERSION} and "plugins" not in other.attrs
    refused = command("convert", "mri", tmp_path / "scan.raw8", "-o", tmp_path / "o.zarr")
    assert refused.returncode == 2 and ".raw8" in refused.stderr


def test_the_simulator(tmp_path, installed):
    small = ("--points", 8, "--samples", 2, "--workers", 1)
    said = command("simulate", "example-sources", "-o", tmp_path / "s.zarr", *small, paths=(installed,))
    assert said.returncode == 0, said.stderr
    plain = command("simulate", "poisson", "--with", "alpha=4", "-o", tmp_path / "t.zarr", *small, paths=(installed,))
    assert plain.returncode == 0, plain.stderr
    one, other = (xr.open_zarr(tmp_path / name, consolidated=False) for name in ("s.zarr", "t.zarr"))
    np.testing.assert_array_equal(one["solution"], other["solution"])
    assert json.loads(one.attrs["plugins"]) == {PACKAGE: VERSION} and "plugins" not in other.attrs


STORE = """
import sys
from dataclasses import replace
import torch
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.flow_entry import to_entry, ENTRY
from infield_example_plugin.network import PointwiseNetwork
prior = replace(load_flow_prior(sys.argv[1]), network=PointwiseNetwork(1).eval())
torch.save({ENTRY: to_entry(prior)}, sys.argv[2])
"""


def test_a_checkpoint_with_the_network(tmp_path, installed):
    from examples.example_files import checkpoint, line

    checkpoint(tmp_path / "house.ckpt")
    stored = python("-c", STORE, tmp_path / "house.ckpt", tmp_path / "p.ckpt", paths=(installed,))
    assert stored.returncode == 0, stored.stderr
    entry = torch.load(tmp_path / "p.ckpt", weights_only=True)["infield_prior"]
    assert entry["provenance"]["plugins"] == {PACKAGE: VERSION}
    assert entry["network"] == {"name": "example-net", "arguments": {"channels": 1}, "package": PACKAGE}
    house = torch.load(tmp_path / "house.ckpt", weights_only=True)["infield_prior"]
    assert "plugins" not in house["provenance"] and "package" not in house["network"]
    measurement = save(line(), tmp_path / "m.zarr")
    run = ("reconstruct", measurement, "-o", tmp_path / "p.zarr", "--prior", tmp_path / "p.ckpt", "--samples", 2)
    said = command(*run, "--workers", 1, paths=(installed,))
    assert said.returncode == 0, said.stderr
    found = xr.open_zarr(tmp_path / "p.zarr", consolidated=False)
    assert json.loads(found.attrs["plugins"]) == {PACKAGE: VERSION}
    missing = command(*run, "--overwrite")
    assert missing.returncode == 2 and f"of the package {PACKAGE}, which is not installed" in missing.stderr


def bad_package(tmp_path: Path, name: str, entry_points: str) -> Path:
    """A package that is installed as far as entry points are concerned."""
    information = tmp_path / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(entry_points)
    return tmp_path


@pytest.mark.parametrize(
    ("points", "arguments", "words"),
    [
        ("[infield.commands]\nbroken = nowhere.at_all\n", ["broken"], ("bad 1.0", "nowhere.at_all", "broken")),
        ("[infield.commands]\ndemo = json\n", ["demo"], ("found it in infield and in bad 1.0", "demo")),
        ("[infield.commands]\nexample-hello = json\n", ["example-hello"], ("bad 1.0", f"{PACKAGE} {VERSION}")),
    ],
)
def test_bad_packages_are_named_in_one_line(tmp_path, installed, points, arguments, words):
    said = command(*arguments, paths=(installed, bad_package(tmp_path, "bad", points)))
    assert said.returncode == 2 and said.stderr.count("\n") == 1 and "Traceback" not in said.stderr
    assert all(word in said.stderr for word in words), said.stderr
    assert command("--help", paths=(tmp_path,)).returncode == 0  # others are not harmed


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"infield_flux": {"version": 1}}, ("infield_flux", "unknown kind", "one-step")),
        ({"infield_prior": {"version": 99}}, ("found 99", "newer Infield")),
    ],
)
def test_checkpoints_of_unknown_or_newer_kinds(tmp_path, stored, words):
    from infield.priors.storage.checkpoint import load_checkpoint

    torch.save(stored, tmp_path / "p.ckpt")
    with pytest.raises(infield.InfieldError) as error:
        load_checkpoint(tmp_path / "p.ckpt")
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
