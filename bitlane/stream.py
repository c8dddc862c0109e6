"""The stream of one reply, for asyncio."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from bitlane.errors import Aborted, BitlaneError, InternalError
from bitlane.exchange import Exchange
from bitlane.types import Accepted, Cancellation, Completion, Decision, Delta, Finished, TokenLogprobs

_INTERRUPTED = "INTERRUPTED"


class AsyncStream:
    """One reply as it is generated. Iterate over it for its deltas:

        async with client.stream("Tell me a story", model="smollm2") as stream:
            async for delta in stream:
                print(delta.text, end="", flush=True)
        print(stream.finished.receipt)

    The request is sent when the stream is first read. Leaving the `async with` block early, or `close`, ends the
    request at the server. Errors come out of whatever reads the stream; a broken connection is resumed silently.
    One task at a time may read it.
    """

    def __init__(
        self,
        exchange: Exchange,
        cancel: Callable[[], Awaitable[Cancellation]],
        cancel_quietly: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """`cancel_quietly` ends the request on close when no connection is left to cut; None: it is to go on."""
        self._exchange = exchange
        self._cancel = cancel
        self._cancel_quietly = cancel_quietly
        self._accepted: Accepted | None = None
        self._finished: Finished | None = None
        self._failure: BitlaneError | None = None
        self._closed = False
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprobs] = []

    @property
    def request_id(self) -> str:
        """Names the request for `resume` and `cancel`, known before it is sent."""
        return self._exchange.request_id

    @property
    def decision(self) -> Decision | None:
        """Which precision was chosen, and why. None until the first event; `accepted()` waits for it."""
        return self._accepted.decision if self._accepted else None

    @property
    def finished(self) -> Finished | None:
        """How the reply ended. None until its last delta was read; `result()` reads on to there."""
        return self._finished

    @property
    def next_index(self) -> int:
        """Where `resume` would continue."""
        return self._exchange.next_index

    @property
    def text(self) -> str:
        """The text that was read so far."""
        return "".join(self._texts)

    async def accepted(self) -> Accepted:
        """Waits until the server has stored the request and decided on its precision."""
        while self._accepted is None:
            self._check_readable()
            # The first event is `accepted`; should a delta come before it, it would be lost here.
            event = await self._next()
            if not isinstance(event, Accepted):
                self._fail(InternalError("the reply began without `accepted`", request_id=self.request_id))
        return self._accepted

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        delta = await self.next_delta()
        if delta is None:
            raise StopAsyncIteration
        return delta

    async def next_delta(self) -> Delta | None:
        """The next delta, or None at the end."""
        while self._finished is None and not self._closed:
            if self._failure is not None:
                raise self._failure
            try:
                event = await self._next()
            except Aborted:
                # Another task closed the stream while this one was reading: that is its end, not a fault.
                if self._closed:
                    return None
                raise
            if isinstance(event, Delta):
                return event
        return None

    async def result(self) -> Completion:
        """Reads to the end and returns the whole reply. Of a resumed stream: what came since its start index."""
        while await self.next_delta() is not None:
            pass
        self._check_readable()
        assert self._finished is not None
        return Completion(
            request_id=self.request_id,
            text=self.text,
            finish_reason=self._finished.reason,
            usage=self._finished.usage,
            receipt=self._finished.receipt,
            token_ids=tuple(self._token_ids),
            logprobs=tuple(self._logprobs),
        )

    async def cancel(self) -> Cancellation:
        """Ends the request. The stream then ends by itself, with FinishReason.CANCELLED; read on to see it."""
        return await self._cancel()

    async def close(self) -> None:
        """Stops reading. A request that has not ended is ended at the server, unless it has a `disconnect_grace`."""
        if self._closed:
            return
        self._closed = True
        self._exchange.leave()
        given_up = self._failure is not None and self._failure.reason != _INTERRUPTED
        if self._exchange.between_attempts and not given_up and self._cancel_quietly is not None:
            await self._cancel_quietly()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "finished" if self._finished else "failed" if self._failure else "closed" if self._closed else "open"
        return f"<{type(self).__name__} {self.request_id} {state}, next_index={self.next_index}>"

    async def _next(self) -> Accepted | Delta | Finished:
        try:
            event = await self._exchange.next()
        except BitlaneError as error:
            if not self._closed:
                self._fail(error)
            raise
        except BaseException:
            # Cancelled in the middle: a later read must not take the rest's absence for the end.
            if not self._closed:
                self._fail(Aborted("reading was interrupted", request_id=self.request_id, reason=_INTERRUPTED))
            raise
        match event:
            case Accepted():
                self._accepted = event
            case Delta():
                self._texts.append(event.text)
                self._token_ids.extend(event.token_ids)
                self._logprobs.extend(event.logprobs)
            case Finished():
                self._finished = event
        return event

    def _fail(self, error: BitlaneError) -> None:
        self._failure = error

    def _check_readable(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed and self._finished is None:
            raise RuntimeError("the stream was closed before its end")
