"""Where key sets come from: a file, or a URL. Reading blocks, and so runs in a thread."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import BaseHandler, HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from broker.files import Stamp, stamp
from router.addresses import is_loopback
from router.identity.key_set import MAX_BYTES

T = TypeVar("T")
TIMEOUT_S = 5.0
Source = Callable[[], bytes | None]


class FileSource:
    """A file, read when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: Stamp = None

    def __call__(self) -> bytes | None:
        """The text; None when it is the same as last time. Raises OSError."""
        current = stamp(self._path)
        if current is not None and current == self._seen:
            return None
        with self._path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        self._seen = current  # from before the reading: a change in between is seen next time
        return text


class UrlSource:
    """A URL. Follows no redirection: it could lead away from https, or into the network behind the router."""

    def __init__(self, url: str) -> None:
        self._url = url
        handlers: list[BaseHandler] = [_NoRedirect(), HTTPSHandler(context=ssl.create_default_context())]
        if is_loopback(urlsplit(url).hostname or ""):
            handlers.append(ProxyHandler({}))
        self._opener = build_opener(*handlers)

    def __call__(self) -> bytes | None:
        """The text of the answer, cut behind MAX_BYTES. Raises OSError."""
        until = time.monotonic() + TIMEOUT_S
        request = Request(self._url, headers={"Accept": "application/json", "User-Agent": "bitlane-router"})  # noqa: S310  # the configuration has checked it
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                text = b""
                while len(text) <= MAX_BYTES and (part := answer.read1(8192)):
                    text += part
                    if time.monotonic() > until:
                        raise TimeoutError("the answer took too long")
                return text
        except HTTPError as error:
            error.close()
            raise OSError(f"it answered {error.code}") from None
        except URLError as error:
            raise OSError(str(error.reason)) from None
        except HTTPException as error:
            raise OSError(f"its answer is no HTTP: {type(error).__name__}") from None


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """The redirection becomes the error that it is."""


async def in_thread(work: Callable[[], T]) -> T:
    """Runs what blocks without holding up the event loop, or the end of the process.

    `asyncio.to_thread` waits for its threads at the end, and nothing bounds how long a name is looked up.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # pyright: ignore[reportArgumentType]  # it is None where T is

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="bitlane-source", daemon=True).start()
    return await done
