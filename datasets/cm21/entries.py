"""What 21 cm adds to the registry: readers by domain and suffix; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "readers": {
        "cm21.npz": Entry("infield.datasets.cm21.readers.arrays:array_cones", "numpy arrays", ("cm21.npy",)),
        "cm21.fits": Entry("infield.datasets.cm21.readers.fits:fits_cube", "FITS cube", ("cm21.fit",)),
    },
}
