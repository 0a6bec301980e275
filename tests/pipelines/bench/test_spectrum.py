"""The bench of the known spectrum: its measure, its controls, and rows that stay when a run is stopped."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Generator

from infield.core import registry
from infield.pipelines.bench import spectrum
from infield.pipelines.bench.spectrum import GRID, LAW, LEARNED, SHELLS, SKIP, UNTRAINED, WHITE, spectrum_ratio
from infield.priors.gaussian.kernels import Matern


@pytest.fixture(scope="module")
def quick() -> dict[tuple[str, str], float]:
    bench = spectrum.run(quick=True)
    assert registry.table("benches")["spectrum"].target == spectrum.__name__ and bench.name == "spectrum"
    return {(r.method, r.metric): r.value for r in bench.records}


@pytest.mark.slow
def test_every_row_has_its_figures(quick):
    for method in ("exact draws", "exact velocity", SKIP, LEARNED, WHITE, UNTRAINED):
        shells = [quick[method, f"error_{first}_{last}"] for first, last in SHELLS]
        assert quick[method, "error_max"] == max(shells)
    for method in (SKIP, LEARNED, WHITE):
        assert quick[method, "training_steps"] == 4 and quick[method, "training_core_seconds"] > 0


def test_the_controls_are_told_apart(quick):
    assert quick["exact draws", "error_max"] < 0.1
    for first, last in SHELLS:  # the skip alone has the spectrum; so few steps of Heun's method have not
        shell = f"error_{first}_{last}"
        assert abs(quick[SKIP, shell] - quick["exact velocity", shell]) < 0.1
    assert 10 < quick[UNTRAINED, "error_17_32"] < quick[WHITE, "error_17_32"]
    assert quick[LEARNED, "error_17_32"] > 10


def test_the_ratio_is_of_powers():
    exact = LAW.covariance(GRID).sample(200, Generator().manual_seed(0))
    ratio = spectrum_ratio(exact)
    assert ratio.shape == (45,) and (ratio - 1).abs().max() < 0.12
    torch.testing.assert_close(spectrum_ratio(1.1 * exact), 1.21 * ratio)
    rough = Matern(0.5, 0.12).covariance(GRID)
    waves = torch.cartesian_prod(*[torch.fft.fftfreq(64, 1 / 64)] * 2).norm(dim=1).reshape(64, 64)
    for k in (3, 31):
        expected = (rough.diagonal / LAW.covariance(GRID).diagonal)[0][(waves - k).abs() < 0.5].mean()
        ratio = spectrum_ratio(rough.sample(200, Generator().manual_seed(0)))
        assert float(ratio[k - 1]) == pytest.approx(float(expected), rel=0.1)


def test_a_row_that_was_trained_is_not_trained_again(tmp_path, monkeypatch):
    """What a stopped run left is used, whatever it says; the length of training follows from the measured speed."""
    asked, clock = [], iter((0.0, 20.0, 20.0, 1100.0))
    monkeypatch.setattr(spectrum, "core_seconds", lambda: next(clock))

    def fit(folder, settings):
        asked.append(settings)
        folder.mkdir(parents=True, exist_ok=True)
        return a_prior(steps=60)

    monkeypatch.setattr(spectrum, "FOLDER", tmp_path)
    monkeypatch.setattr(spectrum, "_fit", fit)
    monkeypatch.setattr(spectrum, "load_flow_prior", lambda path: path)
    fields = tmp_path / "fields.nc"
    _, cost = spectrum._trained(tmp_path / "row", fields, {"skip": "gaussian"}, False, 3)
    gauge, training = asked
    assert gauge["trainer.max_time"] == "00:00:00:30" and "trainer.max_time" not in training
    assert training["trainer.max_steps"] == 19 * 60 * 60 // 20 and cost["training_core_seconds"] == 1080
    assert training["model.init_args.skip"] == "gaussian" and training["seed_everything"] == 3
    assert cost["training_steps"] == 60
    again, recorded = spectrum._trained(tmp_path / "row", fields, {"skip": "gaussian"}, False, 3)
    assert len(asked) == 2 and recorded == cost and again == tmp_path / "row" / "prior.ckpt"
    assert json.loads((tmp_path / "row" / "costs.json").read_text()) == cost


def a_prior(steps: int):
    class Trained:
        provenance = {"training": {"steps": steps}}

    return Trained()
