"""One trace for each request, from the SDK to the engine, whatever happens to it; and no content anywhere."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import aio
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import bitlane
from bitlane.v1 import inference_pb2 as pb
from deploy.local.stack import Stack
from telemetry.attributes import ALLOWED_ON_SPANS
from telemetry.context import TraceContext, parse
from telemetry.spans import attempt_span_id
from tests.contract.telemetry.receiver import Receiver, attributes, receiver
from tests.process.conftest import StackMaker
from tests.process.scripted import expected_tokens
from tests.process.tenants import key_of, seeded
from tests.process.traced import Trace, node, sent_to, told, tracing_client, tree

pytestmark = pytest.mark.timeout(120)

CANARY = "canary-3b7d-in-the-prompt"
KEY = key_of("acme")
FP8 = "smollm2/fp8"
SERVICE = "bitlane.v1.InferenceService"
GENERATE = f"{SERVICE}/Generate"
ENGINE = "text_completion smollm2"
ADMISSION = [node(name, "INTERNAL") for name in ("validate", "classify", "decide")]


@pytest.fixture
def otlp() -> Iterator[Receiver]:
    with receiver() as servicer:
        yield servicer


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return seeded(tmp_path, {"acme": {}, "small": {"quota": {"limits": {"requests_per_minute": 1}}}})


@pytest.fixture(autouse=True)
def traced(otlp: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tracing_client(otlp, monkeypatch):
        yield
    assert otlp.spans
    for data in otlp.raw:
        assert CANARY.encode() not in data
        assert KEY.encode() not in data
    # What the application's own SDK says of its processes' spans is up to it; ours keep to the list.
    assert {name for span in otlp.spans for name in told(span)} <= ALLOWED_ON_SPANS
    assert all(span.events == [] and not span.status.message for span in otlp.spans)


def client_of(*targets: str, key: str = KEY) -> bitlane.AsyncClient:
    return bitlane.AsyncClient(targets, api_key=key, timeout=60)


async def wait_for(trace: Trace, *names: str) -> None:
    await asyncio.to_thread(trace.wait_for, *names)


async def read_until(stream: bitlane.AsyncStream, tokens: int) -> None:
    seen = 0
    while seen < tokens:
        seen += len((await anext(stream)).token_ids)


def is_error(span: Span) -> bool:
    return span.status.code == Status.STATUS_CODE_ERROR


async def test_a_streamed_request_is_one_tree_from_the_sdk_to_the_engine(
    make_stack: StackMaker, otlp: Receiver, config: Path
) -> None:
    stack = make_stack(engine_options='{"token_ms": 2}', config=config, telemetry=sent_to(otlp))
    async with client_of(stack.target) as client:
        stream = client.stream(
            CANARY,
            model="smollm2",
            task="math",
            max_tokens=40,
            stop=[CANARY],
            labels={"topic": CANARY},
            seed=11,
            temperature=0.5,
            conversation_id="talk-1",
            priority="interactive",
        )
        completion = await stream.result()
    assert completion.usage.output_tokens == 40
    trace = Trace(otlp, stream.request_id)
    await wait_for(trace, ENGINE, ENGINE, "process", "queue", "prefill", "decode", "relay", GENERATE)
    spans = trace.spans()

    (root,) = (span for span in spans if not span.parent_span_id)
    assert tree(spans, root) == node(
        ENGINE,  # the SDK's span has the same name: the conventions name both by operation and model
        "CLIENT",
        node(
            GENERATE,
            "SERVER",
            *ADMISSION,
            node(
                "submit",
                "PRODUCER",
                node("queue", "INTERNAL"),
                node(
                    "process",
                    "CONSUMER",
                    node(ENGINE, "CLIENT"),
                    node("prefill", "INTERNAL"),
                    node("decode", "INTERNAL"),
                ),
            ),
            node("relay", "INTERNAL"),
        ),
    )
    assert not any(is_error(span) or "error.type" in told(span) for span in spans)
    submit, process = trace.one("submit"), trace.one("process")
    assert [link.span_id for link in process.links] == [submit.span_id]
    assert not any(span.links for span in spans if span is not process)

    server = told(trace.one(GENERATE))
    assert server.pop("gen_ai.response.time_to_first_chunk") > 0  # type: ignore[operator]
    assert server == {
        "rpc.system.name": "grpc",
        "rpc.method": GENERATE,
        "rpc.response.status_code": "OK",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "bitlane",
        "gen_ai.request.model": "smollm2",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 40,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 11,
        "gen_ai.conversation.id": "talk-1",
        "gen_ai.response.id": stream.request_id,
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": completion.usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 40,
        "bitlane.request.id": stream.request_id,
        "bitlane.tenant": "acme",
        "bitlane.priority": "interactive",
        "bitlane.pool": FP8,
        "bitlane.precision": "FP8",
        "bitlane.decision.reason": "high_sensitivity",
        "bitlane.policy.version": "acme-1",
        "bitlane.task.class": "math",
        "bitlane.task.source": "hint",
        "bitlane.task.confidence": 1.0,
        "bitlane.gate.state": "unvalidated",
        "bitlane.outcome": "length",
        "bitlane.attempts": 1,
    }
    worked = told(process)
    assert worked.pop("bitlane.tokens.prompt") == completion.usage.prompt_tokens
    assert worked == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": FP8,
        "messaging.message.id": stream.request_id,
        "bitlane.request.id": stream.request_id,
        "bitlane.tenant": "acme",
        "bitlane.pool": FP8,
        "bitlane.priority": "interactive",
        "bitlane.worker": "smollm2-fp8-1",
        "bitlane.epoch": 1,
        "bitlane.attempt": 1,
        "bitlane.outcome": "length",
        "bitlane.tokens.inherited": 0,
        "bitlane.tokens.cached": 0,
        "bitlane.tokens.generated": 40,
    }
    # Backends count spans with gen_ai.* as generations, and none of these is one.
    for name in ("validate", "classify", "decide", "submit", "queue", "process", "prefill", "decode", "relay"):
        assert not [key for key in told(trace.one(name)) if key.startswith("gen_ai.")], name

    # The log line of the call leads to its trace, and tells the figures.
    line = stack.routers[0].next_event({"rpc.end"}, 10, after=await _line_of(stack, stream.request_id))
    assert line is not None
    assert line["trace_id"] == trace.one(GENERATE).trace_id.hex()
    assert line["span_id"] == trace.one(GENERATE).span_id.hex()
    assert {key: line[key] for key in ("pool", "decision", "outcome", "attempts", "output_tokens")} == {
        "pool": FP8,
        "decision": "high_sensitivity",
        "outcome": "length",
        "attempts": 1,
        "output_tokens": 40,
    }


async def _line_of(stack: Stack, request_id: str) -> int:
    """The number of the log line that ends the request's call: lines are written a moment later, many together."""
    while True:
        text = (stack.folder / "router-1.log").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(text):
            if "rpc.end" in line and request_id in line:
                return number
        await asyncio.sleep(0.01)


