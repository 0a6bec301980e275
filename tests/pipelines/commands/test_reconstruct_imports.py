"""A small reconstruction under a prior that has a name imports no package that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import torch

from infield.core.grid import Grid
from infield.datasets.formats.measurement import open_measurement, write_measurement
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator

UNNEEDED = {"dask", "distributed", "lightning", "matplotlib", "pint", "rich", "scipy"}

MOST = 1700
"""Modules outside the standard library, torch, sympy and numpy: 1,540 on 30 November 2026; 2,256 with what fits laws to
points, what distributes work, and indexes of coordinates."""

OF_TORCH = {"torch", "sympy", "numpy"}

CODE = """
import json, sys
{before}
from infield.pipelines.cli import main
assert main({words}) == 0
print(json.dumps(sorted(sys.modules)))
"""


def modules_of(words: list[str], before: str = "") -> set[str]:
    program = CODE.format(words=words, before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_reconstruction_of_a_thousand_points_imports_what_it_needs(tmp_path):
    grid = Grid.regular((1000,))
    mask = np.arange(1000) % 4 == 0
    description = {"name": "mask", "arrays": {"mask": "mask"}}
    operator = build_operator(description, {"mask": mask}, grid, 1)
    y = torch.where(torch.from_numpy(mask), torch.linspace(-1, 1, 1000, dtype=torch.float64), 0.0)[None, None]
    noise = GaussianNoise(torch.tensor(0.01))
    measurement = Measurement(
        y=y, operator=operator, noise=noise, grid=grid, description=description, arrays={"mask": mask}
    )
    write_measurement(tmp_path / "m.zarr", measurement)
    (tmp_path / "p.yaml").write_text("{prior: gaussian, law: {law: matern, nu: 1.5, length: 0.1}}", encoding="utf-8")
    words = ["reconstruct", f"{tmp_path / 'm.zarr'}", "-o", f"{tmp_path / 'p.zarr'}", "--quiet"]
    words += ["--prior", f"{tmp_path / 'p.yaml'}", "--samples", "4"]
    found = modules_of(words)
    assert not found & UNNEEDED
    assert "infield.posterior.kriging.fit" not in found
    others = {name for name in found if name.partition(".")[0] not in OF_TORCH | sys.stdlib_module_names}
    assert len(others) <= MOST, sorted({name.partition(".")[0] for name in others})
    assert open_measurement(tmp_path / "m.zarr").grid == grid  # without indexes, too, coordinates are those of the file


def test_an_unneeded_import_is_seen():
    """Control: indexes of coordinates bring Dask's arrays and pint."""
    found = modules_of(["--version"], before="import xarray; xarray.Dataset(coords={'x': [1.0, 2.0]})")
    assert {"dask", "pint"} <= found & UNNEEDED
