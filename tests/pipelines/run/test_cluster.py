"""What a closed cluster leaves behind is not reported to whoever runs next in the process."""

import asyncio
import gc
import logging
import warnings

import pytest
from tornado.gen import with_timeout

import infield.pipelines.run.cluster  # noqa: F401


class Late(Exception):
    """An error that is of interest."""


def abandoned(error: Exception | None) -> None:
    """A future of an event loop that holds an error and is collected unread: tornado's timeout, or the error given."""

    async def body() -> None:
        loop = asyncio.get_running_loop()
        if error is None:
            future = with_timeout(loop.time() - 1, loop.create_future())
            await asyncio.sleep(0.01)
        else:
            (future := loop.create_future()).set_exception(error)
        assert future.exception
        del future

    asyncio.run(body())
    gc.collect()


@pytest.mark.parametrize(("error", "reported"), [(None, 0), (Late("late"), 1), (TimeoutError("no scheduler"), 1)])
def test_the_unread_timeout_of_a_closed_connection_is_not_reported(error, reported, caplog):
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        abandoned(error)
    assert sum("never retrieved" in r.getMessage() for r in caplog.records) == reported
