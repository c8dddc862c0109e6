"""One claimed request on its way through a worker: what came from the engine and is not yet in the token log."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from broker.client import Broker
from broker.types import BrokerUnavailable, Claim, Held, Outcome, Usage
from workers.convert import chunk_to_bytes
from workers.engine import Delta, TokenLogprobs


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

    def __init__(self, broker: Broker, claim: Claim, logged_tokens: int) -> None:
        self.lease = claim.lease
        self.attempt = claim.attempt
        self.held = Held.YES
        self.renewed_at = asyncio.get_running_loop().time()  # loop time at which we surely held the lease
        self._broker = broker
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
        if delta.text:
            self._pending.text.append(delta.text)
        self._pending.token_ids.extend(delta.token_ids)
        self._pending.logprobs.extend(delta.logprobs)
        self._pending.unnamed_tokens += delta.unnamed_tokens
        self._prompt_tokens = self._prompt_tokens or delta.prompt_tokens
        self._cached_prompt_tokens = max(self._cached_prompt_tokens, delta.cached_prompt_tokens)

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

    async def release(self, *, failed: bool, detail: str = "") -> None:
        """Gives the request back; what is pending is dropped, for the next worker computes it again."""
        async with self._lock:
            if self.held is Held.YES:
                await self._until_answered(lambda: self._broker.release(self.lease, failed, detail))
                self.held = Held.FENCED

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
                self.renewed_at = asyncio.get_running_loop().time()
                return held
