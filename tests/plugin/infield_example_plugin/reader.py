"""A reader of k-space: a numpy array under another suffix, behind eight bytes."""

import io

from infield.datasets.mri.readers.arrays import open_numpy


def open_raw(path, layout, stack):
    inner = path.with_suffix(".npy")
    inner.write_bytes(io.BytesIO(path.read_bytes()[8:]).read())
    return open_numpy(inner, layout, stack)
