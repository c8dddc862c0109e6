"""What a router tells of a call: names, kinds, parents and attributes of its spans, and which figures it adds to."""

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from telemetry.calls import RouterTelemetry, ServedCall
from telemetry.instruments import Registry
from telemetry.tenants import TenantLabels
from tests.unit.telemetry.memory import NOT_SAMPLED, SAMPLED, Memory, ids

_GENERATE = "bitlane.v1.InferenceService/Generate"


def _router(memory: Memory) -> RouterTelemetry:
    telemetry = memory.telemetry()
    telemetry.registry = Registry()
    return RouterTelemetry(telemetry, TenantLabels(["acme"]))


def _admit(call: ServedCall) -> None:
    for name in ("validate", "classify", "decide"):
        with call.stage(name):
            pass
    call.decided(
        operation="chat",
        model="m",
        pool="m/fp4",
        precision="FP4",
        reason="low_sensitivity",
        rule="small-talk",
        policy_version="acme-3",
        task="chat",
        source="classifier",
        confidence=0.9,
        gate="passed",
    )


def _stream(router: RouterTelemetry, traceparent: str) -> str:
    """A whole reply; returns the trace context that went into the job."""
    call = router.call(_GENERATE, [("traceparent", traceparent)] if traceparent else [])
    call.tenant = "acme"
    _admit(call)
    with call.submit("m/fp4", "req-1") as submit:
        sent = submit.context.traceparent
    with call.relay():
        call.first_token()
        call.first_token()
    call.ended("stop", attempts=2, prompt_tokens=10, cached_prompt_tokens=4, output_tokens=3, cost_nanos=2_000_000_000)
    call.end("OK")
    return sent


def test_a_streamed_reply_is_one_tree() -> None:
    memory = Memory.make()
    sent = _stream(_router(memory), SAMPLED)
    spans = memory.finished
    assert set(spans) == {_GENERATE, "validate", "classify", "decide", "submit", "relay"}
    root = spans[_GENERATE]
    assert root.kind is SpanKind.SERVER
    for name in ("validate", "classify", "decide", "submit", "relay"):
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == ids(root).span_id
        assert spans[name].kind is (SpanKind.PRODUCER if name == "submit" else SpanKind.INTERNAL)
    assert sent.split("-")[1:3] == [SAMPLED.split("-")[1], f"{ids(spans['submit']).span_id:016x}"]
    told = dict(root.attributes or {})
    assert told.pop("gen_ai.response.time_to_first_chunk") > 0  # pyright: ignore[reportOperatorIssue]
    assert told == {
        "rpc.system.name": "grpc",
        "rpc.method": _GENERATE,
        "rpc.response.status_code": "OK",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "bitlane",
        "gen_ai.request.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 3,
        "bitlane.tenant": "acme",
        "bitlane.pool": "m/fp4",
        "bitlane.precision": "FP4",
        "bitlane.decision.reason": "low_sensitivity",
        "bitlane.decision.rule": "small-talk",
        "bitlane.policy.version": "acme-3",
        "bitlane.task.class": "chat",
        "bitlane.task.source": "classifier",
        "bitlane.task.confidence": 0.9,
        "bitlane.gate.state": "passed",
        "bitlane.outcome": "stop",
        "bitlane.attempts": 2,
    }
    assert dict(spans["submit"].attributes or {}) == {
        "messaging.system": "redis",
        "messaging.operation.name": "submit",
        "messaging.operation.type": "send",
        "messaging.destination.name": "m/fp4",
        "messaging.message.id": "req-1",
    }


