"""Who was refused a moment ago: it is refused again at once, before its prompt is looked at.

A tenant far above its limits must not cost the others anything. What is remembered is never longer than it is true: a
bucket of requests is known to have nothing until a time; a bucket of tokens can get some back at any moment, so that it
is asked again soon, and at once for less than was refused.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from broker.types import Account, Limit, OverLimit

_TOKENS_S = 0.1
_MOST = 10_000  # accounts; those whose time is over are forgotten then
_REMEMBERED = (Limit.REQUESTS_PER_MINUTE, Limit.TOKENS_PER_MINUTE)


@dataclass(frozen=True, slots=True)
class _Refused:
    over: OverLimit
    until: float  # of time.monotonic: nothing is admitted before
    retry_at: float


class Throttle:
    """The refusals of this router."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str, str, Limit], _Refused] = {}

    def refusal(self, tenant: str, accounts: Iterable[Account], tokens: int) -> OverLimit | None:
        """Why a request of these tokens is certain to be refused; None when it is not."""
        if not self._refused:
            return None
        now = time.monotonic()
        for account in accounts:
            for limit in _REMEMBERED:
                refused = self._refused.get((tenant, account.key, account.model, limit))
                if refused is None or now >= refused.until or refused.over.account.limits != account.limits:
                    continue
                if limit is Limit.TOKENS_PER_MINUTE and tokens < refused.over.wanted:
                    continue
                wanted = tokens if limit is Limit.TOKENS_PER_MINUTE else 1
                return replace(refused.over, wanted=wanted, retry_after_ms=math.ceil((refused.retry_at - now) * 1000))
        return None

    def remember(self, tenant: str, over: OverLimit, asked_at: float) -> None:
        """Takes over what the broker answered to a question that was asked at that time of time.monotonic."""
        if over.limit not in _REMEMBERED or over.retry_after_ms is None:
            return
        retry_at = asked_at + over.retry_after_ms / 1000
        until = min(retry_at, asked_at + _TOKENS_S) if over.limit is Limit.TOKENS_PER_MINUTE else retry_at
        if len(self._refused) >= _MOST:
            now = time.monotonic()
            self._refused = {account: refused for account, refused in self._refused.items() if now < refused.until}
        if len(self._refused) < _MOST:
            account = over.account
            self._refused[tenant, account.key, account.model, over.limit] = _Refused(over, until, retry_at)
