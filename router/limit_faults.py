"""How a request is told that it does not fit: which limit, how much of it is used, and what to do."""

from dataclasses import dataclass

import grpc

from broker.types import Account, Limit, OverLimit, Submission
from router.faults import Fault, Violation

_NANOS = 10**9
_BUDGETS = (Limit.DAY_BUDGET, Limit.MONTH_BUDGET)
# Nobody knows when a request ends.
_UNKNOWN_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Words:
    reason: str
    unit: str


_WORDS = {
    Limit.REQUESTS_PER_MINUTE: _Words("QUOTA_REQUESTS", "requests a minute"),
    Limit.TOKENS_PER_MINUTE: _Words("QUOTA_TOKENS", "tokens a minute"),
    Limit.CONCURRENT_REQUESTS: _Words("QUOTA_CONCURRENCY", "requests at once"),
    Limit.QUEUED_REQUESTS: _Words("QUEUE_FULL", "waiting requests"),
    Limit.DAY_BUDGET: _Words("QUOTA_BUDGET", "a day"),
    Limit.MONTH_BUDGET: _Words("QUOTA_BUDGET", "a month"),
}


def subject_of(tenant: str, account: Account) -> str:
    """How a QuotaFailure names an account, such as `tenant:acme/key:ci/model:smollm2`."""
    key = f"/key:{account.key}" if account.key else ""
    model = f"/model:{account.model}" if account.model else ""
    return f"tenant:{tenant}{key}{model}"


def over_limit(tenant: str, over: OverLimit, currency: str, lower: Violation | None = None) -> Fault:
    """RESOURCE_EXHAUSTED: an account does not admit a request.

    Args:
        lower: the field to lower, when the request takes more than there ever is.
    """
    words = _WORDS[over.limit]
    bound, used, wanted = (_amount(over.limit, amount, currency) for amount in (over.bound, over.used, over.wanted))
    metadata = {"limit": over.limit.value, "bound": str(over.bound), "used": str(over.used), "wanted": str(over.wanted)}
    never = over.wanted > over.bound
    message = f"the limit of {_owner(tenant, over.account)} is {bound} {words.unit}"
    if over.bound == 0:
        message += ": nothing is admitted; ask whoever set it"
    elif never:
        message += f", and this request alone takes {wanted}"
        message += f"; {lower.field} {lower.description}" if lower else ""
    else:
        message += f", {used} used; this request takes {wanted}"
    return Fault(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        words.reason,
        message,
        metadata,
        violations=(lower,) if lower else (),
        retry_after_s=None if never else _retry_s(over),
        retry_never=never,
        quota_subject=subject_of(tenant, over.account),
    )


def what_to_lower(submission: Submission, over: OverLimit, path: str, prompt_field: str) -> Violation | None:
    """Which field of a request takes more than a limit ever has; None when lowering it would not help.

    Args:
        path: prefix of field paths.
        prompt_field: where the prompt stands, "prompt" or "messages".
    """
    if over.wanted <= over.bound or over.bound == 0:
        return None
    if over.limit is Limit.TOKENS_PER_MINUTE:
        prompt, token = submission.prompt_tokens, 1
    elif over.limit in _BUDGETS:
        prompt, token = submission.prompt_tokens * submission.price.prompt, submission.price.output
    else:
        return None
    most = (over.bound - prompt) // token if token else 0
    if most >= 1:
        return Violation(f"{path}sampling.max_tokens", f"is {submission.output_tokens}; use at most {most}")
    return Violation(path + prompt_field, f"has about {submission.prompt_tokens} tokens; shorten it")


def pool_full(pool: str, most: int) -> Fault:
    return Fault(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUEUE_FULL",
        f"{most} requests wait in {pool} already, as many as may; try again later",
        {"pool": pool},
        retry_after_s=_UNKNOWN_RETRY_S,
        quota_subject=f"pool:{pool}",
    )


def deadline_unreachable(wait_ms: int, run_ms: int, timeout_ms: int) -> Fault:
    return Fault(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "DEADLINE_UNREACHABLE",
        f"its turn would come in about {wait_ms / 1000:.1f} s, it would take about {run_ms / 1000:.1f} s, and its "
        f"deadline is in {timeout_ms / 1000:.1f} s; it was not queued",
        {"estimated_wait_ms": str(wait_ms), "estimated_run_ms": str(run_ms)},
    )


def _owner(tenant: str, account: Account) -> str:
    owner = f"key {account.key} of tenant {tenant}" if account.key else f"tenant {tenant}"
    return f"{owner} for model {account.model}" if account.model else owner


def _retry_s(over: OverLimit) -> float:
    return _UNKNOWN_RETRY_S if over.retry_after_ms is None else over.retry_after_ms / 1000


def _amount(limit: Limit, amount: int, currency: str) -> str:
    if limit not in _BUDGETS:
        return str(amount)
    return f"{currency} {amount / _NANOS:.9f}".rstrip("0").rstrip(".")
