"""Files as commit 33fced0 wrote them, the last one before modules moved into rooms and domains.

Run in a checkout of that commit, whose package and helpers of tests are on the path:

    PYTHONPATH=src:tests:tests/pipelines:tests/datasets python make_yesterday.py FOLDER

FOLDER then holds `files.tar.gz`, which `tests/test_yesterday.py` opens, and `expected.json`, numbers of what is in it.
Nothing here is run again: what these files are for is that they are old.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path
from unittest.mock import patch

import fake_21cmfast
import lightcone_prior_example
import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from example_files import kspace
from infield.datasets.measurement_file import write_measurement
from infield.datasets.posterior_file import PosteriorWriter
from infield.datasets.simulation_file import SimulationWriter, open_simulation
from infield.datasets.wall_planes import WallPlaneWriter
from infield.physics.counts import PoissonGaussianNoise, PoissonNoise
from infield.physics.gaussian import CoilGaussianNoise, GaussianNoise
from infield.physics.grid import Grid, PointSet
from infield.physics.low_rank_noise import LowRankGaussianNoise
from infield.physics.registry import build_operator
from infield.priors.flow_matching import FlowMatching
from wall_files import hdf5

import infield
from infield import import_torchvision_first, open_measurement, open_posterior
from infield.physics.measurement import Measurement
from infield.pipelines.cli import main

import_torchvision_first()
SIDE = 8
GRID = Grid.regular((SIDE, SIDE), 1.0, names=("y", "x"), units="1", periodic=True)
VOLUME = Grid.regular((3, SIDE, SIDE), 1.0, names=("z", "y", "x"), units="1", periodic=True)
OPEN = Grid.regular((SIDE, SIDE), 1.0, names=("y", "x"), units="1")
RNG = np.random.default_rng(0)
POINTS = PointSet(tuple((float(x),) for x in np.sort(RNG.random(20))), ("x",), "1", "point")
MASK, KSPACE = RNG.random((SIDE, SIDE)) < 0.5, RNG.random((SIDE, SIDE)) < 0.5
ARRAYS = {
    "seen": MASK,
    "kspace": KSPACE,
    "sensors": RNG.permutation(SIDE * SIDE)[:12],
    "few": np.array([1, 4, 8, 13, 18]),
    "places": RNG.random((9, 2)) * 0.8,
    "kernel": np.array([[0.0, 0.1, 0.0], [0.1, 0.5, 0.2], [0.0, 0.1, 0.0]]),
    "gain": 1 + 0.1 * RNG.standard_normal((1, SIDE, SIDE)),
    "offset": 0.1 * RNG.standard_normal((1, SIDE, SIDE)),
    "maps": (RNG.standard_normal((2, SIDE, SIDE)) + 1j * RNG.standard_normal((2, SIDE, SIDE))) / 2,
    "slice_maps": (RNG.standard_normal((2, 3, SIDE, SIDE)) + 1j * RNG.standard_normal((2, 3, SIDE, SIDE))) / 2,
    "filter": np.full((1, 1, 3, 3), 1 / 9),
}
REAL, COMPLEX = ("field",), ("real", "imag")


def named(name, parameters=None, **arrays):
    return {"name": name, "parameters": parameters or {}, "arrays": arrays}


SENSORS, BLUR = named("points", indices="sensors"), named("convolution", {"gaussian_width": 0.15})
GAUSS = GaussianNoise(0.01)
CASES = {
    # name: description, grid, channels, noise
    "mask": (named("mask", mask="seen"), GRID, REAL, GAUSS),
    "mask-uneven": (named("mask", mask="seen"), GRID, REAL, "variances"),
    "mask-low-rank": (SENSORS, GRID, REAL, "low-rank"),
    "sensors": (SENSORS, GRID, REAL, GAUSS),
    "places": (named("points", coordinates="places"), OPEN, REAL, GAUSS),
    "scattered": (named("points", indices="few"), POINTS, REAL, GAUSS),
    "fourier": (named("fourier", mask="kspace"), GRID, COMPLEX, GAUSS),
    "blur": (BLUR, GRID, REAL, GAUSS),
    "kernel": (named("convolution", {"boundary": "zero"}, kernel="kernel"), GRID, REAL, GAUSS),
    "counts": (BLUR, GRID, REAL, PoissonNoise(0.5)),
    "counts-readout": (BLUR, GRID, REAL, PoissonGaussianNoise(0.5, 0.04)),
    "affine": ({"name": "compose", "operators": [
        named("mask", mask="seen"), named("affine", scale="gain", shift="offset")]}, GRID, REAL, GAUSS),
    "compose": ({"name": "compose", "operators": [SENSORS, BLUR]}, GRID, REAL, GAUSS),
    "sum": ({"name": "sum", "weights": [0.75, 0.25], "operators": [BLUR, named("affine", scale="gain")]},
            GRID, REAL, GAUSS),
    "multicoil": (named("multicoil-mri", coil_maps="maps", mask="kspace"), GRID, COMPLEX, "coils"),
    "multicoil-slices": (named("multicoil-mri-slices", coil_maps="slice_maps", mask="kspace"), VOLUME, COMPLEX, GAUSS),
    "level-set": ({"name": "compose", "operators": [SENSORS, named("phases", {"low": 0.0, "high": 1.0, "width": 0.3})]},
                  GRID, REAL, GAUSS),
    "darcy": ({"name": "compose", "operators": [SENSORS, named("darcy", {"coefficient": "log"})]}, OPEN, REAL,
              GaussianNoise(1e-6)),
    "poisson": ({"name": "compose", "operators": [SENSORS, named("poisson")]}, OPEN, REAL, GaussianNoise(1e-6)),
    "helmholtz": ({"name": "compose", "operators": [SENSORS, named("helmholtz", {"wavenumber_squared": 1.0})]},
                  OPEN, REAL, GaussianNoise(1e-6)),
    "navier-stokes": ({"name": "compose", "operators": [
        SENSORS, named("navier-stokes", {"viscosity": 0.01, "time": 0.1, "steps": 5})]}, GRID, REAL, GAUSS),
    "deepinv-blur": (named("deepinv:Blur", {"padding": "circular"}, filter="filter"), GRID, REAL, GAUSS),
}  # fmt: skip

PRIORS = {
    "gaussian": {"prior": "gaussian", "law": {"law": "matern", "nu": 1.5, "length": 0.3, "wrap": True},
                 "mean": 0.5, "scale": 2.0, "units": "1"},
    "photons": {"prior": "gaussian", "law": {"law": "matern", "nu": 1.5, "length": 0.3, "wrap": True}, "mean": 10.0},
    "white": {"prior": "gaussian", "law": {"law": "white"}},
    "open": {"prior": "gaussian", "law": {"law": "matern", "nu": 0.5, "length": 0.3}, "source": {"law": "white"},
             "name": "rough"},
    "mixture": {"prior": "mixture", "source": {"law": "white"}, "components": [
        {"weight": 0.3, "law": {"law": "matern", "nu": 1.5, "length": 0.1, "wrap": True}, "name": "short"},
        {"weight": 0.7, "law": {"law": "matern", "nu": 1.5, "length": 0.4, "wrap": True}}]},
    "sphere": {"prior": "gaussian", "law": {"law": "matern", "nu": 1.5, "length": 0.3, "domain": "sphere"}},
}  # fmt: skip


def numbers(array) -> dict:
    """What a test compares: shape, and projections onto fixed directions in float64."""
    values = np.asarray(array)
    if values.dtype.kind == "c":
        values = np.stack([values.real, values.imag])
    values = np.nan_to_num(values.astype("f8")).ravel()
    directions = np.random.default_rng(7).standard_normal((2, values.size))
    return {"shape": list(np.shape(array)), "projections": [float(p) for p in directions @ values]}


def say(*words) -> None:
    print(*words)
    status = main([str(w) for w in words])
    if status:
        sys.exit(f"{words}: status {status}")


def measurement(name: str) -> Measurement:
    description, grid, channels, noise = CASES[name]
    operator = build_operator(description, ARRAYS, grid, len(channels))
    generator = torch.Generator().manual_seed(len(name))
    truth = torch.randn((1, len(channels), *grid.shape), generator=generator, dtype=torch.float64)
    truth = truth + (10 if name.startswith("counts") else 0)
    z = operator.A(truth)
    if noise == "variances":
        noise = GaussianNoise(torch.linspace(0.01, 0.04, z[0].numel(), dtype=torch.float64).reshape(z.shape[1:]))
    elif noise == "low-rank":
        factors = 0.1 * torch.randn((2, *z.shape[1:]), generator=generator, dtype=torch.float64)
        noise = LowRankGaussianNoise(0.01, factors)
    elif noise == "coils":
        noise = CoilGaussianNoise(torch.tensor([[0.02, 0.01j], [-0.01j, 0.03]], dtype=torch.complex128))
    names = {v for text in [json.dumps(description)] for v in ARRAYS if f'"{v}"' in text}
    y = noise.sample(z, generator)
    observed = getattr(operator, "observed", None)
    if observed is not None:
        y = torch.where(observed, y, 0.0)
    return Measurement(
        y=y, operator=operator, noise=noise, grid=grid, channels=channels, truth=truth, description=description,
        arrays={v: ARRAYS[v] for v in sorted(names)},
    )  # fmt: skip


def interrupted(writer, blocks: int, *words) -> None:
    """The command, ended as by Control-C when so many blocks are written."""
    write, left = writer.write_block, [blocks]

    def stop(self, *arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, *arguments)

    print("interrupted:", *words)
    with patch.object(writer, "write_block", stop):
        assert main([str(w) for w in words]) == 130


def make_measurements(expected: dict) -> None:
    for name in CASES:
        path = Path("measurements") / f"{name}.zarr"
        made = measurement(name)
        try:
            write_measurement(path, made, title=name)
        except infield.InfieldError as error:
            sys.exit(f"{name}: {error}")
        back = open_measurement(path)
        x = torch.ones((1, len(back.channels), *back.grid.shape), dtype=torch.float64)
        with torch.no_grad():
            expected[str(path)] = {
                "y": numbers(back.y), "noise": type(back.noise).__name__, "of ones": numbers(back.operator.A(x)),
            }  # fmt: skip


def make_priors() -> None:
    Path("priors").mkdir()
    for name, text in PRIORS.items():
        (Path("priors") / f"{name}.yaml").write_text(yaml.safe_dump(text))


def make_posteriors(expected: dict) -> None:
    for name, prior in (("mask", "gaussian"), ("counts", "photons")):
        run = ["--prior", f"priors/{prior}.yaml", "--samples", 20, "--workers", 1, "--json", "--with", "levels=3"]
        given = ["reconstruct", f"measurements/{name}.zarr"]
        say(*given, "-o", f"posteriors/{name}.zarr", *run)
        interrupted(PosteriorWriter, 1, *given, "-o", f"posteriors/{name}-stopped.zarr", *run)
        with xr.open_zarr(f"posteriors/{name}.zarr", consolidated=False) as file:
            expected[f"posteriors/{name}.zarr"] = {v: numbers(file[v].values) for v in ("samples", "mean", "std")}
        open_posterior(f"posteriors/{name}.zarr")


SIMULATIONS = {
    "darcy": ["darcy", "--points", 6, "--dtype", "float32"],
    "poisson": ["poisson", "--points", 6],
    "helmholtz": ["helmholtz", "--points", 6],
    "navier-stokes": ["navier-stokes", "--points", 6],
    **{
        law: ["process", "--law", law, "--points", 8]
        for law in ("matern", "gibbs", "truncated", "log-normal", "mixture")
    },
    "wall": ["wall-pressure", "--re-tau", 180, "--length", "2pi", "--dx-plus", 80, "--dz-plus", 60],
}


def make_simulations(expected: dict, work: Path, monkeypatch) -> None:
    for name, words in SIMULATIONS.items():
        path = f"simulations/{name}.zarr"
        say("simulate", *words, "-o", path, "--samples", 6, "--workers", 1, "--json")
        with xr.open_zarr(path, consolidated=False) as file:
            expected[path] = {
                **{v: numbers(file[v].values) for v in file.data_vars if file[v].dtype.kind == "f"},
                **{f"attribute {a}": file.attrs[a] for a in ("parameters", "provenance") if a in file.attrs},
            }
    for name, writer in (("navier-stokes", SimulationWriter), ("gibbs", SimulationWriter)):
        words = [
            "simulate",
            *SIMULATIONS[name],
            "--samples",
            1025 if name == "gibbs" else 1030,
            "--workers",
            1,
            "--json",
        ]
        say(*words, "-o", work / f"{name}.zarr")
        with xr.open_zarr(work / f"{name}.zarr", consolidated=False) as file:
            expected[f"simulations/{name}-stopped.zarr"] = {
                v: numbers(file[v].values) for v in file.data_vars if file[v].dtype.kind == "f"
            }
        interrupted(writer, 1, *words, "-o", f"simulations/{name}-stopped.zarr")
    words = ["simulate", *SIMULATIONS["wall"], "--samples", 257, "--workers", 1, "--json"]
    say(*words, "-o", work / "wall.zarr")
    with xr.open_zarr(work / "wall.zarr", consolidated=False) as file:
        expected["simulations/wall-stopped.zarr"] = {"pressure": numbers(file["pressure"].values)}
    interrupted(WallPlaneWriter, 1, *words, "-o", "simulations/wall-stopped.zarr")
    channel = ["--re-tau", 100, "--points", 8, 17, 8, "--spin-up", 0.02, "--turnovers", 0.02, "--interval", 0.01]
    say("simulate", "channel", *channel, "-o", "simulations/channel.zarr", "--json")
    fake_21cmfast.install(work / "site", monkeypatch)
    say("simulate", "21cm", "--n", 2, "--points", 4, "--box", 16, "--depth", 6, "--workers", 1, "-o",
        "simulations/21cm.zarr", "--json")  # fmt: skip
    for name, variable in (("channel", "wall_pressure"), ("21cm", "brightness_temp")):
        with xr.open_zarr(f"simulations/{name}.zarr", consolidated=False) as file:
            expected[f"simulations/{name}.zarr"] = {variable: numbers(file[variable].values)}
    open_simulation("simulations/darcy.zarr")


def make_converted(expected: dict, work: Path) -> None:
    np.save(work / "head.npy", kspace((24, 20), coils=2, centre=12))
    say("convert", "mri", work / "head.npy", "-o", "measurements/mri.zarr", "--json")
    hdf5(work / "planes.h5")
    say("convert", "wall-pressure", work / "planes.h5", "-o", "simulations/planes.zarr", "--json")
    say("convert", "wall-sensors", "simulations/wall.zarr", "-o", "measurements/wall-sensors.zarr", "--share", 0.1,
        "--noise", 0.1, "--json")  # fmt: skip
    point = "ION_Tvir_MIN: 4.8\nHII_EFF_FACTOR: 131.341\n"
    Path("priors/params.yaml").write_text(point)
    for name, words in (("flow", ["--steps", 2]), ("emulator", [])):
        say("emulate", "--prior", f"checkpoints/lightcones-{name}.ckpt", "--params", "priors/params.yaml", "--samples",
            2, "--workers", 1, "-o", f"simulations/cones-{name}.zarr", "--json", *words)  # fmt: skip
        with xr.open_zarr(f"simulations/cones-{name}.zarr", consolidated=False) as file:
            expected[f"simulations/cones-{name}.zarr"] = {"brightness_temp": numbers(file["brightness_temp"].values)}
    say("convert", "lightcone-observation", "simulations/cones-flow.zarr", "-o", "measurements/interferometer.zarr",
        "--cells", "2-9", "--hours", 1e6, "--json")  # fmt: skip
    for name in ("mri", "wall-sensors", "interferometer"):
        back = open_measurement(f"measurements/{name}.zarr")
        expected[f"measurements/{name}.zarr"] = {"y": numbers(back.y), "noise": type(back.noise).__name__}


QUIET = {
    "trainer.accelerator": "cpu",
    "trainer.logger": "false",
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
}
SMALL_UNET = {"model.init_args.network.init_args.widths": "[4]", "model.init_args.network.init_args.blocks": 1}
FITS = {
    "fno_1d": {
        "data.init_args.path": "fields/line.nc",
        "model.init_args.rank": 2,
        "model.init_args.network.init_args.width": 4,
        "model.init_args.network.init_args.modes": 3,
        "model.init_args.network.init_args.layers": 1,
    },
    "unet_2d": SMALL_UNET | {"model.init_args.rank": 2},
    "spectrum_2d": {"model.init_args.network.init_args.width": 4, "model.init_args.network.init_args.modes": 3},
    "wall_pressure": {
        "model.init_args.network.init_args.network.init_args.widths": "[4]",
        "model.init_args.network.init_args.network.init_args.unshuffle": "false",
        "model.init_args.network.init_args.patch": "[6, 6]",
        "model.init_args.network.init_args.overlap": "[2, 2]",
        "data.init_args.variable": "field",
    },
    "points": {
        "data.init_args.path": "fields/points.nc",
        "model.init_args.rank": 2,
        "model.init_args.network.init_args.latents": 4,
        "model.init_args.network.init_args.width": 4,
        "model.init_args.network.init_args.heads": 1,
        "model.init_args.network.init_args.blocks": 1,
    },
    "one_step_2d": {"model.init_args.network.init_args.widths": "[4]"},
    "unrolled_2d": {"model.init_args.network.init_args.widths": "[4]"},
    "pmrf_2d": {
        "model.init_args.network.init_args.widths": "[4]",
        "model.init_args.mean": "checkpoints/unrolled_2d.ckpt",
    },
    "surrogate_2d": {
        "data.init_args.path": "fields/darcy.zarr",
        "model.init_args.network.init_args.width": 4,
        "model.init_args.network.init_args.modes": 2,
        "model.init_args.network.init_args.layers": 1,
        "data.init_args.validation": "0.4",
    },
}
"""Settings that make the shipped configurations small, by name of the configuration."""


def make_fields() -> None:
    Path("fields").mkdir()
    rng = np.random.default_rng(3)
    axis = (np.arange(SIDE) / SIDE, {"units": "1", "periodic": 1})
    plane = rng.standard_normal((24, SIDE, SIDE)).cumsum(-1).astype("f4")
    coordinates = {n: (n, *axis) for n in ("y", "x")}
    xr.Dataset({"field": (("sample", "y", "x"), plane, {"units": "1"})}, coordinates).to_netcdf("fields/plane.nc")
    line = (5 + rng.standard_normal((24, 16)).cumsum(-1)).astype("f4")
    x = {"x": ("x", np.arange(16) / 16, {"units": "1", "periodic": 1})}
    xr.Dataset({"field": (("sample", "x"), line, {"units": "1"})}, x).to_netcdf("fields/line.nc")
    places = {n: ("point", rng.random(12), {"units": "1"}) for n in ("x", "y")}
    scattered = {"field": (("sample", "point"), rng.standard_normal((24, 12)).astype("f4"), {"units": "1"})}
    xr.Dataset(scattered | places).to_netcdf("fields/points.nc")


def words_of(name: str, folder: Path | str, steps: int, **more) -> list:
    settings = {
        "data.init_args.path": "fields/plane.nc", "data.init_args.batch_size": 4, "data.init_args.validation": "0.2",
        "trainer.max_steps": steps, "trainer.default_root_dir": folder, **QUIET, **FITS[name], **more,
    }  # fmt: skip
    return ["fit", "--config", f"configs/fit_{name}.yaml", *(w for k, v in settings.items() for w in (f"--{k}", v))]


def make_trainings(expected: dict, root: Path, work: Path) -> None:
    shutil.copytree(root / "pipelines" / "configs", "configs")
    Path("checkpoints").mkdir()
    say("simulate", "darcy", "--points", 6, "--samples", 48, "--workers", 1, "-o", "fields/darcy.zarr", "--json")
    for name in FITS:
        say(*words_of(name, work / name, 4))
        (made,) = [p for p in (work / name).glob("*.ckpt") if p.stem != "last"]
        shutil.copy(made, f"checkpoints/{name}.ckpt")
    lightcone_prior_example.save(Path("checkpoints/lightcones-flow.ckpt"))
    lightcone_prior_example.save(Path("checkpoints/lightcones-emulator.ckpt"), with_emulator=True)
    for name in sorted(os.listdir("checkpoints")):
        expected[f"checkpoints/{name}"] = {"entries": weights(Path("checkpoints") / name)}
    # A training of ten steps that broke off in its second epoch of five: its last.ckpt and its config.yaml.
    say(*words_of("fno_1d", work / "whole", 10))
    step = FlowMatching.training_step

    def stop(module, batch, batch_idx):
        if module.global_step == 7:
            raise KeyboardInterrupt
        return step(module, batch, batch_idx)

    with patch.object(FlowMatching, "training_step", stop):
        main([str(w) for w in words_of("fno_1d", work / "stopped", 10, **{"trainer.logger": "true"})])
    Path("training").mkdir()
    shutil.copy(work / "stopped" / "last.ckpt", "training/last.ckpt")
    (config,) = (work / "stopped").rglob("config.yaml")
    text = config.read_text()
    Path("training/config.yaml").write_text(text.replace(str(work / "stopped"), "FOLDER"))
    expected["training/whole"] = {"entries": weights(work / "whole" / "last.ckpt")}


def weights(path: Path) -> dict:
    entries = {k: v for k, v in torch.load(path, weights_only=True).items() if k.startswith("infield_")}
    found = {}

    def walk(where: str, value) -> None:
        if isinstance(value, torch.Tensor):
            found[where] = numbers(value.cpu().numpy())
        elif isinstance(value, dict):
            for key, part in value.items():
                walk(f"{where}/{key}", part)

    walk("", {k: {name: part for name, part in v.items() if name != "provenance"} for k, v in entries.items()})
    return found


def public_names() -> dict[str, list[str]]:
    """Every module with the names that it defines, or that it says are its own (`__all__`)."""
    found = {}
    for room in ("datasets", "physics", "pipelines", "posterior", "priors"):  # links, which walk_packages passes over
        for file in sorted((Path(infield.__file__).parent / room).rglob("*.py")):
            parts = file.relative_to(Path(infield.__file__).parent).with_suffix("").parts
            name = ".".join(["infield", *(part for part in parts if part != "__init__")])
            found[name] = names_of(importlib.import_module(name))
    return found


def names_of(loaded) -> list[str]:
    own = [
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == loaded.__name__
    ]
    constants = [n for n, v in vars(loaded).items() if n.isupper() and not n.startswith("_")]
    return sorted({*own, *constants, *getattr(loaded, "__all__", ())})


def make(folder: Path) -> None:
    root = Path(infield.__file__).parents[2]
    expected: dict = {}
    with tempfile.TemporaryDirectory() as temporary:
        files, work = Path(temporary) / "files", Path(temporary) / "work"
        files.mkdir(), work.mkdir()
        os.chdir(files)
        with pytest.MonkeyPatch.context() as monkeypatch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make_priors()
            make_fields()
            make_measurements(expected)
            make_posteriors(expected)
            make_simulations(expected, work, monkeypatch)
            make_trainings(expected, root, work)
            make_converted(expected, work)
        with tarfile.open(folder / "files.tar.gz", "w:gz", compresslevel=9) as archive:
            archive.add(".", arcname=".", filter=lambda f: f)
    (folder / "expected.json").write_text(json.dumps(expected, indent=0) + "\n")
    (folder / "modules.json").write_text(json.dumps(public_names(), indent=0) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
