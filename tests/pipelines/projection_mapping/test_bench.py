"""`infield bench projection`: figures with targets, in one run."""

from __future__ import annotations

import json

import pytest

from infield.pipelines.cli import main

pytest.importorskip("cv2")


@pytest.mark.slow
def test_the_bench(tmp_path):
    records = tmp_path / "projection.json"
    assert main(["bench", "projection", "--quick", "--quiet", "--records", str(records)]) == 0
    found = json.loads(records.read_text())["records"]
    judged = {(r["case"], r["method"], r["metric"]): r["met"] for r in found if "target" in r}
    assert len(judged) > 20
    timed = ("times faster than scipy", "seconds", "peak memory of the process, GiB")
    exact = [met for (_, _, metric), met in judged.items() if "largest error" in metric and metric not in timed]
    assert all(exact)


@pytest.mark.slow
def test_exact_draws_and_projections():
    """Exact draws lie near the gamut; projected ones on it, and elsewhere than exact ones; the prior's do not."""
    import torch

    from infield.core.grid import Grid
    from infield.pipelines.projection_mapping.bench.cooperation import by_rejection, case, draws, mixture, projected
    from infield.posterior.diagnostics.calibration import sliced_wasserstein

    measurement, prior = case((1, 1), 0), mixture(Grid.regular((1, 1)))
    numbers = [torch.Generator().manual_seed(i) for i in range(5)]
    far = lambda x: float(measurement.noise.distances(measurement.operator.A(x)).mean())  # noqa: E731
    free, exact, other = (
        draws(prior, 600, numbers[0]),
        *(by_rejection(prior, measurement, 600, g) for g in numbers[1:3]),
    )
    moved = projected(measurement, free)
    assert far(moved) < 1e-4 and far(exact) < 0.02 < 0.05 < far(free)
    floor, away = (sliced_wasserstein(x, exact, numbers[3]) for x in (other, moved))
    assert away > 2 * floor


def test_bits_per_dimension_of_a_gaussian():
    """Against the closed form of the Gaussian that x_t is at t = 0.99; control: another picture."""
    import math

    import torch

    from infield.core.grid import Grid
    from infield.pipelines.projection_mapping.bench.pictures import bits_per_dimension, diversity
    from infield.priors.gaussian.bridge import Bridge
    from infield.priors.gaussian.kernels import Matern, White
    from infield.priors.gaussian.prior import gaussian_prior

    prior = gaussian_prior(Matern(1.5, 0.3), Grid.regular((4, 5)), source=White()).in_units(0.5, 0.2)
    x = 0.5 + 0.1 * torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = bits_per_dimension(prior, x, torch.Generator().manual_seed(1), steps=200, probes=20)
    bridge = Bridge(prior.covariance, prior.source, 0.99)
    exact = -bridge.log_density(0.99 * prior.standardisation.from_units(x), prior.mean) / (20 * math.log(2))
    torch.testing.assert_close(found, exact, rtol=0, atol=0.15)
    other = bits_per_dimension(prior, x + 0.5, torch.Generator().manual_seed(1), steps=200, probes=20)
    assert (other - found > 0.3).all()
    assert diversity(torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])) == pytest.approx(1.0)
