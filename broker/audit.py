"""Who changed what: a capped log beside the documents, in the same slot, so that a put writes both at once."""

from collections.abc import Sequence

from broker import keys, replies
from broker.pipeline import Pipeline
from broker.types import AuditEvent, Page

# How many entries one call looks at, for a tenant with few among many; each holds at most 8 KiB.
_AT_ONCE = 100
_LOOKED_AT_MAX = 1000


class Audit:
    """The log. Both methods raise BrokerUnavailable when the server is away."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def record(self, actor: str, action: str, resource: str, tenant: str, before: str, after: str) -> None:
        """Adds a change of what is no document; documents tell of theirs. Not safe to repeat: it may be there twice."""
        texts = [text.encode(errors="replace") for text in (actor, action, resource, tenant, before, after)]
        await self._pipeline.run("audit", [keys.audit()], *texts)

    async def list(self, limit: int = 100, before_id: str = "", tenant: str | None = None) -> Page[AuditEvent]:
        """Changes before an event, of one tenant or of all, newest first. About the newest 10,000 are kept.

        Raises ValueError for a `before_id` that is no event's.
        """
        limit = max(1, limit)
        found: list[AuditEvent] = []
        position, looked_at = before_id, 0
        while looked_at < _LOOKED_AT_MAX:
            events = await self._read(_AT_ONCE if tenant is not None else min(limit, _AT_ONCE), position)
            for event in events:
                looked_at += 1
                position = event.event_id
                if tenant in (None, event.tenant):
                    found.append(event)
                    if len(found) == limit:
                        return Page(tuple(found), position)
            if not events:
                return Page(tuple(found), "")
        return Page(tuple(found), position)

    async def _read(self, count: int, before_id: str) -> Sequence[AuditEvent]:
        start = replies.before_entry(before_id)
        entries = await self._pipeline.command("XREVRANGE", keys.audit(), start, "-", "COUNT", count)
        return [replies.audit_event(entry) for entry in replies.array(entries)]
