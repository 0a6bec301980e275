"""Entries of 21 cm in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "operators": {
        "interferometer": Entry(
            "infield.physics.cm21.interferometer:build_interferometer", "gridded visibilities of a radio telescope"
        ),
    },
}
