"""Messages of the policy API, from and to the router's own types. With router.convert the edge to protobuf."""

from collections.abc import Iterable

from google.protobuf import timestamp_pb2

from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from broker.documents import Document
from precision.decision import Decision, Refusal
from precision.policy.diff import Change
from precision.policy.reading import Fault as Finding
from router.gates import Gate
from router.shadow import Count


def version_message(tenant: str, document: Document, *, text: bool) -> ppb.PolicyVersion:
    return ppb.PolicyVersion(
        tenant=tenant,
        version=document.version,
        etag=document.etag,
        author=document.author,
        created_at=_timestamp(document.time_ms),
        note=document.note,
        document=document.text if text else "",
    )


def finding_messages(findings: Iterable[Finding]) -> list[ppb.PolicyFinding]:
    return [ppb.PolicyFinding(path=finding.path, description=finding.reason) for finding in findings]


def change_messages(changes: Iterable[Change]) -> list[ppb.PolicyChange]:
    return [ppb.PolicyChange(path=change.path, before=change.before, after=change.after) for change in changes]


def outcome_message(outcome: Decision | Refusal) -> ppb.ReplayOutcome:
    if isinstance(outcome, Refusal):
        return ppb.ReplayOutcome(refusal=outcome.message)
    return ppb.ReplayOutcome(
        precision=pb.Precision.ValueType(outcome.precision),
        reason=pb.DecisionReason.ValueType(outcome.reason),
        rule=outcome.rule,
    )


def count_message(count: Count) -> ppb.ShadowCount:
    message = ppb.ShadowCount(requests=count.requests)
    if count.acted is not None:
        message.acted_precision = pb.Precision.ValueType(count.acted[0])
        message.acted_reason = pb.DecisionReason.ValueType(count.acted[1])
    if count.shadow is not None:
        message.shadow_precision = pb.Precision.ValueType(count.shadow[0])
        message.shadow_reason = pb.DecisionReason.ValueType(count.shadow[1])
    return message


def gate_message(gate: Gate) -> ppb.Gate:
    message = ppb.Gate(
        model=gate.key.model,
        checkpoint_digest=gate.key.digest,
        task=pb.Task.ValueType(gate.key.task),
        state=pb.GateState.ValueType(gate.state),
        author=gate.author,
        evidence=gate.evidence,
    )
    if gate.time_ms is not None:
        message.set_at.CopyFrom(_timestamp(gate.time_ms))
    return message


def _timestamp(time_ms: int) -> timestamp_pb2.Timestamp:
    timestamp = timestamp_pb2.Timestamp()
    timestamp.FromMilliseconds(time_ms)
    return timestamp
