"""Options of `infield simulate pictures`; imports nothing heavy."""

from __future__ import annotations

from infield.pipelines.commands import simulate_options
from infield.pipelines.run.subcommand import Subcommand, deferred

COMMAND = Subcommand(
    simulate_options.__doc__ or "",
    simulate_options.add_field_arguments,
    deferred("infield.pipelines.projection_mapping.simulate_pictures:run"),
)
