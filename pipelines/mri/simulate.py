"""Synthetic heads: complex MR images to train priors on; `infield simulate brain`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.anatomy.brain_template import template_folder
from infield.datasets.formats.simulation import Variable
from infield.datasets.mri.brains import BrainPhantom
from infield.pipelines.commands import simulate
from infield.pipelines.run.simulations import Simulation, checked_shape, parameters_of_law, settings_of

BRAIN = "brain"


def run(arguments: argparse.Namespace) -> int:
    if arguments.law is not None:
        raise InfieldError(
            where=f"--law {arguments.law}",
            found="a simulation whose distribution is fixed",
            expected="a process",
            remedy="leave it out, and set its parameters by --with",
        )
    shape = arguments.shape or () if arguments.points is None else (arguments.points,) * 2
    return simulate.run_simulation(make_brains(shape, arguments.settings), arguments)


def make_brains(shape: Sequence[int] = (), settings: Sequence[str] = ()) -> Simulation:
    """A simulation of synthetic heads.

    Arguments:
        shape: Points along y and x.
        settings: `NAME=VALUE` for the parameters of `BrainPhantom`.

    Raises:
        InfieldError: Something of it is not known or does not fit, or the template is not installed.
    """
    given = settings_of(settings)
    unknown = sorted(set(given) - set(parameters_of_law(BrainPhantom)))
    if unknown:
        raise InfieldError(
            where="--with",
            found=f"no parameter {', '.join(unknown)} of a brain",
            expected=", ".join(parameters_of_law(BrainPhantom)),
        )
    shape = checked_shape(shape or (128, 128))
    if len(shape) != 2 or min(shape) < 32:
        raise InfieldError(
            where="--shape", found=" ".join(map(str, shape)), expected="two numbers of at least 32 points"
        )
    try:
        law = BrainPhantom(**given)
    except TypeError as error:
        raise InfieldError(where="--with", found=f"a value of another kind ({error})", expected="numbers") from None
    template_folder(law.template)
    grid = Grid.regular(shape, (law.fov,) * 2, units="mm", periodic=True)
    return Simulation(BRAIN, law, (Variable("image", "complex MR image of a synthetic head", complex=True),), grid)
