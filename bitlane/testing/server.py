"""The fake server: a real gRPC server on a free port of loopback, in this process."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from grpc import aio

from bitlane.admin_types import UsageRow
from bitlane.background import BackgroundLoop
from bitlane.testing.admin import FakeAdmin
from bitlane.testing.script import Call, Fault, Method, Reply
from bitlane.testing.service import FakeService, Script
from bitlane.v1 import inference_pb2_grpc as pb_grpc

_Result = TypeVar("_Result")

_OPTIONS = [
    # Tests must fail when the port is taken, not share it.
    ("grpc.so_reuseport", 0),
    # The SDK's keepalive, more often than gRPC servers take by default.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


class FakeServer:
    """Serves scripted replies at `target`; see `bitlane.testing`.

    Use it as an async context manager in asyncio tests, and as a plain one elsewhere: it then runs in a thread.
    What it was told to do and what it got can be changed and read at any time.
    """

    def __init__(
        self,
        reply: Reply | Script | None = None,
        *,
        models: tuple[str, ...] = ("fake",),
        api_key: str | None = None,
        tls: tuple[bytes, bytes] | None = None,
    ) -> None:
        """Makes a server that does not run yet.

        Args:
            reply: The reply to every request, or a function from the request to its reply. Default: `Reply()`.
            models: Names that exist; others are NOT_FOUND.
            api_key: The key that is let in, beside those that `client.admin` makes. Default: anyone is.
            tls: Private key and certificate, PEM. Default: plaintext.
        """
        self._service = FakeService(_script(reply), models, api_key)
        self.usage: list[UsageRow] = []
        """What `client.admin.usage` adds up: put rows in, each with all that it can be told apart by."""
        self._admin = FakeAdmin(self._service, self.usage)
        self._tls = tls
        self._server: aio.Server | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._thread: BackgroundLoop | None = None
        self._port = 0

    @property
    def target(self) -> str:
        """`host:port`; known once the server has started."""
        return f"127.0.0.1:{self._port}"

    @property
    def calls(self) -> list[Call]:
        """Every call so far, in order of arrival."""
        return list(self._service.calls)

    @property
    def runs(self) -> int:
        """How many requests were really run: repeats of an id do not count."""
        return len(self._service.runs)

    def twin(self) -> "FakeServer":
        """A second server that remembers the same requests, as routers on one broker do. To be started on its own."""
        twin = FakeServer()
        twin._service, twin._admin, twin.usage, twin._tls = self._service, self._admin, self.usage, self._tls
        return twin

    def calls_of(self, method: Method) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    def script(self, reply: Reply | Script) -> None:
        """Changes what requests from now on get."""
        self._service.script = _script(reply)

    def inject(self, *faults: Fault) -> None:
        """Lets the next calls fail, in this order."""
        self._service.faults.extend(faults)

    def forget(self, request_id: str | None = None) -> None:
        """Loses a request, or all: Resume and Cancel then say NOT_FOUND."""
        if request_id is None:
            self._service.runs.clear()
        else:
            self._service.runs.pop(request_id, None)

    def release(self) -> None:
        """Lets the replies go on that wait at `Reply.hold_after`."""
        assert self._home is not None, "the server has not started"
        for run in list(self._service.runs.values()):
            self._home.call_soon_threadsafe(run.released.set)

    async def start(self) -> None:
        """Starts in this event loop; after `stop` on the same port, with everything remembered."""
        server = aio.server(options=_OPTIONS)
        pb_grpc.add_InferenceServiceServicer_to_server(self._service, server)
        server.add_generic_rpc_handlers([self._admin.handlers()])
        address = f"127.0.0.1:{self._port}"
        if self._tls is None:
            self._port = server.add_insecure_port(address)
        else:
            self._port = server.add_secure_port(address, grpc.ssl_server_credentials([self._tls]))
        await server.start()
        self._server, self._home = server, asyncio.get_running_loop()

    async def stop(self) -> None:
        """Breaks all connections at once, as a killed server would."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self._thread = BackgroundLoop("bitlane-fake-server")
        self._thread.run(self.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._thread.run(self.stop())
        self._thread.close()

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Runs a coroutine such as `server.stop()` in the thread of a server that was started by `with`."""
        assert self._thread is not None, "only for `with FakeServer()`; else await it"
        return self._thread.run(coroutine)


def _script(reply: Reply | Script | None) -> Script:
    if callable(reply):
        return reply
    fixed = reply or Reply()
    return lambda _request: fixed
