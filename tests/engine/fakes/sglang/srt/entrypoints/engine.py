"""A fake of SGLang 0.5.15's Engine that keeps to its documented API, as far as the adapter uses it."""

import asyncio
import json
import logging
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fake_core import Core, Request


class _State:
    def __init__(self, logprobs: bool) -> None:
        self.output_ids: list[int] = []
        self.logprobs: list[tuple[float, int, None]] = []
        self.wants = logprobs
        self.chunks: list[dict[str, Any]] = []
        self.event = asyncio.Event()
        self.finished = False


class _SignalHandler:
    """The original's: it would end the process."""

    def __init__(self, manager: "_TokenizerManager") -> None:
        del manager

    def sigterm_handler(self, *_: object) -> None:
        os._exit(3)

    def running_phase_sigquit_handler(self, *_: object) -> None:
        os._exit(4)


class _TokenizerManager:
    def __init__(self, args: Any, core: Core) -> None:
        self.server_args = args
        self.core = core
        self.rid_to_state: dict[str, _State] = {}
        self.max_req_input_len = args.context_length - 6
        self.signal_handler_class: Any = _SignalHandler
        self.event_loop: Any = None

    def auto_create_handle_loop(self) -> None:
        if self.event_loop is not None:
            return
        self.event_loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            handler = self.signal_handler_class(self)
            self.event_loop.add_signal_handler(signal.SIGTERM, handler.sigterm_handler)
            self.event_loop.add_signal_handler(signal.SIGQUIT, handler.running_phase_sigquit_handler)

    def abort_request(self, rid: str = "", abort_all: bool = False) -> None:
        if not abort_all and (not rid or rid not in self.rid_to_state):
            return
        # The scheduler matches the beginning of ids.
        for known in [known for known in self.rid_to_state if abort_all or known.startswith(rid)]:
            self.core.abort(known)
            state = self.rid_to_state.pop(known)
            state.finished = True
            meta = {"id": known, "finish_reason": {"type": "abort", "message": "Abort in waiting queue"}}
            state.chunks.append({"text": "", "output_ids": state.output_ids[-1:], "meta_info": meta})
            state.event.set()

    async def get_loads(self) -> list[Any]:
        core = self.core
        return [
            SimpleNamespace(num_running_reqs=len(core.running), num_waiting_reqs=len(core.waiting), token_usage=0.1)
        ]


