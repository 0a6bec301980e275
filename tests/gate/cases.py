"""The cases of the gate: commands on tiny files, each with the digests of what it leaves."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import h5py
import numpy as np
import torch
import xarray as xr

import infield
from gate.digests import digest_of_array, digest_of_file, digest_of_training
from infield.pipelines.cli import main

FILES = Path(__file__).parents[1] / "yesterday" / "files.tar.gz"
PACKAGE = Path(infield.__file__).parent
CONFIGS, CHECKPOINTS = PACKAGE / "pipelines" / "configs", PACKAGE / "pipelines" / "checkpoints"

SAMPLERS = {
    "faps": ["levels=2"],
    "faps-published": ["levels=2", "flow_steps=1", "langevin_steps=2", "rank_draws=8", "rank_steps=1"],
    "smc": ["steps=3", "island=8"],
    "source-slice": ["chains=2", "burn_in=2", "draws=4", "thin=1", "flow_steps=2"],
    "snap": [],
    "null-flow": ["trust_data=True"],
    "unrolled": [],
    "pmrf": ["levels=2"],
    "red-diff": ["steps=3"],
    "diffpir": ["levels=2"],
    "dds": ["levels=3"],
    "diffusion-mbir": ["levels=3"],
    "exact": [],
}
TRAINED = ("snap", "null-flow", "unrolled", "pmrf")
"""Samplers that take no prior, but what was trained for a family of measurements."""
OF_VOLUMES = ("dds", "diffusion-mbir")
CHAINS = {"counts", "counts-readout", "level-set", "darcy", "navier-stokes"}
"""Measurements that FAPS samples by chains of Langevin steps: its other settings there."""
MEASUREMENTS = (
    *("mask", "mask-uneven", "mask-low-rank", "sensors", "places", "scattered", "fourier", "blur", "kernel", "counts"),
    *("counts-readout", "affine", "compose", "sum", "multicoil", "level-set", "darcy", "poisson", "helmholtz"),
    *("navier-stokes", "deepinv-blur", "mri", "wall-sensors", "interferometer"),
)
PRIORS = ("gaussian", "white", "open", "mixture")
LEARNED = ("unet_2d", "spectrum_2d", "wall_pressure", "one_step_2d", "unrolled_2d", "pmrf_2d")


class Refused(Exception):
    """A command that left with a status other than 0."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def command(*words: object) -> None:
    status = main([str(word) for word in words])
    if status:
        raise Refused(status)


Case = Callable[[], dict]


def cases() -> Iterator[tuple[str, Case]]:
    """Names of all cases with what runs them; the working directory holds the files of yesterday."""
    yield from _posteriors()
    yield from _shipped()
    yield from _conversions()
    yield from _simulations()
    yield from _trainings()


def make_inputs(folder: Path) -> None:
    """The files of yesterday and a few made here, which the commands work on."""
    with tarfile.open(FILES) as archive:
        archive.extractall(folder, filter="data")
    _make_inputs(folder)


def _file(*words: object) -> Case:
    """A command with `-o`, and the digests of what it wrote."""

    def run() -> dict:
        output = Path("output.zarr")
        for old in (output, Path("output.zarr.partial")):
            shutil.rmtree(old, ignore_errors=True)
        command(*words, "-o", output, "--json")
        return digest_of_file(output)

    return run


def _reconstruct(measurement: str, sampler: str, prior: list, *more: object, settings: list[str] | None = None) -> Case:
    given = [word for setting in settings or SAMPLERS[sampler] for word in ("--with", setting)]
    run = ["--sampler", sampler, *given, "--samples", 2, "--seed", 3, "--workers", 1, *more]
    return _file("reconstruct", measurement, *prior, *run)


