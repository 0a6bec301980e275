"""Pictures of dead leaves: codes, edges, no border, and samples that depend on seed and number alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.projection_mapping.dead_leaves import DeadLeaves
from infield.datasets.training.fields import FieldFile
from infield.pipelines.cli import main

GRID = Grid.regular((24, 24), (24.0, 24.0), names=("y", "x"), periodic=True)


def test_pictures_have_edges_and_no_border():
    x = DeadLeaves(leaves=25).draw(GRID, SampleStreams(0, range(24)).normal)
    assert x.shape == (24, 3, 24, 24) and 0 <= x.min() < 0.1 and 0.9 < x.max() <= 1
    step = (x - x.roll(1, -1)).abs()
    across, within = step[..., 0].mean(), step[..., 1:].mean()
    assert 0.7 < across / within < 1.4  # column 0 beside the last one, and neighbours elsewhere
    kurtosis = (step**4).mean() / (step**2).mean() ** 2
    white = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert kurtosis > 4 > 3.3 > (white**4).mean() / (white**2).mean() ** 2  # few large steps: edges
    torch.testing.assert_close(DeadLeaves(leaves=25).draw(GRID, SampleStreams(0, range(7, 9)).normal), x[7:9])
    with pytest.raises(InfieldError, match="radii rising"):
        DeadLeaves(smallest=0.5, largest=0.1)


def test_the_command_writes_what_fit_reads(tmp_path, capsys):
    words = [
        "simulate",
        "pictures",
        "-o",
        str(tmp_path / "p.zarr"),
        "--samples",
        "4",
        "--points",
        "12",
        "--workers",
        "1",
    ]
    assert main([*words, "--with", "leaves=8", "--json"]) == 0
    data = FieldFile(str(tmp_path / "p.zarr"), "picture", batch_size=3, validation=0)
    data.setup("fit")
    assert data.channels == ("red", "green", "blue") and data.examples().shape == (4, 3, 12, 12)
    assert np.isfinite(data.examples().numpy()).all() and all(data.grid.periodic)
    capsys.readouterr()
    for more, words_ in ((["--with", "leafs=3"], "no parameter leafs"), (["--law", "matern"], "expected a process")):
        assert main(["simulate", "pictures", "-o", str(tmp_path / "q.zarr"), *more]) == 2
        error = capsys.readouterr().err
        assert words_ in error and error.count("\n") == 1 and not (tmp_path / "q.zarr").exists()
