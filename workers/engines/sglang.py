"""SGLang in the worker's process: `sglang.srt.entrypoints.engine.Engine`.

Version 0.5.15 was used. Its scheduler and detokenizer are child processes. What to know of it:

- A chunk's `output_ids` is cumulative and a live list, unless `incremental_streaming_output` is set.
- Dropping a stream does not stop generation; `tokenizer_manager.abort_request` does. It takes the *beginning* of ids,
  so an id may not begin another one.
- With the first request it takes SIGTERM and SIGQUIT of the process for itself, and kills the process tree, itself
  included, when a child has died. Both are taken back here: a worker drains, and hands its requests over.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from precision.quantization import Quantization
from workers.engine import EngineDead, FinishReason, Load, TokenLogprobs
from workers.engines.driver import DriverOptions, Order, OrderRefused, Started, Step, imported, require_version

_FLOOR = "0.5.15"
_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_BAD_REQUEST = 400
_SEED_MASK = 0x7FFF_FFFF_FFFF_FFFF


def objection(found: Quantization) -> str:
    """Why SGLang does not load a checkpoint, as far as that is known without loading it; empty when it does."""
    if found.method != "modelopt" or [layers.weights for layers in found.layers] != ["NVFP4"]:
        return ""
    if found.narrowest.activations == "NVFP4":
        return ""
    return (
        f"SGLang {_FLOOR} does not load NVFP4 weights whose activations are {found.activation_format}; "
        "quantize with samples, which gives NVFP4 for both (docs/checkpoints.md), or serve it with vLLM"
    )


class SglangDriver:
    """See `workers.engines.driver.Driver`."""

    def __init__(self, options: DriverOptions) -> None:
        """Raises ValueError for engine arguments that this adapter does not allow."""
        if options.engine_args.get("trust_remote_code"):
            raise ValueError("engine_args: trust_remote_code runs a checkpoint's code and is not allowed")
        self._options = options
        self._engine: Any = None
        self._lost: Callable[[str], None] = lambda why: None
        self._load: Load | None = None
        self._incremental = False
        self._by_priority = False
        self._seeds = False
        self._low_first = False

    async def start(self, lost: Callable[[str], None]) -> Started:
        version = require_version("sglang", _FLOOR, "its streaming and abort are known from this version on")
        engine = imported("sglang.srt.entrypoints.engine", "Engine")
        self._lost = lost
        options = self._options
        args: dict[str, Any] = {
            "model_path": options.model,
            "max_running_requests": options.slots,
            "log_level": "warning",
            # Ids are all that is wanted; but a grammar needs the tokenizer inside.
            "skip_tokenizer_init": options.engine_args.get("grammar_backend") == "none",
            **({"context_length": options.context_tokens} if options.context_tokens else {}),
            **(
                {"enable_lora": True, "lora_paths": {options.lora_name: options.lora_path}} if options.lora_name else {}
            ),
            **options.engine_args,
        }
        # Here and not in a thread: it binds its sockets to the running loop. Signals wait until the model is loaded.
        with _own_logging():
            self._engine = engine(**args)
        server_args = self._engine.server_args
        self._incremental = bool(server_args.incremental_streaming_output)
        self._by_priority = bool(server_args.enable_priority_scheduling)
        self._seeds = bool(server_args.enable_deterministic_inference)
        self._low_first = bool(server_args.schedule_low_priority_values_first)
        manager: Any = self._engine.tokenizer_manager

        def signals(manager: object) -> _Signals:
            del manager
            return _Signals(self._child_died)

        manager.signal_handler_class = signals
        await self._warm_up()
        return Started(version, int(manager.max_req_input_len))

    async def _warm_up(self) -> None:
        """The first request compiles kernels for some seconds, and brings the signal handlers with it."""
        params = {"max_new_tokens": 2, "temperature": 0.0, "ignore_eos": True}
        stream = await self._engine.async_generate(
            input_ids=[1, 1], sampling_params=params, stream=True, rid="warm-up$"
        )
        async for _ in stream:
            pass

    async def generate(self, order: Order) -> AsyncGenerator[Step]:
        engine = self._engine
        # No id begins another one: requests' ids hold no "$".
        rid = f"{order.id}$"
        wanted = order.sampling.logprobs
        stream = await engine.async_generate(
            input_ids=list(order.prompt),
            sampling_params=self._params(order),
            stream=True,
            rid=rid,
            return_logprob=wanted is not None,
            top_logprobs_num=wanted or 0,
            lora_path=self._options.lora_name or None,
            external_trace_header=dict(order.trace) or None,
            priority=self._priority(order),
        )
        seen = 0
        ended = False
        try:
            async for chunk in stream:
                meta = chunk["meta_info"]
                reason = meta.get("finish_reason")
                ended = reason is not None
                if reason is not None and reason["type"] not in _REASONS:
                    raise _failure(reason, order)
                first = 0 if self._incremental else seen
                tokens = tuple(chunk["output_ids"][first:])
                seen += len(tokens)
                yield Step(
                    tokens,
                    _logprobs(meta, first, len(tokens), wanted),
                    _REASONS[reason["type"]] if reason is not None else None,
                    int(meta.get("cached_tokens") or 0),
                )
        finally:
            if not ended:
                engine.tokenizer_manager.abort_request(rid=rid)

    def _params(self, order: Order) -> dict[str, object]:
        sampling = order.sampling
        params: dict[str, object] = {
            "max_new_tokens": order.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,
            "stop_token_ids": sorted(order.ends),
            "ignore_eos": not order.ends,
            "no_stop_trim": True,
        }
        if self._seeds:
            # Its random numbers are a function of seed and position: the seed stays the same when a reply moves.
            params["sampling_seed"] = sampling.seed & _SEED_MASK
        if order.guided is not None:
            kind, text = order.guided
            params["json_schema" if kind == "json_schema" else "regex"] = text
        return params

    def _priority(self, order: Order) -> int | None:
        if not self._by_priority:
            return None  # with scheduling by priority off, it may refuse a request that has one
        # In our classes lower is sooner; in SGLang higher is, unless it was told otherwise.
        return int(order.priority) if self._low_first else -int(order.priority)

    async def health(self) -> None:
        self._engine.tokenizer_manager.auto_create_handle_loop()
        for pid in self._engine.get_all_child_pids():
            if not _runs(pid):
                raise EngineDead("a process of SGLang died")
        loads = await self._engine.tokenizer_manager.get_loads()
        if loads:
            self._load = Load(
                running=sum(load.num_running_reqs for load in loads),
                waiting=sum(load.num_waiting_reqs for load in loads),
                kv_cache_used=max(float(load.token_usage) for load in loads),
            )

    def _child_died(self) -> None:
        self._lost("a process of SGLang died")

    def load(self) -> Load | None:
        return self._load

    async def close(self) -> None:
        if self._engine is not None:
            self._engine.shutdown()


@contextmanager
def _own_logging() -> Generator[None]:
    """SGLang puts its own handler in place of all others: put ours back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


