"""A disk that fills up; and a torchvision that every process of the tests can import.

Processes of pytest-xdist hand warnings to the one that collects them, which imports the warnings' modules.
"""

import errno
from contextlib import contextmanager

import pytest
from zarr.storage import LocalStore

from infield.core.torchvision_remedy import import_torchvision_first

import_torchvision_first()


@pytest.fixture
def full_disk(monkeypatch):
    """Context in which the store's writes fail after `after` of them, as the operating system would have it."""

    @contextmanager
    def filling(after, number=errno.ENOSPC):
        left = [after]
        original = LocalStore.set

        async def set_until_full(self, key, value, *args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(number, "as a disk says it")
            await original(self, key, value, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "set", set_until_full)
            yield left  # how many writes there is still room for, in a list

    return filling
