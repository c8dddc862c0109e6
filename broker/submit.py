"""A submission as the script takes it, and its answer."""

import math
from collections.abc import Sequence
from functools import lru_cache

from broker import keys, replies
from broker.connection import Argument, Reply
from broker.types import Limit, Limits, OverLimit, Price, Submission, SubmitResult, SubmitStatus

# No bound above these can be met, so none of them refuses anything; and the scripts count in doubles, in which 60,000
# times the rate is still exact.
_TOKENS_MAX = 10**9
_RATE_MAX = 10**11
_NUMBER_MAX = 1 << 53


def submit_arguments(shard: int, submission: Submission) -> list[Argument]:
    """What follows the key of the request. Raises ValueError for what would break the keys or the books."""
    _check(submission)
    ref, pool = submission.ref, submission.pool
    keys.queue(shard, pool, ref.tenant)  # checks the names
    keys.inbox(shard, submission.router)
    key, task = keys.label(submission.key, "key"), keys.label(submission.task, "task")
    arguments: list[Argument] = [
        *(keys.member(ref), ref.tenant, pool, submission.digest, submission.job, submission.decision),
        *(submission.router, submission.timeout_ms or 0, submission.prompt_tokens, submission.output_tokens),
        *(submission.priority.value, submission.weight, int(submission.migratable)),
        "" if submission.pool_max_waiting is None else submission.pool_max_waiting,
        f"{key}/{task} {_price(submission.price)} {_price(submission.fp8_price)}",
    ]
    for account in submission.accounts:
        arguments.append(keys.account(account.key, account.model))
        arguments += bounds_of(account.limits)
    return arguments


@lru_cache(maxsize=4096)
def bounds_of(limits: Limits) -> Sequence[Argument]:
    """The bounds in the order of the fields; '' for none. Raises ValueError for one below 0."""
    for limit in Limit:
        bound: int | None = getattr(limits, limit.value)
        if bound is not None and bound < 0:
            raise ValueError(f"Limits.{limit.value} must be 0 or more, or None for no bound, not {bound}")
    bounds = (
        (limits.requests_per_minute, _RATE_MAX),
        (limits.tokens_per_minute, _RATE_MAX),
        (limits.concurrent_requests, _NUMBER_MAX),
        (limits.queued_requests, _NUMBER_MAX),
        (limits.day_budget, _NUMBER_MAX),
        (limits.month_budget, _NUMBER_MAX),
    )
    return tuple("" if bound is None else min(bound, most) for bound, most in bounds)


def submit_result(submission: Submission, reply: Reply) -> SubmitResult:
    """The script's answer."""
    code, waiting, *more = replies.array(reply)
    status = SubmitStatus(replies.text(code))
    if status is SubmitStatus.OVER_LIMIT:
        index, limit, bound, used, wanted, retry_ms = more
        over = OverLimit(
            account=submission.accounts[replies.integer(index)],
            limit=Limit(replies.text(limit)),
            bound=replies.integer(bound),
            used=replies.integer(used),
            wanted=replies.integer(wanted),
            retry_after_ms=None if retry_ms is None else replies.integer(retry_ms),
        )
        return SubmitResult(status, replies.integer(waiting), over)
    wait_ms, run_ms = (replies.integer(each) for each in more) if status is SubmitStatus.TOO_LATE else (None, None)
    return SubmitResult(status, replies.integer(waiting), wait_ms=wait_ms, run_ms=run_ms)


@lru_cache(maxsize=1024)
def _price(price: Price) -> str:
    return f"{price.prompt} {price.cached_prompt} {price.output}"


def _check(submission: Submission) -> None:
    if not 0 < submission.weight < math.inf:
        raise ValueError(f"Submission.weight must be above 0 and finite, not {submission.weight}")
    if submission.timeout_ms is not None and submission.timeout_ms <= 0:
        raise ValueError(f"Submission.timeout_ms must be above 0 or None, not {submission.timeout_ms}")
    prompt, output = submission.prompt_tokens, submission.output_tokens
    if min(prompt, output) < 0 or prompt + output > _TOKENS_MAX:
        raise ValueError(
            f"Submission.prompt_tokens and output_tokens must be 0 to {_TOKENS_MAX}, not {prompt}, {output}"
        )
    for name, price in (("price", submission.price), ("fp8_price", submission.fp8_price)):
        prices = (price.prompt, price.cached_prompt, price.output)
        if min(prices) < 0 or max(prices) * (prompt + output) > _NUMBER_MAX:
            raise ValueError(f"Submission.{name} must not be negative, nor too high to be counted: {price}")
    accounts = [(account.key, account.model) for account in submission.accounts]
    if accounts[:1] != [("", "")] or len(set(accounts)) != len(accounts):
        raise ValueError(
            "Submission.accounts must begin with the tenant's own (no key, no model), each being there once"
        )