async def test_a_request_whose_worker_was_killed_stays_one_trace(
    make_stack: StackMaker, otlp: Receiver, config: Path
) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}', config=config, telemetry=sent_to(otlp))
    async with client_of(stack.target) as client:
        stream = client.stream(CANARY, model="smollm2", pin="fp8", max_tokens=120)
        await read_until(stream, 20)
        trace = Trace(otlp, stream.request_id)
        # The first attempt's own span never comes; that it had begun is known from its wait in the queue.
        await wait_for(trace, "queue")
        stack.add_worker(FP8)
        stack.workers[FP8][0].kill()
        completion = await stream.result()
    assert completion.token_ids == expected_tokens(CANARY, 120)
    await wait_for(trace, "queue", "queue", "process", GENERATE, "relay", "decode", ENGINE, ENGINE)
    submit, process = trace.one("submit"), trace.one("process")
    assert {span.parent_span_id for span in [*trace.named("queue"), process]} == {submit.span_id}
    assert [link.span_id for link in process.links] == [submit.span_id, _attempt_of(submit, 1)]
    assert {link.trace_id for link in process.links} == {submit.trace_id}
    worked = told(process)
    assert (worked["bitlane.epoch"], worked["bitlane.attempt"], worked["bitlane.worker"]) == (2, 2, "smollm2-fp8-2")
    inherited = worked["bitlane.tokens.inherited"]
    assert isinstance(inherited, int)
    assert inherited >= 20
    assert worked["bitlane.tokens.generated"] == 120 - inherited
    assert [told(span)["bitlane.epoch"] for span in trace.named("queue")] == [1, 2]
    assert told(trace.one(GENERATE))["bitlane.attempts"] == 2
    assert not any(is_error(span) for span in trace.spans())


