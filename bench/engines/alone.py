"""An engine by itself, spoken to in its own API: what the service is compared with. A child, see `sender`."""

import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop

from bench.engines.load import Work, prompts, run
from bench.engines.sender import serve
from workers.engines.driver import imported
from workers.engines.orphans import children, guard_since
from workers.engines.vocabulary import Vocabulary


async def main() -> None:
    name, model, args = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    vocabulary = Vocabulary(Path(model))
    began, before = time.perf_counter(), children()
    engine = (_vllm if name == "vllm" else _sglang)(model, args)
    guard = guard_since(before)  # this process will be killed

    texts = prompts(1_000_000)

    async def stream(number: int, tokens: int) -> AsyncIterator[int]:
        ids = vocabulary.encode(next(texts))
        async for piece in engine(ids, tokens, f"{ids[:8]}-{number}$"):
            yield piece

    await run(stream, Work(streams=1, tokens=8))  # compiles kernels
    await serve(stream, {"seconds": round(time.perf_counter() - began, 1)})
    if guard is not None:
        guard.close()


def _vllm(model: str, args: dict[str, Any]) -> Any:
    params = imported("vllm.sampling_params", "SamplingParams")
    delta = imported("vllm.sampling_params", "RequestOutputKind").DELTA
    made = imported("vllm.engine.arg_utils", "AsyncEngineArgs")(
        **{"model": model, "max_num_seqs": 64, "disable_log_stats": True, **args}
    )
    engine = imported("vllm.v1.engine.async_llm", "AsyncLLM").from_engine_args(made)

    async def generate(ids: list[int], tokens: int, name: str) -> AsyncIterator[int]:
        chosen = params(max_tokens=tokens, temperature=0.0, ignore_eos=True, detokenize=False, output_kind=delta)
        async for output in engine.generate({"prompt_token_ids": ids}, chosen, name):
            yield len(output.outputs[0].token_ids)

    return generate


def _sglang(model: str, args: dict[str, Any]) -> Any:
    engine = imported("sglang.srt.entrypoints.engine", "Engine")(
        **{"model_path": model, "max_running_requests": 64, "skip_tokenizer_init": True, **args}
    )

    async def generate(ids: list[int], tokens: int, name: str) -> AsyncIterator[int]:
        chosen = {"max_new_tokens": tokens, "temperature": 0.0, "ignore_eos": True}
        seen = 0
        stream = await engine.async_generate(input_ids=ids, sampling_params=chosen, stream=True, rid=name)
        async for chunk in stream:
            count = len(chunk["output_ids"])
            yield count - seen
            seen = count

    return generate


if __name__ == "__main__":
    uvloop.run(main())
