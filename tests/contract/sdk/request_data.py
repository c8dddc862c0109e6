"""Requests and their stories as a server tells them: of one that migrated, waits, runs, or died."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from bitlane import Decision, Precision, Priority, Profile, Task, Usage
from bitlane.request_types import (
    RequestOutcome,
    RequestState,
    RequestStatus,
    RequestStory,
    Transition,
    TransitionKind,
)
from bitlane.types import ComputePath, DecisionReason, GateState, Sensitivity, TaskSource
from bitlane.v1 import admin_pb2 as pb
from bitlane.v1 import inference_pb2 as ipb

START = datetime(2026, 11, 20, 17, 4, 5, tzinfo=UTC)


def at(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(START + timedelta(seconds=seconds))
    return stamp


def step(seconds: float, kind: str, **more: Any) -> pb.RequestTransition:
    return pb.RequestTransition(
        time=at(seconds), kind=pb.RequestTransitionKind.Value(f"REQUEST_TRANSITION_KIND_{kind.upper()}"), **more
    )


DECISION = ipb.Decision(
    precision=ipb.PRECISION_FP4,
    pool="smollm2/fp4",
    reason=ipb.DECISION_REASON_GATE_PASSED,
    rule="drafts",
    policy_version="v7",
    task=ipb.TASK_SUMMARIZATION,
    task_source=ipb.TASK_SOURCE_CLASSIFIER,
    task_confidence=0.875,
    sensitivity=ipb.SENSITIVITY_MODERATE,
    gate=ipb.GATE_STATE_PASSED,
    risk=0.25,
)
PROFILE = ipb.Profile(
    precision=ipb.PRECISION_FP4,
    weight_format="NVFP4",
    compute_path=ipb.COMPUTE_PATH_NATIVE,
    engine="vllm",
    engine_version="0.9",
    gpu="NVIDIA B200",
)


def request(state: str, read_s: float, **more: Any) -> pb.RequestStatus:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "request_id": "req-1",
        "key": "ci",
        "state": pb.RequestState.Value(f"REQUEST_STATE_{state.upper()}"),
        "priority": ipb.PRIORITY_STANDARD,
        "decision": DECISION,
        "submitted_at": at(0),
        "queued_at": at(0),
        "read_at": at(read_s),
    }
    return pb.RequestStatus(**(fields | more))


MIGRATED = pb.GetRequestStoryResponse(
    request=request(
        "finished",
        60,
        worker="node-b",
        profile=PROFILE,
        attempts=2,
        queued_at=at(8),
        first_claimed_at=at(0.5),
        first_token_at=at(0.75),
        ended_at=at(12),
        deadline=at(600),
        outcome=pb.REQUEST_OUTCOME_STOP,
        usage=ipb.Usage(prompt_tokens=120, cached_prompt_tokens=20, output_tokens=200),
        cost_nanos=31_000,
        fp8_cost_nanos=52_000,
    ),
    transitions=[
        step(0, "submitted", router="router-1"),
        step(0.5, "claimed", worker="node-a", epoch=1, attempt=1),
        step(0.75, "first_token", epoch=1),
        step(8, "reclaimed", worker="node-a", epoch=1, failed=True, detail="the lease ran out"),
        step(8.25, "claimed", worker="node-b", epoch=2, attempt=2),
        step(8.5, "first_token", epoch=2, index=17),
        step(9, "fenced", epoch=1),
        step(9.5, "attached", router="router-2"),
        step(12, "ended", worker="node-b", epoch=2, detail="stop"),
    ],
    currency="USD",
)
WAITING = pb.GetRequestStoryResponse(
    request=request("waiting", 4.5, request_id="req-2"),
    transitions=[step(0, "submitted", router="router-1")],
    currency="USD",
)
RUNNING = pb.GetRequestStoryResponse(
    request=request(
        "running",
        3,
        request_id="req-3",
        worker="node-a",
        profile=PROFILE,
        attempts=1,
        first_claimed_at=at(2),
        first_token_at=at(2.5),
        usage=ipb.Usage(prompt_tokens=12, output_tokens=20),
        cost_nanos=1_000,
        fp8_cost_nanos=2_000,
    ),
    transitions=[
        step(0, "submitted", router="router-1"),
        step(2, "claimed", worker="node-a", epoch=1, attempt=1),
        step(2.5, "first_token", epoch=1),
    ],
    currency="USD",
)
DEAD = pb.GetRequestStoryResponse(
    request=request(
        "dead",
        100,
        request_id="req-4",
        worker="node-b",
        profile=PROFILE,
        attempts=2,
        first_claimed_at=at(0.125),
        ended_at=at(6),
        outcome=pb.REQUEST_OUTCOME_ATTEMPTS_EXHAUSTED,
        detail="engine failed:\nCUDA error 700",
        usage=ipb.Usage(prompt_tokens=12),
    ),
    transitions=[
        step(0, "submitted", router="router-1"),
        step(0.125, "claimed", worker="node-a", epoch=1, attempt=1),
        step(5, "dropped", dropped=40),
        step(5.5, "claimed", worker="node-b", epoch=22, attempt=2),
        step(6, "released", worker="node-b", epoch=22, failed=True, detail="engine failed:\nCUDA error 700"),
        step(6, "ended", worker="node-b", epoch=22, detail="attempts_exhausted engine failed:\nCUDA error 700"),
    ],
    currency="USD",
)


def _moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _step(seconds: float, kind: TransitionKind, **more: Any) -> Transition:
    fields: dict[str, Any] = {
        "time": _moment(seconds),
        "kind": kind,
        "router": "",
        "worker": "",
        "epoch": 0,
        "attempt": 0,
        "failed": False,
        "index": 0,
        "detail": "",
        "dropped": 0,
    }
    return Transition(**(fields | more))


_DECISION = Decision(
    precision=Precision.FP4,
    pool="smollm2/fp4",
    reason=DecisionReason.GATE_PASSED,
    rule="drafts",
    policy_version="v7",
    task=Task.SUMMARIZATION,
    task_source=TaskSource.CLASSIFIER,
    task_confidence=0.875,
    sensitivity=Sensitivity.MODERATE,
    gate=GateState.PASSED,
    risk=0.25,
    ignored_field="",
)
MIGRATED_STORY = RequestStory(
    RequestStatus(
        tenant="acme",
        request_id="req-1",
        key="ci",
        state=RequestState.FINISHED,
        priority=Priority.STANDARD,
        decision=_DECISION,
        worker="node-b",
        profile=Profile(
            precision=Precision.FP4,
            weight_format="NVFP4",
            activation_format="",
            kv_cache_format="",
            group_size=0,
            compute_path=ComputePath.NATIVE,
            checkpoint_digest="",
            calibrated=False,
            engine="vllm",
            engine_version="0.9",
            gpu="NVIDIA B200",
            sm="",
        ),
        attempts=2,
        submitted_at=_moment(0),
        queued_at=_moment(8),
        first_claimed_at=_moment(0.5),
        first_token_at=_moment(0.75),
        ended_at=_moment(12),
        deadline=_moment(600),
        outcome=RequestOutcome.STOP,
        detail="",
        usage=Usage(prompt_tokens=120, cached_prompt_tokens=20, output_tokens=200),
        cost=Decimal("0.000031"),
        fp8_cost=Decimal("0.000052"),
        currency="USD",
        read_at=_moment(60),
    ),
    (
        _step(0, TransitionKind.SUBMITTED, router="router-1"),
        _step(0.5, TransitionKind.CLAIMED, worker="node-a", epoch=1, attempt=1),
        _step(0.75, TransitionKind.FIRST_TOKEN, epoch=1),
        _step(8, TransitionKind.RECLAIMED, worker="node-a", epoch=1, failed=True, detail="the lease ran out"),
        _step(8.25, TransitionKind.CLAIMED, worker="node-b", epoch=2, attempt=2),
        _step(8.5, TransitionKind.FIRST_TOKEN, epoch=2, index=17),
        _step(9, TransitionKind.FENCED, epoch=1),
        _step(9.5, TransitionKind.ATTACHED, router="router-2"),
        _step(12, TransitionKind.ENDED, worker="node-b", epoch=2, detail="stop"),
    ),
)
WAITING_STORY = RequestStory(
    RequestStatus(
        tenant="acme",
        request_id="req-2",
        key="ci",
        state=RequestState.WAITING,
        priority=Priority.STANDARD,
        decision=_DECISION,
        worker="",
        profile=None,
        attempts=0,
        submitted_at=_moment(0),
        queued_at=_moment(0),
        first_claimed_at=None,
        first_token_at=None,
        ended_at=None,
        deadline=None,
        outcome=None,
        detail="",
        usage=Usage(prompt_tokens=0, cached_prompt_tokens=0, output_tokens=0),
        cost=Decimal(0),
        fp8_cost=Decimal(0),
        currency="USD",
        read_at=_moment(4.5),
    ),
    (_step(0, TransitionKind.SUBMITTED, router="router-1"),),
)
