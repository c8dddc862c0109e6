"""TensorRT-LLM in the worker's process: the LLM API, `tensorrt_llm.LLM`.

It could not be installed where this was written (docs/engines.md): the adapter is held against a fake that keeps to the
documented API of 1.x. What to know of it: `generate_async` is no coroutine and yields one object that it changes with
each step; closing nothing aborts, `abort()` does.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from precision.decision import PriorityClass
from workers.engine import EngineDead, FinishReason, Load, TokenLogprobs
from workers.engines.driver import (
    DriverOptions,
    Order,
    OrderRefused,
    Started,
    Step,
    imported,
    require_version,
    seed_at,
)

_FLOOR = "1.0.0"
_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_PRIORITIES = {PriorityClass.INTERACTIVE: 0.9, PriorityClass.STANDARD: 0.5, PriorityClass.BATCH: 0.1}
"""From 0 to 1, higher is sooner."""


class TensorRtLlmDriver:
    """See `workers.engines.driver.Driver`."""

    def __init__(self, options: DriverOptions) -> None:
        """Raises ValueError for engine arguments that this adapter does not allow."""
        if options.engine_args.get("trust_remote_code"):
            raise ValueError("engine_args: trust_remote_code runs a checkpoint's code and is not allowed")
        self._options = options
        self._llm: Any = None
        self._running = 0

    async def start(self, lost: Callable[[str], None]) -> Started:
        del lost
        version = require_version("tensorrt_llm", _FLOOR, "the LLM API is stable from it on")
        options = self._options
        args: dict[str, Any] = {
            "model": options.model,
            "max_batch_size": options.slots,
            **({"max_seq_len": options.context_tokens} if options.context_tokens else {}),
            **options.engine_args,
        }
        if isinstance(cache := args.get("kv_cache_config"), dict):
            args["kv_cache_config"] = imported("tensorrt_llm.llmapi", "KvCacheConfig")(**cache)
        self._llm = await asyncio.to_thread(imported("tensorrt_llm", "LLM"), **args)
        return Started(version, int(args.get("max_seq_len") or 0))

    async def generate(self, order: Order) -> AsyncGenerator[Step]:
        try:
            result = self._llm.generate_async(
                list(order.prompt),
                self._params(order),
                lora_request=self._lora(),
                streaming=True,
                trace_headers=dict(order.trace) or None,
                priority=_PRIORITIES[order.priority],
            )
        except ValueError as error:
            if order.guided is not None:
                raise OrderRefused("guided", "the engine cannot follow this schema or expression") from error
            raise
        seen = 0
        self._running += 1
        try:
            async for output in result:
                completion = output.outputs[0]
                reason = completion.finish_reason
                if reason is not None and reason not in _REASONS:
                    raise RuntimeError(f"TensorRT-LLM ended the request: {reason}")
                # The lists grow in place, and several steps may have come: what is new lies after what was seen.
                tokens = tuple(completion.token_ids[seen:])
                logprobs = _logprobs(tokens, completion.logprobs, seen, order.sampling.logprobs)
                seen += len(tokens)
                ended = _REASONS[reason] if reason is not None else None
                yield Step(tokens, logprobs, ended, int(getattr(output, "cached_tokens", 0) or 0))
        finally:
            self._running -= 1
            if not result.finished:
                result.abort()

    def _params(self, order: Order) -> Any:
        sampling = order.sampling
        ends = sorted(order.ends)
        guide: dict[str, Any] = {}
        if order.guided is not None:
            kind, text = order.guided
            name = "json" if kind == "json_schema" else "regex"
            guide["guided_decoding"] = imported("tensorrt_llm.llmapi", "GuidedDecodingParams")(**{name: text})
        return imported("tensorrt_llm", "SamplingParams")(
            end_id=ends[0] if ends else -1,
            pad_id=ends[0] if ends else 0,
            stop_token_ids=ends[1:] or None,
            max_tokens=order.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k if sampling.temperature > 0 else 1,
            seed=seed_at(sampling.seed, order.place),
            logprobs=None if sampling.logprobs is None else max(1, sampling.logprobs),
            detokenize=False,
            **guide,
        )

    def _lora(self) -> Any:
        options = self._options
        if not options.lora_name:
            return None
        return imported("tensorrt_llm.executor", "LoRARequest")(options.lora_name, 1, options.lora_path)

    async def health(self) -> None:
        # What its own server asks for /health.
        if not self._llm._check_health():
            raise EngineDead("TensorRT-LLM's executor stopped")

    def load(self) -> Load | None:
        return Load(self._running)

    async def close(self) -> None:
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)


def _logprobs(
    tokens: Sequence[int], every: Sequence[Mapping[int, Any]] | None, first: int, wanted: int | None
) -> tuple[TokenLogprobs, ...]:
    """One entry a token: a mapping of ids to objects with `logprob`, the chosen token's among them."""
    if wanted is None or not every:
        return ()
    entries: list[TokenLogprobs] = []
    for token, candidates in zip(tokens, every[first:], strict=False):
        best = sorted(candidates.items(), key=lambda item: item[1].logprob, reverse=True)
        top = tuple((int(id_), float(item.logprob)) for id_, item in best[:wanted])
        entries.append(TokenLogprobs(float(candidates[token].logprob), top))
    return tuple(entries)
