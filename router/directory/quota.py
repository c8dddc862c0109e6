"""Bounds on what a tenant or a key may use, as somebody set them, and as they apply."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from broker.types import Limits
from router.directory.stored import Stored

UNBOUNDED = -1
# What a double counts exactly: the broker's scripts know no other numbers. As nanos: nine million of the currency.
MOST = (1 << 53) - 1

Bound = Annotated[int, Field(ge=UNBOUNDED, le=MOST)]


class LimitSettings(Stored):
    """Bounds by what they bound. None: not set; -1: unbounded; 0: nothing is admitted."""

    requests_per_minute: Bound | None = None
    tokens_per_minute: Bound | None = None
    concurrent_requests: Bound | None = None
    queued_requests: Bound | None = None
    day_budget_nanos: Bound | None = None
    month_budget_nanos: Bound | None = None

    def applied(self, defaults: Limits) -> Limits:
        """As the broker keeps them, with a default for what is not set."""
        return Limits(
            _bound(self.requests_per_minute, defaults.requests_per_minute),
            _bound(self.tokens_per_minute, defaults.tokens_per_minute),
            _bound(self.concurrent_requests, defaults.concurrent_requests),
            _bound(self.queued_requests, defaults.queued_requests),
            _bound(self.day_budget_nanos, defaults.day_budget),
            _bound(self.month_budget_nanos, defaults.month_budget),
        )


class Quota(Stored):
    """Bounds for all models together, and for single models beside them: a request keeps both."""

    limits: LimitSettings = LimitSettings()
    model_limits: Mapping[str, LimitSettings] = Field(default_factory=dict)


NO_QUOTA = Quota()
NO_LIMITS = Limits()


def _bound(own: int | None, default: int | None) -> int | None:
    if own is None:
        return default
    return None if own == UNBOUNDED else own
