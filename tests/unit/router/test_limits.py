"""Refusals: what they say, when they may be repeated, and how long they are remembered."""

import time

import grpc
import pytest

from bitlane.rpc.v1 import status_pb2
from broker.types import Account, Limit, Limits, OverLimit, Price, Priority, RequestRef, Submission
from router.faults import Fault, Violation
from router.limit_faults import deadline_unreachable, over_limit, pool_full, subject_of, what_to_lower
from router.throttle import Throttle

TENANT = Account("", "", Limits(requests_per_minute=60, tokens_per_minute=1000))
KEY = Account("ci", "m", Limits(tokens_per_minute=1000))


def over(
    limit: Limit, bound: int, wanted: int = 1, retry_ms: int | None = None, account: Account = TENANT
) -> OverLimit:
    return OverLimit(account, limit, bound, used=bound, wanted=wanted, retry_after_ms=retry_ms)


def submission(prompt: int, output: int, price: Price | None = None) -> Submission:
    return Submission(
        ref=RequestRef("acme", "r1"),
        pool="m/fp8",
        digest="",
        job=b"",
        decision=b"",
        router="r",
        timeout_ms=2000,
        prompt_tokens=prompt,
        output_tokens=output,
        priority=Priority.STANDARD,
        weight=1.0,
        migratable=True,
        key="ci",
        task="chat",
        price=price or Price(),
        fp8_price=Price(),
        accounts=(TENANT,),
        pool_max_waiting=7,
    )


def details(fault: Fault) -> dict[str, bytes]:
    return {detail.type_url.rpartition(".")[2]: detail.value for detail in fault.status("r1").details}


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (Limit.REQUESTS_PER_MINUTE, "QUOTA_REQUESTS"),
        (Limit.TOKENS_PER_MINUTE, "QUOTA_TOKENS"),
        (Limit.CONCURRENT_REQUESTS, "QUOTA_CONCURRENCY"),
        (Limit.QUEUED_REQUESTS, "QUEUE_FULL"),
        (Limit.DAY_BUDGET, "QUOTA_BUDGET"),
        (Limit.MONTH_BUDGET, "QUOTA_BUDGET"),
    ],
)
def test_each_limit_has_its_reason(limit: Limit, reason: str) -> None:
    fault = over_limit("acme", over(limit, 10, retry_ms=250), "USD")
    assert (fault.code, fault.reason, fault.retry_after_s) == (grpc.StatusCode.RESOURCE_EXHAUSTED, reason, 0.25)
    found = details(fault)
    (quota,) = status_pb2.QuotaFailure.FromString(found["QuotaFailure"]).violations
    assert (quota.subject, quota.description) == ("tenant:acme", fault.message)
    assert status_pb2.RetryInfo.FromString(found["RetryInfo"]).retry_delay.nanos == 250_000_000
    assert dict(status_pb2.ErrorInfo.FromString(found["ErrorInfo"]).metadata) == {
        "limit": limit.value,
        "bound": "10",
        "used": "10",
        "wanted": "1",
        "request_id": "r1",
    }
    assert "BadRequest" not in found


def test_the_subject_names_the_account() -> None:
    assert subject_of("acme", TENANT) == "tenant:acme"
    assert subject_of("acme", Account("ci", "", Limits())) == "tenant:acme/key:ci"
    assert subject_of("acme", Account("", "m", Limits())) == "tenant:acme/model:m"
    assert subject_of("acme", KEY) == "tenant:acme/key:ci/model:m"


def test_a_time_that_nobody_knows_is_guessed() -> None:
    assert over_limit("acme", over(Limit.QUEUED_REQUESTS, 3), "USD").retry_after_s == 1.0


def test_words() -> None:
    assert over_limit("acme", over(Limit.TOKENS_PER_MINUTE, 1000, 300, 5, KEY), "USD").message == (
        "the limit of key ci of tenant acme for model m is 1000 tokens a minute, 1000 used; this request takes 300"
    )
    assert over_limit("acme", over(Limit.DAY_BUDGET, 2_500_000_000, 1_000), "EUR").message == (
        "the limit of tenant acme is EUR 2.5 a day, EUR 2.5 used; this request takes EUR 0.000001"
    )
    nothing = over_limit("acme", over(Limit.CONCURRENT_REQUESTS, 0), "USD")
    assert nothing.message == "the limit of tenant acme is 0 requests at once: nothing is admitted; ask whoever set it"
    assert (nothing.retry_never, nothing.retry_after_s) == (True, None)


