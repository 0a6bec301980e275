"""Entries of 21 cm in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "commands": {
        "compare-cones": Entry(
            "infield.pipelines.cm21.compare_options", "two ensembles of 21 cm lightcones beside each other"
        ),
        "infer-parameters": Entry(
            "infield.pipelines.cm21.infer_options",
            "astrophysical parameters of 21 cm lightcones, by simulation-based inference",
        ),
    },
    "converters": {
        "lightcone": Entry(
            "infield.pipelines.cm21.convert_options:LIGHTCONES", "lightcones of many formats to one file"
        ),
        "lightcone-observation": Entry(
            "infield.pipelines.cm21.observe_options:OBSERVATION", "a lightcone to a mock observation by a telescope"
        ),
    },
    "simulators": {"21cm": Entry("infield.pipelines.cm21.simulate_options", "lightcones of 21cmFAST")},
    "emulators": {
        "lightcones": Entry("infield.pipelines.cm21.emulate_options", "21 cm lightcones at astrophysical parameters"),
    },
    "benches": {"cm21": Entry("infield.pipelines.cm21.bench.run", "lightcones of a prior beside those of 21cmFAST")},
}
