"""vLLM in the worker's process: `vllm.v1.engine.async_llm.AsyncLLM`.

Version 0.26.0 was used; 0.18.0 is the floor, for CVE-2026-27893. Its engine core runs in child processes that speak
ZeroMQ on loopback. Remote code of a checkpoint is never run.
"""

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from workers.engine import EngineDead, FinishReason, Load, TokenLogprobs
from workers.engines.driver import DriverOptions, Order, OrderRefused, Started, Step, imported, require_version, seed_at

_FLOOR = "0.18.0"
_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class VllmDriver:
    """See `workers.engines.driver.Driver`."""

    def __init__(self, options: DriverOptions) -> None:
        """Raises ValueError for engine arguments that this adapter does not allow."""
        if options.engine_args.get("trust_remote_code"):
            raise ValueError("engine_args: trust_remote_code runs a checkpoint's code and is not allowed")
        self._options = options
        self._engine: Any = None
        self._api: Any = None
        self._stats = _Stats()
        self._orders = 0
        self._by_priority = options.engine_args.get("scheduling_policy") == "priority"

    async def start(self, lost: Callable[[str], None]) -> Started:
        version = require_version("vllm", _FLOOR, "CVE-2026-27893")
        # Its own usage reports would leave the host.
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        self._api = _Api()
        options = self._options
        args: dict[str, Any] = {
            "model": options.model,
            "max_num_seqs": options.slots,
            "enable_log_requests": False,  # it would log prompts
            **({"max_model_len": options.context_tokens} if options.context_tokens else {}),
            **({"enable_lora": True} if options.lora_name else {}),
            **options.engine_args,
        }
        made = self._api.AsyncEngineArgs(**args)
        # Statistics cost a few hundred microseconds a step; without them, nobody knows the engine's own queue.
        stats = [] if args.get("disable_log_stats") else [self._stats.logger(self._api.StatLoggerBase)]
        # Here and not in a thread: it binds its sockets to the running loop. Signals wait until the model is loaded.
        made.disable_log_stats = True  # the stat logger above is not affected
        self._engine = self._api.AsyncLLM.from_engine_args(made, stat_loggers=stats or None)
        return Started(version, int(self._engine.model_config.max_model_len))

    async def generate(self, order: Order) -> AsyncGenerator[Step]:
        api = self._api
        self._orders += 1
        try:
            stream = self._engine.generate(
                {"prompt_token_ids": list(order.prompt)},
                self._params(order),
                order.id,
                lora_request=self._lora(),
                trace_headers=order.trace or None,
                # Lower is sooner, as in our classes.
                priority=int(order.priority) if self._by_priority else 0,
            )
            # Closing the stream is what aborts: AsyncLLM.generate tells the engine core so.
            async with aclosing(stream) as outputs:
                async for output in outputs:
                    completion = output.outputs[0]
                    reason = completion.finish_reason
                    if reason is not None and reason not in _REASONS:
                        raise RuntimeError(f"vLLM ended the request: {reason}")
                    yield Step(
                        tuple(completion.token_ids),
                        _logprobs(completion.token_ids, completion.logprobs, order.sampling.logprobs),
                        _REASONS[reason] if reason is not None else None,
                        output.num_cached_tokens or 0,
                    )
        except api.EngineDeadError as error:
            raise EngineDead("vLLM's engine core died") from error
        except ValueError as error:
            if order.guided is not None:
                raise OrderRefused("guided", "the engine cannot follow this schema or expression") from error
            raise
        finally:
            self._orders -= 1

    def _params(self, order: Order) -> Any:
        sampling = order.sampling
        guide: dict[str, Any] = {}
        if order.guided is not None:
            kind, text = order.guided
            name = "json" if kind == "json_schema" else "regex"
            guide["structured_outputs"] = self._api.StructuredOutputsParams(**{name: text})
        return self._api.SamplingParams(
            max_tokens=order.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=seed_at(sampling.seed, order.place) if sampling.temperature > 0 else None,
            stop_token_ids=sorted(order.ends),
            ignore_eos=not order.ends,
            logprobs=sampling.logprobs,
            detokenize=False,
            output_kind=self._api.RequestOutputKind.DELTA,
            **guide,
        )

    def _lora(self) -> Any:
        options = self._options
        return self._api.LoRARequest(options.lora_name, 1, options.lora_path) if options.lora_name else None

    async def health(self) -> None:
        try:
            await self._engine.check_health()
        except Exception as error:
            raise EngineDead("vLLM's engine core died") from error

    def load(self) -> Load | None:
        # It counts once a step: when the last request is gone, no step says so.
        return Load(0) if self._stats.load and not self._orders else self._stats.load

    async def close(self) -> None:
        if self._engine is not None:
            self._engine.shutdown()


class _Api:
    """The names of vLLM that are used, imported when an engine starts."""

    def __init__(self) -> None:
        self.SamplingParams = imported("vllm.sampling_params", "SamplingParams")
        self.StructuredOutputsParams = imported("vllm.sampling_params", "StructuredOutputsParams")
        self.RequestOutputKind = imported("vllm.sampling_params", "RequestOutputKind")
        self.AsyncEngineArgs = imported("vllm.engine.arg_utils", "AsyncEngineArgs")
        self.AsyncLLM = imported("vllm.v1.engine.async_llm", "AsyncLLM")
        self.EngineDeadError = imported("vllm.v1.engine.exceptions", "EngineDeadError")
        self.StatLoggerBase = imported("vllm.v1.metrics.loggers", "StatLoggerBase")
        self.LoRARequest = imported("vllm.lora.request", "LoRARequest")


class _Stats:
    """What the engine core said of its load at its last step."""

    def __init__(self) -> None:
        self.load: Load | None = None

    def logger(self, base: Any) -> Any:
        """A factory of stat loggers, as AsyncLLM takes them."""
        stats = self

        class Logger(base):
            def __init__(self, vllm_config: object, engine_index: int = 0) -> None:
                del vllm_config, engine_index

            def record(self, scheduler_stats: Any, *_: object, **__: object) -> None:
                if scheduler_stats is not None:
                    stats.load = Load(
                        running=scheduler_stats.num_running_reqs,
                        waiting=scheduler_stats.num_waiting_reqs,
                        kv_cache_used=scheduler_stats.kv_cache_usage,
                    )

            def log_engine_initialized(self) -> None:
                return

        return Logger


def _logprobs(
    tokens: Sequence[int], given: Sequence[Mapping[int, Any]] | None, wanted: int | None
) -> tuple[TokenLogprobs, ...]:
    """One entry a token: a mapping of ids to objects with `logprob` and `rank`, the chosen token's among them."""
    if wanted is None or given is None:
        return ()
    entries: list[TokenLogprobs] = []
    for token, candidates in zip(tokens, given, strict=True):
        best = sorted(candidates.items(), key=lambda item: item[1].logprob, reverse=True)
        top = tuple((int(id_), float(item.logprob)) for id_, item in best[:wanted])
        entries.append(TokenLogprobs(float(candidates[token].logprob), top))
    return tuple(entries)
