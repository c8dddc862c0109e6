"""Dead letters of all shards in one order, by time. A letter's id is its entry's in the stream, and the shard."""

import asyncio
import re
from collections.abc import Mapping, Sequence

from broker import keys, replies
from broker.pages import read_page
from broker.pipeline import Pipeline
from broker.types import DeadLetter, Page

_LETTER_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})-([0-9]{1,4})")


async def read_letters(
    shards: Mapping[int, Pipeline], limit: int, tenant: str | None, before_id: str
) -> Page[DeadLetter]:
    """See `broker.Broker.dead_letters`."""

    async def read(position: str, count: int) -> Sequence[DeadLetter]:
        before = _order(position) if position else None
        answers = await asyncio.gather(
            *(
                pipeline.command("XREVRANGE", keys.dead(shard), _start(shard, before), "-", "COUNT", count)
                for shard, pipeline in shards.items()
            )
        )
        letters = [
            replies.dead_letter(entry, shard)
            for shard, answer in zip(shards, answers, strict=True)
            for entry in replies.array(answer)
        ]
        return sorted(letters, key=lambda letter: _order(letter.letter_id), reverse=True)[:count]

    return await read_page(
        read, lambda letter: letter.letter_id, lambda letter: tenant in (None, letter.ref.tenant), limit, before_id
    )


def _order(letter_id: str) -> tuple[int, int, int]:
    """Time in ms, number within the ms, shard."""
    match = _LETTER_ID.fullmatch(letter_id)
    if match is None:
        raise ValueError(f"before_id {letter_id[:64]!r} is no letter's: use the cursor of a page")
    return int(match[1]), int(match[2]), int(match[3])


def _start(shard: int, before: tuple[int, int, int] | None) -> str:
    """Where to start reading a shard's stream backwards."""
    if before is None:
        return "+"
    return f"{'' if shard < before[2] else '('}{before[0]}-{before[1]}"