def _posteriors() -> Iterator[tuple[str, Case]]:
    for measurement in MEASUREMENTS:
        prior = "photons" if measurement.startswith("counts") else "gaussian"
        prior = "white" if measurement in ("mri", "wall-sensors", "interferometer") else prior  # of any units
        path = f"measurements/{measurement}.zarr"
        for sampler in SAMPLERS:
            if sampler in (*TRAINED, *OF_VOLUMES):
                continue
            settings = ["levels=1", "steps=3"] if sampler == "faps" and measurement in CHAINS else None
            given = ["--prior", f"priors/{prior}.yaml"]
            yield f"reconstruct/{measurement}/{prior}/{sampler}", _reconstruct(path, sampler, given, settings=settings)
    for measurement in ("mask", "sensors", "level-set"):
        path = f"measurements/{measurement}.zarr"
        kinds = {name: ["--prior", f"priors/{name}.yaml"] for name in PRIORS[1:]}
        kinds |= {name: ["--prior", f"checkpoints/{name}.ckpt"] for name in LEARNED}
        kinds |= {"fitted": [], "matern": ["--prior", "matern-3/2"]}
        for name, prior in kinds.items():
            for sampler in SAMPLERS:
                if sampler in OF_VOLUMES or (sampler in TRAINED and name not in LEARNED):
                    continue
                settings = ["levels=1", "steps=3"] if sampler == "faps" and measurement in CHAINS else None
                case = _reconstruct(path, sampler, prior, settings=settings)
                yield f"reconstruct/{measurement}/{name}/{sampler}", case
    for measurement in ("fourier", "mri", "scattered", "interferometer", "blur", "multicoil"):
        yield f"reconstruct/{measurement}/fitted/faps", _reconstruct(f"measurements/{measurement}.zarr", "faps", [])
    for sampler in ("faps", "smc", "dds", "diffusion-mbir"):
        case = _reconstruct(
            "measurements/multicoil-slices.zarr", sampler, ["--prior", "priors/gaussian.yaml"], "--slices", 2
        )
        yield f"reconstruct/slices/gaussian/{sampler}", case
    at = ["--at", "ION_Tvir_MIN=4.8", "--at", "HII_EFF_FACTOR=131.341"]
    for name in ("flow", "emulator"):
        prior = ["--prior", f"checkpoints/lightcones-{name}.ckpt", *at]
        yield f"reconstruct/cones/{name}/faps", _reconstruct("measurements/interferometer.zarr", "faps", prior)
    prior = ["--prior", "checkpoints/wall_pressure.ckpt"]
    yield (
        "reconstruct/tiles/patched/faps",
        _reconstruct("measurements/sensors.zarr", "faps", prior, "--tiles", 6, 6, "--halo", 2, 2),
    )


def _shipped() -> Iterator[tuple[str, Case]]:
    for path in sorted(CHECKPOINTS.glob("*.ckpt")):
        name = path.stem
        if name.startswith("lightcones"):
            words = ["emulate", "--prior", path, "--params", "priors/params.yaml", "--samples", 1, "--workers", 1]
            yield f"checkpoint/{name}/emulator", _file(*words, "--depth", 32)
            yield f"checkpoint/{name}/flow", _file(*words, "--depth", 32, "--steps", 1)
        elif name.startswith("one_step"):
            for sampler in ("snap", "null-flow"):
                yield f"checkpoint/{name}/{sampler}", _reconstruct(f"shipped/{name}.zarr", sampler, ["--prior", path])
        elif name.startswith("pet_bridge"):
            yield f"checkpoint/{name}/follow-ups", _follow_ups(path)
        else:
            yield f"checkpoint/{name}/velocity", _velocity(path)
            if not name.startswith(("wall_pressure_500", "wall_pressure_1000")):
                case = _reconstruct(f"shipped/{name}.zarr", "faps", ["--prior", path])
                yield f"checkpoint/{name}/faps", case


def _follow_ups(path: Path) -> Case:
    def run() -> dict:
        bridge = infield.load_prior(path)
        x_b = torch.linspace(1.0, 1.8, len(bridge.regions), dtype=torch.float64)[None]
        draws = bridge.sample(x_b, 2.5, 2, torch.Generator().manual_seed(0))
        return {"predicted": digest_of_array(bridge.predict(x_b, 2.5)), "draws": digest_of_array(draws)}

    return run


def _velocity(path: Path) -> Case:
    def run() -> dict:
        prior = infield.load_prior(path)
        entry = torch.load(path, weights_only=True)["infield_prior"]
        shape = [len(axis["coordinates"]) for axis in _axes(entry)]
        x = np.random.default_rng(0).standard_normal((1, len(entry["channels"]), *shape))
        with torch.no_grad():
            return {f"t = {t}": digest_of_array(prior.velocity(torch.from_numpy(x), t)) for t in (0.25, 0.75)}

    return run


def _axes(entry: dict) -> list[dict]:
    grid = entry["grid"]
    return (json.loads(grid) if isinstance(grid, str) else grid)["axes"]


def _conversions() -> Iterator[tuple[str, Case]]:
    yield "convert/mri", _file("convert", "mri", "head.npy")
    yield "convert/mri/held-out", _file("convert", "mri", "head.npy", "--hold-out", 0.1, "--seed", 3)
    yield "convert/wall-pressure", _file("convert", "wall-pressure", "planes.h5")
    for name, words in (("share", ["--fraction", 0.1]), ("fifth", ["--fraction", 0.2, "--index", 3])):
        yield (
            f"convert/wall-sensors/{name}",
            _file("convert", "wall-sensors", "simulations/wall.zarr", *words, "--noise-std", 0.1),
        )
    yield "convert/lightcone", _file("convert", "lightcone", "cone.h5")
    observed = ["convert", "lightcone-observation", "simulations/cones-flow.zarr", "--cells", "2-9", "--hours", 1e6]
    yield "convert/lightcone-observation", _file(*observed)
    yield "convert/lightcone-observation/delays", _file(*observed, "--wedge", 5, "--wedge-buffer", 0)
    for name, words in (("flow", ["--steps", 2]), ("emulator", [])):
        prior = ["--prior", f"checkpoints/lightcones-{name}.ckpt", "--params", "priors/params.yaml"]
        yield f"emulate/{name}", _file("emulate", *prior, "--samples", 2, "--workers", 1, *words)


