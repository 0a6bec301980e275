"""The samplers by the names that commands take, and their parameters from `--with NAME=VALUE`."""

from __future__ import annotations

import ast
import types
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.suggestions import did_you_mean
from infield.physics.measurement import Measurement
from infield.posterior.samplers.base import Sampler


def make_sampler(name: str, settings: Sequence[str] = ()) -> Sampler:
    """Build a sampler by name; settings are `parameter=value` for the fields of its dataclass."""
    if not registry.known("samplers", name):
        raise InfieldError(
            where="sampler",
            found=f"'{name}'",
            expected=f"one of {', '.join(registry.names('samplers'))}",
            remedy=did_you_mean(name, registry.names("samplers")),
        )
    kind = registry.load("samplers", name)
    types_of = {f.name: typing.get_type_hints(kind)[f.name] for f in fields(kind)}
    parameters: dict[str, Any] = {}
    for setting in settings:
        parameter, separator, text = setting.partition("=")
        if not separator or parameter not in types_of:
            known = ", ".join(types_of) or "none"
            raise InfieldError(
                where="--with",
                found=setting,
                expected=f"PARAMETER=VALUE of the sampler '{name}', whose parameters are: {known}",
            )
        if parameter in parameters:
            raise InfieldError(where="--with", found=f"{parameter} twice", expected="once")
        parameters[parameter] = _value(setting, text, types_of[parameter])
    sampler: Sampler = kind(**parameters)
    return sampler


def default_sampler(measurement: Measurement, fitted: bool) -> Sampler:
    """The default sampler: FAPS, or, under a prior that was fitted to data which are not linear in the
    field or not Gaussian, MGVI, whose posterior is of the fit's own kind and takes seconds."""
    return make_sampler("mgvi" if fitted and not measurement.linear_gaussian else "faps")


def adapted(sampler: Sampler, prior: Any) -> Sampler:
    """The sampler as fields of a prior need it: where the prior names an `adapter` of the registry, behind that."""
    adapter = getattr(prior, "adapter", None)
    if adapter is None:
        return sampler
    found: Sampler = registry.load("sampler_adapters", adapter)(sampler=sampler)
    return found


def parameters_of(sampler: Sampler) -> dict[str, Any]:
    """All parameters of a sampler, in plain JSON types."""
    return asdict(sampler)  # type: ignore[call-overload]


def _value(setting: str, text: str, kind: Any) -> Any:
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if float in allowed and type(value) is int:
        value = float(value)
    if type(value) not in allowed:
        names = " or ".join(t.__name__ for t in allowed)
        raise InfieldError(where=f"--with {setting}", found=f"{text!r}", expected=names)
    return value
