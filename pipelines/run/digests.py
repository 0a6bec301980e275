"""Digests of what samples depend on, each for itself: an operator, a noise model, a prior in closed form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.priors.base import FlowPrior

STEP = 1e-6
"""Numbers of a prior are rounded to this fraction of their scale."""


def operator_digest(measurement: Measurement) -> str:
    """SHA-256 of an operator: its description in the file, which data are observed, and the field's grid and units.

    Of an operator without a description: what it makes of fixed random fields, to six digits.
    """
    observed = np.zeros(0) if measurement.observed is None else measurement.observed.numpy(force=True)
    about = measurement.description, measurement.grid.to_json(), measurement.channels, measurement.units
    if measurement.description:
        arrays = [measurement.arrays[name] for name in sorted(measurement.arrays)]
        return _digest(about, observed, *arrays)
    fields = _fixed_fields(measurement.event_shape).abs()
    try:
        z = measurement.operator.A(fields.to(measurement.y)).double()
    except InfieldError:  # it refuses such fields
        z = torch.zeros(1, dtype=torch.float64)
    return _digest(about, observed, torch.round(z / z.abs().max().clamp_min(1e-300) * 1e6).numpy(force=True))


def noise_digest(measurement: Measurement) -> str:
    """SHA-256 of a noise model."""
    arrays = measurement.noise.arrays()
    return _digest(measurement.noise.to_json(), *(arrays[name] for name in sorted(arrays)))


def prior_digest(prior: FlowPrior) -> str:
    r"""SHA-256 of a prior in closed form, the same on every processor: its description, and few numbers of its law.

    With two fixed random fields :math:`z_i` these are :math:`z_i^T C z_j` and :math:`z_i^T m` of each component, and
    the like of the map to units, rounded to `STEP` of their scale; their rounding errors are 1e-9 of that and depend on
    no basis. Laws whose variances differ by 1e-5 have other digests.
    """
    components = getattr(prior, "components", (prior,))
    numbers = [torch.as_tensor(getattr(prior, "weights", (1.0,)), dtype=torch.float64).flatten().cpu()]
    for component in components:
        C, m = component.covariance, component.mean
        z = _fixed_fields(m.shape)
        variance = torch.tensor(max(C.trace, 1e-300), dtype=torch.float64)
        products = z.flatten(1) @ C.apply(z.to(m)).to(z).flatten(1).mT
        numbers += [variance.log(), products / variance, z.flatten(1) @ m.to(z).flatten() / variance.sqrt()]
    shift, scale = prior.standardisation.shift, prior.standardisation.scale
    width = scale.double().norm().cpu().clamp_min(1e-300)
    numbers += [
        width.log(),
        *(_fixed_fields(t.shape).flatten(1) @ t.double().cpu().flatten() / width for t in (shift, scale)),
    ]
    rounded = torch.cat([n.flatten() for n in numbers]).div(STEP).round().to(torch.int64)
    return _digest([_without_last_digits(getattr(prior, "provenance", prior.name)), rounded.tolist()])


def former_prior_digest(prior: FlowPrior) -> str:
    """The digest that versions up to November 2026 wrote: of all bytes of the law, last bits included."""
    digest = hashlib.sha256(repr(getattr(prior, "provenance", prior.name)).encode())
    components = getattr(prior, "components", (prior,))
    laws = [t for c in components for t in (c.covariance.diagonal, c.covariance.factors, c.mean)]
    for tensor in (*laws, prior.standardisation.shift, prior.standardisation.scale):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _fixed_fields(shape: tuple[int, ...]) -> Tensor:
    """Two fields of white noise of a shape, always the same."""
    return torch.randn((2, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _without_last_digits(about: Any) -> Any:
    """A description with its numbers to eight digits, and what is rounding of one as zero."""
    if isinstance(about, Mapping):
        return {str(key): _without_last_digits(value) for key, value in about.items()}
    if isinstance(about, list | tuple):
        return [_without_last_digits(value) for value in about]
    number = isinstance(about, int | float) and not isinstance(about, bool)
    return float(f"{round(float(about), 12):.8g}") + 0.0 if number else about  # -0.0 is 0.0


def _digest(about: Any, *arrays: Any) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for array in arrays:
        values = np.ascontiguousarray(array)
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
