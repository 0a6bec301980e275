"""What PET adds to the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "operators": {
        "beer-lambert": Entry(
            "infield.physics.pet.beer_lambert:build_beer_lambert", "transmission through an absorber, b exp(-P mu)"
        ),
        "projection": Entry("infield.physics.pet.projection:build_projection", "parallel-beam projections of emission"),
    },
}
