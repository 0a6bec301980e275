"""The bench of steps: finished cases are kept, and what its parts judge."""

import pytest
import torch

from infield import InfieldError
from infield.pipelines.bench import steps_nonlinear
from infield.pipelines.bench.kept import Kept
from infield.pipelines.bench.steps import PARTS, RUN
from infield.pipelines.bench.steps_kept import StepsBench
from infield.posterior.samplers.faps import FAPS


def test_every_part_has_its_function():
    assert tuple(RUN) == PARTS


def test_finished_cases_are_not_measured_again(tmp_path):
    kept, calls = Kept(tmp_path / "kept"), []

    def measure():
        calls.append(1)
        return {"cover": 0.9}

    assert StepsBench("steps", 0, kept=kept).figures("a", measure) == {"cover": 0.9}
    again = StepsBench("steps", 0, kept=kept)
    assert again.figures("a", measure) == {"cover": 0.9} and len(calls) == 1
    StepsBench("steps", 1, kept=kept).figures("a", measure)  # another seed is another case
    assert len(calls) == 2
    next((tmp_path / "kept").iterdir()).write_bytes(b"")
    with pytest.raises(InfieldError, match="remove it"):
        for seed in (0, 1):
            StepsBench("steps", seed, kept=kept).figures("a", measure)


@pytest.mark.parametrize(("ranks", "met"), [(range(32), True), ([0, 1] * 16, False)])
def test_uniform_ranks_pass_and_others_do_not(ranks, met):
    bench = StepsBench("steps", 0)
    cover = torch.rand(32, generator=torch.Generator().manual_seed(0)).double() * 0.2 + (0.8 if met else 0.6)
    figures = [
        {**{f"rank_{name}": float(rank) for name in steps_nonlinear.FEATURES}, "cover": float(c), "cpu_seconds": 1.0}
        for rank, c in zip(ranks, cover, strict=True)
    ]
    steps_nonlinear.judge(bench, "case", "smc", figures)
    judged = [record.met for record in bench.records if record.target is not None]
    assert len(judged) == 4 and set(judged) == {met}


def test_a_case_gives_ranks_and_cover():
    generator = torch.Generator().manual_seed(0)
    found = steps_nonlinear.calibration_of(FAPS(steps=4), steps_nonlinear.counts(generator), generator)
    assert all(0 <= found[f"rank_{name}"] <= steps_nonlinear.DRAWS for name in steps_nonlinear.FEATURES)
    assert 0 < found["cover"] <= 1
