"""A client that opens streams, says so on its standard output, and reads on until it is killed.

`python -m tests.chaos.client_to_kill TARGET KEY PREFIX STREAMS`: requests PREFIX-0, PREFIX-1, ...
"""

import asyncio
import sys

import bitlane


async def main(target: str, key: str, prefix: str, streams: int) -> None:
    async with bitlane.AsyncClient(target, api_key=key) as client:
        opened = [
            client.stream(f"{prefix} {i}", model="smollm2", pin="fp8", max_tokens=2000, request_id=f"{prefix}-{i}")
            for i in range(streams)
        ]
        await asyncio.gather(*(stream.accepted() for stream in opened))
        sys.stdout.write("open\n")
        sys.stdout.flush()
        await asyncio.gather(*(stream.result() for stream in opened))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
