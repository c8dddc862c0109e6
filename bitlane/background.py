"""An event loop in a thread of its own, for blocking callers."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from bitlane.errors import Aborted

_Result = TypeVar("_Result")

# Seconds that unfinished work gets on close before it is cancelled.
_GRACE = 1.0


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Drops a known noise of gRPC and reports the rest.

    gRPC's completion queue is shared by all event loops of a process. When two are woken for one event, the slower one
    finds nothing to read; and what comes for a loop that was closed meanwhile cannot be handed to it. Nothing that
    anybody waits for is lost by either, and users can do nothing about it.
    """
    if "PollerCompletionQueue" in str(context.get("handle")):
        error = context.get("exception")
        if isinstance(error, BlockingIOError) or "Event loop is closed" in str(error):
            return
    loop.default_exception_handler(context)


class BackgroundLoop:
    """Runs coroutines for threads that block on them. Started by the first `run`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Waits for the coroutine's result; Ctrl-C while waiting cancels it. RuntimeError after `close`."""
        try:
            loop = self._started()
        except RuntimeError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            # Only `close` cancels what another thread is waiting for.
            raise Aborted("the client was closed") from None
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._thread is not None and threading.get_ident() == self._thread.ident:
                raise RuntimeError("a blocking call from the client's own event loop would wait for itself")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_exception_handler(_quiet)
                # A daemon, so that a client nobody closed does not keep the process from ending.
                self._thread = threading.Thread(target=self._serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            if leftovers := asyncio.all_tasks(loop):
                # They have lost their connections by now and end by themselves, with an error that says so.
                _, stuck = loop.run_until_complete(asyncio.wait(leftovers, timeout=_GRACE))
                for task in stuck:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def close(self) -> None:
        """Stops the thread and waits for it; what still runs is cancelled. Can be called again."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
