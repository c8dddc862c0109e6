"""A real checkpoint in an FP4 and an FP8 pool: what is asked, where it went, what came back, and the receipt."""

import json
from typing import Any

from bench.engines.stack import MODEL, GpuStack
from bitlane import MessageDict, PrecisionName

_ASKED: tuple[tuple[str, PrecisionName | None], ...] = (
    ("What is the capital of France?", None),
    ("Hi! How are you today?", None),
    ("Tom has 3 boxes with 4 apples each and eats 2. How many apples are left? Think step by step.", None),
    ("Write a Python function that adds two numbers.", None),
    ("What is the capital of France?", "fp4"),
    ("What is the capital of France?", "fp8"),
    ("Répète : naïve café 😀 日本語", "fp8"),
)


async def ask(stack: GpuStack) -> list[dict[str, Any]]:
    """Every question as a chat turn, greedily."""
    found: list[dict[str, Any]] = []
    async with stack.client() as client:
        for question, pin in _ASKED:
            if (pin or "fp8") not in stack.pools:
                continue
            turn: MessageDict = {"role": "user", "content": question}
            got = await client.generate(messages=[turn], model=MODEL, max_tokens=60, temperature=0.0, pin=pin)
            profile = got.receipt.profile
            assert profile is not None
            found.append(
                {
                    "question": question,
                    "pool": got.receipt.decision.pool,
                    "reason": str(got.receipt.decision.reason),
                    "text": got.text,
                    "profile": f"{profile.weight_format} {profile.compute_path} on {profile.gpu} SM {profile.sm}, "
                    f"{profile.engine} {profile.engine_version}",
                    "tokens": got.usage.output_tokens,
                    "cached": got.usage.cached_prompt_tokens,
                }
            )
            print(json.dumps(found[-1], ensure_ascii=False), flush=True)
    return found
