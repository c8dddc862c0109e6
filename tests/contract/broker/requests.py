"""Requests with sensible values, for tests that care about one of them."""

from dataclasses import replace
from typing import Any

from broker import Broker
from broker.types import Account, Claim, Limits, Outcome, Price, Priority, RequestRef, Submission, Usage

POOL = "smollm2/fp4"
UNBOUNDED = (Account("", "", Limits()),)
USAGE = Usage(prompt_tokens=10, cached_prompt_tokens=0, output_tokens=20)


def make_submission(request_id: str = "r1", tenant: str = "acme", **changes: Any) -> Submission:
    """A submission; `changes` are its other fields."""
    submission = Submission(
        ref=RequestRef(tenant, request_id),
        pool=POOL,
        digest="digest",
        job=b"job",
        decision=b"decision",
        router="router-1",
        timeout_ms=None,
        prompt_tokens=10,
        output_tokens=20,
        priority=Priority.STANDARD,
        weight=1.0,
        migratable=True,
        key="ci",
        task="chat",
        price=Price(),
        fp8_price=Price(),
        accounts=UNBOUNDED,
        pool_max_waiting=None,
    )
    return replace(submission, **changes)


async def claim_one(broker: Broker, worker: str = "w1", pool: str = POOL) -> Claim:
    (claim,) = await broker.claim(pool, worker, b"profile", 1)
    return claim


async def finish(broker: Broker, claim: Claim, index: int = 0, chunk: bytes | None = None) -> None:
    await broker.finish(claim.lease, index, chunk, 1, Outcome.STOP, "", USAGE)
