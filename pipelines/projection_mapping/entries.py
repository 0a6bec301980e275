"""Entries of projection mapping in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "benches": {
        "projection": Entry(
            "infield.pipelines.projection_mapping.bench.run", "gamut, compensation and calibration of projectors"
        ),
    },
    "commands": {
        "project": Entry(
            "infield.pipelines.projection_mapping.project", "pictures for projectors from a set-up and a target"
        ),
    },
    "converters": {
        "gamut": Entry(
            "infield.pipelines.projection_mapping.convert_gamut", "what projectors can show, to a measurement"
        ),
        "projection": Entry("infield.pipelines.projection_mapping.convert", "captures of projectors to a set-up"),
    },
    "simulators": {
        "pictures": Entry(
            "infield.pipelines.projection_mapping.simulate_pictures_options:COMMAND",
            "pictures of dead leaves, to train priors on",
        ),
        "projection": Entry(
            "infield.pipelines.projection_mapping.simulate", "captures of a rendered set-up of projectors"
        ),
    },
}
