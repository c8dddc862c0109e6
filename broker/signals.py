"""What wakes a worker: work in its pool, and the end of what it works on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from broker import replies
from broker.blocking import BlockingCalls, pauses
from broker.types import BrokerUnavailable, LeaseEnded

_ENDINGS_AT_ONCE = 100
_ENDINGS_WAIT_S = 5.0


async def wait_for_any(shards: Sequence[BlockingCalls], bells: Sequence[str], wait_s: float) -> bool:
    """Waits up to `wait_s` seconds for one of the bells, one on each shard; False if the time ran out.

    Those that did not ring are left at once, by closing their connections: a token that reached one of them in that
    moment is lost, which does no harm, since the caller claims from all shards and that rings again.
    """
    wait_s = max(wait_s, 0.001)  # to BLPOP 0 means for ever
    rings = [
        asyncio.create_task(shard.run("BLPOP", bell, wait_s, wait_s=wait_s))
        for shard, bell in zip(shards, bells, strict=True)
    ]
    pending = set(rings)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            rung = [ring.result() is not None for ring in done]  # raises what any of them raised
            if any(rung):
                return True
        return False
    finally:
        for ring in rings:
            ring.cancel()
        await asyncio.gather(*rings, return_exceptions=True)


async def done_before(event: asyncio.Event, work: Awaitable[bool]) -> bool:
    """Waits for the work or the event; what the work returned, or False where the event came first and ended it."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        return working.done() and working.result()
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


async def read_endings(
    blocking: BlockingCalls, key: str, put: Callable[[LeaseEnded], Awaitable[None]], tried: asyncio.Event
) -> None:
    """Passes on what one shard's control list holds, until cancelled."""
    tried.set()
    pause = pauses()
    while True:
        try:
            reply = await blocking.run(
                "BLMPOP", _ENDINGS_WAIT_S, 1, key, "LEFT", "COUNT", _ENDINGS_AT_ONCE, wait_s=_ENDINGS_WAIT_S
            )
        except BrokerUnavailable:
            await asyncio.sleep(next(pause))
            continue
        pause = pauses()
        if reply is not None:
            for entry in replies.strings(replies.array(reply)[1]):
                await put(replies.lease_ended(entry))