class _Signals:
    """In place of SGLang's own handlers: a dead child ends the engine, not the worker; SIGTERM is the worker's."""

    def __init__(self, child_died: Callable[[], None]) -> None:
        self._child_died = child_died

    def sigterm_handler(self, *_: object) -> None:
        # It came while the engine warmed up. The worker takes the signal back right after; then it gets this one.
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGTERM)

    def running_phase_sigquit_handler(self, *_: object) -> None:
        self._child_died()


def _failure(reason: Mapping[str, Any], order: Order) -> Exception:
    """What an abort by the engine means. Its message may hold anything."""
    cause = RuntimeError(str(reason.get("message")))
    if order.guided is not None and reason.get("status_code") == _BAD_REQUEST:
        refused = OrderRefused("guided", "the engine cannot follow this schema or expression")
        refused.__cause__ = cause
        return refused
    return cause


def _logprobs(meta: Mapping[str, Any], first: int, count: int, wanted: int | None) -> tuple[TokenLogprobs, ...]:
    """Entries of (logprob, token, text); with those of the most probable tokens in a list beside it."""
    if wanted is None:
        return ()
    chosen = meta["output_token_logprobs"][first : first + count]
    every: list[Any] = meta.get("output_top_logprobs") or []
    candidates = every[first : first + count] if wanted else []
    entries: list[TokenLogprobs] = []
    for at, (logprob, *_) in enumerate(chosen):
        best: list[Any] = candidates[at] or [] if at < len(candidates) else []
        top = tuple((int(token), float(value)) for value, token, *_ in best[:wanted])
        entries.append(TokenLogprobs(float(logprob), top))
    return tuple(entries)


def _runs(pid: int) -> bool:
    """Whether a child process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