def _simulations() -> Iterator[tuple[str, Case]]:
    few = ["--samples", 6, "--workers", 1, "--seed", 2]
    for kind in ("darcy", "poisson", "helmholtz", "navier-stokes"):
        yield f"simulate/{kind}", _file("simulate", kind, "--points", 6, *few)
    for law in ("matern", "gibbs", "truncated", "log-normal", "mixture"):
        yield f"simulate/process/{law}", _file("simulate", "process", "--law", law, "--points", 8, *few)
    yield "simulate/brain", _file("simulate", "brain", "--points", 32, "--samples", 1, "--workers", 1)
    wall = ["--re-tau", 180, "--length", "2pi", "--dx-plus", 80, "--dz-plus", 60]
    yield "simulate/wall-pressure", _file("simulate", "wall-pressure", *wall, *few)
    channel = ["--re-tau", 100, "--points", 8, 17, 8, "--spin-up", 0.02, "--turnovers", 0.02, "--interval", 0.01]
    yield "simulate/channel", _file("simulate", "channel", *channel)

    def cones() -> dict:
        from examples.fake_21cmfast import SOURCE

        site = Path("site/py21cmfast")
        site.mkdir(parents=True, exist_ok=True)
        (site / "__init__.py").write_text(SOURCE)
        where = str(site.parent.resolve())
        environment = {"PYTHONPATH": where, "FAKE_LOG": str(site.parent.resolve() / "runs.txt")}
        with patch.dict("os.environ", environment), patch.object(sys, "path", [where, *sys.path]):
            return _file("simulate", "21cm", "-n", 2, "--points", 4, "--box-size", 16, "--depth", 6, "--workers", 1)()

    yield "simulate/21cm", cones


QUIET = {
    "trainer.accelerator": "cpu",
    "trainer.logger": "false",
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "trainer.max_steps": 5,
    "trainer.default_root_dir": "run",
    "data.init_args.batch_size": 4,
    "data.init_args.validation": "0.2",
    "data.init_args.path": "fields/plane.nc",
}
NETWORK = "model.init_args.network.init_args."
SMALL_FNO = {f"{NETWORK}width": 4, f"{NETWORK}modes": 3, f"{NETWORK}layers": 1}
SMALL_PATCH = {
    f"{NETWORK}network.init_args.widths": "[4]",
    f"{NETWORK}network.init_args.unshuffle": "false",
    f"{NETWORK}patch": "[6, 6]",
    f"{NETWORK}overlap": "[2, 2]",
    "data.init_args.variable": "field",
}
TRAININGS = {
    "fno_1d": {**SMALL_FNO, "data.init_args.path": "fields/line.nc", "model.init_args.rank": 2},
    "function_1d": {**SMALL_FNO, "data.init_args.path": "fields/line.nc", "model.init_args.rank": 2},
    "function_2d": {f"{NETWORK}width": 4, f"{NETWORK}modes": 3, f"{NETWORK}layers": 1},
    "unet_2d": {f"{NETWORK}widths": "[4]", f"{NETWORK}blocks": 1, "model.init_args.rank": 2},
    "spectrum_2d": {f"{NETWORK}width": 4, f"{NETWORK}modes": 3},
    "wall_pressure": SMALL_PATCH,
    "wall_pressure_gpu": SMALL_PATCH | {"trainer.precision": "32-true"},
    "points": {
        f"{NETWORK}latents": 4,
        f"{NETWORK}width": 4,
        f"{NETWORK}heads": 1,
        f"{NETWORK}blocks": 1,
        "data.init_args.path": "fields/points.nc",
        "model.init_args.rank": 2,
    },
    "one_step_2d": {f"{NETWORK}widths": "[4]"},
    "unrolled_2d": {f"{NETWORK}widths": "[4]"},
    "pmrf_2d": {f"{NETWORK}widths": "[4]", "model.init_args.mean": "checkpoints/unrolled_2d.ckpt"},
    "surrogate_2d": {
        **SMALL_FNO,
        f"{NETWORK}modes": 2,
        "data.init_args.path": "fields/darcy.zarr",
        "data.init_args.validation": "0.4",
    },
}