class Engine:
    """Chunks are cumulative; a chunk's list of ids is the live one; dropping the stream stops nothing."""

    last: "Engine"

    def __init__(self, **kwargs: Any) -> None:
        known = {
            "model_path", "max_running_requests", "log_level", "skip_tokenizer_init", "context_length", "enable_lora",
            "lora_paths", "grammar_backend", "quantization", "load_format", "attention_backend", "sampling_backend",
            "mem_fraction_static", "disable_prefill_cuda_graph", "cuda_graph_max_bs_decode", "kv_cache_dtype",
            "incremental_streaming_output", "enable_priority_scheduling", "enable_deterministic_inference",
            "schedule_low_priority_values_first", "disable_custom_all_reduce", "dtype",
        }  # fmt: skip
        if unknown := set(kwargs) - known:
            raise TypeError(f"ServerArgs.__init__() got an unexpected keyword argument {min(unknown)!r}")
        logging.basicConfig(level=logging.WARNING, force=True)
        config = json.loads((Path(kwargs["model_path"]) / "config.json").read_text())
        defaults = {
            "incremental_streaming_output": False,
            "enable_priority_scheduling": False,
            "enable_deterministic_inference": False,
            "schedule_low_priority_values_first": False,
            "skip_tokenizer_init": False,
            "grammar_backend": None,
            "context_length": config["max_position_embeddings"],
        }
        self.server_args = SimpleNamespace(**(defaults | kwargs))
        self.core = Core(
            kwargs["model_path"], self.server_args.max_running_requests, config["eos_token_id"], self._died
        )
        self.tokenizer_manager = _TokenizerManager(self.server_args, self.core)
        self.seen: list[dict[str, Any]] = []
        Engine.last = self

    def get_all_child_pids(self) -> list[int]:
        return [self.core.pid]

    async def async_generate(
        self,
        prompt: str | None = None,
        sampling_params: dict[str, Any] | None = None,
        input_ids: list[int] | None = None,
        return_logprob: bool = False,
        top_logprobs_num: int | None = None,
        lora_path: str | None = None,
        stream: bool = False,
        external_trace_header: dict[str, str] | None = None,
        rid: str | None = None,
        priority: int | None = None,
    ) -> Any:
        assert stream
        assert prompt is None
        params = dict(sampling_params or {})
        ids = list(input_ids or [])
        self.seen.append(
            {"params": params, "priority": priority, "lora": lora_path, "trace": external_trace_header, "rid": rid}
        )
        return self._stream(ids, params, str(rid), return_logprob, top_logprobs_num or 0)

    async def _stream(self, ids: list[int], params: dict[str, Any], rid: str, logprobs: bool, top: int) -> Any:
        manager = self.tokenizer_manager
        manager.auto_create_handle_loop()
        unknown = set(params) - {
            "max_new_tokens", "temperature", "top_p", "top_k", "stop_token_ids", "ignore_eos", "no_stop_trim",
            "sampling_seed", "json_schema", "regex",
        }  # fmt: skip
        assert not unknown, unknown
        if not 0 < params.get("top_p", 1.0) <= 1:
            raise ValueError("top_p must be in (0, 1]")
        state = manager.rid_to_state[rid] = _State(logprobs)
        if "unbalanced(" in str(params):
            del manager.rid_to_state[rid]
            reason = {"type": "abort", "message": "Failed to compile regex unbalanced(", "status_code": 400}
            yield {"output_ids": [], "meta_info": {"id": rid, "finish_reason": reason}}
            return
        greedy = params.get("temperature", 1.0) == 0
        seed = (
            None
            if greedy
            else params.get("sampling_seed", 42 if self.server_args.enable_deterministic_inference else 1)
        )
        self.core.add(
            Request(
                rid,
                ids,
                params["max_new_tokens"],
                lambda token, reason: self._out(rid, token, reason, top),
                seed=seed,
                positional=True,
                ends=frozenset(params.get("stop_token_ids") or ()) | {self.core.script.end},
                ignore_end=params.get("ignore_eos", False),
            )
        )
        prompt_tokens = len(ids)
        while True:
            await state.event.wait()
            chunk = state.chunks[-1]
            state.chunks = []
            state.event.clear()
            chunk["meta_info"].setdefault("prompt_tokens", prompt_tokens)
            finished = state.finished
            yield chunk
            if finished:
                return

    def _out(self, rid: str, token: int, reason: str | None, top: int) -> None:
        manager = self.tokenizer_manager
        state = manager.rid_to_state.get(rid)
        if state is None:
            return
        state.output_ids.append(token)
        state.logprobs.append((-0.25, token, None))
        meta: dict[str, Any] = {
            "id": rid,
            "finish_reason": {"type": reason} if reason else None,
            "completion_tokens": len(state.output_ids),
            "cached_tokens": 3,
        }
        if state.wants:
            meta["output_token_logprobs"] = state.logprobs
            best = [(-0.25, token, None), *((-2.0 - i, i, None) for i in range(3, 2 + top))]
            meta["output_top_logprobs"] = [best[:top] for _ in state.logprobs]
        ids = state.output_ids
        if self.server_args.incremental_streaming_output:
            ids = ids[-1:]
        elif reason:
            ids = ids.copy()
        state.finished = reason is not None
        if state.finished:
            del manager.rid_to_state[rid]
        state.chunks.append({"output_ids": ids, "meta_info": meta})
        state.event.set()

    def _died(self) -> None:
        """Its watchdog sends SIGQUIT to this process, and tells the streams nothing."""
        if self.tokenizer_manager.event_loop is not None:
            os.kill(os.getpid(), signal.SIGQUIT)

    def shutdown(self) -> None:
        self.core.close()
