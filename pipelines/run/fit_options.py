"""Options of the fit to point data; imports nothing heavy."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infield.core.errors import InfieldError

if TYPE_CHECKING:
    from infield.posterior.kriging.fitted import Hyper
    from infield.posterior.kriging.measured import TrendKind
    from infield.posterior.samplers.base import Sampler


@dataclass(frozen=True)
class FitOptions:
    """What is fixed of the fit, and what is done with it.

    Arguments:
        trend: Functions of position around which the field varies.
        covariates: Fields of the file's context on which the mean depends linearly.
        isotropic: One length for all axes of one unit.
        azimuth: Angle of unequal lengths in degrees; None where the data decide.
        hyper: Whether hyperparameters are drawn from their posterior, or plugged in at their most probable values.
        validation: Whether held-out data are predicted.
        given: Names of the options that were given, be it with their default; those that differ from it are.
    """

    trend: TrendKind = "constant"
    isotropic: bool = False
    hyper: Hyper = "auto"
    validation: bool = True
    given: frozenset[str] = frozenset()
    covariates: tuple[str, ...] = ()
    azimuth: float | None = None

    def of_law(self) -> dict[str, Any]:
        """Those that make the law and its draws what they are, in JSON types: part of a run's identity."""
        own = {name: getattr(self, name) for name in ("trend", "isotropic", "hyper")}
        more = {"covariates": list(self.covariates), "azimuth": self.azimuth}
        return own | {name: value for name, value in more.items() if value not in ([], None)}

    def explicit(self) -> list[str]:
        """Names of the options that were given."""
        return [name for name in _FLAGS if name in self.given or getattr(self, name) != getattr(FitOptions, name)]


_FLAGS = {
    "trend": "--trend",
    "covariates": "--covariates",
    "isotropic": "--isotropic",
    "azimuth": "--azimuth",
    "hyper": "--hyper",
    "validation": "--no-validation",
}


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the fit."""
    group = parser.add_argument_group("without a prior, for data at points", "a stationary law is fitted to the data")
    group.add_argument("--trend", choices=("none", "constant", "linear"),
                       help="functions of position around which the field varies (default constant)")  # fmt: skip
    group.add_argument("--covariates", nargs="+", metavar="NAME",
                       help="fields of the file's context on which the mean depends linearly")  # fmt: skip
    lengths = group.add_mutually_exclusive_group()
    lengths.add_argument("--isotropic", action="store_true", default=None, help="one length for all axes of one unit")
    lengths.add_argument("--azimuth", type=float, metavar="DEGREES",
                         help="angle of unequal lengths, in degrees (default: fitted)")  # fmt: skip
    group.add_argument("--hyper", choices=("auto", "sample", "plug-in"),
                       help="draw the hyperparameters from their posterior, or plug in the most probable ones (default "
                       "auto: drawn for few data)")  # fmt: skip
    group.add_argument("--no-validation", dest="validation", action="store_false", default=None,
                       help="do not predict held-out data")  # fmt: skip


def fit_options(arguments: argparse.Namespace) -> FitOptions:
    """These options as `reconstruct` takes them."""
    given = {name: getattr(arguments, name) for name in _FLAGS if getattr(arguments, name) is not None}
    if "covariates" in given:
        given["covariates"] = tuple(given["covariates"])
    return FitOptions(**given, given=frozenset(given))


def refuse_unused_fit(options: FitOptions | None) -> None:
    """InfieldError where options of a fit are given and no law is fitted to data at points."""
    for name in options.explicit() if options is not None else ():
        raise InfieldError(where=_FLAGS[name], found="no fit to data at points", expected="one with it")


def refuse_fit_of_others(options: FitOptions | None, sampler: Sampler | None) -> None:
    """InfieldError where options are given that kriging alone heeds, and another sampler draws.

    Its prior has the most probable hyperparameters, and no held-out data are predicted.
    """
    if options is None or sampler is None or sampler.method == "kriging":
        return
    for name in options.explicit():
        if name == "validation" or (name == "hyper" and options.hyper != "plug-in"):
            raise InfieldError(
                where=_FLAGS[name],
                found=f"the sampler {sampler.method}",
                expected="kriging, which alone heeds it",
                remedy="leave it out, or use {sampler}",
                parameters={"sampler": "kriging"},
            )
