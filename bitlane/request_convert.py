"""Between the messages about single requests and the SDK's own types."""

from bitlane import convert
from bitlane import request_types as t
from bitlane.admin_convert import moment
from bitlane.convert import PRIORITIES, enum_members, known
from bitlane.money import from_nanos
from bitlane.v1 import admin_pb2 as pb

STATES = enum_members(t.RequestState, pb.RequestState.items())
OUTCOMES = enum_members(t.RequestOutcome, pb.RequestOutcome.items())
KINDS = enum_members(t.TransitionKind, pb.RequestTransitionKind.items())


def request_status(message: pb.RequestStatus, currency: str) -> t.RequestStatus:
    return t.RequestStatus(
        tenant=message.tenant,
        request_id=message.request_id,
        key=message.key,
        state=known(STATES, message.state),
        priority=known(PRIORITIES, message.priority),
        decision=convert.decision(message.decision),
        worker=message.worker,
        profile=convert.profile(message.profile) if message.HasField("profile") else None,
        attempts=message.attempts,
        submitted_at=moment(message, "submitted_at"),
        queued_at=moment(message, "queued_at"),
        first_claimed_at=moment(message, "first_claimed_at"),
        first_token_at=moment(message, "first_token_at"),
        ended_at=moment(message, "ended_at"),
        deadline=moment(message, "deadline"),
        outcome=known(OUTCOMES, message.outcome) if message.outcome else None,
        detail=message.detail,
        usage=convert.usage(message.usage),
        cost=from_nanos(message.cost_nanos),
        fp8_cost=from_nanos(message.fp8_cost_nanos),
        currency=currency,
        read_at=moment(message, "read_at"),
    )


def request_story(message: pb.GetRequestStoryResponse) -> t.RequestStory:
    return t.RequestStory(
        request=request_status(message.request, message.currency),
        transitions=tuple(_transition(step) for step in message.transitions),
    )


def _transition(message: pb.RequestTransition) -> t.Transition:
    return t.Transition(
        time=moment(message, "time"),
        kind=known(KINDS, message.kind),
        router=message.router,
        worker=message.worker,
        epoch=message.epoch,
        attempt=message.attempt,
        failed=message.failed,
        index=message.index,
        detail=message.detail,
        dropped=message.dropped,
    )
