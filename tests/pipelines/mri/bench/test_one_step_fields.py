"""What judges posteriors in one step of fields, on draws that are known."""

import pytest
import torch
from torch import Generator

from infield.core.grid import Grid
from infield.datasets.mri.operator_family import UndersampledKspace
from infield.datasets.training.operator_families import Deblurring, Inpainting
from infield.pipelines.bench.records import Bench
from infield.pipelines.mri.bench.one_step_fields import NOISELESS_STD, Score, measure, psnr

GRID = Grid.regular((16, 16), 1.0, periodic=True)


def scored(spread: float, draws: int = 16, truths: int = 40) -> dict[str, float]:
    """Truths N(m, 1) of a known m, draws N(m, spread^2)."""
    generator, score = Generator().manual_seed(0), Score(bench := Bench("x", 0), "row")
    for case in range(truths):
        mean = torch.randn((2, 16, 16), generator=generator, dtype=torch.float64)
        truth = mean + torch.randn((2, 16, 16), generator=generator, dtype=torch.float64)
        x = mean + spread * torch.randn((draws, 2, 16, 16), generator=generator, dtype=torch.float64)
        family = Inpainting((0.5, 0.5))
        score.add(case, x, measure(truth[None], family, GRID, 0.1, generator), 2.0, 1.0)
    score.write(draws, generator)
    return {metric: bench.median("row", metric) for metric in {r.metric for r in bench.records}}


def test_right_draws_have_ratio_one_and_cover():
    right = scored(1.0)
    # 20480 values, their variance known to 1 %
    assert right["calibration"] == pytest.approx(1, abs=0.04)
    assert right["inside_90"] == pytest.approx(0.9, abs=0.01)
    assert right["seconds_a_draw"] == 2 / 16 and right["evaluations"] == 1


def test_draws_that_are_too_sure_are_found():
    sure = scored(0.7)
    assert sure["calibration"] == pytest.approx(0.49, abs=0.03)
    assert sure["inside_90"] < 0.8


@pytest.mark.parametrize(
    "family", [Inpainting((0.2, 0.5)), Deblurring((1.0, 2.0)), UndersampledKspace("random", (4.0,))]
)
def test_measurements_have_the_noise_they_say(family):
    generator = Generator().manual_seed(0)
    truth = torch.randn((1, 2, 16, 16), generator=generator, dtype=torch.float64)
    told = torch.cat([measure(truth, family, GRID, 0.1, generator).chi_square(truth) for _ in range(60)])
    assert float(told.mean()) == pytest.approx(1, abs=0.05)
    exact = measure(truth, family, GRID, 0.0, generator)
    assert exact.noise.variance == NOISELESS_STD**2 and exact.residual(truth).abs().max() == 0


def test_psnr_is_the_peak_over_the_error():
    truth = torch.zeros((2, 4, 4), dtype=torch.float64)
    truth[:, 0, 0] = 1.0  # magnitude sqrt 2
    assert psnr((truth + 0.1)[None], truth) == pytest.approx(20.0)
