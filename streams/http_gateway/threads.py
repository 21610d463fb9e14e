"""Blocking calls off the event loop, in threads that a stopping process does not wait for.

The loop's own threads are joined when it ends, and a server that hangs would then hold the gateway for as long as
its client library waits.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Start a call that may block; awaiting the answer gives its result or raises its error."""
    future: Future[T] = Future()
    Thread(target=_run, args=(work, future), name="gateway-call", daemon=True).start()
    return asyncio.wrap_future(future)


def _run(work: Callable[[], T], future: "Future[T]") -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        answer = work()
    except BaseException as error:  # carried to whoever awaits
        future.set_exception(error)
    else:
        future.set_result(answer)
