"""A mock model server that all routers can use: `python -m bench.peers.upstream --token-ms 5`.

Speaks OpenAI's API as vLLM and SGLang do, streamed and whole, by chat and by text, and answers what routers ask of such
a server before they send it work. Computes nothing: token i is a word of its own, sent when its time has come, each in
a write of its own, as engines do.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping

import orjson
import uvloop

from bench.peers.http import MOST, BadHttp, Head, read_head
from precision.untyped import mapping

MODEL = "smollm2"
_CONTEXT_TOKENS = 100_000
_JSON, _EVENTS = b"application/json", b"text/event-stream"
_MODEL_INFO = {"model_path": MODEL, "is_generation": True}
_SERVER_INFO = {"model_path": MODEL, "served_model_name": MODEL}
_ABOUT: Mapping[str, object] = {
    "/v1/models": {
        "object": "list",
        "data": [{"id": MODEL, "object": "model", "owned_by": "bench", "max_model_len": _CONTEXT_TOKENS}],
    },
    "/version": {"version": "1"},
    "/model_info": _MODEL_INFO,
    "/get_model_info": _MODEL_INFO,
    "/server_info": _SERVER_INFO,
    "/get_server_info": _SERVER_INFO,
}


def word(i: int) -> str:
    """Token i."""
    return f"{' ' if i else ''}w{i}"


def event(i: int, chat: bool, *, ended: bool = False) -> bytes:
    """One event of a stream, framed as a chunk: token i, or, when it has ended, the reason."""
    text = "" if ended else word(i)
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": "length" if ended else None}
    if chat:
        choice["delta"] = {"role": "assistant", "content": text} if i == 0 else {"content": text}
    else:
        choice["text"] = text
    return _chunk(b"data: " + orjson.dumps(_envelope(chat, "chunk" if chat else "", choice)) + b"\n\n")


def whole(tokens: int, chat: bool) -> bytes:
    """The body of a reply that is not streamed."""
    text = "".join(map(word, range(tokens)))
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": "length"}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return orjson.dumps(_envelope(chat, "", choice) | {"usage": _usage(tokens)})


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": tokens + 8}


def _envelope(chat: bool, suffix: str, choice: Mapping[str, object] | None) -> dict[str, object]:
    kind = "chat.completion" if chat else "text_completion"
    return {
        "id": "cmpl-1",
        "object": f"{kind}.{suffix}" if suffix else kind,
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [] if choice is None else [choice],
    }


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Upstream:
    """Answers all connections alike."""

    def __init__(self, token_ms: float) -> None:
        self._gap_s = token_ms / 1000
        # Made once: serializing them again and again would cost more than sending them.
        self._events = {chat: [event(i, chat) for i in range(512)] for chat in (False, True)}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as the other side keeps it."""
        try:
            while (head := await read_head(reader)) is not None:
                body = await reader.readexactly(head.length)
                await self._answer(head, body, writer)
        except (BadHttp, ConnectionError, asyncio.IncompleteReadError):
            pass  # routers drop the connections of streams that were left
        finally:
            writer.close()

    async def _answer(self, head: Head, body: bytes, writer: asyncio.StreamWriter) -> None:
        method, path, _ = head.start.split(" ", 2)
        if method == "POST" and path in {"/v1/chat/completions", "/v1/completions"}:
            await self._generate(orjson.loads(body), path == "/v1/chat/completions", writer)
        elif path.startswith("/health"):
            writer.write(_response(b"200 OK", b"{}"))
        elif path in _ABOUT:
            writer.write(_response(b"200 OK", orjson.dumps(_ABOUT[path])))
        else:
            writer.write(_response(b"404 Not Found", b'{"error": {"message": "no such path"}}'))

    async def _generate(self, wanted: Mapping[str, object], chat: bool, writer: asyncio.StreamWriter) -> None:
        tokens = wanted.get("max_tokens") or wanted.get("max_completion_tokens")
        assert isinstance(tokens, int)
        if not wanted.get("stream"):
            await asyncio.sleep(self._gap_s * (tokens - 1))
            writer.write(_response(b"200 OK", whole(tokens, chat)))
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n" % _EVENTS)
        for i in range(tokens):
            if i:
                await asyncio.sleep(self._gap_s)
            if writer.is_closing():
                raise ConnectionResetError
            writer.write(self._events[chat][i])
        writer.write(event(tokens, chat, ended=True))
        if mapping(wanted.get("stream_options")).get("include_usage"):
            usage = _envelope(chat, "chunk" if chat else "", None) | {"usage": _usage(tokens)}
            writer.write(_chunk(b"data: " + orjson.dumps(usage) + b"\n\n"))
        writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def _response(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (status, _JSON, len(body), body)


async def _serve(token_ms: float) -> None:
    server = await asyncio.start_server(Upstream(token_ms).serve, "127.0.0.1", 0, limit=MOST)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"event": "bench.ready", "port": port}), file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--token-ms", type=float, default=0.0)
    uvloop.run(_serve(parser.parse_args().token_ms))
