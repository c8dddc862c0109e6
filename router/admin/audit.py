"""The audit log: who changed what."""

from bitlane.v1 import admin_pb2 as apb
from broker.audit import Audit
from broker.types import AuditEvent
from router.admin.convert import timestamp
from router.admin.pages import bad_token, page_size, page_start, page_token
from router.admin.reach import reach
from router.directory.directory import Directory
from router.rpc import Call

_KIND = "audit"
_MAX_BYTES = 3 << 20  # of events in an answer: clients accept 4 MiB by default, and an event has up to 8 KiB


class AuditRoom:
    """The method of `bitlane.v1.AdminService` that is about the audit log."""

    def __init__(self, directory: Directory, audit: Audit) -> None:
        self._directory = directory
        self._audit = audit

    async def list_audit_events(self, request: apb.ListAuditEventsRequest, call: Call) -> apb.ListAuditEventsResponse:
        tenant = reach(self._directory, call.caller, request.tenant)
        size, before = page_size(request), page_start(request, _KIND)
        try:
            page = await self._audit.list(size, before, tenant)
        except ValueError:
            raise bad_token() from None
        events: list[apb.AuditEvent] = []
        room, last = _MAX_BYTES, ""
        for event in page.items:
            message = _message(event)
            room -= message.ByteSize()
            if room < 0:
                break
            events.append(message)
            last = event.event_id
        else:
            last = page.cursor
        return apb.ListAuditEventsResponse(events=events, next_page_token=page_token(_KIND, last))


def _message(event: AuditEvent) -> apb.AuditEvent:
    return apb.AuditEvent(
        time=timestamp(event.time_ms),
        actor=event.actor,
        action=event.action,
        resource=event.resource,
        tenant=event.tenant,
        before=event.before,
        after=event.after,
    )