def test_an_unsampled_call_makes_no_span_and_passes_its_trace_on() -> None:
    memory = Memory.make(parent_decides=True)
    assert _stream(_router(memory), NOT_SAMPLED) == NOT_SAMPLED
    assert memory.finished == {}


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", StatusCode.UNSET),
        ("INVALID_ARGUMENT", "FIELD_INVALID", StatusCode.UNSET),
        ("UNAVAILABLE", "BROKER_UNAVAILABLE", StatusCode.ERROR),
        ("INTERNAL", "INTERNAL", StatusCode.ERROR),
    ],
)
def test_a_rejected_request_is_a_server_span_with_the_reason(code: str, reason: str, status: StatusCode) -> None:
    memory = Memory.make()
    router = _router(memory)
    call = router.call(_GENERATE)
    call.tenant = "globex"
    with call.stage("validate"):
        pass
    call.end(code, reason)
    root = memory.finished[_GENERATE]
    attributes = root.attributes or {}
    assert (attributes["error.type"], attributes["rpc.response.status_code"]) == (reason, code)
    # By the conventions for RPC, a span of a server is an error where the server is at fault.
    assert root.status.status_code is status
    assert [(point.labels, point.value) for point in router.rejections.points()] == [(("other", reason), 1)]


def test_figures_of_a_reply() -> None:
    memory = Memory.make()
    router = _router(memory)
    _stream(router, SAMPLED)
    _stream(router, SAMPLED)
    generation = ("chat", "bitlane", "m", "m/fp4", "acme")
    assert [p.labels for p in router.request_duration.points()] == [(*generation, "")]
    assert [sum(p.counts) for p in router.first_token.points()] == [2]
    assert [sum(p.counts) for p in router.per_token.points()] == [2]
    assert {p.labels[-1]: p.value for p in router.tokens.points()} == {"input": 20, "cached_input": 8, "output": 6}
    assert [p.value for p in router.cost.points()] == [pytest.approx(4.0)]
    assert [p.labels for p in router.decisions.points()] == [("m", "FP4", "chat", "low_sensitivity")]
    assert [p.labels for p in router.call_duration.points()] == [("grpc", _GENERATE, "OK", "")]
    assert router.rejections.points() == []
    # The newest sampled measurement of a bucket leads to its trace.
    exemplars = [exemplar for p in router.first_token.points() for _, exemplar in p.exemplars]
    assert f"{exemplars[0].where.trace_id:032x}" == SAMPLED.split("-")[1]


def test_an_end_after_the_acceptance_is_no_rejection_and_a_left_client_neither() -> None:
    router = _router(Memory.make())
    call = router.call(_GENERATE)
    _admit(call)
    with call.relay():
        pass
    call.end("UNAVAILABLE", "ROUTER_DRAINING")
    router.call(_GENERATE).end("CANCELLED")
    router.call("bitlane.v1.PolicyService/PutPolicy").end("ABORTED", "ETAG_MISMATCH")
    assert router.rejections.points() == []
    assert {p.labels[2:] for p in router.call_duration.points()} == {
        ("UNAVAILABLE", "ROUTER_DRAINING"),
        ("CANCELLED", "CANCELLED"),
        ("ABORTED", "ETAG_MISMATCH"),
    }


def test_a_resumed_stream_counts_and_its_times_do_not() -> None:
    memory = Memory.make()
    router = _router(memory)
    call = router.call("bitlane.v1.InferenceService/Resume")
    call.tenant = "acme"
    call.resumed(model="m", pool="m/fp4")
    with call.relay():
        call.first_token()
    call.ended("length", attempts=1, prompt_tokens=10, cached_prompt_tokens=0, output_tokens=3)
    call.end("OK")
    # Bad endings are there before the first: what appears with its first event has not increased, for Prometheus.
    assert {p.labels[-1]: p.value for p in router.requests.points()} == {
        "length": 1,
        "not_migratable": 0,
        "attempts_exhausted": 0,
    }
    assert sum(p.value for p in router.tokens.points()) == 13
    assert router.first_token.points() == router.request_duration.points() == router.per_token.points() == []
    assert (memory.finished["bitlane.v1.InferenceService/Resume"].attributes or {})["bitlane.pool"] == "m/fp4"


def test_ids_for_the_log_line() -> None:
    memory = Memory.make()
    call = _router(memory).call(_GENERATE, [("traceparent", SAMPLED)])
    call.end("OK")
    span = memory.finished[_GENERATE]
    assert call.ids == {"trace_id": SAMPLED.split("-")[1], "span_id": f"{ids(span).span_id:016x}"}
