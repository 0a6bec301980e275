"""Entries of MRI in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "noise_models": {
        "coil-gaussian": Entry("infield.physics.mri.noise:CoilGaussianNoise", "Gaussian noise of receiver coils"),
    },
    "operators": {
        "multicoil-mri": Entry("infield.physics.mri.multicoil:build_multicoil_mri", "k-space of several coils"),
        "multicoil-mri-slices": Entry(
            "infield.physics.mri.multicoil:build_multicoil_slices", "k-space of several coils, slice by slice"
        ),
    },
}
