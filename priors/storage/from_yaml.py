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

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from infield.core import registry
from infield.core.checks import is_number
from infield.core.errors import InfieldError
from infield.core.grid import GridLike
from infield.priors.gaussian.kernels import Kernel, law_from_spec
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior, shared_torus

UNITS = {"prior", "source", "mean", "scale", "units"}
"""Keys of every description of Gaussian fields."""


@dataclass(frozen=True)
class DescribedPrior:
    """A description that becomes a prior on a grid.

    Arguments:
        description: Content of the YAML file.
        name: Of the file, for messages.
    """

    description: dict[str, Any]
    name: str

    def on(self, grid: GridLike, channels: int = 1) -> Any:
        """The prior on a grid.

        Raises:
            InfieldError: As `prior_from_description`.
        """
        try:
            return prior_from_description(self.description, grid, channels)
        except InfieldError as error:
            raise error.within(self.name) from error


def read_description(path: str | Path) -> DescribedPrior:
    """Read a YAML description of a prior.

    Raises:
        InfieldError: It is no YAML, or describes no prior.
    """
    path = Path(path)
    try:
        description = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InfieldError(where=path, found=" ".join(str(error).split()), expected="YAML") from error
    return DescribedPrior(description, str(path))


def prior_from_description(description: Any, grid: GridLike, channels: int) -> Any:
    """Build the prior that a YAML file describes, on the grid of a measurement.

    Arguments:
        description: The file's content, already parsed.
        grid: Grid of the field.
        channels: Its number of channels.

    Raises:
        InfieldError: If a key is missing, unknown or of no use.
    """
    kind = description.get("prior") if isinstance(description, dict) else None
    if not isinstance(kind, str) or not registry.known("priors", kind):
        expected = ", ".join(registry.names("priors"))
        raise InfieldError(where="key 'prior'", found=f"{kind!r}", expected=f"one of {expected}")
    return registry.load("priors", kind)(description, grid, channels)


def gaussian(description: dict[str, Any], grid: GridLike, channels: int) -> GaussianPrior:
    """A Gaussian field; arguments as `prior_from_description`."""
    _check_keys(description, {*UNITS, "law", "name"}, "law", "a gaussian prior")
    start = _source(description)
    return _component(description, description, start, grid, channels)


def mixture(description: dict[str, Any], grid: GridLike, channels: int) -> MixturePrior:
    """A mixture of Gaussian fields; arguments as `prior_from_description`."""
    _check_keys(description, {*UNITS, "components"}, "components", "a mixture prior")
    start = _source(description)
    parts = description["components"]
    if start is None:
        raise InfieldError(
            where="key 'source'",
            found="none",
            expected="it there",
            remedy="the components of a mixture start from one source",
        )
    if not isinstance(parts, list) or not parts:
        raise InfieldError(where="key 'components'", found=f"{parts!r}", expected="a list of at least one component")
    for i, part in enumerate(parts):
        _check_keys(part, {"weight", "law", "name"}, "law", f"component {i}")
    weights = torch.tensor([_number(part, "weight", 1 / len(parts)) for part in parts], dtype=torch.float64)
    torus = shared_torus([*(law_from_spec(part["law"]) for part in parts), start], grid)
    components = (_component(description, part, start, grid, channels, torus) for part in parts)
    return MixturePrior(tuple(components), weights)


def _source(description: dict[str, Any]) -> Kernel | None:
    """The law of the source; the numbers of the units are checked on the way."""
    _units(description)
    return law_from_spec(description["source"]) if "source" in description else None


def _units(description: dict[str, Any]) -> tuple[float, float]:
    shift, scale = (_number(description, key, default) for key, default in (("mean", 0.0), ("scale", 1.0)))
    if scale <= 0:
        raise InfieldError(where="key 'scale'", found=scale, expected="a positive number")
    return shift, scale


def _component(
    description: dict[str, Any],
    part: dict[str, Any],
    start: Kernel | None,
    grid: GridLike,
    channels: int,
    torus: tuple[int, ...] | None = None,
) -> GaussianPrior:
    law, name = law_from_spec(part["law"]), part.get("name")
    prior = gaussian_prior(law, grid, channels=channels, source=start, name=name, torus=torus)
    return replace(prior.in_units(*_units(description)), units=description.get("units"))


def _check_keys(description: Any, known: set[str], needed: str, where: str) -> None:
    if not isinstance(description, dict):
        raise InfieldError(where=where, found=f"{description!r}", expected=f"entries such as '{needed}'")
    unknown = {str(key) for key in description} - known
    if unknown:
        raise InfieldError(where=where, found=f"key '{min(unknown)}'", expected=f"only {', '.join(sorted(known))}")
    if needed not in description:
        raise InfieldError(where=where, found=f"no key '{needed}'", expected="a value for it")


def _number(description: dict[str, Any], key: str, default: float) -> float:
    value = description.get(key, default)
    if not is_number(value):
        raise InfieldError(where=f"key '{key}'", found=f"{value!r}", expected="a finite number")
    return float(value)
