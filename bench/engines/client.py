"""Streams through the service, each over a connection of its own. A child of the benchmark, see `sender`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import cast

import uvloop

from bench.engines.load import prompts
from bench.engines.sender import serve
from bench.engines.stack import KEY, MODEL
from bitlane import AsyncClient, PrecisionName


async def main() -> None:
    target, pin, first = sys.argv[1], cast("PrecisionName", sys.argv[2]), int(sys.argv[3])
    clients: dict[int, AsyncClient] = {}
    texts = prompts(first)

    async def stream(number: int, tokens: int) -> AsyncIterator[int]:
        if number not in clients:
            clients[number] = AsyncClient(target, api_key=KEY, timeout=300)
        asked = clients[number].stream(next(texts), model=MODEL, pin=pin, max_tokens=tokens, temperature=0.0)
        async with asked as deltas:
            async for delta in deltas:
                yield len(delta.token_ids)

    await serve(stream, {"seconds": 0.0})
    await asyncio.gather(*(client.close() for client in clients.values()))


if __name__ == "__main__":
    uvloop.run(main())
