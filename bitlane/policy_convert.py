"""Between the messages of the policy API and the SDK's own types. With convert.py the edge at which wire types end."""

from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from bitlane import policy_types as t
from bitlane.convert import DECISION_REASONS, GATE_STATES, PRECISIONS, TASKS
from bitlane.types import DecisionReason, GateState, Precision, Task
from bitlane.v1 import policy_pb2 as pb


def version(message: pb.PolicyVersion) -> t.PolicyVersion:
    return t.PolicyVersion(
        tenant=message.tenant,
        version=message.version,
        etag=message.etag,
        author=message.author,
        created_at=_time(message.created_at) if message.HasField("created_at") else None,
        note=message.note,
        document=message.document,
    )


def findings(messages: Iterable[pb.PolicyFinding]) -> tuple[t.Finding, ...]:
    return tuple(t.Finding(message.path, message.description) for message in messages)


def change(message: pb.PolicyChange) -> t.PolicyChange:
    return t.PolicyChange(message.path, message.before, message.after)


def result(message: pb.ReplayResult) -> t.ReplayResult:
    task = TASKS.get(message.task, Task.UNSPECIFIED)
    return t.ReplayResult(task, _outcome(message.before), _outcome(message.after))


def _outcome(message: pb.ReplayOutcome) -> t.ReplayOutcome:
    return t.ReplayOutcome(
        precision=_precision(message.precision) if message.precision else None,
        reason=_reason(message.reason) if message.reason else None,
        rule=message.rule,
        refusal=message.refusal,
    )


def shadow(message: pb.GetShadowPolicyResponse) -> t.Shadow | None:
    if not message.HasField("shadow"):
        return None
    return t.Shadow(
        policy=version(message.shadow),
        requests=message.requests,
        differing=message.differing,
        counts=tuple(_count(count) for count in message.counts),
    )


def _count(message: pb.ShadowCount) -> t.ShadowCount:
    return t.ShadowCount(
        acted_precision=_precision(message.acted_precision) if message.acted_precision else None,
        acted_reason=_reason(message.acted_reason) if message.acted_reason else None,
        shadow_precision=_precision(message.shadow_precision) if message.shadow_precision else None,
        shadow_reason=_reason(message.shadow_reason) if message.shadow_reason else None,
        requests=message.requests,
    )


def gate(message: pb.Gate) -> t.Gate:
    return t.Gate(
        model=message.model,
        checkpoint_digest=message.checkpoint_digest,
        task=TASKS.get(message.task, Task.UNSPECIFIED),
        state=GATE_STATES.get(message.state, GateState.UNSPECIFIED),
        author=message.author,
        set_at=_time(message.set_at) if message.HasField("set_at") else None,
        evidence=message.evidence,
    )


def _precision(number: int) -> Precision:
    return PRECISIONS.get(number, Precision.UNSPECIFIED)


def _reason(number: int) -> DecisionReason:
    return DECISION_REASONS.get(number, DecisionReason.UNSPECIFIED)


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
