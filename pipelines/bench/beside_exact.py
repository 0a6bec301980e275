"""Draws of several samplers and priors beside draws of the exact posterior of one measurement."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Generator, Tensor

from infield.physics.measurement import Measurement
from infield.pipelines.bench.records import Bench
from infield.posterior.diagnostics.calibration import coverage, mean_error, ranks, sliced_wasserstein, std_ratio
from infield.posterior.diagnostics.two_sample import classifier_accuracy
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.exact import Exact, posterior_mean
from infield.priors.amortised.average_velocity import AverageVelocity
from infield.priors.base import FlowPrior

METRICS = {
    "sw2_ratio_to_exact": ".2f",
    "mean_error_in_posterior_sd": ".3f",
    "std_ratio": ".3f",
    "coverage_90": ".3f",
    "velocity_calls": ".0f",
    "seconds": ".2f",
}


def add_beside_exact(
    bench: Bench,
    case: str,
    exact_prior: FlowPrior,
    measurement: Measurement,
    truth: Tensor,
    methods: Mapping[str, tuple[Sampler, FlowPrior | AverageVelocity]],
    draws: int,
    generator: Generator,
    *,
    classifier: bool = False,
) -> None:
    """Add one record a method and metric.

    Arguments:
        bench: Gets the records.
        case: Name of this measurement in them.
        exact_prior: The prior whose exact posterior is the reference.
        measurement: What was measured.
        truth: Of what field, shape `(channel, *space)`.
        methods: Sampler, and the prior (or posterior in one step) that it is given, by method.
        draws: Draws of each, and of the two sets of exact draws: the reference, and the floor that others have to it.
        generator: Source of all random numbers but the directions of the sliced distance.
        classifier: Also train a classifier between the draws and the reference.
    """
    reference, others = (Exact()(exact_prior, measurement, draws, generator).samples for _ in range(2))
    floor = sliced_wasserstein(others, reference, Generator().manual_seed(7))
    mean, std = posterior_mean(exact_prior, measurement), reference.std(0)
    for method, (sampler, prior) in methods.items():
        posterior = sampler(prior, measurement, draws, generator)
        x = posterior.samples
        distance = sliced_wasserstein(x, reference, Generator().manual_seed(7)) / floor
        bench.add(case, method, "sw2_ratio_to_exact", distance)
        bench.add(case, method, "mean_error_in_posterior_sd", mean_error(x, mean, std))
        bench.add(case, method, "std_ratio", std_ratio(x, reference))
        bench.add(case, method, "coverage_90", coverage(ranks(x, truth), draws, 0.9, generator))
        if classifier:
            bench.add(case, method, "c2st", classifier_accuracy(x, reference))
        bench.add(case, method, "velocity_calls", posterior.cost["velocity_calls"])
        bench.add(case, method, "jacobian_products", posterior.diagnostics.get("jacobian_products", 0.0))
        bench.add(case, method, "seconds", posterior.cost["seconds"], "s")
