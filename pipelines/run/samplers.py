"""The samplers by the names that commands know, and their parameters from `--with NAME=VALUE`."""

from __future__ import annotations

import ast
import types
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from infield import InfieldError
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.dds import DDS
from infield.posterior.samplers.diffusion_mbir import DiffusionMBIR
from infield.posterior.samplers.elliptical_slice import SourceSlice
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_published import FAPSPublished
from infield.posterior.samplers.null_flow import NullFlow
from infield.posterior.samplers.pmrf import PMRF
from infield.posterior.samplers.red_diff import REDDiff
from infield.posterior.samplers.snap import SNaP
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.posterior.samplers.unrolled import UnrolledEstimate

SAMPLERS: dict[str, type[Sampler]] = {
    "faps": FAPS,
    "faps-flow": FAPS,
    "faps-published": FAPSPublished,
    "smc": TwistedSMC,
    "source-slice": SourceSlice,
    "snap": SNaP,
    "null-flow": NullFlow,
    "unrolled": UnrolledEstimate,
    "pmrf": PMRF,
    "red-diff": REDDiff,
    "dds": DDS,
    "diffusion-mbir": DiffusionMBIR,
    "exact": Exact,
}


def make_sampler(name: str, settings: Sequence[str] = ()) -> Sampler:
    """Build a sampler by name; settings are `parameter=value` for the fields of its dataclass."""
    if name not in SAMPLERS:
        raise InfieldError(f"sampler '{name}' is not known; expected one of {', '.join(SAMPLERS)}")
    kind = SAMPLERS[name]
    types_of = {f.name: typing.get_type_hints(kind)[f.name] for f in fields(kind)}  # type: ignore[arg-type]
    parameters: dict[str, Any] = {}
    for setting in settings:
        parameter, separator, text = setting.partition("=")
        if not separator or parameter not in types_of:
            known = ", ".join(types_of) or "none"
            raise InfieldError(f"--with {setting}: sampler '{name}' takes PARAMETER=VALUE with the parameters: {known}")
        parameters[parameter] = _value(setting, text, types_of[parameter])
    return kind(**parameters)


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
        raise InfieldError(f"--with {setting}: found {text!r}, expected {names}")
    return value