async def test_an_attempt_that_lost_its_lease_says_so_and_the_next_is_linked_to_it(
    make_stack: StackMaker, otlp: Receiver, config: Path
) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}', config=config, telemetry=sent_to(otlp))
    async with client_of(stack.target) as client:
        stream = client.stream(CANARY, model="smollm2", pin="fp8", max_tokens=300)
        await read_until(stream, 10)
        frozen = stack.workers[FP8][0]
        os.kill(frozen.pid, signal.SIGSTOP)
        stack.add_worker(FP8)
        await read_until(stream, 50)
        os.kill(frozen.pid, signal.SIGCONT)
        assert (await stream.result()).token_ids == expected_tokens(CANARY, 300)
    trace = Trace(otlp, stream.request_id)
    await wait_for(trace, "process", "process", GENERATE)
    submit, (first, second) = trace.one("submit"), trace.named("process")
    assert first.parent_span_id == second.parent_span_id == submit.span_id
    assert [link.span_id for link in first.links] == [submit.span_id]
    assert [link.span_id for link in second.links] == [submit.span_id, first.span_id]
    assert [told(span)["bitlane.outcome"] for span in (first, second)] == ["lost", "length"]
    assert [is_error(span) for span in (first, second)] == [True, False]


async def test_a_stream_that_was_resumed_at_another_router_stays_one_trace(
    make_stack: StackMaker, otlp: Receiver, config: Path
) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}', config=config, telemetry=sent_to(otlp))
    second = stack.target_of(stack.add_router())
    async with client_of(stack.target, second) as client:
        stream = client.stream(CANARY, model="smollm2", pin="fp8", max_tokens=300)
        await read_until(stream, 20)
        trace = Trace(otlp, stream.request_id)
        await wait_for(trace, "submit")
        stack.routers[0].kill()
        assert (await stream.result()).token_ids == expected_tokens(CANARY, 300)
    resume = f"{SERVICE}/Resume"
    await wait_for(trace, resume, "relay", "process", ENGINE, ENGINE)
    (root,) = (span for span in trace.spans() if not span.parent_span_id)
    assert trace.one(resume).parent_span_id == root.span_id
    assert trace.one("relay").parent_span_id == trace.one(resume).span_id
    assert trace.one("process").parent_span_id == trace.one("submit").span_id
    assert trace.named(GENERATE) == []  # it died with its router
    assert told(trace.one(resume))["bitlane.outcome"] == "length"
    assert not any(is_error(span) for span in trace.spans())


async def test_a_cancelled_request_is_no_error(make_stack: StackMaker, otlp: Receiver, config: Path) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}', config=config, telemetry=sent_to(otlp))
    async with client_of(stack.target) as client:
        stream = client.stream(CANARY, model="smollm2", pin="fp8", max_tokens=2000)
        await read_until(stream, 5)
        await stream.cancel()
        await stream.result()
        left = client.stream(CANARY, model="smollm2", pin="fp8", max_tokens=2000)
        await read_until(left, 5)
        await left.close()
    for each in (stream, left):
        trace = Trace(otlp, each.request_id)
        await wait_for(trace, "process", GENERATE, "relay")
        assert told(trace.one("process"))["bitlane.outcome"] == "cancelled"
        assert not any(is_error(span) for span in trace.spans())
    assert told(Trace(otlp, left.request_id).one(GENERATE))["error.type"] == "CANCELLED"
    cancel = Trace(otlp, stream.request_id).one(f"{SERVICE}/Cancel")
    assert cancel.trace_id == Trace(otlp, stream.request_id).one(GENERATE).trace_id


