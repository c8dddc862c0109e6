"""One reply and all the attempts that it takes: Generate, again before the first event, Resume after it."""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias

from grpc import aio

from bitlane import convert
from bitlane.deadline import Deadline
from bitlane.errors import Aborted, BitlaneError, InternalError, NotFound, Unavailable
from bitlane.line import Line, Metadata, guarded
from bitlane.tracing import ReplySpan
from bitlane.types import Accepted, Delta, Finished
from bitlane.v1 import inference_pb2 as pb

Event: TypeAlias = Accepted | Delta | Finished
_Call: TypeAlias = "aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent] | aio.UnaryStreamCall[pb.ResumeRequest, pb.GenerateEvent]"  # noqa: E501

# Seconds; the status normally comes in the packet that brings `finished`.
_STATUS_WAIT = 0.5


class Exchange:
    """Reads one reply event by event, each chunk exactly once, across attempts and servers."""

    def __init__(
        self,
        line: Line,
        request: pb.GenerateRequest | None,
        request_id: str,
        next_index: int,
        timeout: float | None,
        metadata: Metadata,
    ) -> None:
        """Without a `request`, the reply of `request_id` is resumed from `next_index` on."""
        self._line = line
        self._request = request
        self._timeout = timeout
        self._metadata = metadata
        self._call: _Call | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadline: Deadline | None = None
        self._target = 0
        self._began = 0.0
        self._failures = 0
        self._restarts = 0
        self._broken_at = 0.0
        self._continuing = False
        self._left = False
        self._span: ReplySpan | None = None
        self.request_id = request_id
        self.next_index = next_index
        self.accepted = False
        self.between_attempts = False
        """True while the request may live at the server without a connection whose end would end it."""

    async def next(self) -> Event:
        """The next event. Raises BitlaneError when the reply cannot be had; `finished` is the last."""
        if self._deadline is None:
            self._deadline = Deadline(self._timeout)
            self._loop = asyncio.get_running_loop()
        if self._span is None:
            self._span = ReplySpan(self._request, self.request_id)
        try:
            event = await self._next(self._deadline)
        except BaseException as error:
            self._span.fail(error)
            raise
        self._span.tell(event)
        return event

    @property
    def trace_headers(self) -> Mapping[str, str]:
        """Metadata that puts another call about this reply into its trace; empty where there is none."""
        return {} if self._span is None else self._span.headers

    def leave(self) -> None:
        """Hangs up for good."""
        self._left = True
        self.hang_up()
        if self._span is not None:
            self._span.fail(None)

    async def _next(self, deadline: Deadline) -> Event:
        while True:
            try:
                event = self._admit(await self._read(deadline))
            except BitlaneError as error:
                self.hang_up()
                self.between_attempts = True
                await self._recover(error, deadline)
            except BaseException:
                self.hang_up()
                raise
            else:
                if isinstance(event, Finished):
                    await self._see_off()
                if event is not None:
                    return event

    def hang_up(self) -> None:
        """Cuts the running call, if any. The server ends the request, or waits `disconnect_grace` for a Resume."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def __del__(self) -> None:
        # A stream that was dropped without `close`: gRPC's own tasks would keep its call alive until the deadline.
        span: ReplySpan | None = getattr(self, "_span", None)
        if span is not None:
            span.fail(None)
        call, loop = getattr(self, "_call", None), getattr(self, "_loop", None)
        if call is not None and loop is not None and not loop.is_closed():
            # This may be any thread.
            loop.call_soon_threadsafe(call.cancel)

    async def _read(self, deadline: Deadline) -> pb.GenerateEvent:
        if self._call is None:
            await self._line.reach(deadline, self.request_id)
            if self._left:
                raise Aborted("the stream was closed", request_id=self.request_id)
            self._call = self._open(deadline)
            self._line.track(self._call)
        # A method of the call rather than `async for`, which would say EOF by StopAsyncIteration.
        message = await guarded(self._call.read(), self.request_id)
        if not isinstance(message, pb.GenerateEvent):
            raise Unavailable("the stream ended before its reply did", request_id=self.request_id, reason="STREAM_CUT")
        return message

    async def _see_off(self) -> None:
        """Waits for the status behind `finished`, lest the server take a client that leaves now for a cancelled one."""
        call, self._call = self._call, None
        if call is not None:
            with suppress(BitlaneError, TimeoutError):
                async with asyncio.timeout(_STATUS_WAIT):
                    await guarded(call.read(), self.request_id)

    def _open(self, deadline: Deadline) -> _Call:
        stub, timeout = self._line.channels.stub(), deadline.grpc_timeout()
        self._target, self._began = self._line.channels.current, time.monotonic()
        self.between_attempts = False
        self._continuing = self.accepted
        metadata = self._traced_metadata()
        if self._request is not None and not self.accepted:
            return stub.Generate(self._request, timeout=timeout, metadata=metadata)
        resume = pb.ResumeRequest(request_id=self.request_id, next_index=self.next_index)
        return stub.Resume(resume, timeout=timeout, metadata=metadata)

    def _traced_metadata(self) -> Metadata:
        """The caller's, with the trace that the reply belongs to, unless the caller named one."""
        if self._span is None:
            return self._metadata
        self._span.sent_to(self._line.channels.target)
        if any(name == "traceparent" for name, _ in self._metadata):
            return self._metadata
        return [*self._metadata, *self._span.headers.items()]

    def _admit(self, message: pb.GenerateEvent) -> Event | None:
        """Checks an event against what came before. None: nothing new for the caller."""
        event = convert.event(message)
        match event:
            case None:
                return None
            case Accepted():
                if self.accepted:
                    # The answer to our own Resume; the caller has had it.
                    return None
                self.accepted = True
                self._line.budget.earn()
            case Delta():
                if event.next_index <= self.next_index and event.next_index > event.index:
                    return None
                if event.index != self.next_index or event.next_index < event.index:
                    raise Unavailable(
                        f"chunk {self.next_index} was due and {event.index} came",
                        request_id=self.request_id,
                        reason="STREAM_GAP",
                    )
                self.next_index = event.next_index
            case Finished():
                pass
        self._failures = 0
        return event

    async def _recover(self, error: BitlaneError, deadline: Deadline) -> None:
        """Waits for the next attempt; raises when there is none."""
        self._failures += 1
        if self._failures == 1:
            self._broken_at = time.monotonic()
        if not self.accepted:
            await self._line.wait(error, self._failures, deadline, self._target, self._began)
            return
        if isinstance(error, NotFound) and self._continuing:
            self._forget(error)
            # Sending it again follows at once: the server has answered, it just does not know the request.
            return
        delay = self._line.policy.delay(error, self._failures, random.random())
        window_left = self._broken_at + self._line.policy.resume_window - time.monotonic()
        if delay is None or delay >= min(window_left, deadline.remaining()):
            if error.reason == "STREAM_GAP":
                raise InternalError(str(error), request_id=self.request_id, reason=error.reason)
            raise error
        await self._line.pause(error, delay, self._target)

    def _forget(self, error: NotFound) -> None:
        """The server lost an accepted reply: start over while the caller has seen none of it."""
        self._restarts += 1
        if self._request is None or self.next_index > 0 or self._restarts >= self._line.policy.max_attempts:
            raise Aborted(
                f"the server no longer knows this reply, so that it cannot be continued from chunk {self.next_index}",
                request_id=self.request_id,
                reason="REPLY_LOST",
                metadata=error.metadata,
            )
        self.accepted = False
