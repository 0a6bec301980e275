"""What PET adds to the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "benches": {
        "pet-bridge": Entry("infield.pipelines.pet.bench.bridge", "the Poisson bridge beside exact laws"),
        "pet-longitudinal": Entry("infield.pipelines.pet.bench.longitudinal", "follow-ups of amyloid PET by bridges"),
    },
    "simulators": {
        "pet": Entry("infield.pipelines.pet.simulate", "a synthetic cohort of longitudinal amyloid PET"),
    },
}