async def test_refused_requests_say_why_and_are_no_error_of_the_server(
    make_stack: StackMaker, otlp: Receiver, config: Path
) -> None:
    stack = make_stack(config=config, telemetry=sent_to(otlp))
    good = pb.GenerateRequest(model="smollm2", prompt=CANARY, sampling=pb.SamplingParams(max_tokens=2))
    bad = pb.GenerateRequest(model="smollm2", prompt=CANARY, sampling=pb.SamplingParams(temperature=99))
    asked = {
        "first": (key_of("small"), good),
        "quota": (key_of("small"), good),
        "invalid": (KEY, bad),
        "unauthenticated": ("bl_nobody", good),
    }
    async with aio.insecure_channel(stack.target) as channel:
        generate: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{GENERATE}")
        for number, (key, request) in enumerate(asked.values()):
            call = generate(
                request.SerializeToString(),
                metadata=(("authorization", f"Bearer {key}"), ("traceparent", _caller(number))),
            )
            if number:
                with pytest.raises(aio.AioRpcError):
                    _ = [event async for event in call]
            else:
                assert [event async for event in call]

    def children(number: int) -> dict[str, tuple[str, bool]]:
        """Name, error and status of what is below the refused call."""
        (server,) = spans(number, GENERATE)
        assert server.parent_span_id.hex() == _caller(number).split("-")[2]
        assert server.kind == Span.SPAN_KIND_SERVER
        below = [span for span in spans(number) if span is not server]
        assert all(span.parent_span_id == server.span_id for span in below)
        return {span.name: (str(told(span).get("error.type", "")), is_error(span)) for span in below}

    def spans(number: int, name: str = "") -> list[Span]:
        trace_id = _caller(number).split("-")[1]
        return [span for span in otlp.spans if span.trace_id.hex() == trace_id and name in ("", span.name)]

    await asyncio.to_thread(otlp.wait, lambda _: all(spans(number, GENERATE) for number in range(4)))
    fine = dict.fromkeys(("validate", "classify", "decide", "submit"), ("", False))
    assert children(1) == fine
    assert children(2) == {"validate": ("FIELD_INVALID", False)}
    assert children(3) == {}
    expected = {
        1: ("RESOURCE_EXHAUSTED", "QUOTA_REQUESTS", "small"),
        2: ("INVALID_ARGUMENT", "FIELD_INVALID", "acme"),
        3: ("UNAUTHENTICATED", "CREDENTIAL_INVALID", None),
    }
    for number, (code, reason, tenant) in expected.items():
        (server,) = spans(number, GENERATE)
        said = told(server)
        assert (said["rpc.response.status_code"], said["error.type"], said.get("bitlane.tenant")) == (
            code,
            reason,
            tenant,
        )
        assert not is_error(server)
        assert not [name for name in said if name.startswith("gen_ai.usage")]
    rejected = {
        (told_of["bitlane.tenant"], told_of["error.type"]) for told_of in await asyncio.to_thread(_rejections, otlp, 3)
    }
    assert rejected == {
        ("other", "QUOTA_REQUESTS"),
        ("acme", "FIELD_INVALID"),
        ("none", "CREDENTIAL_INVALID"),
    }


def _caller(number: int) -> str:
    """The trace context of one of the raw calls."""
    return f"00-0af7651916cd43dd8448eb211c8031{number:02x}-b7ad6b71692033{number:02x}-01"


def _rejections(otlp: Receiver, series: int) -> list[dict[str, object]]:
    """The attributes of the rejections' series, once there are so many."""

    def points() -> list[dict[str, object]]:
        found = [m for metrics in list(otlp.metrics) for m in metrics if m.name == "bitlane.rejections"]
        return [dict(attributes(point.attributes)) for point in found[-1].sum.data_points] if found else []

    otlp.wait(lambda _: len(points()) >= series)
    return points()


def _attempt_of(submit: Span, epoch: int) -> bytes:
    """The id of an attempt's span, which follows from the span that sent the job."""
    sent = parse(TraceContext(f"00-{submit.trace_id.hex()}-{submit.span_id.hex()}-01"))
    assert sent is not None
    return attempt_span_id(sent, epoch).to_bytes(8)
