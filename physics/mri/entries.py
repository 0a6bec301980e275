"""Entries of MRI in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "noise_models": {
        "coil-gaussian": Entry(
            "infield.physics.mri.noise:CoilGaussianNoise",
            "Gaussian noise of receiver coils",
            facts={
                "entries": "`covariance`: the name of a variable (coils, coils), complex Hermitian positive definite; "
                "`k_dimensions`: 3 for several slices (default 2)",
                "meaning, with z the noiseless data": "E[n nᴴ] of the complex noise over coils, independent between "
                "k-space samples; data (2, coils, ky, kx), or (2, coils, z, ky, kx)",
            },
        ),
    },
    "operators": {
        "multicoil-mri": Entry(
            "infield.physics.mri.multicoil:build_multicoil_mri",
            "k-space of several coils",
            facts={
                "parameters": "",
                "arrays (role: shape)": "`coil_maps`: (coils, ny, nx), complex; `mask`: (ny, nx)",
                "output S": "(2, coils, ny, nx): centred orthonormal transform of coil map times image; C is 2",
            },
        ),
        "multicoil-mri-slices": Entry(
            "infield.physics.mri.multicoil:build_multicoil_slices",
            "k-space of several coils, slice by slice",
            facts={
                "parameters": "",
                "arrays (role: shape)": "`coil_maps`: (coils, nz, ny, nx), complex; `mask`: (ny, nx) or (nz, ny, nx)",
                "output S": "(2, coils, nz, ny, nx): the same for each slice of a volume; C is 2",
            },
        ),
    },
}
