"""The SDK's spans: one a reply over all its attempts, its context with every call, nothing of its content."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from bitlane import AsyncClient, Client, InvalidRequest, NotFound
from bitlane.testing import FakeServer, Fault, Reply
from telemetry.attributes import ALLOWED_ON_SPANS
from telemetry.context import TraceContext, parse

CANARY = "canary-in-the-prompt"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """The application's: it has set OpenTelemetry up."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # The process's own provider can be set only once, for all tests.
    monkeypatch.setattr("opentelemetry.trace.get_tracer", provider.get_tracer)
    return provider.get_tracer("application")


def the_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The SDK's only one."""
    (span,) = (each for each in exporter.get_finished_spans() if each.name != "application")
    assert set(span.attributes or {}) <= ALLOWED_ON_SPANS
    assert CANARY not in span.to_json()
    assert span.events == ()
    return span


def contexts(server: FakeServer) -> set[str]:
    return {call.metadata.get("traceparent", "") for call in server.calls}


def context_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


async def test_a_reply_is_one_span_over_all_its_attempts(
    server: FakeServer, client: AsyncClient, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    server.inject(Fault.unavailable(), Fault.drop(after=1), Fault.drop(after=1))
    with tracer.start_as_current_span("application") as outer:
        await client.generate(
            CANARY, model="fake", max_tokens=9, seed=2**64 - 1, temperature=0.5, request_id="r", conversation_id="c"
        )
    span = the_span(exporter)
    assert (span.name, span.kind) == ("text_completion fake", SpanKind.CLIENT)
    assert span.parent == outer.get_span_context()
    assert len(server.calls) == 4
    assert contexts(server) == {context_of(span)}
    told = dict(span.attributes or {})
    assert told.pop("gen_ai.response.time_to_first_chunk") > 0  # pyright: ignore[reportOperatorIssue]
    assert told.pop("gen_ai.usage.input_tokens") is not None
    host, _, port = server.target.rpartition(":")
    assert told == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "bitlane",
        "gen_ai.request.model": "fake",
        "gen_ai.request.stream": True,
        # The seed is more than a number of OpenTelemetry can be.
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.conversation.id": "c",
        "gen_ai.response.id": "r",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "bitlane.request.id": "r",
        "bitlane.pool": "fake/fp4",
        "bitlane.precision": "FP4",
        "bitlane.decision.reason": "low_sensitivity",
        "bitlane.attempts": 1,
        "server.address": host,
        "server.port": int(port),
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_a_chat_is_called_chat(client: AsyncClient, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    await client.generate(messages=[{"role": "user", "content": CANARY}], model="fake", seed=7)
    span = the_span(exporter)
    assert span.name == "chat fake"
    assert (span.attributes or {})["gen_ai.request.seed"] == 7


@pytest.mark.parametrize(("code", "reason"), [("INVALID_ARGUMENT", "FIELD_INVALID"), ("INVALID_ARGUMENT", "")])
async def test_an_error_is_told_by_its_reason_and_never_by_its_text(
    server: FakeServer, client: AsyncClient, tracer: Tracer, exporter: InMemorySpanExporter, code: str, reason: str
) -> None:
    server.inject(Fault(code, CANARY, reason=reason))  # type: ignore[arg-type]  # one of gRPC's
    with pytest.raises(InvalidRequest):
        await client.generate(CANARY, model="fake")
    span = the_span(exporter)
    assert span.status.status_code is StatusCode.ERROR
    assert not span.status.description
    assert (span.attributes or {})["error.type"] == (reason or "InvalidRequest")


async def test_leaving_early_is_no_error(
    server: FakeServer, client: AsyncClient, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    server.script(Reply(hold_after=1))
    async with client.stream(CANARY, model="fake") as stream:
        await anext(stream)
    span = the_span(exporter)
    assert (span.attributes or {})["error.type"] == "CANCELLED"
    assert span.status.status_code is StatusCode.UNSET


async def test_a_stream_that_was_never_read_has_no_span(
    client: AsyncClient, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    async with client.stream("Hi", model="fake"):
        pass
    assert exporter.get_finished_spans() == ()


async def test_a_dropped_stream_ends_its_span(
    server: FakeServer, client: AsyncClient, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    server.script(Reply(hold_after=1))
    stream = client.stream(CANARY, model="fake")
    await anext(stream)
    del stream
    assert (the_span(exporter).attributes or {})["error.type"] == "CANCELLED"


async def test_cancelling_belongs_to_the_same_trace(
    server: FakeServer, client: AsyncClient, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    server.script(Reply(hold_after=1))
    stream = client.stream(CANARY, model="fake")
    await anext(stream)
    await stream.cancel()
    await stream.result()
    assert [call.method for call in server.calls] == ["Generate", "Cancel"]
    assert contexts(server) == {context_of(the_span(exporter))}


async def test_what_another_client_began_is_a_span_called_resume(
    server: FakeServer, client: AsyncClient, exporter: InMemorySpanExporter, tracer: Tracer
) -> None:
    await client.generate("Hi", model="fake", request_id="r")
    exporter.clear()
    await client.resume("r").result()
    span = the_span(exporter)
    assert span.name == "resume"
    assert "gen_ai.operation.name" not in (span.attributes or {})
    with pytest.raises(NotFound):
        await client.resume("nobody").result()


async def test_the_callers_own_context_wins(server: FakeServer, client: AsyncClient, tracer: Tracer) -> None:
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.generate("Hi", model="fake", metadata={"traceparent": own})
    assert contexts(server) == {own}


def test_the_blocking_client_has_its_threads_span_as_parent(
    threaded_server: FakeServer, sync_client: Client, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    with tracer.start_as_current_span("application") as outer:
        sync_client.generate(CANARY, model="fake")
    span = the_span(exporter)
    assert span.parent == outer.get_span_context()
    assert contexts(threaded_server) == {context_of(span)}


async def test_what_the_application_does_not_record_is_sent_as_not_sampled(
    server: FakeServer, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # noqa: PLC0415

    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.trace.get_tracer", provider.get_tracer)
    await client.generate("Hi", model="fake")
    (context,) = contexts(server)
    parsed = parse(TraceContext(context))
    assert parsed is not None
    assert not parsed.trace_flags.sampled


def test_nothing_of_opentelemetry_is_loaded_for_those_who_do_not_use_it() -> None:
    code = """
import sys
from bitlane import Client
from bitlane.testing import FakeServer
with FakeServer() as server, Client(server.target) as client:
    assert client.generate("Hi", model="fake").text == "Hello, world!"
    assert "traceparent" not in server.calls[0].metadata
sys.exit(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 0