def _trainings() -> Iterator[tuple[str, Case]]:
    for name, settings in TRAININGS.items():

        def run(name: str = name, settings: dict = settings) -> dict:
            shutil.rmtree("run", ignore_errors=True)
            words = [word for key, value in {**QUIET, **settings}.items() for word in (f"--{key}", value)]
            command("fit", "--config", CONFIGS / f"fit_{name}.yaml", *words)
            return digest_of_training(Path("run/last.ckpt"))

        yield f"fit/{name}", run


def _make_inputs(folder: Path) -> None:
    """Raw k-space, planes of wall pressure and a lightcone, and a measurement for each shipped checkpoint."""
    from examples.wall_files import hdf5

    rng = np.random.default_rng(5)
    head = rng.standard_normal((2, 24, 20)) + 1j * rng.standard_normal((2, 24, 20))
    y, x = np.meshgrid(np.linspace(-3, 3, 24), np.linspace(-3, 3, 20), indexing="ij")
    np.save(
        folder / "head.npy", (10 * np.exp(-(x**2) - y**2) + 0.02 * head) * ((abs(y) < 2) | (rng.random((24, 1)) < 0.5))
    )
    hdf5(folder / "planes.h5")
    _write_cone(folder / "cone.h5", rng)
    for path in sorted(CHECKPOINTS.glob("*.ckpt")):
        loaded = torch.load(path, weights_only=True)
        entry = loaded.get("infield_prior") or loaded.get("infield_one_step")
        if entry and path.stem not in ("wall_pressure_500", "wall_pressure_1000"):
            _write_measurement(folder / "shipped" / f"{path.stem}.zarr", entry, rng)


def _write_measurement(path: Path, entry: dict, rng: np.random.Generator) -> None:
    axes, channels = _axes(entry), entry["channels"]
    dims, shape = [axis["name"] for axis in axes], [len(axis["coordinates"]) for axis in axes]
    serves = (entry.get("serves") or {}).get("operator", "mask")
    mask = rng.random(shape) < 0.3
    values = rng.standard_normal(shape) * (1 if serves == "convolution" else mask)
    if len(channels) == 2:
        values = values + 1j * rng.standard_normal(shape) * (1 if serves == "convolution" else mask)
    operator = {"name": serves, "arrays": {"mask": "mask"}}
    if serves == "convolution":
        spacing = axes[0]["coordinates"][1] - axes[0]["coordinates"][0]
        operator = {"name": serves, "parameters": {"gaussian_width": 1.2 * spacing}}
    over = [f"k{d}" for d in dims] if serves == "fourier" else dims
    dataset = xr.Dataset(
        {"data": (over, values, {"units": entry["units"]}), "mask": (over, mask.astype("int8"))},
        coords={a["name"]: (a["name"], np.array(a["coordinates"]),
                {"units": a.get("units", "1"), "periodic": int(a.get("periodic", False))}) for a in axes},
        attrs={
            "Conventions": "CF-1.11", "infield_format": "measurement", "infield_version": 1,
            "field": json.dumps({"dims": dims, "channels": list(channels), "units": entry["units"]}),
            "operator": json.dumps(operator), "noise": json.dumps({"law": "gaussian", "variance": 0.01}),
        },
    )  # fmt: skip
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def _write_cone(path: Path, rng: np.random.Generator) -> None:
    """A lightcone as 21cmFAST 4.1.1 stores it."""
    cosmology = {"hlittle": 0.677, "OMm": 0.31, "OMb": 0.049, "POWER_INDEX": 0.967}
    with h5py.File(path, "w") as file:
        file.attrs.update({"lightcone": True, "__version__": "4.1.1", "last_completed_lcidx": -1})
        file["lightcones/brightness_temp"] = rng.standard_normal((4, 4, 10)).astype("f4")
        file["lightcones/density"] = np.zeros((4, 4, 10), np.float32)
        file["lightcone_distances"] = DISTANCE + 4.0 * np.arange(10)
        inputs = file.create_group("InputParameters")
        inputs.attrs.update({"21cmFAST-version": "4.1.1", "random_seed": 7})
        inputs.create_group("simulation_options").attrs.update({"HII_DIM": 4, "BOX_LEN": 16.0})
        inputs.create_group("cosmo_params").attrs.update(cosmology)
        parameters = {"HII_EFF_FACTOR": 30.0, "ION_Tvir_MIN": 4.7, "X_RAY_Tvir_MIN": 4.7, "L_X": 40.0}
        inputs.create_group("astro_params").attrs.update(parameters)
        inputs.create_group("astro_options").attrs["USE_TS_FLUCT"] = True


DISTANCE = 8987.0
"""Comoving Mpc, about redshift 7.5."""
