"""Entries of thermography in the registry."""

from infield.core.registry import Entry

ENTRIES = {
    "operators": {
        "infrared-camera": Entry("infield.physics.thermography.camera:build_camera", "means over pixels of a camera"),
    },
}