@pytest.mark.parametrize(
    ("limit", "bound", "prompt", "output", "price", "field", "told"),
    [
        (Limit.TOKENS_PER_MINUTE, 1000, 200, 900, Price(), "sampling.max_tokens", "is 900; use at most 800"),
        (Limit.TOKENS_PER_MINUTE, 1000, 1000, 9, Price(), "prompt", "has about 1000 tokens; shorten it"),
        (Limit.DAY_BUDGET, 1000, 10, 90, Price(20, 20, 10), "sampling.max_tokens", "is 90; use at most 80"),
        (Limit.MONTH_BUDGET, 1000, 60, 1, Price(20, 20, 0), "prompt", "has about 60 tokens; shorten it"),
    ],
)
def test_what_never_fits_says_what_to_lower(
    limit: Limit, bound: int, prompt: int, output: int, price: Price, field: str, told: str
) -> None:
    request = submission(prompt, output, price)
    wanted = prompt + output if limit is Limit.TOKENS_PER_MINUTE else prompt * price.prompt + output * price.output
    refused = over(limit, bound, wanted)
    lower = what_to_lower(request, refused, "request.", "prompt")
    assert lower == Violation(f"request.{field}", told)
    fault = over_limit("acme", refused, "USD", lower)
    assert (fault.retry_never, fault.retry_after_s) == (True, None)
    assert f"request.{field} {told}" in fault.message
    found = details(fault)
    assert "RetryInfo" not in found
    assert status_pb2.BadRequest.FromString(found["BadRequest"]).field_violations[0].field == f"request.{field}"


def test_what_will_fit_has_nothing_to_lower() -> None:
    assert what_to_lower(submission(1, 1), over(Limit.TOKENS_PER_MINUTE, 1000, 2), "", "prompt") is None
    assert what_to_lower(submission(1, 1), over(Limit.TOKENS_PER_MINUTE, 0, 2), "", "prompt") is None
    assert what_to_lower(submission(1, 1), over(Limit.CONCURRENT_REQUESTS, 0, 1), "", "prompt") is None


def test_full_pools_and_unreachable_deadlines() -> None:
    full = pool_full("m/fp8", 7)
    assert (full.reason, full.quota_subject, full.retry_after_s) == ("QUEUE_FULL", "pool:m/fp8", 1.0)
    late = deadline_unreachable(4200, 300, 2000)
    assert (late.code, late.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_UNREACHABLE")
    assert late.metadata == {"estimated_wait_ms": "4200", "estimated_run_ms": "300"}
    assert late.retry_after_s is None


HOUR_MS = 3_600_000


def test_an_empty_bucket_of_requests_is_remembered_until_it_fills_up() -> None:
    throttle, now = Throttle(), time.monotonic()
    assert throttle.refusal("acme", [TENANT], 1) is None
    throttle.remember("acme", over(Limit.REQUESTS_PER_MINUTE, 60, retry_ms=HOUR_MS), now)
    found = throttle.refusal("acme", [TENANT], 1)
    assert found is not None
    assert found.retry_after_ms is not None
    assert HOUR_MS - 60_000 < found.retry_after_ms <= HOUR_MS
    # Others are others: another tenant, the tenant's accounts of a key or a model.
    assert throttle.refusal("globex", [TENANT], 1) is None
    assert throttle.refusal("acme", [KEY], 1) is None
    throttle.remember("acme", over(Limit.REQUESTS_PER_MINUTE, 60, retry_ms=1), now - 1)
    assert throttle.refusal("acme", [TENANT], 1) is None


def test_new_limits_are_asked_for_at_once() -> None:
    throttle = Throttle()
    throttle.remember("acme", over(Limit.REQUESTS_PER_MINUTE, 60, retry_ms=HOUR_MS), time.monotonic())
    raised = Account("", "", Limits(requests_per_minute=61, tokens_per_minute=1000))
    assert throttle.refusal("acme", [raised], 1) is None


def test_tokens_are_remembered_briefly_and_for_no_less_than_was_refused() -> None:
    throttle, now = Throttle(), time.monotonic()
    throttle.remember("acme", over(Limit.TOKENS_PER_MINUTE, 1000, 300, HOUR_MS, KEY), now + HOUR_MS)
    assert throttle.refusal("acme", [TENANT, KEY], 299) is None
    found = throttle.refusal("acme", [TENANT, KEY], 500)
    assert found is not None
    assert found.wanted == 500
    throttle.remember("acme", over(Limit.TOKENS_PER_MINUTE, 1000, 300, HOUR_MS, KEY), now - 0.2)
    assert throttle.refusal("acme", [KEY], 500) is None


@pytest.mark.parametrize("limit", [Limit.CONCURRENT_REQUESTS, Limit.QUEUED_REQUESTS, Limit.DAY_BUDGET])
def test_what_may_end_at_any_moment_is_not_remembered(limit: Limit) -> None:
    throttle = Throttle()
    throttle.remember("acme", over(limit, 3, retry_ms=HOUR_MS), time.monotonic())
    throttle.remember("acme", over(Limit.REQUESTS_PER_MINUTE, 0), time.monotonic())  # never: no time is known
    assert throttle.refusal("acme", [TENANT], 1) is None


def test_a_flood_of_accounts_is_not_remembered_for_ever() -> None:
    throttle, now = Throttle(), time.monotonic()
    for number in range(10_000):
        throttle.remember(f"t{number}", over(Limit.REQUESTS_PER_MINUTE, 60, retry_ms=1), now - 1)
    throttle.remember("acme", over(Limit.REQUESTS_PER_MINUTE, 60, retry_ms=HOUR_MS), now)
    assert throttle.refusal("acme", [TENANT], 1) is not None
