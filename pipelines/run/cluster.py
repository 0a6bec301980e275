"""Workers for tasks: a Dask scheduler that runs somewhere, or threads on this machine, by the same code."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from distributed import Client, KilledWorker
from distributed.comm import CommClosedError
from tornado.util import TimeoutError as TornadoTimeout

from infield.core.errors import InfieldError
from infield.core.provenance import check_versions

CONNECT_SECONDS = 10
WORKER_SECONDS = 20
"""How long a first worker may take to appear."""

_MISSING = re.compile(r"ModuleNotFoundError\(.*?No module named '([^']+)'")

_LOST = (CommClosedError, CancelledError)


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Whether a record of asyncio is more than the wake-up call of a connection that was closed before it rang.

    distributed waits for messages to send by tornado's Event.wait(timeout); where a connection closes meanwhile, the
    timeout has no owner, and asyncio reports it whenever memory is collected, long after the run.
    """
    error = record.exc_info[1] if record.exc_info else None
    wake_up = isinstance(error, TornadoTimeout) and str(error) == "Timeout"
    return not (wake_up and "never retrieved" in record.getMessage())


logging.getLogger("asyncio").addFilter(_is_of_interest)


@contextmanager
def client(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A Dask client that leaves the report of errors to us: errors arrive with the results.

    Arguments:
        scheduler: Address of a running scheduler; None for threads on this machine.
        workers: Number of these threads.

    Raises:
        InfieldError: No scheduler answers, it has no worker, or it or a worker is lost on the way.
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
            found = _connected(scheduler)
        with found, _explained(scheduler):
            yield found
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_scheduler(scheduler: str | None) -> None:
    """Refuse a scheduler that does not answer or has no worker, before anything is computed.

    Raises:
        InfieldError: As `client`.
    """
    if scheduler is not None:
        with client(scheduler, 1):
            pass


def hosts_of(cluster: Client) -> list[str]:
    """Hosts of its workers, by address."""
    return sorted({str(worker["host"]) for worker in cluster.scheduler_info(n_workers=-1)["workers"].values()})


def on_worker(expected: Mapping[str, str], work: Callable[..., Any], *arguments: Any) -> Any:
    """A task: do some work on a worker, of the same versions as the client.

    Arguments:
        expected: The client's, of `core.provenance.versions`.
        work: Called with the arguments.

    Raises:
        InfieldError: The worker has others.
    """
    remedy = "start the workers in an environment with these versions"
    check_versions(expected, f"the worker on {platform.node()}: the client", remedy)
    return work(*arguments)


def _connected(scheduler: str) -> Client:
    where = f"--scheduler {scheduler}"
    try:
        found = Client(scheduler, timeout=f"{CONNECT_SECONDS}s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise InfieldError(f"no Dask scheduler answers there ({_line(error)})", where=where) from error
    except (
        Exception
    ) as error:  # TLS without a certificate, a protocol that Dask has not, a scheduler of another version
        raise InfieldError(f"no connection to the Dask scheduler ({_line(error)})", where=where) from error
    try:
        found.wait_for_workers(1, timeout=WORKER_SECONDS)
    except Exception as error:
        found.close()
        raise InfieldError(
            where=where,
            found=f"no worker within {WORKER_SECONDS} s" if isinstance(error, TimeoutError) else _line(error),
            expected="at least one",
            remedy=f"start one: dask worker {scheduler}",
        ) from error
    return found


@contextmanager
def _explained(scheduler: str | None) -> Iterator[None]:
    """Errors that Dask raises during a run, turned into one clear line."""
    where = "the workers" if scheduler is None else f"--scheduler {scheduler}"
    resume = "rerun the same command to resume"
    try:
        yield
    except KilledWorker as error:
        raise InfieldError(
            where=where,
            found="that workers end while they draw the same samples",
            expected="workers that keep running",
            remedy=f"they often run out of memory: give them more, or fewer threads each, and {resume}",
        ) from error
    except _LOST as error:
        raise InfieldError(
            where=where, found="that the connection to the scheduler was lost", remedy=f"start it again, and {resume}"
        ) from error
    except InfieldError:
        raise
    except Exception as error:
        missing = _missing_module(error)
        if scheduler is None or missing is None:
            raise
        raise InfieldError(
            where=where,
            found=f"a worker on which '{missing}' cannot be imported",
            expected="the client's packages on every worker",
            remedy=f"install Infield in the environment of the workers, and {resume}",
        ) from error


def _missing_module(error: BaseException | None) -> str | None:
    """The module that a worker lacks, also where Dask has wrapped the error, or hands on its text alone."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return error.name or str(error)
        named = _MISSING.search(str(error))
        if named is not None:
            return named[1]
        error = error.__cause__ or error.__context__
    return None


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
