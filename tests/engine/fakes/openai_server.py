"""A small OpenAI-compatible server that recites (see `fake_core`): `python openai_server.py FOLDER SLOTS CONTEXT`.

It speaks real HTTP, as the API is documented: completions and chat completions as server-sent events, usage with the
last event before [DONE], errors as JSON with a status; with vLLM's `return_token_ids`, `stop_token_ids` and /metrics.
It prints its port when it listens.
"""

import asyncio
import codecs
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from fake_core import Core, Request

from workers.engine import Message
from workers.engines.vocabulary import Vocabulary
from workers.text import TextStream

MODEL = "recital"


class Server:
    def __init__(self, folder: str, slots: int, context: int) -> None:
        self._vocabulary = Vocabulary(Path(folder))
        self._folder = folder
        self._context = context
        (end,) = self._vocabulary.ends
        self._core = Core(folder, slots, end, lambda: None)
        self._number = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/health", lambda _: _answer(web.Response()))
        app.router.add_get("/version", lambda _: _answer(web.json_response({"version": "1.2.3"})))
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _models(self, _: web.Request) -> web.Response:
        entry = {"id": MODEL, "object": "model", "max_model_len": self._context, "root": self._folder}
        return web.json_response({"object": "list", "data": [entry]})

    async def _metrics(self, _: web.Request) -> web.Response:
        core = self._core
        lines = [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            f'vllm:num_requests_running{{engine="0",model_name="{MODEL}"}} {float(len(core.running))}',
            f'vllm:num_requests_waiting{{engine="0",model_name="{MODEL}"}} {float(len(core.waiting))}',
            f'vllm:kv_cache_usage_perc{{engine="0",model_name="{MODEL}"}} 0.125',
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt: Any = body["prompt"]
        ids: list[int] = self._vocabulary.encode(prompt) if isinstance(prompt, str) else list(prompt)
        return await self._stream(request, body, ids, chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        turns = [Message(turn["role"], turn["content"]) for turn in body["messages"]]
        begun = turns.pop() if turns[-1].role == "assistant" else None
        if begun is not None and (body.get("add_generation_prompt", True) or not body.get("continue_final_message")):
            return _error(400, "Cannot set both add_generation_prompt and continue_final_message")
        ids = self._vocabulary.chat(turns) + (self._vocabulary.encode(begun.content) if begun else [])
        return await self._stream(request, body, ids, chat=True)

    async def _stream(
        self, request: web.Request, body: Mapping[str, Any], ids: list[int], *, chat: bool
    ) -> web.StreamResponse:
        if body.get("model") != MODEL:
            return _error(404, f"The model `{body.get('model')}` does not exist.")
        if not body.get("stream"):
            return _error(400, "only streams")
        if len(ids) + body["max_tokens"] > self._context and len(ids) >= self._context:
            return _error(400, f"This model's maximum context length is {self._context} tokens. Your prompt: {body}")
        if "unbalanced(" in json.dumps(body.get("structured_outputs", "")):
            return _error(400, "Invalid regex unbalanced(")
        if body.get("temperature") and "fail please" in str(body.get("prompt")):
            return _error(500, f"Internal error at {body['prompt']}")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue: asyncio.Queue[tuple[int, str | None]] = asyncio.Queue()
        self._number += 1
        name = f"cmpl-{self._number}"
        limit = min(body["max_tokens"], self._context - len(ids))
        self._core.add(
            Request(
                name,
                list(ids),
                limit,
                lambda token, reason: queue.put_nowait((token, reason)),
                seed=body.get("seed", 0) if body.get("temperature", 1.0) > 0 else None,
                ends=frozenset(body.get("stop_token_ids") or ()) | self._vocabulary.ends,
                ignore_end=bool(body.get("ignore_eos")),
            )
        )
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        stop = TextStream(body.get("stop") or ())
        count = 0
        try:
            reason = None
            while reason is None:
                token, reason = await queue.get()
                count += 1
                text = stop.push(decoder.decode(self._vocabulary.token_bytes(token), final=reason is not None))
                if stop.stopped:
                    reason = "stop"
                elif reason:
                    text += stop.flush()
                choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
                if chat:
                    choice["delta"] = {"content": text} if text else {}
                else:
                    choice["text"] = text
                if body.get("return_token_ids"):
                    choice["token_ids"] = [token]
                if body.get("logprobs") is not None:
                    choice["logprobs"] = {"tokens": ["?"], "token_logprobs": [-0.25], "top_logprobs": None}
                if text or reason or body.get("return_token_ids"):
                    await _event(response, {"id": name, "object": "text_completion", "choices": [choice]})
            options: Any = body.get("stream_options") or {}
            if options.get("include_usage"):
                usage = {
                    "prompt_tokens": len(ids),
                    "completion_tokens": count,
                    "total_tokens": len(ids) + count,
                    "prompt_tokens_details": {"cached_tokens": 2},
                }
                await _event(response, {"id": name, "choices": [], "usage": usage})
            await response.write(b"data: [DONE]\n\n")
        finally:
            self._core.abort(name)
        return response


async def _event(response: web.StreamResponse, event: Mapping[str, object]) -> None:
    # A comment between events is allowed, and servers keep connections alive so.
    await response.write(b": ping\n\ndata: " + json.dumps(event).encode() + b"\n\n")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "BadRequestError", "code": status}}, status=status)


async def _answer(response: web.Response) -> web.Response:
    return response


async def main() -> None:
    server = Server(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
