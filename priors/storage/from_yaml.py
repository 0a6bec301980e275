"""Priors described in a few words of YAML.

A Gaussian field::

    prior: gaussian
    law: {law: matern, nu: 1.5, length: 0.1}
    mean: 0.0          # in the units of the field
    scale: 1.0         # multiplies the law's field
    units: mK          # optional, checked
    source: {law: white}   # optional

On the sphere, for points or a grid of longitude and latitude, a law is
`{law: matern, nu: 1.5, length: 0.2, domain: sphere}`, its length in radii of the sphere.

A mixture of Gaussian fields::

    prior: mixture
    components:
      - {weight: 0.5, law: {law: matern, nu: 1.5, length: 0.05}}
      - {weight: 0.5, law: {law: matern, nu: 1.5, length: 0.3}}
    source: {law: matern, nu: 0.5, length: 0.01}
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from infield import InfieldError
from infield.priors.gaussian.laws import Lattice, Law, law_from_spec
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior, shared_torus

KEYS = {
    "gaussian": {"prior", "law", "source", "mean", "scale", "units", "name"},
    "mixture": {"prior", "components", "source", "mean", "scale", "units"},
}
COMPONENT_KEYS = {"weight", "law", "name"}


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
    if not isinstance(kind, str) or kind not in KEYS:
        raise InfieldError(f"key 'prior': found {kind!r}, expected one of {', '.join(KEYS)}")
    _check_keys(description, KEYS[kind], "law" if kind == "gaussian" else "components", f"a {kind} prior")
    shift, scale = (_number(description, key, default) for key, default in (("mean", 0.0), ("scale", 1.0)))
    if scale <= 0:
        raise InfieldError(f"key 'scale': found {scale}, expected a positive number")
    start = law_from_spec(description["source"]) if "source" in description else None

    def component(law: Law, name: str | None, torus: tuple[int, ...] | None = None) -> GaussianPrior:
        prior = gaussian_prior(law, grid, channels=channels, source=start, name=name, torus=torus)
        return replace(prior.in_units(shift, scale), units=description.get("units"))

    if kind == "gaussian":
        return component(law_from_spec(description["law"]), description.get("name"))
    parts = description["components"]
    if start is None:
        raise InfieldError("key 'source' is missing: the components of a mixture start from one source")
    if not isinstance(parts, list) or not parts:
        raise InfieldError(f"key 'components': found {parts!r}, expected a list of at least one component")
    for i, part in enumerate(parts):
        _check_keys(part, COMPONENT_KEYS, "law", f"component {i}")
    weights = torch.tensor([_number(part, "weight", 1 / len(parts)) for part in parts], dtype=torch.float64)
    laws = [law_from_spec(part["law"]) for part in parts]
    torus = shared_torus([*laws, start], grid)
    components = (component(law, part.get("name"), torus) for law, part in zip(laws, parts, strict=True))
    return MixturePrior(tuple(components), weights)


def _check_keys(description: Any, known: set[str], needed: str, where: str) -> None:
    if not isinstance(description, dict):
        raise InfieldError(f"{where}: found {description!r}, expected entries such as '{needed}'")
    unknown = {str(key) for key in description} - known
    if unknown:
        raise InfieldError(f"{where}: found key '{min(unknown)}', expected only {', '.join(sorted(known))}")
    if needed not in description:
        raise InfieldError(f"{where}: key '{needed}' is missing")


def _number(description: dict[str, Any], key: str, default: float) -> float:
    value = description.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InfieldError(f"key '{key}': found {value!r}, expected a finite number")
    return float(value)
