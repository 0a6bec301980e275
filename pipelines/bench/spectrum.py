"""A learned prior of a field with a known spectrum: is the spectrum of its draws right on all scales?

The field: Matern 3/2, length 0.12, variance 1, on a periodic unit square of 64 x 64 points; from the largest to the
smallest scale its spectrum falls by six decades. 8192 draws of it train a Fourier neural operator through `infield fit`
and its file (configs/fit_spectrum_2d.yaml), for `CORE_MINUTES` of one core a row; then 256 draws of the prior, 64
steps each (the exact velocity needs one). Rows: our default, in which the network adds to a Gaussian with the data's
spectrum; a network that learns everything from a rough Matern source; and, on purpose wrong, one that learns everything
from a white source and one that learned nothing. Beside them exact draws, which have the Monte Carlo error alone, and
the exact velocity with the same steps.

Spectrum error of a shell: in each annulus k - 1/2 <= |k| < k + 1/2, the mean over modes and draws of the power over the
true power of the mode, less 1, in absolute value; of that the mean over the shell's annuli. The corners of the square
of modes, |k| from 33 to 45, are a shell of their own.

In full about 70 minutes of one core. Every row that was trained stays in `FOLDER`, and a stopped run resumes
after the last of them; remove the folder to train anew.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.spectra import Bins, wavenumbers
from infield.pipelines.bench.records import Bench
from infield.pipelines.commands.fit import run as fit
from infield.pipelines.package_data import CONFIGS
from infield.priors.base import sample
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.storage.checkpoint import load_flow_prior

GRID = Grid.regular((64, 64), 1.0, units="m", periodic=True)
LAW, SOURCE = Matern(nu=1.5, length=0.12), Matern(nu=0.5, length=0.12)
SHELLS = ((1, 4), (5, 8), (9, 16), (17, 32), (33, 45))
CONFIG = CONFIGS / "fit_spectrum_2d.yaml"
FOLDER = Path("runs") / "bench_spectrum"
CORE_MINUTES = 19.0
"""Time of the processor for the training of a row: 10 minutes on two cores, of which a second one speeds training up by
1.9. It is the processor's time that counts, so that a machine that does other work too gives the same row."""

GAUGE_SECONDS = 30.0
"""Length of the run that measures the speed, so that the learning rate reaches its end within that time."""

SKIP, LEARNED, WHITE, UNTRAINED = "learned, gaussian skip", "learned", "(learned, white source)", "(untrained)"
TRAINED: dict[str, dict[str, str]] = {
    SKIP: {"skip": "gaussian"},
    LEARNED: {},
    WHITE: {"source": '{"law": "white"}'},
}
METRICS = {
    "error_max": ".1%",
    **{f"error_{first}_{last}": ".1%" for first, last in SHELLS},
    "training_core_seconds": ".0f",
    "training_steps": ".0f",
    "draw_seconds": ".0f",
}
METHOD_NOTE = (
    "Error of the power, mean over the annuli of a shell of wavenumbers; maximum over the shells. 'exact draws' is the "
    "Monte Carlo error of as many draws. Training: the whole of `infield fit`, without the run that measures its speed."
)


def run(*, quick: bool = False, seed: int = 0, rows: Sequence[str] = tuple(TRAINED)) -> Bench:
    """Train and draw; 32 draws of 8 steps from hardly trained networks when quick.

    Arguments:
        quick: To see that it runs.
        seed: Seed of fields, training and draws.
        rows: Which networks to train, of `TRAINED`; what a former run left in `FOLDER` is used.
    """
    torch.set_num_threads(1)
    bench = Bench("spectrum", seed)
    n, steps = (32, 8) if quick else (256, 64)
    exact = gaussian_prior(LAW, GRID, source=SOURCE)
    _add(bench, "exact draws", exact.covariance.sample(n, Generator().manual_seed(seed + 1)))
    _add(bench, "exact velocity", sample(exact, n, Generator().manual_seed(seed + 2), steps=steps))
    with tempfile.TemporaryDirectory() as scratch:
        fields = _write_fields(Path(scratch) / "fields.nc", 256 if quick else 8192, seed)
        for row in rows:
            folder = (Path(scratch) if quick else FOLDER / f"seed-{seed}") / f"{list(TRAINED).index(row)}"
            prior, cost = _trained(folder, fields, TRAINED[row], quick, seed)
            for metric, value in cost.items():
                bench.add("0", row, metric, value, "s" if metric.endswith("seconds") else "1")
            _draw(bench, row, prior, n, steps, seed)
            if row == LEARNED:
                fresh = type(prior.network)(**prior.network.arguments).eval()  # type: ignore[arg-type]
                _draw(bench, UNTRAINED, replace(prior, network=fresh), n, steps, seed)
    return bench


