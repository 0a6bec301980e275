"""Priors described in a few words of YAML, and those with built-in names.

    prior: gaussian                                   prior: mixture
    law: {law: matern, nu: 1.5, length: 0.1}          components:
    mean: 0.0          # in the units of the field      - {weight: 0.5, law: {law: matern, nu: 1.5, length: 0.05}}
    scale: 1.0         # multiplies the law's field     - {weight: 0.5, law: {law: matern, nu: 1.5, length: 0.3}}
    units: mK          # optional, checked              source: {law: matern, nu: 0.5, length: 0.01}   # optional
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from infield import InfieldError
from infield.priors.gaussian import GaussianPrior, gaussian_prior
from infield.priors.mixture import MixturePrior
from infield.priors.source import Lattice, law_from_spec

KEYS = {
    "gaussian": {"prior", "law", "source", "mean", "scale", "units", "name"},
    "mixture": {"prior", "components", "source", "mean", "scale", "units", "name"},
}


def prior_from_description(description: Any, grid: Lattice, channels: int) -> GaussianPrior | MixturePrior:
    """Build the prior that a YAML file describes, on the grid of a measurement.

    Arguments:
        description: The file's content, already parsed.
        grid: Where the field lives.
        channels: Its number of channels.

    Raises:
        InfieldError: If a key is missing, unknown or of no use.
    """
    kind = description.get("prior") if isinstance(description, dict) else None
    if kind not in KEYS:
        raise InfieldError(f"key 'prior': found {kind!r}, expected one of {', '.join(KEYS)}")
    unknown, needed = set(description) - KEYS[kind], "law" if kind == "gaussian" else "components"
    if unknown:
        raise InfieldError(f"found key '{min(unknown)}', expected only {', '.join(sorted(KEYS[kind]))}")
    if needed not in description:
        raise InfieldError(f"key '{needed}' is missing from a {kind} prior")
    shift, scale = (_number(description, key, default) for key, default in (("mean", 0.0), ("scale", 1.0)))
    if scale <= 0:
        raise InfieldError(f"key 'scale': found {scale}, expected a positive number")
    start = law_from_spec(description["source"]) if "source" in description else None

    def component(spec: dict[str, Any], name: str | None) -> GaussianPrior:
        prior = gaussian_prior(law_from_spec(spec), grid, channels=channels, source=start, name=name)
        return replace(prior.in_units(shift, scale), units=description.get("units"))

    if kind == "gaussian":
        return component(description["law"], description.get("name"))
    parts = description["components"]
    if start is None:
        raise InfieldError("key 'source' is missing: the components of a mixture start from one source")
    weights = torch.tensor([_number(part, "weight", 1 / len(parts)) for part in parts], dtype=torch.float64)
    return MixturePrior(tuple(component(part["law"], part.get("name")) for part in parts), weights)


def _number(description: dict[str, Any], key: str, default: float) -> float:
    value = description.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InfieldError(f"key '{key}': found {value!r}, expected a number")
    return float(value)
