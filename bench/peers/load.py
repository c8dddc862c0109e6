"""The client over HTTP, in a process of its own: `python -m bench.peers.load JSON`. As bench.service.load is over gRPC.

Closed loop: `at_once` callers with a connection each. Reads no more than it must: a client that costs more than the
router would hide what the router can do.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict

import orjson
import uvloop

from bench.peers.http import MOST, BadHttp, Chunks, read_head
from bench.peers.upstream import MODEL
from bench.service.load import Seen, Work, prompt_of

KEY = "sk-bench"


async def run(work: Work) -> Seen:
    """Sends it all."""
    seen = Seen()
    numbers = iter(range(work.requests))
    callers = await asyncio.gather(*(_Caller.connected(work, seen) for _ in range(work.at_once)))
    gc.collect()
    gc.freeze()
    began, cpu = time.perf_counter(), time.process_time()

    async def call(caller: _Caller) -> None:
        for number in numbers:
            try:
                await caller.ask(number)
            except (BadHttp, OSError, asyncio.IncompleteReadError) as error:
                what = str(error) or type(error).__name__
                seen.wrong[what] = seen.wrong.get(what, 0) + 1
                await caller.connect()

    await asyncio.gather(*map(call, callers))
    seen.seconds, seen.cpu_s = time.perf_counter() - began, time.process_time() - cpu
    for caller in callers:
        caller.close()
    return seen


class _Caller:
    """Asks one request after the other on one connection."""

    def __init__(self, work: Work, seen: Seen) -> None:
        self._work = work
        self._seen = seen

    @classmethod
    async def connected(cls, work: Work, seen: Seen) -> "_Caller":
        caller = cls(work, seen)
        await caller.connect()
        return caller

    async def connect(self) -> None:
        host, _, port = self._work.target.rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port), limit=MOST)

    def close(self) -> None:
        self._writer.close()

    async def ask(self, number: int) -> None:
        """Raises BadHttp for an answer that is none, and OSError."""
        work, seen = self._work, self._seen
        body = orjson.dumps(
            {
                "model": MODEL,
                "messages": [{"role": "user", "content": prompt_of(work, number)}],
                "max_tokens": work.tokens,
                "stream": work.stream,
            }
        )
        began = time.perf_counter()
        self._writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (KEY.encode(), len(body), body)
        )
        head = await read_head(self._reader)
        if head is None or " 200 " not in f"{head.start} ":
            raise BadHttp("no answer" if head is None else head.start)
        if work.stream:
            if not head.chunked:
                raise BadHttp("a stream that is not chunked")
            await self._read_stream(began)
        else:
            reply = orjson.loads(await _body(self._reader, head.chunked, head.length))
            seen.first_s.append(time.perf_counter() - began)
            seen.tokens += len(reply["choices"][0]["message"]["content"].split())
        seen.whole_s.append(time.perf_counter() - began)

    async def _read_stream(self, began: float) -> None:
        seen, chunks = self._seen, Chunks()
        rest, first, done = b"", True, False
        while not chunks.ended:
            data = await self._reader.read(MOST)
            if not data:
                raise BadHttp("the stream ended within a reply")
            *events, rest = (rest + chunks.feed(data)).split(b"\n\n")
            words = 0
            for event in events:
                if event == b"data: [DONE]":
                    done = True
                elif event.startswith(b"data: "):
                    words += _words(orjson.loads(event[6:]))
            if words:
                if first:
                    seen.first_s.append(time.perf_counter() - began)
                    first = False
                seen.messages += 1
                seen.tokens += words
                if self._work.cancel:
                    self._writer.close()
                    await self.connect()
                    return
        if not done:
            raise BadHttp("a stream without [DONE]")


def _words(event: Mapping[str, list[Mapping[str, Mapping[str, str]]]]) -> int:
    return sum(len((choice["delta"].get("content") or "").split()) for choice in event["choices"])


async def _body(reader: asyncio.StreamReader, chunked: bool, length: int) -> bytes:
    if not chunked:
        return await reader.readexactly(length)
    chunks, found = Chunks(), b""
    while not chunks.ended:
        found += chunks.feed(await reader.read(MOST))
    return found


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(Work(**json.loads(sys.argv[1])))))))
