"""Where a file comes from: command, date, host, versions, commit; and runs of other versions."""

import json
import platform
from importlib import metadata

import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.core import provenance
from infield.core.grid import Axis, Grid
from infield.core.provenance import command_line
from infield.datasets.formats.posterior import PosteriorWriter
from infield.datasets.formats.zarr_group import open_group

COST = {"velocity_calls": 1, "operator_calls": 1, "seconds": 0.5}
GRID = Grid((Axis("x", (0.0, 0.5), "km"),))


def writer(path):
    return PosteriorWriter(path, grid=GRID, channels=("u",), units="1", samples=2, block=1, run={"seed": 0})


def test_each_run_that_wrote_a_file_is_stored(tmp_path, recwarn):
    path = tmp_path / "p.zarr"
    with command_line("infield reconstruct", ["my m.zarr", "-o", "p.zarr"]):
        writer(path).write_block(0, torch.ones(1, 1, 2), COST)
    again = writer(path)
    again.write_block(1, torch.zeros(1, 1, 2), COST)
    again.record_workers(["10.0.0.1", "10.0.0.2"])
    again.finish()
    recwarn.clear()
    with xr.open_zarr(path) as group:
        runs = json.loads(group.attrs["infield_runs"])
    assert not recwarn.list  # consolidated metadata: plain xarray says nothing
    assert [run["command"] for run in runs] == ["infield reconstruct 'my m.zarr' -o p.zarr", "called from Python"]
    assert runs[0]["host"] == platform.node() and runs[0]["versions"]["torch"] == metadata.version("torch")
    assert "workers" not in runs[0] and runs[1]["workers"] == ["10.0.0.1", "10.0.0.2"]
    assert runs[0]["date"].endswith("+00:00") and runs[0].get("commit") == provenance.commit()
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_of_another_version_is_not_continued(tmp_path, monkeypatch):
    path = tmp_path / "p.zarr"
    writer(path).write_block(0, torch.ones(1, 1, 2), COST)
    own = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: {**own, "numpy": "9"})
    writer(path)  # negative control: it draws the same
    monkeypatch.setattr(provenance, "versions", lambda: {**own, "torch": own["torch"].partition("+")[0] + "+cu130"})
    writer(path)  # so does another build
    monkeypatch.setattr(provenance, "versions", lambda: {**own, "torch": "9"})
    with pytest.raises(InfieldError, match=r"p.zarr.partial: found torch .*, expected 9, .* to start afresh"):
        writer(path)
    assert open_group(path.with_name("p.zarr.partial"), "posterior", 9).attrs["infield_complete"] == 0
