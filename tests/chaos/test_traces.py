"""Promise 18: one trace a request, whichever workers and routers it went through, and no text of it."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from telemetry.attributes import ALLOWED_ON_SPANS
from telemetry.context import TraceContext, parse
from telemetry.spans import attempt_span_id
from tests.chaos.conftest import MakeStack
from tests.chaos.history import Record
from tests.chaos.load import KEYS, all_got, ask
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP8
from tests.contract.telemetry.receiver import Receiver, receiver
from tests.process.scripted import expected_text
from tests.process.traced import Trace, sent_to, told, tracing_client

pytestmark = [pytest.mark.timeout(180), pytest.mark.promise(18)]

_PROMPT = "canary 3b7d of request"
_TOKENS = 200
_GENERATE, _RESUME = (f"bitlane.v1.InferenceService/{method}" for method in ("Generate", "Resume"))


@pytest.fixture
def otlp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as servicer, tracing_client(servicer, monkeypatch):
        yield servicer


async def test_one_trace_across_deaths(chaos_stack: MakeStack, board: Scoreboard, full: bool, otlp: Receiver) -> None:
    """All workers of the pool are killed in mid-stream, and then a router, whose streams the SDK resumes."""
    streams = 24 if full else 8
    stack = chaos_stack(engine={"token_ms": 15, "slots": streams}, routers=2, telemetry=sent_to(otlp))
    async with stack.client(target=stack.targets) as first, stack.client(target=stack.targets[::-1]) as second:
        asked = [
            asyncio.create_task(
                ask(stack.history, client, "acme", f"{_PROMPT} {i}", _TOKENS, pin="fp8", timeout=120, stop=[_PROMPT])
            )
            for i, client in enumerate([first, second] * (streams // 2))
        ]
        await all_got(stack.history, streams, 20)
        former = stack.live_workers(FP8)
        stack.add_worker(FP8)
        for worker in former:
            stack.history.note(f"kill {worker.name}")
            worker.kill()
        seen = max(len(record.tokens) for record in stack.history.records)
        await all_got(stack.history, streams, seen + 10)
        stack.history.note(f"kill {stack.routers[0].name}")
        stack.routers[0].kill()
        records = await asyncio.gather(*asked)
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()

    traces = [Trace(otlp, record.request_id) for record in records]
    for trace in traces:
        await asyncio.to_thread(otlp.wait, lambda _, trace=trace: _told_whole(trace))
    for record, trace in zip(records, traces, strict=True):
        _assert_one_trace(record, trace, otlp)
    assert len({trace.trace_id for trace in traces}) == streams
    resumed = sum(bool(trace.named(_RESUME)) for trace in traces)
    assert resumed == streams // 2
    _assert_no_text(records, otlp)
    board.record(
        18,
        f"{streams} streams, all migrated, {resumed} resumed at another router: {streams} traces, "
        f"{sum(len(trace.spans()) for trace in traces)} spans, attempts linked; 0 words of prompts or replies in "
        f"{sum(map(len, otlp.raw)) / 1024:.0f} KiB of exports",
        True,
    )


def _told_whole(trace: Trace) -> bool:
    """Whether the spans have come that end last: the client's, the call's that brought the end, the attempt's."""
    roots = [span for span in trace.spans() if not span.parent_span_id]
    called = trace.named(_RESUME) or trace.named(_GENERATE)
    return bool(roots and called and trace.named("process") and trace.named("relay"))


def _assert_one_trace(record: Record, trace: Trace, otlp: Receiver) -> None:
    named = [span for span in otlp.spans if told(span).get("bitlane.request.id") == record.request_id]
    assert {span.trace_id for span in named} == {trace.trace_id}
    spans = trace.spans()
    (root,) = (span for span in spans if not span.parent_span_id)
    assert root.kind == Span.SPAN_KIND_CLIENT
    submit = trace.one("submit")
    last = trace.named("process")[-1]
    epoch = told(last)["bitlane.epoch"]
    assert isinstance(epoch, int)
    assert epoch > 1
    # The attempts are siblings under `submit`, and the later ones linked to the first, whose own span died with it.
    ids = [_attempt_id(submit, number) for number in range(1, epoch + 1)]
    assert last.span_id == ids[-1]
    assert [link.span_id for link in last.links] == [submit.span_id, ids[0]]
    assert {link.trace_id for link in last.links} == {trace.trace_id}
    assert {span.parent_span_id for span in (*trace.named("process"), *trace.named("queue"))} == {submit.span_id}
    inherited, generated = (told(last)[f"bitlane.tokens.{which}"] for which in ("inherited", "generated"))
    assert (inherited, generated) != (0, _TOKENS)
    assert inherited + generated == _TOKENS  # type: ignore[operator]
    for resume in trace.named(_RESUME):
        assert resume.parent_span_id == root.span_id
    # No span hangs in the air but those whose parent was killed: an attempt, or the call at the router.
    there = {span.span_id for span in spans} | set(ids)
    lost = {span.parent_span_id for span in spans if span is not root} - there
    assert len(lost) <= (not trace.named(_GENERATE))


def _attempt_id(submit: Span, epoch: int) -> bytes:
    sent = parse(TraceContext(f"00-{submit.trace_id.hex()}-{submit.span_id.hex()}-01"))
    assert sent is not None
    return attempt_span_id(sent, epoch).to_bytes(8)


def _assert_no_text(records: list[Record], otlp: Receiver) -> None:
    exported = b"\n".join(otlp.raw)
    assert _PROMPT.encode() not in exported
    assert KEYS["acme"].encode() not in exported
    for record in records:
        # Each token is a word of its own; the blank before it tells it from the hexadecimal digits of an id.
        for word in expected_text(record.prompt, _TOKENS).split()[1:]:
            assert f" {word}".encode() not in exported
    assert {name for span in otlp.spans for name in told(span)} <= ALLOWED_ON_SPANS
    assert all(not span.events and not span.status.message for span in otlp.spans)
