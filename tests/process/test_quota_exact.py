"""Two hundred submits at once, over three routers, at a limit of a few: exactly those few are admitted."""

import asyncio
from pathlib import Path

import pytest
from grpc import aio

import bitlane
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.tenants import Operator, key_of, seeded

pytestmark = pytest.mark.timeout(120)

SUBMITS = 200
ADMITTED = 3
PROMPT = "exact"
MAX_TOKENS = 5000
ESTIMATE = MAX_TOKENS + len(PROMPT) // 4 + 1
NANOS_A_TOKEN = 1000  # at 1.0 a million tokens

# What a tenant may have, each bound met by exactly ADMITTED requests. Buckets fill up again: theirs hold half a request
# more, or what is missing takes longer than the test.
LIMITS = {
    "concurrent": ({"concurrent_requests": ADMITTED}, "QUOTA_CONCURRENCY"),
    "requests": ({"requests_per_minute": ADMITTED}, "QUOTA_REQUESTS"),
    "tokens": ({"tokens_per_minute": ADMITTED * ESTIMATE + ESTIMATE // 2}, "QUOTA_TOKENS"),
    "day": ({"day_budget": (ADMITTED + 0.5) * ESTIMATE * NANOS_A_TOKEN / 1e9}, "QUOTA_BUDGET"),
    "month": ({"month_budget": (ADMITTED + 0.5) * ESTIMATE * NANOS_A_TOKEN / 1e9}, "QUOTA_BUDGET"),
}


@pytest.fixture
def stack(make_stack: StackMaker, tmp_path: Path) -> Stack:
    price = {"prompt": 1.0, "output": 1.0}
    models = [
        {
            "name": "smollm2",
            "context_tokens": 16_384,
            "pools": [{"precision": "FP4", "price": price}, {"precision": "FP8", "price": price}],
        }
    ]
    tenants = {name: {"quota": {"limits": limits}} for name, (limits, _) in LIMITS.items()}
    config = seeded(tmp_path, tenants, models=models)
    return make_stack(engine_options='{"token_ms": 100, "slots": 64}', config=config)


async def test_exactly_the_limit_is_admitted(stack: Stack) -> None:
    targets = [stack.target, *(stack.target_of(stack.add_router()) for _ in range(2))]
    for tenant, (_, reason) in LIMITS.items():
        async with aio.insecure_channel(stack.target) as channel:
            operator = Operator(channel)
            clients = [
                bitlane.AsyncClient(target, api_key=key_of(tenant), retry=bitlane.RetryPolicy.none())
                for target in targets
            ]
            streams = [
                clients[i % len(clients)].stream(PROMPT, model="smollm2", pin="fp8", max_tokens=MAX_TOKENS)
                for i in range(SUBMITS)
            ]
            answers = await asyncio.gather(*(stream.accepted() for stream in streams), return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, BaseException)]
            assert len(answers) - len(refused) == ADMITTED, tenant
            for error in refused:
                assert isinstance(error, bitlane.QuotaExceeded), error
                assert error.reason == reason
                # When a slot gets free nobody knows; when a bucket or a period is full again is known.
                assert error.retry_after is not None
                assert error.retry_after > 0
            state = await operator.quota(tenant)
            assert (state.concurrent_requests, state.reserved_tokens) == (ADMITTED, ADMITTED * ESTIMATE)

            # What was reserved comes back at the end, whatever the end is.
            admitted = [s for s, answer in zip(streams, answers, strict=True) if not isinstance(answer, BaseException)]
            usages = [(await clients[0].cancel(stream.request_id)).usage for stream in admitted]
            state = await operator.quota(tenant)
            assert (state.concurrent_requests, state.queued_requests) == (0, 0)
            assert (state.reserved_tokens, state.reserved_nanos) == (0, 0)
            spent = sum(usage.prompt_tokens + usage.output_tokens for usage in usages)
            assert state.day_spent_nanos == state.month_spent_nanos == spent * NANOS_A_TOKEN
            for client in clients:
                await client.close()
