"""Requests: those that came last, and what happened to one. Never what they say."""

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from broker.client import Broker
from broker.story import RequestState, RequestView, Transition, TransitionKind
from broker.types import Outcome, RequestNotFound, RequestRef
from router.admin.convert import timestamp
from router.admin.pages import DEFAULT_SIZE, MAX_SIZE
from router.admin.reach import reach
from router.config import Config
from router.directory.directory import Directory
from router.faults import Violation, invalid, no_tenant, unknown_request
from router.rpc import Call
from router.validation import check_request_id

_STATES = {state: apb.RequestState.Value(f"REQUEST_STATE_{state.name}") for state in RequestState}
_OUTCOMES = {outcome: apb.RequestOutcome.Value(f"REQUEST_OUTCOME_{outcome.name}") for outcome in Outcome}
_KINDS = {
    TransitionKind.SUBMIT: apb.REQUEST_TRANSITION_KIND_SUBMITTED,
    TransitionKind.CLAIM: apb.REQUEST_TRANSITION_KIND_CLAIMED,
    TransitionKind.FIRST: apb.REQUEST_TRANSITION_KIND_FIRST_TOKEN,
    TransitionKind.RELEASE: apb.REQUEST_TRANSITION_KIND_RELEASED,
    TransitionKind.RECLAIM: apb.REQUEST_TRANSITION_KIND_RECLAIMED,
    TransitionKind.FENCE: apb.REQUEST_TRANSITION_KIND_FENCED,
    TransitionKind.ATTACH: apb.REQUEST_TRANSITION_KIND_ATTACHED,
    TransitionKind.ABANDON: apb.REQUEST_TRANSITION_KIND_ABANDONED,
    TransitionKind.CANCEL: apb.REQUEST_TRANSITION_KIND_CANCELLED,
    TransitionKind.END: apb.REQUEST_TRANSITION_KIND_ENDED,
    TransitionKind.REPLAY: apb.REQUEST_TRANSITION_KIND_REPLAYED,
    TransitionKind.DROPPED: apb.REQUEST_TRANSITION_KIND_DROPPED,
}
_BY_ROUTERS = {TransitionKind.SUBMIT, TransitionKind.ATTACH, TransitionKind.ABANDON}


class RequestRoom:
    """The methods of `bitlane.v1.AdminService` that are about single requests."""

    def __init__(self, config: Config, directory: Directory, broker: Broker) -> None:
        self._currency = config.currency
        self._directory = directory
        self._broker = broker

    async def list_recent_requests(
        self, request: apb.ListRecentRequestsRequest, call: Call
    ) -> apb.ListRecentRequestsResponse:
        tenant = reach(self._directory, call.caller, request.tenant)
        if request.limit > MAX_SIZE:
            raise invalid([Violation("limit", f"is {request.limit}; use 1 to {MAX_SIZE}, or 0 for {DEFAULT_SIZE}")])
        views = await self._broker.recent(request.limit or DEFAULT_SIZE, tenant)
        return apb.ListRecentRequestsResponse(requests=map(_status, views), currency=self._currency)

    async def get_request_story(self, request: apb.GetRequestStoryRequest, call: Call) -> apb.GetRequestStoryResponse:
        tenant = reach(self._directory, call.caller, request.tenant)
        if tenant is None:
            raise no_tenant()
        violations = check_request_id(request.request_id)
        if violations:
            raise invalid(violations)
        call.request_id = request.request_id
        try:
            story = await self._broker.story(RequestRef(tenant, request.request_id))
        except RequestNotFound:
            raise unknown_request(request.request_id) from None
        return apb.GetRequestStoryResponse(
            request=_status(story.request), transitions=map(_transition, story.transitions), currency=self._currency
        )


def _status(view: RequestView) -> apb.RequestStatus:
    status = apb.RequestStatus(
        tenant=view.ref.tenant,
        request_id=view.ref.request_id,
        key=view.key,
        state=_STATES[view.state],
        priority=pb.Priority.ValueType(view.priority.value),
        decision=job_pb2.Admission.FromString(view.decision).decision,
        worker=view.worker,
        attempts=view.attempts,
        outcome=_OUTCOMES[view.outcome] if view.outcome else apb.REQUEST_OUTCOME_UNSPECIFIED,
        detail=view.detail,
        usage=pb.Usage(
            prompt_tokens=view.usage.prompt_tokens,
            cached_prompt_tokens=view.usage.cached_prompt_tokens,
            output_tokens=view.usage.output_tokens,
        ),
        cost_nanos=view.cost,
        fp8_cost_nanos=view.fp8_cost,
        read_at=timestamp(view.now_ms),
    )
    if view.profile:
        status.profile.ParseFromString(view.profile)
    for field, time_ms in (
        (status.submitted_at, view.submitted_ms),
        (status.queued_at, view.queued_ms),
        (status.first_claimed_at, view.claimed_ms),
        (status.first_token_at, view.first_chunk_ms),
        (status.ended_at, view.ended_ms),
        (status.deadline, view.deadline_ms),
    ):
        if time_ms is not None:
            field.CopyFrom(timestamp(time_ms))
    return status


def _transition(step: Transition) -> apb.RequestTransition:
    kind = step.kind
    return apb.RequestTransition(
        time=timestamp(step.time_ms),
        kind=_KINDS[kind],
        router=step.who if kind in _BY_ROUTERS else "",
        worker="" if kind in _BY_ROUTERS else step.who,
        epoch=step.epoch,
        attempt=step.number if kind is TransitionKind.CLAIM else 0,
        failed=step.number == 1 and kind in {TransitionKind.RELEASE, TransitionKind.RECLAIM},
        index=step.number if kind is TransitionKind.FIRST else 0,
        detail=step.detail,
        dropped=step.number if kind is TransitionKind.DROPPED else 0,
    )
