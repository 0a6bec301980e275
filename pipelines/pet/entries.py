"""What PET adds to the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "benches": {
        "pet-bridge": Entry("infield.pipelines.pet.bench.bridge", "the Poisson bridge beside exact laws"),
    },
}
