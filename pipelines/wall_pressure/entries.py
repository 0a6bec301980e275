"""What wall pressure adds to the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "report_sections": {
        "wall-pressure": Entry("infield.pipelines.wall_pressure.report:section", "spectra, correlations and tails"),
    },
    "cautions": {
        "wall-pressure": Entry(
            "infield.pipelines.wall_pressure.caution:another_flow", "a measurement of another flow than the prior's"
        ),
    },
    "evaluations": {
        "wall-sensors": Entry("infield.pipelines.wall_pressure.bench.evaluation:sensors", "wall pressure from sensors"),
    },
    "benches": {
        "wall-pressure": Entry("infield.pipelines.wall_pressure.bench.run", "pressure below a turbulent flow"),
    },
    "simulators": {
        "channel": Entry("infield.pipelines.wall_pressure.channel_options", "one turbulent flow"),
        "wall-pressure": Entry(
            "infield.pipelines.wall_pressure.simulate_options", "a synthetic stand-in for wall pressure"
        ),
    },
    "converters": {
        "wall-pressure": Entry("infield.pipelines.wall_pressure.convert_options:PLANES", "planes of many formats"),
        "wall-sensors": Entry(
            "infield.pipelines.wall_pressure.convert_options:SENSORS", "a plane to a measurement by sensors"
        ),
    },
}
