"""Options of the fit to point data; imports nothing heavy."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from infield.core.errors import InfieldError

if TYPE_CHECKING:
    from infield.posterior.kriging.fitted import Hyper
    from infield.posterior.kriging.measured import TrendKind


@dataclass(frozen=True)
class FitOptions:
    """What is fixed of the fit, and what is done with it.

    Arguments:
        trend: Functions of position around which the field varies.
        isotropic: One length for all axes of one unit.
        hyper: Whether hyperparameters are drawn from their posterior, or plugged in at their most probable values.
        validation: Whether held-out data are predicted.
    """

    trend: TrendKind = "constant"
    isotropic: bool = False
    hyper: Hyper = "auto"
    validation: bool = True

    def of_law(self) -> dict[str, Any]:
        """Those that make the law and its draws what they are, in JSON types: part of a run's identity."""
        return {name: value for name, value in asdict(self).items() if name != "validation"}


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the fit."""
    group = parser.add_argument_group("without a prior, for data at points", "a stationary law is fitted to the data")
    group.add_argument("--trend", choices=("none", "constant", "linear"), default="constant",
                       help="functions of position around which the field varies (default constant)")  # fmt: skip
    group.add_argument("--isotropic", action="store_true", help="one length for all axes of one unit")
    group.add_argument("--hyper", choices=("auto", "sample", "plug-in"), default="auto",
                       help="draw the hyperparameters from their posterior, or plug in the most probable ones (default "
                       "auto: drawn for few data)")  # fmt: skip
    group.add_argument("--no-validation", dest="validation", action="store_false",
                       help="do not predict held-out data")  # fmt: skip


def fit_options(arguments: argparse.Namespace) -> FitOptions:
    """These options as `reconstruct` takes them."""
    return FitOptions(arguments.trend, arguments.isotropic, arguments.hyper, arguments.validation)


def refuse_unused_fit(options: FitOptions | None) -> None:
    """InfieldError where options of a fit are given and no law is fitted to data at points."""
    names = {"trend": "--trend", "isotropic": "--isotropic", "hyper": "--hyper", "validation": "--no-validation"}
    for name, option in names.items():
        if options is not None and getattr(options, name) != getattr(FitOptions(), name):
            raise InfieldError(where=option, found="no fit to data at points", expected="one with it")