def spectrum_ratio(fields: Tensor) -> Tensor:
    """Power of draws `(n, 1, 64, 64)` over the true power, mean over each annulus of wavenumbers 1 to 45."""
    power = (Hartley(2).analyse(fields.to(torch.float64)).square().mean(0) / LAW.covariance(GRID).diagonal)[0]
    return Bins.nearest(wavenumbers(GRID.shape, [1 / n for n in GRID.shape]), 1.0).mean(power)[1:]


def _add(bench: Bench, method: str, fields: Tensor) -> None:
    error = (spectrum_ratio(fields) - 1).abs()
    shells = [float(error[first - 1 : last].mean()) for first, last in SHELLS]
    bench.add("0", method, "error_max", max(shells))
    for (first, last), value in zip(SHELLS, shells, strict=True):
        bench.add("0", method, f"error_{first}_{last}", value)


def _draw(bench: Bench, method: str, prior: LearnedFlow, n: int, steps: int, seed: int) -> None:
    start = time.perf_counter()
    generator = Generator().manual_seed(seed + 2)
    fields = torch.cat([sample(prior, 32, generator, steps=steps) for _ in range(n // 32)])
    bench.add("0", method, "draw_seconds", time.perf_counter() - start, "s")
    _add(bench, method, fields)


def _write_fields(path: Path, examples: int, seed: int) -> Path:
    """The file of a user with example fields."""
    generator = Generator().manual_seed(seed)
    chunks = [LAW.covariance(GRID).sample(256, generator)[:, 0].float() for _ in range(examples // 256)]
    coordinates = {a.name: (a.name, np.array(a.coordinates), {"units": a.units, "periodic": 1}) for a in GRID.axes}
    fields = ("sample", *GRID.names), torch.cat(chunks).numpy(), {"units": "K"}
    xr.Dataset({"field": fields}, coordinates).to_netcdf(path)
    return path


def _trained(
    folder: Path, fields: Path, model: dict[str, str], quick: bool, seed: int
) -> tuple[LearnedFlow, dict[str, float]]:
    """The prior of a row and what it cost; from its folder, where a former run has finished it."""
    costs = folder / "costs.json"
    if not costs.is_file():
        settings: dict[str, Any] = {
            "seed_everything": seed,
            "data.init_args.path": fields,
            **{f"model.init_args.{name}": value for name, value in model.items()},
            "trainer.accelerator": "cpu",
            "trainer.logger": "false",
            "trainer.enable_model_summary": "false",
        }
        if quick:
            network = {"model.init_args.network.init_args.width": 4, "model.init_args.network.init_args.layers": 1}
            settings |= network | {"trainer.max_steps": 4, "model.init_args.rank": 4}
        else:
            limits = {"trainer.max_steps": 10**6, "trainer.max_time": _time(GAUGE_SECONDS)}
            start = core_seconds()
            gauge = _fit(fields.parent / "gauge", settings | limits)
            speed = gauge.provenance["training"]["steps"] / (core_seconds() - start)
            settings["trainer.max_steps"] = max(int(60 * CORE_MINUTES * speed), 1)
        start = core_seconds()
        prior = _fit(folder, settings)
        cost = {
            "training_core_seconds": core_seconds() - start,
            "training_steps": prior.provenance["training"]["steps"],
        }
        costs.write_text(json.dumps(cost), encoding="utf-8")
    return load_flow_prior(folder / "prior.ckpt"), json.loads(costs.read_text(encoding="utf-8"))


def _fit(folder: Path, settings: dict[str, Any]) -> LearnedFlow:
    settings = settings | {"trainer.default_root_dir": folder}
    fit(["--config", str(CONFIG), *(word for key, value in settings.items() for word in (f"--{key}", str(value)))])
    return load_flow_prior(folder / "prior.ckpt")


def core_seconds() -> float:
    """Time that the processor has given to this process."""
    return time.process_time()


def _time(seconds: float) -> str:
    """As Lightning writes it: days, hours, minutes and seconds."""
    minutes, left = divmod(round(seconds), 60)
    return f"00:{minutes // 60:02d}:{minutes % 60:02d}:{left:02d}"
