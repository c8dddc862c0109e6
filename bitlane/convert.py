"""Between protobuf and the SDK's own types. The only place that knows both."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from bitlane import types as t
from bitlane.v1 import inference_pb2 as pb

_Member = TypeVar("_Member", bound=StrEnum)


def enum_members(enum: type[_Member], values: Iterable[tuple[str, int]]) -> Mapping[int, _Member]:
    """Numbers to members. Both sides use the same names, the protobuf ones behind a prefix such as `PRECISION_`."""
    rows = list(values)
    prefix = next(name for name, number in rows if number == 0).removesuffix("UNSPECIFIED")
    return {number: enum[name.removeprefix(prefix)] for name, number in rows}


PRECISIONS = enum_members(t.Precision, pb.Precision.items())
TASKS = enum_members(t.Task, pb.Task.items())
SENSITIVITIES = enum_members(t.Sensitivity, pb.Sensitivity.items())
PRIORITIES = enum_members(t.Priority, pb.Priority.items())
ROLES = enum_members(t.Role, pb.Role.items())
FINISH_REASONS = enum_members(t.FinishReason, pb.FinishReason.items())
DECISION_REASONS = enum_members(t.DecisionReason, pb.DecisionReason.items())
GATE_STATES = enum_members(t.GateState, pb.GateState.items())
TASK_SOURCES = enum_members(t.TaskSource, pb.TaskSource.items())
COMPUTE_PATHS = enum_members(t.ComputePath, pb.ComputePath.items())


def known(members: Mapping[int, _Member], number: int) -> _Member:
    """UNSPECIFIED for what this version does not know."""
    return members.get(number, members[0])


def precision_to_wire(precision: t.Precision) -> pb.Precision.ValueType:
    return pb.Precision.Value(f"PRECISION_{precision.name}")


def task_to_wire(task: t.Task) -> pb.Task.ValueType:
    return pb.Task.Value(f"TASK_{task.name}")


def priority_to_wire(priority: t.Priority) -> pb.Priority.ValueType:
    return pb.Priority.Value(f"PRIORITY_{priority.name}")


def gate_state_to_wire(state: t.GateState) -> pb.GateState.ValueType:
    return pb.GateState.Value(f"GATE_STATE_{state.name}")


def role_to_wire(role: t.Role) -> pb.Role.ValueType:
    return pb.Role.Value(f"ROLE_{role.name}")


def duration_to_wire(seconds: float) -> Duration:
    whole, nanos = divmod(round(seconds * 1_000_000_000), 1_000_000_000)
    return Duration(seconds=whole, nanos=nanos)


def seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1_000_000_000


def decision(message: pb.Decision) -> t.Decision:
    return t.Decision(
        precision=known(PRECISIONS, message.precision),
        pool=message.pool,
        reason=known(DECISION_REASONS, message.reason),
        rule=message.rule,
        policy_version=message.policy_version,
        task=known(TASKS, message.task),
        task_source=known(TASK_SOURCES, message.task_source),
        # A float32 on the wire: 0.9 comes as 0.8999999761581421.
        task_confidence=round(message.task_confidence, 6),
        sensitivity=known(SENSITIVITIES, message.sensitivity),
        gate=known(GATE_STATES, message.gate),
        risk=round(message.risk, 6) if message.HasField("risk") else None,
        ignored_field=message.ignored_field,
    )


def accepted(message: pb.Accepted) -> t.Accepted:
    return t.Accepted(request_id=message.request_id, decision=decision(message.decision))


def _logprobs(messages: Iterable[pb.TokenLogprobs]) -> tuple[t.TokenLogprobs, ...]:
    return tuple(
        t.TokenLogprobs(
            logprob=message.logprob,
            top=tuple(t.TopLogprob(token_id=top.token_id, logprob=top.logprob) for top in message.top),
        )
        for message in messages
    )


def delta(message: pb.Delta) -> t.Delta:
    return t.Delta(
        index=message.index,
        next_index=message.next_index,
        text=message.text,
        token_ids=tuple(message.token_ids),
        logprobs=_logprobs(message.logprobs),
    )


def usage(message: pb.Usage) -> t.Usage:
    return t.Usage(
        prompt_tokens=message.prompt_tokens,
        cached_prompt_tokens=message.cached_prompt_tokens,
        output_tokens=message.output_tokens,
    )


def profile(message: pb.Profile) -> t.Profile:
    return t.Profile(
        precision=known(PRECISIONS, message.precision),
        weight_format=message.weight_format,
        activation_format=message.activation_format,
        kv_cache_format=message.kv_cache_format,
        group_size=message.group_size,
        compute_path=known(COMPUTE_PATHS, message.compute_path),
        checkpoint_digest=message.checkpoint_digest,
        calibrated=message.calibrated,
        engine=message.engine,
        engine_version=message.engine_version,
        gpu=message.gpu,
        sm=message.sm,
    )


def receipt(message: pb.Receipt) -> t.Receipt:
    return t.Receipt(
        decision=decision(message.decision),
        profile=profile(message.profile) if message.HasField("profile") else None,
        attempts=message.attempts,
        queue_time=seconds(message.queue_time),
        time_to_first_token=seconds(message.time_to_first_token),
        total_time=seconds(message.total_time),
    )


def finished(message: pb.Finished) -> t.Finished:
    return t.Finished(
        reason=known(FINISH_REASONS, message.reason),
        usage=usage(message.usage),
        receipt=receipt(message.receipt),
    )


def event(message: pb.GenerateEvent) -> t.Accepted | t.Delta | t.Finished | None:
    """None for an event that this version does not know."""
    match message.WhichOneof("event"):
        case "delta":
            return delta(message.delta)
        case "accepted":
            return accepted(message.accepted)
        case "finished":
            return finished(message.finished)
        case None:
            return None


def cancellation(message: pb.CancelResponse) -> t.Cancellation:
    return t.Cancellation(
        cancelled=message.cancelled,
        reason=known(FINISH_REASONS, message.reason) if message.reason else None,
        usage=usage(message.usage),
    )


def pool(message: pb.Pool) -> t.Pool:
    return t.Pool(
        name=message.name,
        precision=known(PRECISIONS, message.precision),
        workers=message.workers,
        slots=message.slots,
        running=message.running,
        waiting=message.waiting,
        profile=profile(message.profile) if message.HasField("profile") else None,
    )


def model(message: pb.Model) -> t.Model:
    return t.Model(
        name=message.name,
        context_tokens=message.context_tokens,
        pools=tuple(pool(each) for each in message.pools),
    )


def explanation(message: pb.ExplainResponse) -> t.Explanation:
    return t.Explanation(
        decision=decision(message.decision),
        steps=tuple(t.DecisionStep(name=step.name, applied=step.applied, detail=step.detail) for step in message.steps),
        pools=tuple(pool(each) for each in message.pools),
        estimated_prompt_tokens=message.estimated_prompt_tokens,
        language=message.language or "unknown",
    )
