"""Workers for tasks: a Dask scheduler that runs somewhere, or threads on this machine, by the same code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client
from tornado.util import TimeoutError as TornadoTimeout

from infield.core.errors import InfieldError


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Whether a record of asyncio is more than the wake-up call of a connection that was closed before it rang.

    distributed waits for messages to send by tornado's Event.wait(timeout); where a connection closes meanwhile, the
    timeout belongs to nobody, and asyncio reports it whenever memory is collected, long after the run.
    """
    error = record.exc_info[1] if record.exc_info else None
    wake_up = isinstance(error, TornadoTimeout) and str(error) == "Timeout"
    return not (wake_up and "never retrieved" in record.getMessage())


logging.getLogger("asyncio").addFilter(_is_of_interest)


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
