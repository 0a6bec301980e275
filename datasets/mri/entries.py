"""What MRI adds to the registry: readers by domain and suffix; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "readers": {
        "mri.npy": Entry("infield.datasets.mri.readers.arrays:open_numpy", "numpy", ("mri.npz",)),
        "mri.h5": Entry("infield.datasets.mri.readers.open:open_hdf5", "fastMRI or ISMRMRD", ("mri.hdf5", "mri.mrd")),
        "mri.mat": Entry("infield.datasets.mri.readers.arrays:open_matlab", "MATLAB"),
        "mri.cfl": Entry("infield.datasets.mri.readers.arrays:open_bart", "BART"),
    },
}
