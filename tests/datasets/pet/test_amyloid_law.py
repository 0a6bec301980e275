"""The synthetic law of regional amyloid: its moments, and a best prediction that nothing beats."""

from __future__ import annotations

import pytest
import torch

from infield.core.errors import InfieldError
from infield.core.randomness import SampleStreams
from infield.datasets.pet.amyloid_law import AmyloidLaw, best_prediction

LAW = AmyloidLaw()


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_best_prediction_is_the_conditional_mean():
    """Its error is orthogonal to itself and to the baseline, and less than that of a linear regression."""
    baseline, _, truth = LAW.pairs(4000, 2.5, rng())
    few = 64
    best = best_prediction(LAW, baseline[:few], 2.5, rng(1), outer=1500)
    error = (truth[:few] - best).mean(1)
    for direction in ((best - baseline[:few]).mean(1), baseline[:few].mean(1) - 1.3):
        products = error * direction
        assert abs(float(products.mean() / products.std())) * few**0.5 < 3.5
    x = torch.cat([baseline, torch.ones(len(baseline), 1)], 1)
    linear = x[:few] @ torch.linalg.lstsq(x[few:], truth[few:]).solution

    def rms(prediction):
        return float((truth[:few] - prediction).square().mean().sqrt())

    assert rms(best) < rms(linear) < 0.9 * rms(baseline[:few])
    later = best_prediction(LAW, baseline[:few], 4.0, rng(1), outer=1500)
    assert rms(later) > 1.2 * rms(best)  # the prediction over another interval


def test_subjects_and_scans():
    subjects = LAW.subjects(20000, rng())
    nothing = subjects.capacity == 0
    assert float(nothing.double().mean()) == pytest.approx(0.35, abs=0.012)
    change = subjects.suvr(3.0, LAW.accumulates) - subjects.suvr(0.0, LAW.accumulates)
    assert float(change.min()) >= 0 and float(change[nothing].abs().max()) == 0
    assert float(change[:, ~LAW.accumulates].abs().max()) == 0
    scan = LAW.measure(torch.ones(20000, 26, dtype=torch.float64), rng(2))
    assert float(scan.mean(1).var().sqrt()) == pytest.approx((0.02**2 + 0.015**2 / 26) ** 0.5, rel=0.03)
    assert float(scan.var(1).mean().sqrt()) == pytest.approx(0.015, rel=0.02)


def test_a_subject_is_its_number():
    some = LAW.subjects(3, SampleStreams(5, [7, 2, 9]))
    other = LAW.subjects(1, SampleStreams(5, [2]))
    assert torch.equal(some.onset[1], other.onset[0]) and torch.equal(some.age[1], other.age[0])


@pytest.mark.parametrize("bad", [{"ref": -0.1}, {"accumulators": 1.2}, {"reg": float("inf")}])
def test_impossible_laws(bad):
    with pytest.raises(InfieldError, match="amyloid law"):
        AmyloidLaw(**bad)
