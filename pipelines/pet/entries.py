"""Entries of PET in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "evaluations": {
        "pet": Entry("infield.pipelines.pet.bench.evaluation:counts", "a rate from counts of emission tomography"),
    },
    "benches": {
        "pet": Entry("infield.pipelines.pet.bench.run", "counts of emission tomography to a rate"),
        "pet-bridge": Entry("infield.pipelines.pet.bench.bridge", "the Poisson bridge beside exact laws"),
        "pet-longitudinal": Entry("infield.pipelines.pet.bench.longitudinal", "follow-ups of amyloid PET by bridges"),
    },
    "simulators": {
        "pet": Entry("infield.pipelines.pet.simulate_options", "a synthetic cohort of longitudinal amyloid PET"),
    },
    "emulators": {
        "bridge": Entry("infield.pipelines.pet.emulate_options", "follow-ups of amyloid PET, from a baseline")
    },
    "cautions": {
        "pet-counts": Entry("infield.pipelines.pet.caution:counts_without_link", "counts of a field without a link"),
    },
    "converters": {"pet": Entry("infield.pipelines.pet.convert_options", "PET images and counts of many formats")},
}
