"""What a shadow policy would have done: decided off the request path, counted, and written in batches."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import structlog

from broker.documents import Documents
from broker.types import BrokerUnavailable
from precision.decision import Decision, Features, Reason, Refusal
from precision.policy import Gates, Pools, decide
from precision.profile import Precision
from router.policies import Live, ShadowBook

_log = structlog.get_logger("bitlane.router")
_PERIOD_S = 0.5
_MOST_WAITING = 20_000  # requests; a flood beyond is not counted rather than kept


@dataclass(frozen=True, slots=True)
class Count:
    """How often the acting policy decided one thing and the shadow another. None: it refused."""

    acted: tuple[Precision, Reason] | None
    shadow: tuple[Precision, Reason] | None
    requests: int

    @property
    def differs(self) -> bool:
        """Whether another precision would have served, or only one of them refused."""
        return (self.acted and self.acted[0]) is not (self.shadow and self.shadow[0])


def counters_of(tenant: str, version: int) -> str:
    """The name of the counters of one shadow of a tenant."""
    return f"shadow/{tenant}/{version}"


class Shadows:
    """Decides requests of tenants that have a shadow a second time."""

    def __init__(self, book: ShadowBook, documents: Documents) -> None:
        self._book = book
        self._documents = documents
        self._waiting: list[tuple[Live, str, Features, Gates, Pools, Decision | Refusal]] = []
        self._counts: dict[str, Counter[str]] = {}

    def observe(self, tenant: str, features: Features, gates: Gates, pools: Pools, acted: Decision | Refusal) -> None:
        """Notes an outcome, if the tenant has a shadow. Cheap: it is judged later."""
        live = self._book.all.get(tenant)
        if live is not None and len(self._waiting) < _MOST_WAITING:
            self._waiting.append((live, tenant, features, gates, pools, acted))

    async def run(self) -> None:
        """Judges and writes until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            try:
                await self.flush()
            except BrokerUnavailable:
                continue  # the counts are kept; those that were under way may be counted twice

    async def flush(self) -> None:
        """Judges what waits and writes the counts.

        Raises:
            BrokerUnavailable: what was not written is kept.
        """
        waiting, self._waiting = self._waiting, []
        for number, (live, tenant, features, gates, pools, acted) in enumerate(waiting):
            shadow = decide(features, live.policy, gates, pools)
            name = counters_of(tenant, live.document.version)
            self._counts.setdefault(name, Counter())[_field(acted, shadow)] += 1
            if number % 100 == 99:
                await asyncio.sleep(0)  # streams go first
        for name in list(self._counts):
            counts = self._counts[name]
            await self._documents.count(name, counts)
            del self._counts[name]

    async def counts(self, tenant: str, version: int) -> list[Count]:
        """What all routers counted, most frequent first.

        Raises:
            BrokerUnavailable
        """
        found = await self._documents.counts(counters_of(tenant, version))
        counts = [_count(field, requests) for field, requests in found.items()]
        return sorted(counts, key=lambda count: (-count.requests, count.acted or (), count.shadow or ()))


def _field(acted: Decision | Refusal, shadow: Decision | Refusal) -> str:
    """The name of the counter for a pair of outcomes."""
    return "|".join(f"{o.precision.name}:{o.reason.name}" if isinstance(o, Decision) else "" for o in (acted, shadow))


def _count(field: str, requests: int) -> Count:
    acted, _, shadow = field.partition("|")
    return Count(_pair(acted), _pair(shadow), requests)


def _pair(text: str) -> tuple[Precision, Reason] | None:
    if not text:
        return None
    precision, _, reason = text.partition(":")
    return Precision[precision], Reason[reason]
