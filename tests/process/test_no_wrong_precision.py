"""No wrong precision, ever: pools die, and what the policy rules out never serves; the receipt tells the truth."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

import bitlane
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, ACME_ADMIN

BANS = """
  - {name: no-fp4, match: {labels: {ban: fp4}}, forbid: FP4}
  - {name: no-fp8, match: {labels: {ban: fp8}}, forbid: FP8}
"""
USUAL = f"rules:{BANS}"
NO_SPILL = f"spill: false\nrules:{BANS}"
BROWNOUT = f"brownout: {{tasks: [math, code]}}\nrules:{BANS}"


@dataclass(frozen=True)
class Ask:
    """A request, and what may become of it with a pool gone: the only precision that may serve it, or none."""

    task: bitlane.TaskName
    allowed: str | None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    pin: bitlane.PrecisionName | None = None
    at_least: bitlane.PrecisionName | None = None


NO_FP4, NO_FP8 = {"ban": "fp4"}, {"ban": "fp8"}
# By the pool that is gone, then by policy.
CASES: dict[str, dict[str, list[Ask]]] = {
    "smollm2/fp4": {
        USUAL: [
            Ask("chat", "fp8"),
            Ask("chat", None, pin="fp4"),
            Ask("chat", None, NO_FP8),
            Ask("math", "fp8"),
            Ask("math", None, NO_FP8),
        ],
        NO_SPILL: [Ask("chat", None), Ask("chat", "fp8", NO_FP4), Ask("chat", "fp8", at_least="fp8")],
    },
    "smollm2/fp8": {
        USUAL: [Ask("math", None), Ask("chat", "fp4"), Ask("chat", None, pin="fp8"), Ask("chat", None, at_least="fp8")],
        BROWNOUT: [
            Ask("math", "fp4"),
            Ask("code", "fp4"),
            Ask("math", None, NO_FP4),
            Ask("math", None, pin="fp8"),
            Ask("math", None, at_least="fp8"),
            Ask("legal", None),
            Ask("science", None),
            Ask("chat", "fp4"),
        ],
    },
}


@pytest.fixture
def stack(make_stack: StackMaker) -> Stack:
    return make_stack(engine_options='{"token_ms": 1}')


async def gone(client: bitlane.AsyncClient, pool: str) -> bool:
    (model,) = await client.list_models()
    return next(each.workers == 0 for each in model.pools if each.name == pool)


async def served_by(client: bitlane.AsyncClient, ask: Ask) -> str | None:
    """The precision that served, as the worker attested it; None when nothing did."""
    try:
        reply = await client.generate(
            "hi",
            model="smollm2",
            task=ask.task,
            labels=ask.labels,
            pin=ask.pin,
            at_least=ask.at_least,
            max_tokens=2,
            timeout=5,
        )
    except (bitlane.Unavailable, bitlane.PrecisionUnavailable):
        return None
    assert reply.receipt.profile is not None
    assert reply.receipt.profile.precision is reply.decision.precision
    return reply.receipt.profile.precision.value


@pytest.mark.parametrize("pool", CASES)
async def test_with_a_pool_gone(stack: Stack, pool: str) -> None:
    once = bitlane.RetryPolicy.none()
    async with (
        bitlane.AsyncClient(stack.target, api_key=ACME, retry=once) as client,
        bitlane.AsyncClient(stack.target, api_key=ACME_ADMIN) as admin,
    ):
        stack.workers[pool][0].terminate()
        assert stack.workers[pool][0].wait(20) == 0
        while not await gone(client, pool):
            await asyncio.sleep(0.05)
        for policy, asks in CASES[pool].items():
            await admin.policies.put(policy, etag=(await admin.policies.get()).etag)
            for ask in asks:
                assert await served_by(client, ask) == ask.allowed, (policy, ask)
