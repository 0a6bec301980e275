"""What 21 cm adds to the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "sampler_adapters": {
        "lightcones": Entry(
            "infield.posterior.cm21.sampler:LightconeSampler", "temperatures of lightcones, zeros kept"
        ),
    },
    "solvers": {
        "modes across the sky": Entry(
            "infield.posterior.cm21.mode_solver:TransverseModeSolver", "one small matrix for each mode across the sky"
        ),
    },
}
