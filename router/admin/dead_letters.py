"""Dead letters: requests that failed on every attempt."""

from bitlane.v1 import admin_pb2 as apb
from broker.client import Broker
from broker.types import DeadLetter, RequestRef
from router.admin.convert import timestamp
from router.admin.faults import unknown_letter
from router.admin.pages import bad_token, page_size, page_start, page_token
from router.admin.reach import reach
from router.directory.directory import Directory
from router.faults import invalid
from router.managed import managed_tenant
from router.rpc import Call
from router.validation import check_request_id

_KIND = "letters"


class LetterRoom:
    """The methods of `bitlane.v1.AdminService` that are about dead letters."""

    def __init__(self, directory: Directory, broker: Broker) -> None:
        self._directory = directory
        self._broker = broker

    async def list_dead_letters(self, request: apb.ListDeadLettersRequest, call: Call) -> apb.ListDeadLettersResponse:
        tenant = reach(self._directory, call.caller, request.tenant)
        size, before = page_size(request), page_start(request, _KIND)
        try:
            page = await self._broker.dead_letters(size, tenant, before)
        except ValueError:
            raise bad_token() from None
        return apb.ListDeadLettersResponse(
            letters=[_message(letter) for letter in page.items], next_page_token=page_token(_KIND, page.cursor)
        )

    async def replay_dead_letter(
        self, request: apb.ReplayDeadLetterRequest, call: Call
    ) -> apb.ReplayDeadLetterResponse:
        ref = self._ref(request.tenant, request.request_id, call)
        await self._record(ref, "ReplayDeadLetter", call, after="waiting")
        if not await self._broker.replay(ref):
            raise unknown_letter(ref.request_id)
        return apb.ReplayDeadLetterResponse()

    async def purge_dead_letter(self, request: apb.PurgeDeadLetterRequest, call: Call) -> apb.PurgeDeadLetterResponse:
        ref = self._ref(request.tenant, request.request_id, call)
        await self._record(ref, "PurgeDeadLetter", call, after="")
        if not await self._broker.purge(ref):
            raise unknown_letter(ref.request_id)
        return apb.PurgeDeadLetterResponse()

    def _ref(self, tenant: str, request_id: str, call: Call) -> RequestRef:
        owner = managed_tenant(self._directory, call.caller, tenant)
        violations = check_request_id(request_id)
        if violations:
            raise invalid(violations)
        call.request_id = request_id
        return RequestRef(owner.id, request_id)

    async def _record(self, ref: RequestRef, action: str, call: Call, after: str) -> None:
        """Before it is done: what nobody can be asked about afterwards would be worse than a try that found nothing."""
        resource = f"dead-letter/{ref.tenant}/{ref.request_id}"
        await self._broker.audit.record(call.caller.name, action, resource, ref.tenant, "dead", after)


def _message(letter: DeadLetter) -> apb.DeadLetter:
    return apb.DeadLetter(
        tenant=letter.ref.tenant,
        request_id=letter.ref.request_id,
        pool=letter.pool,
        attempts=letter.attempts,
        detail=letter.detail,
        worker=letter.worker,
        died_at=timestamp(letter.died_ms),
    )
