"""Protobuf at the edge: the one place where the router turns its own types from and into messages."""

from collections.abc import Iterable, Sequence

from google.protobuf import duration_pb2

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from broker.types import Ending, Outcome, PoolState
from precision.decision import Decision, Step
from precision.profile import Precision

_FINISH_REASONS = {
    Outcome.STOP: pb.FINISH_REASON_STOP,
    Outcome.LENGTH: pb.FINISH_REASON_LENGTH,
    Outcome.CANCELLED: pb.FINISH_REASON_CANCELLED,
}


def decision_message(decision: Decision) -> pb.Decision:
    return pb.Decision(
        precision=pb.Precision.ValueType(decision.precision),
        pool=decision.pool,
        reason=pb.DecisionReason.ValueType(decision.reason),
        rule=decision.rule,
        policy_version=decision.policy_version,
        task=pb.Task.ValueType(decision.task),
        task_source=pb.TaskSource.ValueType(decision.task_source),
        task_confidence=decision.task_confidence,
        sensitivity=pb.Sensitivity.ValueType(decision.task.sensitivity),
        gate=pb.GateState.ValueType(decision.gate),
        risk=decision.risk,
        ignored_field=decision.ignored,
    )


def step_messages(steps: Iterable[Step]) -> list[pb.DecisionStep]:
    return [pb.DecisionStep(name=step.name, applied=step.applied, detail=step.detail) for step in steps]


def accepted_event(request_id: str, decision: pb.Decision) -> pb.GenerateEvent:
    return pb.GenerateEvent(accepted=pb.Accepted(request_id=request_id, decision=decision))


def delta_message(index: int, chunks: Sequence[bytes]) -> pb.Delta:
    """Merges chunks that lie side by side in the log, the first of them with number `index`."""
    parsed = [job_pb2.Chunk.FromString(chunk) for chunk in chunks]
    delta = pb.Delta(index=index, next_index=index + len(chunks), text="".join(chunk.text for chunk in parsed))
    for chunk in parsed:
        delta.token_ids.extend(chunk.token_ids)
        delta.logprobs.extend(chunk.logprobs)
    return delta


def finish_reason(outcome: Outcome) -> pb.FinishReason.ValueType:
    """UNSPECIFIED for an outcome that is an error."""
    return _FINISH_REASONS.get(outcome, pb.FINISH_REASON_UNSPECIFIED)


def usage_message(ending: Ending) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=ending.usage.prompt_tokens,
        cached_prompt_tokens=ending.usage.cached_prompt_tokens,
        output_tokens=ending.usage.output_tokens,
    )


def finished_message(ending: Ending, decision: pb.Decision) -> pb.Finished:
    receipt = pb.Receipt(
        decision=decision,
        attempts=ending.attempts,
        total_time=_duration(ending.submitted_ms, ending.ended_ms),
    )
    if ending.profile:
        receipt.profile.ParseFromString(ending.profile)
    if ending.claimed_ms is not None:
        receipt.queue_time.CopyFrom(_duration(ending.submitted_ms, ending.claimed_ms))
    if ending.first_chunk_ms is not None:
        receipt.time_to_first_token.CopyFrom(_duration(ending.submitted_ms, ending.first_chunk_ms))
    return pb.Finished(reason=finish_reason(ending.outcome), usage=usage_message(ending), receipt=receipt)


def pool_message(name: str, precision: Precision, state: PoolState | None) -> pb.Pool:
    """A pool as the registry shows it; `state` None: nothing is known, nobody works."""
    pool = pb.Pool(name=name, precision=pb.Precision.ValueType(precision))
    if state is None:
        return pool
    pool.workers = len(state.workers)
    pool.slots = sum(worker.slots for worker in state.workers)
    pool.running = state.running
    pool.waiting = state.waiting
    if state.workers:
        pool.profile.ParseFromString(state.workers[0].profile)
    return pool


def completion(request_id: str, delta: pb.Delta, finished: pb.Finished) -> pb.CompleteResponse:
    """The whole reply in one message; `delta` holds all chunks."""
    return pb.CompleteResponse(
        request_id=request_id,
        text=delta.text,
        token_ids=delta.token_ids,
        logprobs=delta.logprobs,
        finish_reason=finished.reason,
        usage=finished.usage,
        receipt=finished.receipt,
    )


def _duration(start_ms: int, end_ms: int) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(max(0, end_ms - start_ms))
    return duration
