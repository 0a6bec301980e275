"""Workers for tasks: a Dask scheduler that runs somewhere, or threads on this machine, by the same code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client

from infield.core.errors import InfieldError


@contextmanager
def client(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A Dask client that leaves it to us to say what went wrong: errors arrive with the results.

    Arguments:
        scheduler: Address of a running scheduler; None for threads on this machine.
        workers: Number of these threads.

    Raises:
        InfieldError: No scheduler answers.
    """
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        if scheduler is None:
            pages = dict.fromkeys(("dashboard_address", "worker_dashboard_address"), "127.0.0.1:0")  # any free port
            found = Client(processes=False, n_workers=1, threads_per_worker=workers, set_as_default=False, **pages)
        else:
            try:
                found = Client(scheduler, timeout="10s", set_as_default=False)
            except (OSError, ValueError) as error:
                raise InfieldError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error})") from error
        with found:
            yield found
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
