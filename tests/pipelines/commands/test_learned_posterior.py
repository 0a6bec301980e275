"""The whole road with a learned prior, against the exact posterior. Slow: `make test-slow` (about three minutes)."""

from __future__ import annotations

import pytest

from infield.pipelines.bench import learned_prior


@pytest.mark.slow
def test_the_posterior_under_a_learned_prior_is_near_the_exact_one():
    bench = learned_prior.run()
    learned, control = "faps-flow", "(weights zero)"
    assert bench.median(learned, "sw2_ratio_to_exact") < 3
    assert bench.median(learned, "mean_error_in_posterior_sd") < 0.15
    assert 0.93 < bench.median(learned, "std_ratio") < 1.07
    assert bench.median(control, "sw2_ratio_to_exact") > 3 * bench.median(learned, "sw2_ratio_to_exact")
