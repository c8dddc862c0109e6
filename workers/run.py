"""One claimed request on its way through a worker: what came from the engine and is not yet in the token log."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from broker.client import Broker
from broker.types import BrokerUnavailable, Claim, Held, Outcome, Usage
from telemetry.attempts import FAILED, LOST, RELEASED, Attempt
from workers.convert import chunk_to_bytes
from workers.engine import Delta, TokenLogprobs

# A request that is ended so close to its deadline met it.
_CLOSE_S = 0.05


@dataclass(slots=True)
class _Pending:
    """Tokens that wait for the next flush."""

    text: list[str] = field(default_factory=list[str])
    token_ids: list[int] = field(default_factory=list[int])
    logprobs: list[TokenLogprobs] = field(default_factory=list[TokenLogprobs])
    unnamed_tokens: int = 0

    def __bool__(self) -> bool:
        return bool(self.token_ids or self.text or self.unnamed_tokens)


class Run:
    """Writes the reply of one request to the token log, each chunk once, under its lease.

    A chunk whose fate is unknown, because the broker did not answer, is sent again byte for byte and never merged with
    newer tokens: so the broker can tell a repeat from a second chunk.
    """

    def __init__(self, broker: Broker, claim: Claim, logged_tokens: int, told: Attempt) -> None:
        """`told` is told how the attempt goes."""
        self.lease = claim.lease
        self.attempt = claim.attempt
        self.held = Held.YES
        self.got_on = False  # whether a chunk of this attempt is in the log
        self.renewed_at = asyncio.get_running_loop().time()  # loop time at which we surely held the lease
        self._broker = broker
        self._told = told
        self._deadline = None if claim.remaining_ms is None else self.renewed_at + claim.remaining_ms / 1000
        self._began = False  # whether the engine gave anything
        self._generated_tokens = 0
        self._output_tokens = logged_tokens  # in the log, with those of earlier attempts
        self._prompt_tokens = 0
        self._cached_prompt_tokens = 0
        self._next_index = len(claim.chunks)
        self._pending = _Pending()
        self._lock = asyncio.Lock()  # one write at a time, in order

    @property
    def pending(self) -> bool:
        """Whether tokens wait for a flush."""
        return bool(self._pending)

    @property
    def writing(self) -> bool:
        """Whether a write is under way."""
        return self._lock.locked()

    def add(self, delta: Delta) -> None:
        """Takes what the engine yielded."""
        pending, tokens = self._pending, delta.tokens
        if not self._began and (tokens or delta.text):
            self._began = True
            self._told.first_token()
        self._generated_tokens += tokens
        if delta.text:
            pending.text.append(delta.text)
        pending.token_ids.extend(delta.token_ids)
        if delta.logprobs:
            pending.logprobs.extend(delta.logprobs)
        pending.unnamed_tokens += delta.unnamed_tokens
        self._prompt_tokens = self._prompt_tokens or delta.prompt_tokens
        if delta.cached_prompt_tokens > self._cached_prompt_tokens:
            self._cached_prompt_tokens = delta.cached_prompt_tokens

    async def flush(self) -> None:
        """Logs what is pending, as one chunk. Afterwards `held` says whether to go on."""
        async with self._lock:
            if not self._pending or self.held is not Held.YES:
                return
            chunk, tokens = self._take()
            self.held = await self._until_answered(
                lambda: self._broker.append(
                    self.lease, self._next_index, chunk, tokens, self._prompt_tokens, self._cached_prompt_tokens
                )
            )
            self.got_on = self.got_on or self.held is Held.YES
            self._next_index += 1
            self._output_tokens += tokens

    async def renew(self) -> None:
        """Keeps the lease while there is nothing to log."""
        async with self._lock:
            if self.held is Held.YES:
                self.held = await self._until_answered(lambda: self._broker.renew(self.lease))

    async def finish(self, outcome: Outcome, detail: str = "") -> None:
        """Logs what is pending and ends the request, in one step."""
        async with self._lock:
            if self.held is not Held.YES:
                return
            chunk, tokens = self._take() if self._pending else (None, 0)
            usage = Usage(self._prompt_tokens, self._cached_prompt_tokens, self._output_tokens + tokens)
            self.held = await self._until_answered(
                lambda: self._broker.finish(self.lease, self._next_index, chunk, tokens, outcome, detail, usage)
            )
            if self.held is Held.YES:
                self.tell_end(outcome.value)

    async def release(self, *, failed: bool, detail: str = "", shared: bool = False) -> None:
        """Gives the request back; what is pending is dropped, for the next worker computes it again.

        `shared`: all that ran here failed with it.
        """
        async with self._lock:
            if self.held is Held.YES:
                self.tell_end(FAILED if failed else RELEASED)
                await self._until_answered(lambda: self._broker.release(self.lease, failed, detail, shared=shared))
                self.held = Held.FENCED

    def lose(self) -> None:
        """Takes note that the request is another attempt's."""
        self.held = Held.FENCED

    def tell_end(self, outcome: str, error: str = "") -> None:
        """Tells telemetry how the attempt ended; only the first time counts. `error` is the class of an exception."""
        self._told.end(
            outcome,
            prompt_tokens=self._prompt_tokens,
            cached_prompt_tokens=self._cached_prompt_tokens,
            generated_tokens=self._generated_tokens,
            error=error,
        )

    def tell_if_taken_away(self) -> None:
        """Tells the end of an attempt whose request was ended by somebody else, or is another attempt's."""
        if self.held is Held.YES:
            return
        # Whoever ends a request, or takes it from us, does not say why; the clock does.
        now = asyncio.get_running_loop().time()
        if self.held is Held.FENCED or now > self.renewed_at + self._broker.options.lease_ms / 1000:
            self.tell_end(LOST)
        elif self._deadline is not None and now > self._deadline - _CLOSE_S:
            self.tell_end(Outcome.DEADLINE.value)
        else:
            self.tell_end(Outcome.CANCELLED.value)

    def _take(self) -> tuple[bytes, int]:
        pending, self._pending = self._pending, _Pending()
        chunk = chunk_to_bytes("".join(pending.text), pending.token_ids, pending.logprobs, pending.unnamed_tokens)
        return chunk, len(pending.token_ids) + pending.unnamed_tokens

    async def _until_answered(self, call: Callable[[], Awaitable[Held]]) -> Held:
        """Repeats a call until the broker answers: it either did it, or says that the lease is lost."""
        delay = 0.05
        while True:
            try:
                held = await call()
            except BrokerUnavailable:
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))
                delay = min(1.0, delay * 2)
            else:
                if held is Held.FENCED:
                    self._told.fenced()
                self.renewed_at = asyncio.get_running_loop().time()
                return held
