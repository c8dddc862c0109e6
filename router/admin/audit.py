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
        return apb.ListAuditEventsResponse(
            events=[_message(event) for event in page.items], next_page_token=page_token(_KIND, page.cursor)
        )


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
