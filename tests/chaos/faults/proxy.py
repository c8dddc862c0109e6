"""A TCP proxy that does to connections what networks do to them, each direction by itself, switchable at any time."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

_READ_BYTES = 16 << 10
_QUEUED = 64  # pieces of _READ_BYTES under way in one direction: a network holds so much and no more
_TICK_S = 0.005
_RETRANSMIT_S = 0.2  # what a lost packet costs: the least that TCP waits before it sends again
# SO_LINGER with a time of 0: closing sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Direction:
    """What happens to the bytes that go one way. Set the fields whenever you like; they act on open connections too."""

    latency_s: float = 0.0
    jitter_s: float = 0.0  # up to so much more; order is kept, as TCP keeps it
    loss: float = 0.0  # probability that a piece is lost and sent again, which holds up all behind it
    bytes_per_s: float | None = None
    write_bytes: int | None = None  # at most so many bytes a write; 1: byte by byte
    paused: bool = False  # nothing passes for now; nothing is lost
    blackhole: bool = False  # whatever is sent vanishes, and the connection stays dead: half-open

    def heal(self) -> None:
        """No faults any more. Connections that were in a black hole stay dead."""
        for name, value in _HEALTHY.items():
            setattr(self, name, value)


_HEALTHY = {name: getattr(Direction(), name) for name in Direction.__slots__}


class FaultProxy:
    """Listens on a free loopback port and passes everything on to `upstream`: `host:port`, or a unix socket's path.

    It runs in a thread of its own, so that it works on while a test blocks. `up` is what goes to the upstream, `down`
    what comes from there. The upstream may be set until the first connection comes.
    """

    def __init__(self, upstream: str | Path = "", seed: int = 0) -> None:
        self.upstream = upstream
        self.up = Direction()
        self.down = Direction()
        self.refusing = False  # new connections are reset at once
        self.accepted = 0  # connections, ever
        self.port = 0
        self._random = random.Random(seed)
        self._open: set[asyncio.Transport] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._ready = threading.Event()
        self._stopping = asyncio.Event()

    @property
    def target(self) -> str:
        """Where a gRPC client connects to."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where a broker connects to."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._open) // 2

    def heal(self) -> None:
        """No faults any more, in either direction."""
        self.refusing = False
        self.up.heal()
        self.down.heal()

    def reset(self) -> None:
        """Resets every open connection on both sides (RST)."""
        self._in_loop(self._reset_all())

    def start(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def stop(self) -> None:
        """Closes everything. Safe to call twice."""
        if self._thread.is_alive() and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        self._ready.set()
        await self._stopping.wait()
        server.close()
        await self._reset_all()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            _reset(writer.transport)
            return
        try:
            if isinstance(self.upstream, Path):
                far_reader, far_writer = await asyncio.open_unix_connection(self.upstream)
            else:
                host, _, port = self.upstream.rpartition(":")
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            _reset(writer.transport)
            return
        ends = (writer.transport, far_writer.transport)
        self._open.update(cast("tuple[asyncio.Transport, asyncio.Transport]", ends))
        for end in ends:
            sock: socket.socket = end.get_extra_info("socket")
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            lost = asyncio.Event()
            await asyncio.gather(
                self._pass_on(reader, far_writer, self.up, lost), self._pass_on(far_reader, writer, self.down, lost)
            )
        except (OSError, asyncio.CancelledError):
            for end in ends:
                _reset(end)
        finally:
            self._open.difference_update(cast("tuple[asyncio.Transport, asyncio.Transport]", ends))
            for end in ends:
                end.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Direction, lost: asyncio.Event
    ) -> None:
        """One direction of one connection, until its end."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        writing = asyncio.ensure_future(self._write(pieces, writer, faults, lost))
        try:
            due = 0.0
            while True:
                reading = asyncio.ensure_future(reader.read(_READ_BYTES))
                await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
                if writing.done():
                    reading.cancel()
                    writing.result()
                data = await _read(reading, faults, lost)
                delay = faults.latency_s + faults.jitter_s * self._random.random()
                if self._random.random() < faults.loss:
                    delay += _RETRANSMIT_S
                due = max(due, time.monotonic() + delay)
                await pieces.put((due, data))
                if not data:
                    await writing
                    return
        finally:
            writing.cancel()

    async def _write(
        self,
        pieces: "asyncio.Queue[tuple[float, bytes]]",
        writer: asyncio.StreamWriter,
        faults: Direction,
        lost: asyncio.Event,
    ) -> None:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            while faults.paused:
                await asyncio.sleep(_TICK_S)
            if faults.blackhole:
                lost.set()
            if lost.is_set():
                # Not even the end is told: neither side learns that the other is gone.
                await asyncio.Event().wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            size = faults.write_bytes or len(data)
            for start in range(0, len(data), size):
                part = data[start : start + size]
                writer.write(part)
                await writer.drain()
                if faults.bytes_per_s:
                    await asyncio.sleep(len(part) / faults.bytes_per_s)
                elif faults.write_bytes:
                    await asyncio.sleep(0)  # a write of its own

    async def _reset_all(self) -> None:
        for transport in list(self._open):
            _reset(transport)

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None, "start the proxy first"
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _read(reading: "asyncio.Future[bytes]", faults: Direction, lost: asyncio.Event) -> bytes:
    """What was read; in a black hole not even a reset gets through."""
    try:
        return reading.result()
    except OSError:
        if faults.blackhole or lost.is_set():
            await asyncio.Event().wait()
        raise


def _reset(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    cast("asyncio.Transport", transport).abort()
