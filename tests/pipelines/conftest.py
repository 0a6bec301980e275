"""The commands as a person meets them, and the measurement files they are given."""

import errno
import json
import logging
import os
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from zarr.storage import LocalStore

from infield.physics.grid import Grid
from infield.pipelines.cli import main
from infield.priors.checkpoint import ENTRY, to_entry
from infield.priors.covariance import Covariance
from infield.priors.flow import FlowPrior
from infield.priors.flow_matching import source_on
from infield.priors.fno import FNO
from infield.priors.prior import Standardisation
from infield.priors.source import Matern


@dataclass(frozen=True)
class Said:
    """What a command left behind: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def summary(self) -> dict:
        """The one JSON object of `--json`."""
        assert self.status == 0, self.err
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    def refused(self, *words: str) -> str:
        """The one line with which a command refused its input, without a traceback, a warning or a word of success."""
        assert self.status == 2, (self.status, self.err)
        assert self.err.count("\n") == 1 and self.err.endswith("\n"), self.err
        assert "Traceback" not in self.err and self.err.startswith("infield ") and self.out == "", self.out
        for word in words:
            assert word in self.err, f"{word!r} is not in: {self.err}"
        return self.err.rstrip()


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}\n")


@pytest.fixture
def infield(capsys):
    """Run `infield ...` in this process; warnings and log records count as lines on standard error."""

    def run(*arguments: object) -> Said:
        notes, loggers = _Notes(), [logging.getLogger(), logging.getLogger("distributed")]
        capsys.readouterr()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)  # as Python does outside of tests
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            for logger in loggers:
                logger.addHandler(notes)
            try:
                status = main([str(a) for a in arguments])
            finally:
                for logger in loggers:
                    logger.removeHandler(notes)
        said = capsys.readouterr()
        noise = "".join(notes.lines) + "".join(f"{w.category.__name__}: {w.message}\n" for w in warned)
        return Said(status, said.out, noise + said.err)

    return run


@pytest.fixture
def reconstruct(infield):
    """Run `infield reconstruct ...` in this process."""
    return lambda *arguments: infield("reconstruct", *arguments)


def script(name: str) -> list[str]:
    """A console script that lies beside the interpreter, or the same by the entry point where it was not installed."""
    path = Path(sys.executable).with_name(name)
    if path.exists():
        return [str(path)]
    entry = {"infield": "main", "reconstruct": "reconstruct"}[name]
    return [sys.executable, "-c", f"import sys; from infield.pipelines.cli import {entry}; sys.exit({entry}())"]


@pytest.fixture
def start():
    """Start a console script in a process of its own; whatever still runs at the end is killed."""
    started = []

    def run(name: str, *arguments: object, **settings: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
        started.append(subprocess.Popen([*script(name), *map(str, arguments)], **{**pipes, **settings}))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def process(start):
    """Run a console script in a process of its own, to its end."""

    def run(name: str, *arguments: object) -> Said:
        out, err = (running := start(name, *arguments)).communicate(timeout=120)
        return Said(running.returncode, out, err)

    return run


def plane(shape=(12, 16), share=0.5, std=0.1, seed=0, operator="mask") -> xr.Dataset:
    """A masked field as plain xarray writes it, see the README."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(n) / shape[1] for n in shape)
    truth = np.sin(6 * y + 1)[:, None] * np.cos(5 * x)
    mask = rng.random(shape) < share
    data = np.where(mask, truth + std * rng.standard_normal(shape), 0.0)
    return xr.Dataset(
        {
            "data": (("y", "x"), data, {"units": "mK"}),
            "mask": (("y", "x"), mask.astype("int8")),
            "truth": (("y", "x"), truth, {"units": "mK"}),
        },
        coords={"y": ("y", y, {"units": "km", "periodic": 0}), "x": ("x", x, {"units": "km"})},
        attrs=_attributes(["y", "x"], "temperature", "mK", {"name": operator, "arrays": {"mask": "mask"}}, std**2),
    )


def line(n=17, units="K", std=0.5) -> xr.Dataset:
    """A field on a line, seen by every third point."""
    x = np.linspace(0, 1, n)
    mask = np.arange(n) % 3 == 1
    noise = std * np.random.default_rng(1).standard_normal(n)
    data = np.where(mask, 280 + 3 * np.sin(6 * x) + noise, 0.0)
    return xr.Dataset(
        {"data": ("x", data, {"units": units}), "mask": ("x", mask.astype("int8"))},
        coords={"x": ("x", x, {"units": "1"})},
        attrs=_attributes(["x"], "c0", units, {"name": "mask", "arrays": {"mask": "mask"}}, std**2),
    )


