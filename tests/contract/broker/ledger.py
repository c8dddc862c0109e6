"""What accounts admit, hold and have spent, once more and naively: from lists of all that happened, by `datetime`."""

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from broker.types import Account, Limit, Limits, OverLimit, Price, Submission, Usage

MINUTE_MS = 60_000
USAGE_LENGTHS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}

AccountKey = tuple[str, str, str]  # tenant, key, model
Level = tuple[Fraction, int]  # what has not leaked, as of when


def keys_of(submission: Submission) -> list[AccountKey]:
    return [(submission.ref.tenant, account.key, account.model) for account in submission.accounts]


def cost_of(price: Price, usage: Usage) -> int:
    cached = min(usage.prompt_tokens, usage.cached_prompt_tokens)
    new = usage.prompt_tokens - cached
    return new * price.prompt + cached * price.cached_prompt + usage.output_tokens * price.output


def reserved_cost_of(submission: Submission) -> int:
    return cost_of(submission.price, Usage(submission.prompt_tokens, 0, submission.output_tokens))


@dataclass
class Ending:
    """One ending of one request."""

    submission: Submission
    ended_ms: int
    failed: bool
    usage: Usage

    @property
    def cost(self) -> int:
        return 0 if self.failed else cost_of(self.submission.price, self.usage)

    @property
    def fp8_cost(self) -> int:
        return 0 if self.failed else cost_of(self.submission.fp8_price, self.usage)


@dataclass
class Ledger:
    requests: dict[AccountKey, Level] = field(default_factory=dict[AccountKey, Level])
    tokens: dict[AccountKey, Level] = field(default_factory=dict[AccountKey, Level])
    endings: list[Ending] = field(default_factory=list[Ending])

    def over(self, submission: Submission, open_requests: list[tuple[Submission, bool]], now: int) -> OverLimit | None:
        """The first bound that refuses a submission. `open_requests` are those not ended, and whether each waits."""
        for key, account in zip(keys_of(submission), submission.accounts, strict=True):
            counted = [(other, waits) for other, waits in open_requests if key in keys_of(other)]
            for limit in Limit:
                bound: int | None = getattr(account.limits, limit.value)
                if bound is not None:
                    refused = self._refused(submission, account, key, limit, bound, counted, now)
                    if refused is not None:
                        return refused
        return None

    def _refused(
        self,
        submission: Submission,
        account: Account,
        key: AccountKey,
        limit: Limit,
        bound: int,
        counted: list[tuple[Submission, bool]],
        now: int,
    ) -> OverLimit | None:
        retry: int | None = None
        used: int | Fraction
        wanted = 1
        match limit:
            case Limit.REQUESTS_PER_MINUTE:
                used = self.level(self.requests, key, bound, now)
                retry = self._when(used + 1 - bound, bound)
            case Limit.TOKENS_PER_MINUTE:
                wanted = submission.prompt_tokens + submission.output_tokens
                used = self.level(self.tokens, key, bound, now)
                retry = self._when(used + wanted - bound, bound)
            case Limit.CONCURRENT_REQUESTS:
                used = len(counted)
            case Limit.QUEUED_REQUESTS:
                used = sum(waits for _, waits in counted)
            case Limit.DAY_BUDGET | Limit.MONTH_BUDGET:
                wanted = reserved_cost_of(submission)
                day, month = self.spent(key, now)
                used = day if limit is Limit.DAY_BUDGET else month
                used += sum(reserved_cost_of(other) for other, _ in counted)
                retry = end_of_day(now) - now if limit is Limit.DAY_BUDGET else end_of_month(now) - now
        if used + wanted <= bound:
            return None
        return OverLimit(account, limit, bound, math.ceil(used), wanted, retry if wanted <= bound else None)

    def _when(self, over: Fraction, bound: int) -> int | None:
        return math.ceil(over * MINUTE_MS / bound) if bound else None

    def level(self, levels: dict[AccountKey, Level], key: AccountKey, bound: int, now: int) -> Fraction:
        level, since = levels.get(key, (Fraction(0), 0))
        return max(Fraction(0), level - Fraction((now - since) * bound, MINUTE_MS))

    def admit(self, submission: Submission, now: int) -> set[AccountKey]:
        """Takes from the buckets; returns the accounts whose tokens were taken."""
        took = set[AccountKey]()
        for key, account in zip(keys_of(submission), submission.accounts, strict=True):
            limits: Limits = account.limits
            if (rate := limits.requests_per_minute) is not None:
                self.requests[key] = (self.level(self.requests, key, rate, now) + 1, now)
            if (rate := limits.tokens_per_minute) is not None:
                wanted = submission.prompt_tokens + submission.output_tokens
                self.tokens[key] = (self.level(self.tokens, key, rate, now) + wanted, now)
                took.add(key)
        return took

    def end(self, ending: Ending, took: set[AccountKey]) -> None:
        self.endings.append(ending)
        submission, usage = ending.submission, ending.usage
        reserved = submission.prompt_tokens + submission.output_tokens
        for key in took:
            level, since = self.tokens[key]
            self.tokens[key] = (level + usage.prompt_tokens + usage.output_tokens - reserved, since)

    def spent(self, key: AccountKey, now: int) -> tuple[int, int]:
        """In this day and this month of UTC."""
        today = at(now)
        day = month = 0
        for ending in self.endings:
            ended = at(ending.ended_ms)
            if key in keys_of(ending.submission):
                day += ending.cost if ended.date() == today.date() else 0
                month += ending.cost if (ended.year, ended.month) == (today.year, today.month) else 0
        return day, month

    def usage(self) -> dict[str, dict[str, int]]:
        """The fields of every usage hash, by the rest of its name."""
        hashes: dict[str, Counter[str]] = {}
        for ending in self.endings:
            submission, usage = ending.submission, ending.usage
            row = f"{submission.key} {submission.pool} {submission.task}"
            amounts = {
                "requests": 1,
                "failed": int(ending.failed),
                "prompt": usage.prompt_tokens,
                "cached": usage.cached_prompt_tokens,
                "output": usage.output_tokens,
                "cost": ending.cost,
                "fp8_cost": ending.fp8_cost,
            }
            for interval, length in USAGE_LENGTHS.items():
                name = f"{submission.ref.tenant}:{interval}:{ending.ended_ms // length}"
                counter = hashes.setdefault(name, Counter())
                counter.update({f"{row} {metric}": amount for metric, amount in amounts.items() if amount})
        return {name: dict(counter) for name, counter in hashes.items()}


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC)


def end_of_day(now: int) -> int:
    return round((at(now).replace(hour=0, minute=0, second=0) + timedelta(days=1)).timestamp()) * 1000


def end_of_month(now: int) -> int:
    first = at(now).replace(day=1, hour=0, minute=0, second=0)
    return round((first + timedelta(days=32)).replace(day=1).timestamp()) * 1000
