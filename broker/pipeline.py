"""Calls that meet in time travel together: one write, one round trip, one wake-up.

Calls made in the same turn of the event loop, or while a batch is under way, go out as the next batch. Each call gets
its own reply or its own error.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from broker.connection import Argument, Connection, Disconnected, Reply, ServerError, pack
from broker.endpoint import Endpoint
from broker.scripts import Script
from broker.types import BrokerError, BrokerUnavailable, ScriptUnknown

# Bounds how long one batch keeps the server and the event loop from others.
_BATCH_MAX = 512
# Error replies that say 'not now' rather than 'wrong'.
_AWAY = frozenset(
    {"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF", "OOM", "BUSY", "ASK"}
    | {"UNBLOCKED", "NOSCRIPT", "MOVED"}
)


OnRoundTrip: TypeAlias = Callable[[float, str], None]
"""Takes the seconds of each round trip and the kind of what went wrong: empty, or of a small set."""


@dataclass(slots=True, eq=False)
class _Call:
    command: bytes
    script: Script | None
    until: float  # loop time at which its caller is told that the server is away
    answer: asyncio.Future[Reply]


class Pipeline:
    """Everything that is sent to one hash tag: one slot, so one node, so one connection."""

    def __init__(
        self,
        endpoint: Endpoint,
        scripts: dict[str, Script],
        timeout_s: float,
        on_round_trip: OnRoundTrip | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._configured = endpoint
        # Where to ask when it is gone: a node of a cluster never comes back to tell who has its slots now.
        self._elsewhere = endpoint
        self._on_round_trip = on_round_trip
        self._scripts = scripts
        self._timeout_s = timeout_s
        self._waiting: list[_Call] = []
        self._runner: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._closed = False

    def run(self, name: str, keys: Sequence[str], *arguments: Argument) -> asyncio.Future[Reply]:
        """Runs a transition. The future raises BrokerUnavailable, or BrokerError for any other error reply."""
        return self._add(self.packed(name, keys, *arguments), self._scripts[name])

    def packed(self, name: str, keys: Sequence[str], *arguments: Argument) -> bytes:
        """A transition as it goes over the wire, for another connection of the same server."""
        return pack("EVALSHA", self._scripts[name].sha, len(keys), *keys, *arguments)

    def command(self, *command: Argument) -> asyncio.Future[Reply]:
        """Runs a plain command; fails in the same ways."""
        return self._add(pack(*command), None)

    async def close(self) -> None:
        """Fails what waits with BrokerUnavailable and closes the connection."""
        self._closed = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        self._fail(self._take(len(self._waiting)), BrokerUnavailable("the broker is closed"))
        self._drop()

    def _add(self, command: bytes, script: Script | None) -> asyncio.Future[Reply]:
        loop = asyncio.get_running_loop()
        call = _Call(command, script, loop.time() + self._timeout_s, loop.create_future())
        if self._closed:
            self._fail([call], BrokerUnavailable("the broker is closed"))
            return call.answer
        self._waiting.append(call)
        if self._runner is None:
            # The task starts in the next turn of the loop, and takes along what this turn still adds.
            self._runner = loop.create_task(self._run_batches(), name="broker-pipeline")
        return call.answer

    def _take(self, count: int) -> list[_Call]:
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _run_batches(self) -> None:
        try:
            while self._waiting:
                batch = [call for call in self._take(_BATCH_MAX) if not call.answer.done()]
                try:
                    await self._run_batch(batch)
                except Disconnected as error:
                    self._drop()
                    self._fail(batch, BrokerUnavailable(f"{self.endpoint}: {error}"))
                    self.endpoint, self._elsewhere = self._elsewhere, self.endpoint
                except BrokerError as error:
                    self._drop()
                    self._fail(batch, error)
                except BaseException:
                    self._fail(batch, BrokerUnavailable("the broker is closed"))
                    raise
        finally:
            self._runner = None

    async def _run_batch(self, batch: list[_Call]) -> None:
        if not batch:
            return
        replies = await self._send(batch)
        again = [call for call, reply in zip(batch, replies, strict=True) if self._is_retried(reply)]
        if again:
            moved = next((text for reply in replies if (text := _moved(reply))), None)
            if moved is not None:
                self._follow(moved)
            elif self._connection is not None:
                missing = {call.script.name: call.script for call in again if call.script}
                await self._load(self._connection, missing, batch[0].until)
            retried = iter(await self._send(again))
            replies = [next(retried) if self._is_retried(reply) else reply for reply in replies]
        for call, reply in zip(batch, replies, strict=True):
            if call.answer.done():
                continue
            if isinstance(reply, ServerError):
                call.answer.set_exception(self.error_of(reply))
            else:
                call.answer.set_result(reply)

    async def _send(self, batch: list[_Call]) -> list[Reply]:
        began, problem = time.perf_counter(), "closed"
        try:
            replies = await self._exchange(batch)
            problem = next((_kind(reply) for reply in replies if isinstance(reply, ServerError)), "")
            return replies
        except Disconnected:
            problem = "unavailable"
            raise
        finally:
            if self._on_round_trip is not None:
                self._on_round_trip(time.perf_counter() - began, problem)

    async def _exchange(self, batch: list[_Call]) -> list[Reply]:
        until = batch[0].until
        # A blocking call that is sent elsewhere may drop the connection meanwhile.
        connection = self._connection
        if connection is None or connection.closed:
            self._connection = connection = await Connection.open(self.endpoint, _seconds_left(until))
            await self._load(connection, self._scripts, until)
        payload = b"".join([call.command for call in batch])
        return await connection.run(payload, len(batch), _seconds_left(until))

    async def _load(self, connection: Connection, scripts: dict[str, Script], until: float) -> None:
        """A restarted server knows no script, and a failover or SCRIPT FLUSH forgets them under a live connection."""
        payload = b"".join([pack("SCRIPT", "LOAD", script.text) for script in scripts.values()])
        for reply in await connection.run(payload, len(scripts), _seconds_left(until)):
            if isinstance(reply, ServerError):
                if _code(reply) in _AWAY:
                    raise Disconnected(str(reply))
                raise BrokerError(f"the server refuses a script: {reply}")

    def _is_retried(self, reply: Reply) -> bool:
        """Errors that say for certain that the command did nothing, and what to do about it."""
        return isinstance(reply, ServerError) and _code(reply) in {"NOSCRIPT", "MOVED"}

    def _follow(self, moved: str) -> None:
        """The slot lives on another node now: `MOVED <slot> <host>:<port>`."""
        host, _, port = moved.rpartition(" ")[2].rpartition(":")
        self._drop()
        self._elsewhere, self.endpoint = self._configured, self.endpoint.at(host, int(port))

    def error_of(self, reply: ServerError) -> BrokerError:
        """What an error reply means to the caller; one that says where to go instead is followed from now on."""
        if _code(reply) not in _AWAY:
            return BrokerError(f"the server refused a command: {reply}")
        if _code(reply) == "READONLY":
            # A demoted primary keeps its connections; a new one finds its successor by name.
            self._drop()
        if _code(reply) == "MOVED":
            self._follow(str(reply))
        kind = ScriptUnknown if _code(reply) == "NOSCRIPT" else BrokerUnavailable
        return kind(f"{self.endpoint}: {reply}")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fail(self, batch: Sequence[_Call], error: BrokerError) -> None:
        for call in batch:
            if not call.answer.done():
                # One error object for each: a shared one would collect the tracebacks of all its raisers.
                call.answer.set_exception(type(error)(*error.args))


def _seconds_left(until: float) -> float:
    return max(0.001, until - asyncio.get_running_loop().time())


def _kind(error: ServerError) -> str:
    """Its code where that is one of those known: what a script raises could say anything."""
    return _code(error) if _code(error) in _AWAY else "ERR"


def _code(error: ServerError) -> str:
    return str(error).partition(" ")[0]


def _moved(reply: Reply) -> str | None:
    return str(reply) if isinstance(reply, ServerError) and _code(reply) == "MOVED" else None
