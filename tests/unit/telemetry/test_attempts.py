"""What a worker tells of a claimed request: one trace over all attempts, linked, with the times of what happened."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from telemetry.attempts import FAILED, LOST, RELEASED, Claimed, WorkerTelemetry
from telemetry.context import TraceContext
from telemetry.instruments import Registry
from tests.unit.telemetry.memory import NOT_SAMPLED, SAMPLED, Memory, ids


def _worker(memory: Memory) -> WorkerTelemetry:
    telemetry = memory.telemetry()
    telemetry.registry = Registry()
    return WorkerTelemetry(telemetry, worker="w-1", pool="m/fp4", engine="scripted")


def _claimed(epoch: int = 1, waited_s: float = 0.25) -> Claimed:
    return Claimed("req-1", "acme", "m", "chat", "standard", epoch, epoch, waited_s, 0 if epoch == 1 else 7)


def _parent(span: ReadableSpan) -> str:
    assert span.parent is not None
    return f"{span.parent.span_id:016x}"


def test_an_attempt_is_a_child_of_the_send_span_and_linked_to_it() -> None:
    memory = Memory.make()
    worker = _worker(memory)
    attempt = worker.attempt(TraceContext(SAMPLED, "a=1"), _claimed())
    headers = attempt.call_engine()
    attempt.first_token()
    attempt.end("stop", prompt_tokens=10, cached_prompt_tokens=4, generated_tokens=3)
    attempt.end("stop")
    spans, sent = memory.finished, SAMPLED.split("-")[2]
    assert len(memory.exporter.get_finished_spans()) == len(spans) == 5
    process = spans["process"]
    assert process.kind is SpanKind.CONSUMER
    assert _parent(process) == _parent(spans["queue"]) == sent
    assert [f"{link.context.span_id:016x}" for link in process.links] == [sent]
    for name, kind in (("prefill", SpanKind.INTERNAL), ("decode", SpanKind.INTERNAL), ("chat m", SpanKind.CLIENT)):
        assert _parent(spans[name]) == f"{ids(process).span_id:016x}"
        assert spans[name].kind is kind
    assert headers == {
        "traceparent": f"00-{SAMPLED.split('-')[1]}-{ids(spans['chat m']).span_id:016x}-01",
        "tracestate": "a=1",
    }
    assert dict(process.attributes or {}) == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "m/fp4",
        "messaging.message.id": "req-1",
        "bitlane.request.id": "req-1",
        "bitlane.tenant": "acme",
        "bitlane.pool": "m/fp4",
        "bitlane.priority": "standard",
        "bitlane.worker": "w-1",
        "bitlane.epoch": 1,
        "bitlane.attempt": 1,
        "bitlane.tokens.inherited": 0,
        "bitlane.tokens.prompt": 10,
        "bitlane.tokens.cached": 4,
        "bitlane.tokens.generated": 3,
        "bitlane.outcome": "stop",
    }
    assert dict(spans["chat m"].attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "m",
    }


def test_times_fit_together() -> None:
    memory = Memory.make()
    attempt = _worker(memory).attempt(TraceContext(SAMPLED), _claimed(waited_s=0.25))
    attempt.call_engine()
    attempt.first_token()
    attempt.end("length", generated_tokens=3)
    queue, prefill, decode, process = (memory.finished[name] for name in ("queue", "prefill", "decode", "process"))
    assert queue.start_time is not None
    assert queue.end_time is not None
    assert queue.end_time - queue.start_time == 250_000_000
    assert queue.end_time == process.start_time == prefill.start_time
    assert prefill.end_time == decode.start_time
    assert decode.end_time == process.end_time


def test_a_later_attempt_links_to_the_first() -> None:
    memory = Memory.make()
    first, second = _worker(memory), _worker(memory)
    lost = first.attempt(TraceContext(SAMPLED), _claimed())
    lost.call_engine()
    lost.first_token()
    lost.end(LOST)
    again = second.attempt(TraceContext(SAMPLED), _claimed(epoch=2))
    again.end("stop")
    processes = [span for span in memory.exporter.get_finished_spans() if span.name == "process"]
    assert len({ids(span).trace_id for span in processes}) == 1
    assert {_parent(span) for span in processes} == {SAMPLED.split("-")[2]}
    links = [f"{link.context.span_id:016x}" for link in processes[1].links]
    assert links == [SAMPLED.split("-")[2], f"{ids(processes[0]).span_id:016x}"]
    assert processes[0].status.status_code is StatusCode.ERROR
    assert (processes[0].attributes or {})["error.type"] == "lost"
    assert processes[1].status.status_code is StatusCode.UNSET
    assert [p.value for p in second._migrations.points()] == [1]  # pyright: ignore[reportPrivateUsage]
    assert [p.value for p in first._migrations.points()] == [0]  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("outcome", "error", "status"),
    [
        (FAILED, "RuntimeError", StatusCode.ERROR),
        (RELEASED, "", StatusCode.UNSET),
        ("cancelled", "", StatusCode.UNSET),
        ("deadline", "", StatusCode.UNSET),
    ],
)
def test_how_an_attempt_can_end(outcome: str, error: str, status: StatusCode) -> None:
    memory = Memory.make()
    attempt = _worker(memory).attempt(TraceContext(SAMPLED), _claimed())
    attempt.call_engine()
    attempt.end(outcome, error=error)
    assert "decode" not in memory.finished
    for name in ("process", "chat m"):
        span = memory.finished[name]
        assert span.status.status_code is status
        assert (span.attributes or {})["error.type"] == error or outcome


def test_an_unsampled_job_makes_no_span_and_tells_the_engine_so() -> None:
    memory = Memory.make(parent_decides=True)
    worker = _worker(memory)
    attempt = worker.attempt(TraceContext(NOT_SAMPLED), _claimed())
    assert attempt.call_engine() == {"traceparent": NOT_SAMPLED}
    attempt.first_token()
    attempt.end("stop", generated_tokens=3)
    assert memory.finished == {}
    assert [sum(p.counts) for p in worker.queue_time.points()] == [1]
    assert {p.labels: p.value for p in worker.attempts.points()} == {("m/fp4", "stop"): 1}


def test_what_alerts_watch_begins_at_nothing() -> None:
    """A counter that appears with its first event has not increased, as Prometheus sees it."""
    telemetry = Memory.make().telemetry()
    telemetry.registry = Registry()
    worker = WorkerTelemetry(telemetry, worker="w-1", pool="m/fp4", engine="scripted")
    begun = {
        each.instrument.name: [getattr(point, "value", None) for point in each.points()]
        for each in telemetry.registry.instruments
        if each.points()
    }
    assert begun == {"bitlane.leases.lost": [0, 0, 0, 0], "bitlane.migrations": [0], "bitlane.fences": [0]}
    worker.lease_lost("waiting")
    worker.fenced()
    lost = next(each for each in telemetry.registry.instruments if each.instrument.name == "bitlane.leases.lost")
    assert sum(getattr(point, "value", 0) for point in lost.points()) == 1


def test_a_job_without_a_trace_begins_one_of_its_own() -> None:
    memory = Memory.make()
    attempt = _worker(memory).attempt(TraceContext(), _claimed())
    attempt.end("stop")
    assert memory.finished["process"].parent is None
    assert memory.finished["process"].links == ()
    assert len({ids(span).trace_id for span in memory.exporter.get_finished_spans()}) == 1
