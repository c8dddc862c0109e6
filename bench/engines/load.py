"""Streams side by side, and how long they took."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count

Stream = Callable[[int, int], AsyncIterator[int]]
"""Of a number and a count of tokens: yields how many tokens each piece of its reply has."""


@dataclass(frozen=True, slots=True)
class Run:
    """Some streams at once. Times to the first token are in milliseconds."""

    streams: int
    tokens_per_s: float
    first_p50_ms: float
    first_p99_ms: float
    tokens: int

    def as_json(self) -> dict[str, float]:
        return asdict(self)


async def run(stream: Stream, streams: int, tokens: int) -> Run:
    """Starts them together and waits for all."""
    began = time.perf_counter()
    firsts: list[float] = []

    async def one(number: int) -> int:
        seen = 0
        async for piece in stream(number, tokens):
            if not seen and piece:
                firsts.append(1000 * (time.perf_counter() - began))
            seen += piece
        return seen

    counts = await asyncio.gather(*(one(number) for number in range(streams)))
    took = time.perf_counter() - began
    firsts.sort()
    p99 = firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))]
    return Run(streams, sum(counts) / took, statistics.median(firsts), p99, sum(counts))


async def first_tokens(stream: Stream, requests: int) -> list[float]:
    """Milliseconds to the first token of requests that come one after the other."""
    firsts: list[float] = []
    for number in range(requests):
        began = time.perf_counter()
        seen = False
        async for piece in stream(number, 4):
            if piece and not seen:
                firsts.append(1000 * (time.perf_counter() - began))
                seen = True
    return firsts


_WORDS = ("light", "house", "water", "stone", "river", "green", "north", "paper", "music", "table")


def prompts(first: int) -> Iterator[str]:
    """Texts of about 128 tokens, none of which begins as another does, so that no prefix cache helps."""
    for number in count(first):
        picked = (_WORDS[(number * 7 + at * (number % 5 + 3)) % len(_WORDS)] for at in range(124))
        yield f"{number} {' '.join(picked)}"
