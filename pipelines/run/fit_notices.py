"""Notices of Lightning during a training that concern neither the user's data nor anything that they can change."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGED = ("litlogger",)
"""Of log records that are left out: an advertisement."""

_WARNED = (
    r".*LeafSpec.* is deprecated",
    r"Precision .* is not supported by the model summary",
    r"The number of training batches .* is smaller than the logging interval",
    r"Checkpoint directory .* exists and is not empty",
)
"""Beginnings of warnings that are left out. The last is about a run that is continued, or whose log is beside it."""


@contextmanager
def without_notices() -> Iterator[None]:
    """Leave these notices out; all others are shown as ever."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(_wanted)
    try:
        with warnings.catch_warnings():
            for pattern in _WARNED:
                warnings.filterwarnings("ignore", pattern)
            yield
    finally:
        logger.removeFilter(_wanted)


def _wanted(record: logging.LogRecord) -> bool:
    return not any(word in record.getMessage() for word in _LOGGED)
