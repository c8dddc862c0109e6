"""Streams side by side, and what their times say. The same for an engine alone and for the whole service."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

Stream = Callable[[int, int], AsyncIterator[int]]
"""Of a stream's number and a count of tokens: one reply, as how many tokens each of its pieces has."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one process sends: `streams` callers, each of which asks `replies` times, one after the other.

    Times are those of `time.perf_counter`, which is one clock for all processes of a host. A caller begins `stagger_s`
    seconds after the one before it; with 0 all of them begin in the same instant, `at`.
    """

    streams: int
    tokens: int
    at: float = 0.0  # 0: now
    replies: int = 1
    stagger_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stamps:
    """One reply: when it was asked for, and when its first and its last token came."""

    asked: float
    first: float
    end: float
    tokens: int


async def run(stream: Stream, work: Work) -> list[Stamps]:
    """Sends it all and waits for the end."""
    at = work.at or time.perf_counter()

    async def caller(number: int) -> list[Stamps]:
        await asyncio.sleep(at + number * work.stagger_s - time.perf_counter())
        return [await _reply(stream, number, work.tokens) for _ in range(work.replies)]

    return [stamps for replies in await asyncio.gather(*map(caller, range(work.streams))) for stamps in replies]


async def _reply(stream: Stream, number: int, tokens: int) -> Stamps:
    asked = time.perf_counter()
    first, seen = 0.0, 0
    async for piece in stream(number, tokens):
        if not seen and piece:
            first = time.perf_counter()
        seen += piece
    return Stamps(asked, first, time.perf_counter(), seen)


@dataclass(frozen=True, slots=True)
class Burst:
    """Streams that began in one instant."""

    tokens_per_s: float
    first_p50_ms: float
    first_last_ms: float  # until the last of them had its first token
    whole_ms: float


def burst(stamps: Sequence[Stamps]) -> Burst:
    began = min(each.asked for each in stamps)
    firsts = [1000 * (each.first - began) for each in stamps]
    whole_s = max(each.end for each in stamps) - began
    tokens = sum(each.tokens for each in stamps)
    return Burst(tokens / whole_s, statistics.median(firsts), max(firsts), 1000 * whole_s)


@dataclass(frozen=True, slots=True)
class Steady:
    """Streams that came one by one, while all of them ran."""

    tokens_per_s: float
    first_p50_ms: float
    first_p99_ms: float


def steady(stamps: Sequence[Stamps], streams: int, replies: int) -> Steady:
    """Of callers with `replies` replies each, in their order: from the last one's beginning to the first one's end.

    The tokens of a reply count as if they came evenly.
    """
    callers = [stamps[at * replies : (at + 1) * replies] for at in range(streams)]
    begin = max(caller[0].first for caller in callers)
    end = min(caller[-1].end for caller in callers)
    tokens = sum(each.tokens * _share(each, begin, end) for each in stamps)
    firsts = sorted(1000 * (each.first - each.asked) for each in stamps if begin <= each.asked <= end)
    p99 = firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))]
    return Steady(tokens / (end - begin), statistics.median(firsts), p99)


def _share(reply: Stamps, begin: float, end: float) -> float:
    """Of a reply's tokens, those between two moments."""
    return max(0.0, min(end, reply.end) - max(begin, reply.first)) / max(1e-9, reply.end - reply.first)


_WORDS = ("light", "house", "water", "stone", "river", "green", "north", "paper", "music", "table")


def prompts(first: int) -> Iterator[str]:
    """Texts of about 128 tokens, none of which begins as another does, so that no prefix cache helps."""
    for number in count(first):
        picked = (_WORDS[(number * 7 + at * (number % 5 + 3)) % len(_WORDS)] for at in range(124))
        yield f"{number} {' '.join(picked)}"
