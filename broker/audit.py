"""Who changed what: a capped log beside the documents, in the same slot, so that a put writes both at once."""

from collections.abc import Sequence

from broker import keys, replies
from broker.pages import read_page
from broker.pipeline import Pipeline
from broker.types import AuditEvent, Page


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
        return await read_page(
            self._read, lambda event: event.event_id, lambda event: tenant in (None, event.tenant), limit, before_id
        )

    async def _read(self, before_id: str, count: int) -> Sequence[AuditEvent]:
        start = replies.before_entry(before_id)
        entries = await self._pipeline.command("XREVRANGE", keys.audit(), start, "-", "COUNT", count)
        return [replies.audit_event(entry) for entry in replies.array(entries)]
