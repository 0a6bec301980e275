"""Pictures of dead leaves, to train priors of pictures on; `infield simulate pictures`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.simulation import Variable
from infield.datasets.projection_mapping.dead_leaves import CHANNELS, DeadLeaves
from infield.pipelines.commands import simulate
from infield.pipelines.run.simulations import Simulation, checked_shape, parameters_of_law, settings_of


def run(arguments: argparse.Namespace) -> int:
    if arguments.law is not None:
        raise InfieldError(
            where=f"--law {arguments.law}",
            found="a simulation whose distribution is fixed",
            expected="a process",
            remedy="leave it out, and set its parameters by --with",
        )
    shape = arguments.shape or () if arguments.points is None else (arguments.points,) * 2
    return simulate.run_simulation(make_pictures(shape, arguments.settings), arguments)


def make_pictures(shape: Sequence[int] = (), settings: Sequence[str] = ()) -> Simulation:
    """A simulation of pictures.

    Arguments:
        shape: Pixels along y and x.
        settings: `NAME=VALUE` for the parameters of `DeadLeaves`.

    Raises:
        InfieldError: Something of it is not known or does not fit.
    """
    given = settings_of(settings)
    unknown = sorted(set(given) - set(parameters_of_law(DeadLeaves)))
    if unknown:
        raise InfieldError(
            where="--with",
            found=f"no parameter {', '.join(unknown)} of dead leaves",
            expected=", ".join(parameters_of_law(DeadLeaves)),
        )
    shape = checked_shape(shape or (32, 32))
    if len(shape) != 2 or min(shape) < 8:
        raise InfieldError(
            where="--shape", found=" ".join(map(str, shape)), expected="two numbers of at least 8 pixels"
        )
    try:
        law = DeadLeaves(**given)
    except TypeError as error:
        raise InfieldError(where="--with", found=f"a value of another kind ({error})", expected="numbers") from None
    grid = Grid.regular(shape, tuple(map(float, shape)), names=("y", "x"), units="1", periodic=True)
    axes = (("channel", 3), ("y", shape[0]), ("x", shape[1]))
    picture = Variable("picture", "sRGB code of a picture of dead leaves", axes=axes)
    return Simulation("pictures", law, (picture,), grid, channels=CHANNELS)
