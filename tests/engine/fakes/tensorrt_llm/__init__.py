"""A fake of TensorRT-LLM 1.x's LLM API that keeps to its documentation, as far as the adapter uses it."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fake_core import Core, Request

__version__ = "1.2.0"


@dataclass(kw_only=True)
class SamplingParams:
    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int = 32
    stop_token_ids: list[int] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    logprobs: int | None = None
    detokenize: bool = True
    guided_decoding: Any = None


class RequestOutput:
    """One object that grows: awaitable, and an iterator that yields itself."""

    def __init__(self, llm: "LLM", id_: int, prompt: list[int], wants: int | None) -> None:
        self.request_id = id_
        self.prompt_token_ids = prompt
        self.outputs = [SimpleNamespace(token_ids=[], text="", finish_reason=None, logprobs=[])]
        self.cached_tokens = 2
        self._llm = llm
        self._wants = wants
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._done = False
        self._aborted = False

    @property
    def finished(self) -> bool:
        return self._done

    def abort(self) -> None:
        self._llm.core.abort(str(self.request_id))
        self._aborted = True

    def aborted(self) -> bool:
        return self._aborted

    def __aiter__(self) -> "RequestOutput":
        return self

    async def __anext__(self) -> "RequestOutput":
        if self._done:
            raise StopAsyncIteration
        token, reason = await self._queue.get()
        completion = self.outputs[0]
        completion.token_ids.append(token)
        if self._wants:
            others = {other: SimpleNamespace(logprob=-2.0 - other) for other in range(3, 2 + self._wants)}
            completion.logprobs.append({token: SimpleNamespace(logprob=-0.25), **others})
        self._done = reason is not None
        completion.finish_reason = reason
        return self

    def put(self, token: int, reason: str | None) -> None:
        self._queue.put_nowait((token, reason))


class LLM:
    last: "LLM"

    def __init__(self, model: str, **kwargs: Any) -> None:
        config = json.loads((Path(model) / "config.json").read_text())
        self.args = kwargs
        self.core = Core(model, kwargs.get("max_batch_size", 16), config["eos_token_id"], lambda: None)
        self.seen: list[dict[str, Any]] = []
        self._next = 0
        LLM.last = self

    def generate_async(
        self,
        inputs: list[int],
        sampling_params: SamplingParams,
        lora_request: Any = None,
        streaming: bool = False,
        trace_headers: Mapping[str, str] | None = None,
        priority: float = 0.5,
    ) -> RequestOutput:
        assert streaming
        asyncio.get_running_loop()
        params = sampling_params
        if params.guided_decoding is not None and "unbalanced(" in str(params.guided_decoding):
            raise ValueError("Invalid grammar unbalanced(")
        self.seen.append({"params": params, "lora": lora_request, "trace": trace_headers, "priority": priority})
        self._next += 1
        result = RequestOutput(self, self._next, inputs, params.logprobs)
        ignore = params.end_id == -1
        self.core.add(
            Request(
                str(self._next),
                list(inputs),
                params.max_tokens,
                result.put,
                seed=params.seed if params.temperature else None,
                ends=frozenset({params.end_id or 0, *(params.stop_token_ids or ())}),
                ignore_end=ignore,
            )
        )
        return result

    def _check_health(self) -> bool:
        return self.core.lives

    def shutdown(self) -> None:
        self.core.close()
