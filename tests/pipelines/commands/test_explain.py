"""`infield explain`: figures beside the library, a map, and refusals in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

import infield
from infield import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.field import Field
from infield.pipelines.cli import main
from infield.pipelines.run.explanation import explain
from infield.pipelines.run.features import parse_feature
from infield.pipelines.run.prior_choice import choose_prior
from infield.posterior.diagnostics.sensitivity import exact_gain

PRIOR = "prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 0.3}\n"
ROOM = Field(Grid.regular((4, 8), (1.0, 2.0), periodic=True), ("a", "b"), "K")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A measurement of 6 of 16 points, one of them wrong; its posterior of 64 draws, one of 8, and an estimate."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "prior.yaml").write_text(PRIOR)
    grid = Grid.regular((16,), 1.0)
    A = infield.operator("points", grid, indices=np.array([1, 4, 6, 9, 11, 14]))
    y = torch.tensor([[[0.3, 0.1, 4.0, 0.2, 0.1, 0.0]]], dtype=torch.float64)
    m = infield.Measurement(y, operator=A, noise=infield.noise.Gaussian(0.2), grid=grid)
    infield.write_measurement(folder / "m.zarr", m)
    for name, sampler, n in (("p", "exact", 64), ("few", "exact", 8), ("estimate", "red-diff", 64)):
        infield.reconstruct(
            folder / "m.zarr", to=folder / f"{name}.zarr", prior=folder / "prior.yaml", sampler=sampler, samples=n
        )
    return folder


def test_the_command_names_the_wrong_datum_and_writes_a_map(files, capsys):
    words = ["explain", str(files / "p.zarr"), "--measurement", str(files / "m.zarr"), "--feature", "mean:x=0..0.5"]
    out = files / "why.nc"
    assert main([*words, "--prior", str(files / "prior.yaml"), "--planned-noise", "0.2", "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact"] and [one["datum"] for one in found["disagreeing"]] == [2]
    assert "x 0.4" in found["disagreeing"][0]["place"] and 0 < found["degrees_of_freedom"] < 6
    with xr.open_dataset(out) as written:
        assert written["sensitivity"].shape == (6,) and written["variance_removed"].shape == (16,)
        assert float(written["left_out_z"][2]) > 4 > float(abs(written["left_out_z"][0]))
    assert main(words) == 0
    assert "disagree" in capsys.readouterr().out
    assert main([*words, "-o", str(out)]) == 2


def test_draws_agree_with_the_gain(files):
    by_draws = explain(files / "p.zarr", files / "m.zarr", "mean")
    given = infield.open_measurement(files / "m.zarr")
    weights = torch.full((1, 16), 1 / 16, dtype=torch.float64)
    exact = exact_gain(choose_prior(str(files / "prior.yaml"), given).prior, given, weights)
    assert not by_draws.exact
    assert float(((by_draws.of_data.value - exact.value) / by_draws.of_data.error).abs().max()) < 4.5


@pytest.mark.parametrize(
    ("posterior", "message"),
    [("few", "found 8 draws, expected at least 32"), ("estimate", "expected draws of a posterior")],
)
def test_what_is_refused(files, capsys, posterior, message):
    assert main(["explain", str(files / f"{posterior}.zarr"), "--measurement", str(files / "m.zarr")]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1


def test_features():
    x = torch.arange(64, dtype=torch.float64).reshape(1, 2, 4, 8)
    torch.testing.assert_close(parse_feature("mean", ROOM, "b").of(x), x[:, 1].mean().reshape(1))
    corner = parse_feature("point:y=0.26,x=1.9", ROOM).of(x)
    torch.testing.assert_close(corner, x[:, 0, 1, 7])
    region = parse_feature("mean:x=0.5..0.8", ROOM).of(x)
    torch.testing.assert_close(region, x[:, 0, :, 2:4].mean().reshape(1))
    wave = torch.cos(2 * torch.pi * torch.arange(8, dtype=torch.float64) / 8).expand(1, 2, 4, 8)
    band = parse_feature("band:0.5", ROOM)
    assert float(band.of(wave)) == pytest.approx(8.0)  # two modes that hold the power of 32 values
    assert float(parse_feature("band:0.9..1.1", ROOM).of(wave)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "text", ["median", "point:x=1", "mean:z=1..2", "mean:x=2..1", "mean:x=9..10", "band:9..10", "band:a"]
)
def test_features_that_are_none(text):
    with pytest.raises(InfieldError):
        parse_feature(text, ROOM)
