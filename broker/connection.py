"""One connection to the server: commands out in one write, replies back in their order.

It speaks RESP through hiredis alone. A general client's pool, retries and coroutine per reply cost more than the
scripts do; and a connection whose replies are out of step must never be used again, which is easy to see here.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Self, TypeAlias, cast

import hiredis

from broker.endpoint import Endpoint
from broker.login import LoginFault

Argument: TypeAlias = bytes | str | int | float
Reply: TypeAlias = "bytes | int | list[Reply] | ServerError | None"


class ServerError(Exception):
    """An error reply of the server to one command."""


class Disconnected(Exception):
    """The connection is lost, timed out, or was never made. Whether the commands took effect is not known."""


# A parse that lacks bytes must differ from a nil reply, which is None.
_INCOMPLETE = object()


def pack(*command: Argument) -> bytes:
    """One command as it goes over the wire."""
    # The stub says a tuple of one, and names no result.
    return cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)(command)  # pyright: ignore[reportUnknownMemberType]


class Connection(asyncio.Protocol):
    """A logged-in connection that runs one batch of commands at a time. After any failure it is closed for good."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(replyError=ServerError, notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self._replies: list[Reply] = []
        self._expected = 0
        self._done: asyncio.Future[list[Reply]] | None = None
        self.closed = False

    @classmethod
    async def open(cls, endpoint: Endpoint, timeout_s: float) -> Self:
        """Connects and logs in within `timeout_s` seconds. Raises Disconnected."""
        loop = asyncio.get_running_loop()
        connection = cls()
        try:
            async with asyncio.timeout(timeout_s):
                if endpoint.path:
                    await loop.create_unix_connection(lambda: connection, endpoint.path)
                else:
                    tls = endpoint.login.context()
                    await loop.create_connection(lambda: connection, endpoint.host, endpoint.port, ssl=tls)
                await connection._log_in(endpoint)
        except (OSError, ServerError, TimeoutError, Disconnected, LoginFault) as error:
            connection.close()
            raise Disconnected(f"cannot connect: {_reason(error)}{_hint(endpoint, error)}") from error
        except asyncio.CancelledError:
            connection.close()
            raise
        return connection

    async def run(self, commands: bytes, count: int, timeout_s: float) -> list[Reply]:
        """Sends `count` packed commands and returns their replies, error replies among them as ServerError.

        Raises Disconnected after `timeout_s` seconds, or when the connection is lost. Closes the connection then, and
        when the caller is cancelled: replies that nobody waits for would meet the next batch.
        """
        if self.closed or self._transport is None:
            raise Disconnected("the connection is closed")
        if self._done is not None:
            raise RuntimeError("a connection runs one batch at a time")
        self._replies, self._expected = [], count
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        self._transport.write(commands)
        # asyncio.timeout costs several times as much.
        timer = loop.call_later(timeout_s, self._fail, Disconnected(f"no answer within {timeout_s:.3f} s"))
        try:
            return await self._done
        except (asyncio.CancelledError, Disconnected):
            self.close()
            raise
        finally:
            timer.cancel()
            self._done = None

    def close(self) -> None:
        """Closes at once; a batch that waits fails with Disconnected."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._replies.append(reply)
        except hiredis.HiredisError as error:
            self._fail(Disconnected(f"the server does not speak RESP: {error}"))
            self.close()
            return
        if self._done is not None and not self._done.done() and len(self._replies) >= self._expected:
            self._done.set_result(self._replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._fail(Disconnected(f"the connection was lost: {exc or 'closed by the server'}"))

    def _fail(self, error: Disconnected) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    async def _log_in(self, endpoint: Endpoint) -> None:
        commands: list[bytes] = []
        if credentials := endpoint.login.credentials():
            commands.append(pack("AUTH", *credentials))
        if endpoint.database:
            commands.append(pack("SELECT", endpoint.database))
        # A server that accepts connections but hangs, or is loading, is found out here and not by the first call.
        commands.append(pack("PING"))
        for reply in await self.run(b"".join(commands), len(commands), timeout_s=3600):
            if isinstance(reply, ServerError):
                raise reply


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _hint(endpoint: Endpoint, error: Exception) -> str:
    """In TLS 1.3 a client is connected before the server looks at its certificate: a refusal is a lost connection."""
    if endpoint.path or not endpoint.login.tls or not isinstance(error, Disconnected):
        return ""
    if endpoint.login.shows_certificate:
        return " (the server may not accept the certificate in tls_certificate_file)"
    return " (the server may want a certificate: set tls_certificate_file)"
