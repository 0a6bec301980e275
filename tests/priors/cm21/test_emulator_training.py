"""The loss of an emulator's training beside its formula, written out over all modes of whole spectra."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from infield.priors.cm21 import emulator_training
from infield.priors.cm21.emulator import HALO
from infield.priors.cm21.emulator_training import EmulatorTraining
from infield.priors.cm21.training import _weight

DEPTH, POINTS = 16, 8


class Given:
    """A network that returns what it was given, and notes which cells of the boxes it was shown."""

    def __init__(self, made: torch.Tensor) -> None:
        self.made, self.shown = made, torch.empty(0)

    def encode(self, seen: torch.Tensor) -> torch.Tensor:
        return torch.arange(float(seen.shape[1] // 2)).expand(len(seen), -1)

    def film_parameters(self, conditioning: torch.Tensor) -> torch.Tensor:
        return conditioning

    def __call__(self, along: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        self.shown = along
        return self.made


def power_in_bands(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power by bands of |k|, over all modes of the complex transform, and the middles of the bands."""
    depth, n, _ = T.shape
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(depth) / depth)
    taper /= np.sqrt(np.mean(taper**2))
    power = np.abs(np.fft.fftn((T - T.mean()) * taper[:, None, None])) ** 2 / T.size
    k = np.sqrt(sum(w**2 for w in np.meshgrid(*(2 * np.pi * np.fft.fftfreq(m) for m in T.shape), indexing="ij")))
    edges = np.geomspace(2 * np.pi / n, np.pi, 9)
    found, middles = [], []
    for low, high in itertools.pairwise(edges):
        inside = (k > low * (1 + 1e-12)) & (k <= high * (1 + 1e-12))
        if inside.any():
            found.append(power[inside].mean())
            middles.append(math.sqrt(low * high))
    return np.array(found), np.array(middles)


def test_the_three_terms_of_the_loss(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    T = 20 * normal(2, DEPTH, POINTS, POINTS) * (normal(2, DEPTH, POINTS, POINTS) > -0.5)
    made = normal(2, 2, DEPTH + 2 * HALO, POINTS, POINTS)
    made[:, 1] *= 3
    made[0, :, HALO + DEPTH // 2, 3, 3] = torch.tensor([30.0, 0.0])  # p = 1/2 is not more likely ionised than not
    mu, sigma = 5 * normal(2, DEPTH + 2 * HALO), 10 + normal(2, DEPTH + 2 * HALO).abs()
    asked: dict[str, Any] = {}

    def of(theta: torch.Tensor, s: torch.Tensor, *rest: Any) -> SimpleNamespace:
        asked.update(theta=theta, s=s)
        return SimpleNamespace(mu=mu, sigma=sigma, conditioning=torch.zeros(2))

    monkeypatch.setattr(emulator_training.Conditions, "of", of)
    network = Given(made)
    base = SimpleNamespace(distance=np.arange(101.0), ranges={"p": (1.0, 3.0)}, statistics=None, transform=None)
    density = SimpleNamespace(standardised=lambda boxes: boxes, view=lambda boxes: boxes)
    training: Any = SimpleNamespace(base=base, density=density, network=network)
    start = torch.tensor([0, 40])
    boxes = torch.zeros(2, 1, POINTS, POINTS, 24)
    theta = torch.tensor([[1.5], [3.0]])
    found = EmulatorTraining.errors(training, T.movedim(1, -1)[:, None], theta, start, boxes)

    assert asked["theta"].tolist() == [[0.25], [1.0]]
    assert torch.allclose(asked["s"][1], torch.arange(40 - HALO, 40 + DEPTH + HALO) / 100)
    # Cells of two slices; boxes of 24 come again, so that cell -4 is cell 8.
    assert network.shown[0].tolist() == [c % 12 for c in range(-4, 12)]
    assert network.shown[1].tolist() == [c % 12 for c in range(16, 32)]

    inner = slice(HALO, HALO + DEPTH)
    t, x, logit = (a.double().numpy() for a in (T, made[:, 0, inner], made[:, 1, inner]))
    m, s = (a[:, inner, None, None].double().numpy() for a in (mu, sigma))
    wrong = np.abs(x - (t - m) / s)
    huber = np.where(wrong < 1, wrong**2 / 2, wrong - 0.5)
    assert float(found["temperature"]) == pytest.approx(2 * (huber * (t != 0)).mean(), rel=1e-5)
    p = 1 / (1 + np.exp(-logit))
    assert float(found["zeros"]) == pytest.approx(-np.where(t == 0, np.log(p), np.log1p(-p)).mean(), rel=1e-5)
    ratios = []
    for true, mean in zip(t, np.where(p > 0.5, 0, m + s * x), strict=True):
        (expected, k), (own, _) = power_in_bands(true), power_in_bands(mean)
        floor = 0.05 * expected + 2 * np.pi**2 * 1.0 / k**3
        ratios.append(np.log((own + floor) / (expected + floor)) ** 2)
    assert float(found["log_power"]) == pytest.approx(np.mean(ratios), rel=1e-4)


def test_the_weight_of_the_power_rises():
    """A half of gamma after half of the steps, and gamma from then on; a rise over no step is there at once."""
    parts = {name: torch.tensor(value) for name, value in (("temperature", 1.0), ("zeros", 2.0), ("log_power", 4.0))}
    for step, rising, expected in ((0, 100, 3.0), (50, 100, 3.2), (100, 100, 3.4), (999, 100, 3.4), (1, 0, 3.4)):
        training: Any = SimpleNamespace(
            power=0.1, rising=rising, global_step=step, errors=lambda *batch: parts, log_dict=lambda *a, **k: None
        )
        assert float(EmulatorTraining.training_step(training, (torch.zeros(2),), 0)) == pytest.approx(expected)


def test_long_waves_count_most_and_all_weights_have_mean_one():
    """1 / (1 + k^2) at k = (pi, pi, pi) beside k = 0: 1 / (1 + 3 pi^2); waves of eight cells along one axis between."""
    weight = _weight((8, 8, 8))
    assert float(weight.mean()) == pytest.approx(1)
    assert float(weight[4, 4, 4] / weight[0, 0, 0]) == pytest.approx(1 / (1 + 3 * math.pi**2), rel=1e-5)
    for place in ((1, 0, 0), (0, 7, 0), (0, 0, 1)):
        assert float(weight[place] / weight[0, 0, 0]) == pytest.approx(1 / (1 + (math.pi / 4) ** 2), rel=1e-5)
    assert torch.equal(_weight((4, 8, 6)), _weight((4, 8, 6)).flip((0, 1, 2)).roll((1, 1, 1), (0, 1, 2)))
