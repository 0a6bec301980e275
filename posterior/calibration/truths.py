"""Truths, their data, and what is reconstructed from them: the three sources of simulation-based calibration.

Source `prior`: theta' ~ p(theta), y' ~ p(y | theta'), reconstructed from y' (Talts et al. 2018, arXiv 1804.06788,
algorithm 1).

Source `posterior`: theta' ~ p(theta | y), y' ~ p(y | theta'), reconstructed from y and y' (posterior SBC, arXiv
2502.03279, section 3). Two data of one field are joined to their mean (`NoiseModel.of_mean`).

Fields of a file: as `prior`, but the field comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.posterior.samplers.base import Sampler, Trained
from infield.priors.base import FlowPrior
from infield.priors.base import sample as integrate

SOURCES: Mapping[str, tuple[str, str]] = {
    "prior": (
        "errors of the sampler, of the noise's and operator's handling, anywhere that the prior reaches",
        "a wrong prior, or a badly trained one: its truths come from the same prior; errors of the operator and the "
        "noise that the file states",
    ),
    "posterior": (
        "errors of the sampler near the observed data, data that are left out or used twice",
        "a wrong prior, operator or noise: truths come from the posterior that they give",
    ),
    "file": (
        "errors of the prior as well as of the sampler, as far as the fields of the file are those that matter here",
        "errors of the operator and the noise that the measurement states; a field of another kind than the file's",
    ),
}
"""What each source of truths can see, and what it cannot."""


def draw_from_prior(prior: FlowPrior | Trained, n: int, generator: Generator) -> Tensor:
    """Fields of a prior in its units, shape `(n, channel, *space)`; exact where it is Gaussian or a mixture.

    Raises:
        InfieldError: It was trained for measurements and is no prior.
    """
    if isinstance(prior, Trained) or not isinstance(prior, FlowPrior):
        raise InfieldError(
            where="truths of the prior",
            found=f"'{prior.name}', a model trained for measurements, of which no field can be drawn",
            expected="a prior",
            remedy="give fields of its kind, {truths} FILE",
            parameters=["truths"],
        )
    components = getattr(prior, "components", None)
    if components is None:
        return integrate(prior, n, generator)
    weights = prior.weights  # type: ignore[attr-defined]
    chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
    drawn = [components[int(k)].mean + components[int(k)].covariance.sample(1, generator)[0] for k in chosen]
    return prior.standardisation.to_units(torch.stack(drawn))


def with_data_of(measurement: Measurement, truth: Tensor, generator: Generator) -> Measurement:
    """The measurement of another field: data simulated by operator and noise; `truth` is `(1, channel, *space)`."""
    with torch.no_grad():
        z = measurement.operator.A(truth.to(measurement.y))
        y = measurement.noise.sample(z, generator)
    if measurement.observed is not None:
        y = torch.where(measurement.observed, y, torch.zeros_like(y))
    return replace(measurement, y=y, truth=truth.to(measurement.y), digest=None, source=None)


def joined(measurement: Measurement, replicate: Measurement, uses: int = 1) -> Measurement:
    """The observed data and a replicate of them as one measurement, equation 7 of arXiv 2502.03279.

    Arguments:
        measurement: Of the observed data.
        replicate: Of the same operator and noise.
        uses: How often the observed data count: 1 is right; 0 and 2 are the controls of the test.

    Raises:
        InfieldError: As `NoiseModel.of_mean`.
    """
    if uses == 0:
        return replicate
    y = (uses * measurement.y + replicate.y) / (uses + 1)
    return replace(replicate, y=y, noise=measurement.noise.of_mean(uses + 1))


def simulated(
    source: str,
    prior: FlowPrior | Trained,
    sampler: Sampler,
    measurement: Measurement,
    generator: Generator,
    streams: Randomness,
    *,
    field: Tensor | None = None,
    uses: int = 1,
) -> tuple[Measurement, Measurement]:
    """One truth with its data.

    Arguments:
        source: "prior", "posterior" or "file".
        prior: Of the reconstruction; behind a sampler's adapter where it needs one.
        sampler: Draws the truth where the source is the posterior.
        measurement: Of the observed data.
        generator: Of truth and noise.
        streams: Of the sampler's draw of a truth, `sampler.block` samples.
        field: The truth, `(1, channel, *space)`, where the source is a file.
        uses: As in `joined`.

    Returns:
        What is to be reconstructed, with the truth; and the same without the observed data, on which functionals that
        look at data are evaluated.
    """
    if source == "prior":
        field = draw_from_prior(prior, 1, generator)
    elif source == "posterior":
        field = sampler(prior, measurement, sampler.block, streams).samples[:1]
    assert field is not None
    replicate = with_data_of(measurement, field, generator)
    return (joined(measurement, replicate, uses) if source == "posterior" else replicate), replicate
