"""What wall pressure adds to the registry: readers by domain and suffix; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "readers": {
        "wall_pressure.yaml": Entry(
            "infield.datasets.wall_pressure.readers.binary:described_planes",
            "descriptor of a raw binary file",
            ("wall_pressure.yml",),
        ),
    },
}
