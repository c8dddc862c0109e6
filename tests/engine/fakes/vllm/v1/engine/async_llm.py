import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fake_core import Core, Request

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError


class AsyncLLM:
    """Deltas come merged when the reader is slow; leaving the generator aborts; a dead core ends all with its error."""

    last: "AsyncLLM"

    def __init__(self, args: AsyncEngineArgs, stat_loggers: list[Any] | None) -> None:
        config = json.loads((Path(args.model) / "config.json").read_text())
        length = args.max_model_len or config["max_position_embeddings"]
        self.args = args
        self.model_config = SimpleNamespace(max_model_len=length)
        self.core = Core(args.model, args.max_num_seqs, config["eos_token_id"], self._died)
        self.seen: list[dict[str, Any]] = []
        self._queues: dict[str, asyncio.Queue[Any]] = {}
        self._loggers = [factory(None, 0) for factory in stat_loggers or []]
        AsyncLLM.last = self

    @classmethod
    def from_engine_args(cls, engine_args: AsyncEngineArgs, stat_loggers: list[Any] | None = None) -> "AsyncLLM":
        return cls(engine_args, stat_loggers)

    @property
    def errored(self) -> bool:
        return self.core.dead

    async def generate(
        self,
        prompt: dict[str, list[int]],
        sampling_params: SamplingParams,
        request_id: str,
        *,
        lora_request: Any = None,
        trace_headers: Mapping[str, str] | None = None,
        priority: int = 0,
    ) -> AsyncGenerator[Any]:
        params = sampling_params
        assert params.output_kind is RequestOutputKind.DELTA
        assert not params.detokenize
        if self.errored:
            raise EngineDeadError
        if priority and self.args.scheduling_policy != "priority":
            raise ValueError("Got a priority, but priority scheduling is not enabled.")
        ids = prompt["prompt_token_ids"]
        if len(ids) >= self.model_config.max_model_len:
            raise ValueError(f"The decoder prompt (length {len(ids)}) is longer than the maximum model length")
        if params.structured_outputs is not None and "unbalanced(" in str(params.structured_outputs):
            raise ValueError("Grammar error: unbalanced(")
        self.seen.append(
            {"priority": priority, "lora": lora_request, "trace": trace_headers, "params": params, "ids": list(ids)}
        )
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._queues[request_id] = queue
        finished = False
        try:
            self.core.add(
                Request(
                    request_id,
                    list(ids),
                    params.max_tokens or 16,
                    lambda token, reason: self._out(request_id, token, reason),
                    seed=params.seed,
                    ends=frozenset(params.stop_token_ids or ()) | {self.core.script.end},
                    ignore_end=params.ignore_eos,
                )
            )
            while not finished:
                items = [await queue.get()]
                while not queue.empty():
                    items.append(queue.get_nowait())
                for item in items:
                    if isinstance(item, Exception):
                        raise item
                tokens = [token for token, _ in items]
                reason = items[-1][1]
                finished = reason is not None
                yield SimpleNamespace(
                    request_id=request_id,
                    finished=finished,
                    num_cached_tokens=min(16, len(ids)),
                    outputs=[
                        SimpleNamespace(token_ids=tokens, finish_reason=reason, logprobs=_logprobs(tokens, params))
                    ],
                )
        except (asyncio.CancelledError, GeneratorExit):
            await self.abort(request_id)
            raise
        except (EngineDeadError, ValueError):
            raise
        except Exception as error:
            raise EngineGenerateError from error
        finally:
            self._queues.pop(request_id, None)

    async def abort(self, request_id: str) -> None:
        await asyncio.sleep(0)
        self.core.abort(request_id)

    async def check_health(self) -> None:
        if self.errored:
            raise EngineDeadError

    def shutdown(self, timeout: float | None = None) -> None:
        del timeout
        self.core.close()

    def _out(self, request_id: str, token: int, reason: str | None) -> None:
        if (queue := self._queues.get(request_id)) is not None:
            queue.put_nowait((token, reason))
        stats = SimpleNamespace(
            num_running_reqs=len(self.core.running), num_waiting_reqs=len(self.core.waiting), kv_cache_usage=0.25
        )
        for logger in self._loggers:
            logger.record(scheduler_stats=stats, iteration_stats=None, mm_cache_stats=None, engine_idx=0)

    def _died(self) -> None:
        for queue in self._queues.values():
            queue.put_nowait(EngineDeadError())


def _logprobs(tokens: list[int], params: SamplingParams) -> list[dict[int, Any]] | None:
    """At least the chosen token's; up to one more than asked for."""
    if params.logprobs is None:
        return None
    listed: list[dict[int, Any]] = []
    for token in tokens:
        others = {
            other: SimpleNamespace(logprob=-2.0 - other, rank=other + 2) for other in range(3, 3 + params.logprobs)
        }
        listed.append({token: SimpleNamespace(logprob=-0.25, rank=1), **others})
    return listed
