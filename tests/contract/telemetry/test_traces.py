"""Whole requests, router's part and worker's, as a real OTLP receiver gets them: a streamed, a migrated, a rejected."""

from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from telemetry.attempts import LOST, Claimed, WorkerTelemetry
from telemetry.attributes import ALLOWED_ON_SPANS
from telemetry.calls import RouterTelemetry, ServedCall
from telemetry.context import TraceContext
from telemetry.setup import Telemetry
from telemetry.tenants import TenantLabels
from tests.contract.telemetry.receiver import Receiver, attributes, receiver

_GENERATE = "bitlane.v1.InferenceService/Generate"
_CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_SERVER, _PRODUCER, _CONSUMER = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER


@pytest.fixture
def otlp() -> Iterator[Receiver]:
    with receiver() as servicer:
        yield servicer


class Stack:
    """A router and workers of their own processes, as far as telemetry is concerned."""

    def __init__(self, otlp: Receiver) -> None:
        self._otlp = otlp
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint, "OTEL_METRICS_EXPORTER": "none"}
        self._routing = Telemetry("router", "r-1", {}, environ)
        self._working = [
            Telemetry("worker", f"w-{number}", {"bitlane.pool": "m/fp4", "bitlane.gpu.name": "B200"}, environ)
            for number in (1, 2)
        ]
        self.router = RouterTelemetry(self._routing, TenantLabels())
        self.workers = [
            WorkerTelemetry(telemetry, worker=f"w-{number}", pool="m/fp4", engine="scripted")
            for number, telemetry in enumerate(self._working, start=1)
        ]

    def close(self) -> list[Span]:
        """Everything that was sent."""
        for telemetry in (self._routing, *self._working):
            telemetry.close()
        return self._otlp.spans


def _submitted(call: ServedCall) -> TraceContext:
    call.tenant = "acme"
    for name in ("validate", "classify", "decide"):
        with call.stage(name):
            pass
    call.decided(
        operation="chat",
        model="m",
        pool="m/fp4",
        precision="FP4",
        reason="low_sensitivity",
        rule="",
        policy_version="acme-3",
        task="chat",
        source="classifier",
        confidence=0.9,
        gate="passed",
    )
    with call.submit("m/fp4", "req-1") as submit:
        return submit.context


def _work(worker: WorkerTelemetry, sent: TraceContext, epoch: int, outcome: str) -> None:
    attempt = worker.attempt(sent, Claimed("req-1", "acme", "m", "chat", "standard", epoch, epoch, 0.01, 0))
    attempt.call_engine()
    attempt.first_token()
    attempt.end(outcome, prompt_tokens=10, generated_tokens=3)


def _finish(call: ServedCall, attempts: int) -> None:
    with call.relay():
        call.first_token()
        call.ended("stop", attempts=attempts, prompt_tokens=10, cached_prompt_tokens=0, output_tokens=3)
    call.end("OK")


def _parents(spans: list[Span]) -> dict[str, str]:
    names = {span.span_id: span.name for span in spans}
    return {span.name: names.get(span.parent_span_id, span.parent_span_id.hex()) for span in spans}


def test_a_streamed_request_is_one_tree_from_the_client_to_the_engine(otlp: Receiver) -> None:
    stack = Stack(otlp)
    call = stack.router.call(_GENERATE, [("traceparent", _CLIENT)])
    _work(stack.workers[0], _submitted(call), 1, "stop")
    _finish(call, attempts=1)
    spans = stack.close()
    assert {span.trace_id.hex() for span in spans} == {_CLIENT.split("-")[1]}
    assert _parents(spans) == {
        _GENERATE: _CLIENT.split("-")[2],
        **dict.fromkeys(("validate", "classify", "decide", "submit", "relay"), _GENERATE),
        **dict.fromkeys(("queue", "process"), "submit"),
        **dict.fromkeys(("chat m", "prefill", "decode"), "process"),
    }
    kinds = {span.name: span.kind for span in spans}
    assert (kinds[_GENERATE], kinds["submit"], kinds["process"]) == (_SERVER, _PRODUCER, _CONSUMER)
    assert kinds["chat m"] == Span.SPAN_KIND_CLIENT
    (process,) = otlp.spans_named("process")
    (submit,) = otlp.spans_named("submit")
    assert [link.span_id for link in process.links] == [submit.span_id]
    assert not [span for span in spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert {name for span in spans for name in attributes(span.attributes)} <= ALLOWED_ON_SPANS
    # Backends count spans with gen_ai.* as generations; usage is told once.
    telling = [span.name for span in spans if "gen_ai.usage.output_tokens" in attributes(span.attributes)]
    assert telling == [_GENERATE]
    for name in ("submit", "queue", "process", "relay"):
        (span,) = otlp.spans_named(name)
        assert not [key for key in attributes(span.attributes) if key.startswith("gen_ai.")]
    by_service = {resource["service.name"]: resource for resource in otlp.resources}
    assert set(by_service) == {"bitlane-router", "bitlane-worker"}
    worker = by_service["bitlane-worker"]
    assert (worker["bitlane.pool"], worker["bitlane.gpu.name"], worker["service.namespace"]) == (
        "m/fp4",
        "B200",
        "bitlane",
    )


def test_a_migrated_request_stays_one_trace_with_its_attempts_linked(otlp: Receiver) -> None:
    stack = Stack(otlp)
    call = stack.router.call(_GENERATE, [("traceparent", _CLIENT)])
    sent = _submitted(call)
    _work(stack.workers[0], sent, 1, LOST)
    _work(stack.workers[1], sent, 2, "stop")
    _finish(call, attempts=2)
    spans = stack.close()
    assert {span.trace_id.hex() for span in spans} == {_CLIENT.split("-")[1]}
    (submit,) = otlp.spans_named("submit")
    first, second = sorted(otlp.spans_named("process"), key=lambda span: span.start_time_unix_nano)
    assert first.parent_span_id == second.parent_span_id == submit.span_id
    assert [link.span_id for link in first.links] == [submit.span_id]
    assert [link.span_id for link in second.links] == [submit.span_id, first.span_id]
    assert attributes(first.attributes)["bitlane.worker"] == "w-1"
    assert attributes(second.attributes)["bitlane.worker"] == "w-2"
    assert [span.status.code for span in (first, second)] == [Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET]
    assert len(otlp.spans_named("queue")) == 2


def test_a_rejected_request_is_a_server_span_with_the_reason(otlp: Receiver) -> None:
    stack = Stack(otlp)
    call = stack.router.call(_GENERATE, [("traceparent", _CLIENT)])
    call.tenant = "acme"
    with call.stage("validate"):
        pass
    call.end("INVALID_ARGUMENT", "FIELD_INVALID")
    spans = stack.close()
    assert _parents(spans) == {_GENERATE: _CLIENT.split("-")[2], "validate": _GENERATE}
    (root,) = otlp.spans_named(_GENERATE)
    told = attributes(root.attributes)
    assert root.kind == _SERVER
    assert (told["error.type"], told["rpc.response.status_code"]) == ("FIELD_INVALID", "INVALID_ARGUMENT")
    assert not [name for name in told if name.startswith("gen_ai.")]