def scattered(n=48, sensors=(2, 9, 17, 24, 31, 38, 46), std=0.1) -> xr.Dataset:
    """Scattered points on a line and seven sensors on them: Gaussian-process regression."""
    rng = np.random.default_rng(2)
    x = np.sort(rng.random(n))
    index = np.array(sensors)
    data = np.sin(6 * x[index]) + std * rng.standard_normal(len(index))
    dataset = xr.Dataset(
        {"data": ("sensor", data, {"units": "m"}), "place": ("sensor", index), "position": ("point", x, {"units": "1"})},
        attrs=_attributes(["point"], "height", "m", {"name": "points", "arrays": {"indices": "place"}}, std**2),
    )
    field = json.loads(dataset.attrs["field"])
    return dataset.assign_attrs(field=json.dumps(field | {"coordinates": ["position"]}))


def counts() -> xr.Dataset:
    """Photons: a convolved image under a Poisson law."""
    dataset = plane().drop_vars(["truth", "mask"])
    dataset["data"] = (("y", "x"), np.random.default_rng(3).poisson(4.0, (12, 16)).astype(float), {"units": "1"})
    blur = {"name": "convolution", "parameters": {"gaussian_width": 0.1}}
    return dataset.assign_attrs(operator=json.dumps(blur), noise=json.dumps({"law": "poisson", "gain": 1.0}))


def _attributes(dims: list[str], channel: str, units: str, operator: dict, variance: float) -> dict:
    return {
        "Conventions": "CF-1.11",
        "infield_format": "measurement",
        "infield_version": 1,
        "field": json.dumps({"dims": dims, "channels": [channel], "units": units}),
        "operator": json.dumps(operator),
        "noise": json.dumps({"law": "gaussian", "variance": variance}),
    }


def save(dataset: xr.Dataset, path: Path, **settings: object) -> Path:
    settings = {"encoding": {"mask": {"fill_value": -1}}} | settings if "mask" in dataset else settings
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False, **settings)
    return path


def checkpoint(path: Path, units="K", channels=1, n=17, axis_units="1", length=1.0) -> Path:
    """A small prior as `infield fit` leaves it; its network has random weights."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = FNO(1, channels, 4, 8, 2)
    nn.init.normal_(network.head.weight)
    grid = Grid.regular((n,), length, units=axis_units)
    source = source_on(Matern(1.5, 0.3), grid, channels)
    one = torch.ones(channels, 1).double()
    prior = FlowPrior(
        name="a small flow",
        network=network.eval(),
        source=source,
        covariance=Covariance(
            source.modes,
            torch.rand(source.event_shape, generator=generator).double() + 0.1,
            torch.randn((3, *source.event_shape), generator=generator).double(),
        ),
        mean=torch.zeros(source.event_shape).double(),
        standardisation=Standardisation(280 * one, 3 * one),
        skip="gaussian",
        grid_description=grid.to_json(),
        units=units,
        channels=tuple(f"c{i}" for i in range(channels)),
        provenance={"kind": "flow"},
    )
    torch.save({ENTRY: to_entry(prior)}, path)
    return path


GAUSSIAN = "prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 0.3}\n"
MIXTURE = """
prior: mixture
components:
  - {weight: 0.3, law: {law: matern, nu: 1.5, length: 0.1}}
  - {weight: 0.7, law: {law: matern, nu: 1.5, length: 0.4}}
source: {law: white}
"""


def samples(path: Path) -> np.ndarray:
    """Samples of a posterior file, by plain xarray."""
    with xr.open_zarr(path, consolidated=False) as posterior:
        return posterior["samples"].values


def contents(path: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes."""
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@pytest.fixture
def full_disk(monkeypatch):
    """Context in which the store's writes fail after `after` of them, as the operating system would have it."""

    @contextmanager
    def filling(after, number=errno.ENOSPC):
        left = [after]
        original = LocalStore.set

        async def set_until_full(self, key, value, *args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(number, "as a disk says it")
            await original(self, key, value, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "set", set_until_full)
            yield

    return filling
