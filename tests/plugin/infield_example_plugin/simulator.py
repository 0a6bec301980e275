"""A simulator: smooth sources of Poisson's equation and their solutions."""

from infield.pipelines.commands.simulate import run_simulation
from infield.pipelines.commands.simulate_options import add_field_arguments
from infield.pipelines.run.simulations import make_simulation
from infield.pipelines.run.subcommand import Subcommand


def run(arguments):
    simulation = make_simulation("poisson", shape=(arguments.points,) * 2, settings=["alpha=4"])
    return run_simulation(simulation, arguments)


SOURCES = Subcommand(__doc__, add_field_arguments, run)
