"""Digests of training data, values of parameters, calibrations of other runs, places of priors: by small cases."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.pipelines.package_data import _first_sentence, nearest
from infield.pipelines.run.check import _prior_of
from infield.pipelines.run.explanation import _check_posterior
from infield.pipelines.run.fit_callbacks import digest_of_data
from infield.pipelines.run.fitted_field import _check_plane
from infield.pipelines.run.recalibration import refuse_other
from infield.pipelines.run.samplers import _value


def trainer(dataset: Any) -> Any:
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(datamodule=SimpleNamespace(train_dataloader=lambda: loader))


class Anew:
    """As many samples as it says, drawn anew each time."""

    def __init__(self, n: int | None) -> None:
        self.n, self.drawn = n, 0

    def __len__(self) -> int:
        if self.n is None:
            raise TypeError("no number")
        return self.n

    def __getitem__(self, i: int) -> torch.Tensor:
        self.drawn += 1
        return torch.tensor(float(self.drawn))


@pytest.mark.parametrize("n", [1, 2, 9, 10])
def test_the_digest_is_of_the_number_and_the_first_the_middle_and_the_last_sample(n):
    data = [torch.full((2, 3), float(i)) for i in range(n)]
    before = digest_of_data(trainer(data))
    chosen = hashlib.sha256(str(n).encode())
    for i in (0, n // 2, n - 1):
        chosen.update(np.full((2, 3), i, np.float32).tobytes())
    assert before == chosen.hexdigest()
    for i in range(n):
        other = [x + 1 if j == i else x for j, x in enumerate(data)]
        assert (digest_of_data(trainer(other)) != before) == (i in (0, n // 2, n - 1))


def test_data_of_many_parts_and_data_drawn_anew():
    one = [{"x": torch.tensor([1.0, 2.0]), "y": (3, [4.0]), "name": "text"}]
    expected = hashlib.sha256(b"1")
    for _ in range(3):
        expected.update(np.array([1, 2], np.float32).tobytes() + np.array([3.0]).tobytes() + np.array([4.0]).tobytes())
    assert digest_of_data(trainer(one)) == expected.hexdigest()
    assert digest_of_data(trainer(Anew(7))) == "7 samples"
    assert digest_of_data(trainer(Anew(None))) is None
    assert digest_of_data(trainer([])) == hashlib.sha256(b"0").hexdigest()
    assert digest_of_data(SimpleNamespace()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [("3", int, 3), ("3", float, 3.0), ("3", int | None, 3), ("None", int | None, None), ("2", float | int, 2.0),
     ("0.5", float, 0.5), ("name", str, "name"), ("True", bool, True), ("(1, 2)", tuple, (1, 2))],
)  # fmt: skip
def test_values_of_parameters(text, kind, value):
    found = _value(f"p={text}", text, kind)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "kind"), [("3.5", int), ("True", int), ("None", float), ("3", str), ("word", float)])
def test_values_of_another_type_are_refused(text, kind):
    with pytest.raises(InfieldError, match=f"--with p={text}: found '{text}', expected {kind.__name__}"):
        _value(f"p={text}", text, kind)


def test_a_calibration_of_another_run_is_refused():
    run = {"prior_sha256": "p", "sampler": "s"}
    refuse = lambda **more: refuse_other(  # noqa: E731
        SimpleNamespace(run={**run, **more}, path="c.zarr"),
        run,
        "of-these-data",  # type: ignore[arg-type]
    )
    refuse()
    refuse(uses_of_observed_data=1)
    refuse(truths="prior", measurement_sha256="of-others")
    refuse(truths="posterior", measurement_sha256="of-these-data")
    with pytest.raises(InfieldError, match="a calibration of"):
        refuse(truths="posterior", measurement_sha256="of-others")
    for key in run:
        with pytest.raises(InfieldError, match=f"'{key}': found a calibration of"):
            refuse(**{key: "another"})
    for uses in (0, 2):
        with pytest.raises(InfieldError, match="a control of the test"):
            refuse(uses_of_observed_data=uses)


def test_the_prior_of_a_posterior_is_a_name_or_a_file_here_or_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here.ckpt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "beside.yaml").touch()
    path = tmp_path / "folder" / "p.zarr"
    assert _prior_of(path, {"prior": "here.ckpt: a flow"}) == "here.ckpt"
    assert _prior_of(path, {"prior": "beside.yaml"}) == str(tmp_path / "folder" / "beside.yaml")
    assert _prior_of(path, {"prior": "brain_2d.ckpt: a flow"}) == "brain_2d"
    for attributes in ({"prior": "nowhere.ckpt"}, {"prior": ""}, {}):
        with pytest.raises(InfieldError, match="which is no file here"):
            _prior_of(path, attributes)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"result": "estimate", "sampler": "map", "diagnostics": "{}"}, "found an estimate by map"),
        ({"result": "estimate", "diagnostics": '{"caveat": "one optimum"}'}, "found one optimum"),
        ({"diagnostics": '{"caveat": "seeks modes"}'}, "found seeks modes"),
        ({"diagnostics": '{"fit": {}}'}, "found a process fitted to the data"),
        ({"diagnostics": "{}"}, "3 draws"),
    ],
)
def test_what_cannot_be_explained(attributes, words):
    dataset = xr.Dataset({"samples": (("sample", "x"), np.zeros((3, 2)))}, attrs=attributes)
    with pytest.raises(InfieldError, match=words):
        _check_posterior(Path("p.zarr"), dataset)
    many = xr.Dataset({"samples": (("sample", "x"), np.zeros((300, 2)))}, attrs={"diagnostics": "{}"})
    _check_posterior(Path("p.zarr"), many)


def test_only_two_open_axes_of_one_unit_can_be_turned():
    def axis(name: str, units: str, periodic: bool = False) -> Axis:
        return Axis(name, tuple(float(i) for i in range(5)), units, periodic=periodic)

    _check_plane(SimpleNamespace(grid=Grid((axis("y", "m"), axis("x", "m")))))  # type: ignore[arg-type]
    for axes in (
        (axis("y", "m"), axis("x", "s")), (axis("y", "m", True), axis("x", "m")), (axis("x", "m"),),
    ):  # fmt: skip
        with pytest.raises(InfieldError, match="expected two open axes of one unit"):
            _check_plane(SimpleNamespace(grid=Grid(axes)))  # type: ignore[arg-type]


def test_the_first_sentence_of_a_file_and_the_nearest_name(tmp_path):
    path = tmp_path / "fit_x.yaml"
    path.write_text("# A flow of lines\n# and planes. More words.\nmodel: {}\n# Not this.\n")
    assert _first_sentence(path) == "A flow of lines and planes"
    path.write_text("# One sentence.\n")
    assert _first_sentence(path) == "One sentence"
    path.write_text("model: {}\n")
    assert _first_sentence(path) == ""
    assert "unet_2d" in nearest("configs/fit_unet2d.yaml", ["unet_2d", "point_network"])
    assert nearest("zzz", ["unet_2d", "line"]) == "known names: unet_2d, line"
