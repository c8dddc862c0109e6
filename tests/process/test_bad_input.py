"""Bad input: INVALID_ARGUMENT that names the field, or the transport's own error; never INTERNAL; nothing breaks."""

import random
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import grpc
import pytest

from bitlane.rpc.v1 import status_pb2
from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.process.scripted import ACME, expected_text

_GENERATE = "/bitlane.v1.InferenceService/Generate"
_MIB = 1 << 20
# Every method of every service of ours, so that no new one is forgotten.
METHODS = [
    f"/{service.full_name}/{method.name}"
    for file in (pb.DESCRIPTOR, ppb.DESCRIPTOR, apb.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
]


# Values out of range are the point here, and the stubs would refuse them.
_Request: Any = pb.GenerateRequest
_Sampling: Any = pb.SamplingParams
_Message: Any = pb.ChatMessage
_Preference: Any = pb.PrecisionPreference


def request(**fields: Any) -> pb.GenerateRequest:
    """A good request, but for the fields given."""
    return _Request(**({"model": "smollm2", "prompt": "hi", "sampling": _Sampling(max_tokens=3)} | fields))


def sampling(**fields: Any) -> pb.GenerateRequest:
    return request(sampling=_Sampling(**({"max_tokens": 3} | fields)))


def messages(*turns: tuple[int, str]) -> pb.GenerateRequest:
    return request(prompt="", messages=[_Message(role=role, content=content) for role, content in turns])


def deep_schema(depth: int) -> pb.GenerateRequest:
    return request(guided=pb.GuidedDecoding(json_schema='{"a":' * depth + "1" + "}" * depth))


USER, ASSISTANT = pb.ROLE_USER, pb.ROLE_ASSISTANT
NAN, INFINITE = float("nan"), float("inf")

TABLE: list[tuple[str, pb.GenerateRequest, str]] = [
    ("empty", pb.GenerateRequest(), "model"),
    ("hostile model", request(model="a\nb"), "model"),
    ("huge model", request(model="x" * 100_000), "model"),
    ("huge id", request(request_id="x" * 100_000), "request_id"),
    ("no input", request(prompt=""), "prompt"),
    ("both inputs", request(messages=[pb.ChatMessage(role=USER, content="x")]), "prompt"),
    ("oversized prompt", request(prompt="x" * (_MIB + 1)), "prompt"),
    ("NUL in the prompt", request(prompt="a\0b"), "prompt"),
    ("NUL in a turn", messages((USER, "a\0b")), "messages[0].content"),
    ("empty turn", messages((USER, "")), "messages[0].content"),
    ("unknown role", messages((99, "x"), (USER, "y")), "messages[0].role"),
    ("no role", messages((0, "x"), (USER, "y")), "messages[0].role"),
    ("last turn not the user's", messages((USER, "x"), (ASSISTANT, "y")), "messages[1].role"),
    ("too many turns", messages(*[(USER, "x")] * 1025), "messages"),
    ("max_tokens 0", sampling(max_tokens=0), "sampling.max_tokens"),
    ("max_tokens beyond the context", sampling(max_tokens=2049), "sampling.max_tokens"),
    ("max_tokens huge", sampling(max_tokens=4_294_967_295), "sampling.max_tokens"),
    ("temperature NaN", sampling(temperature=NAN), "sampling.temperature"),
    ("temperature infinite", sampling(temperature=INFINITE), "sampling.temperature"),
    ("temperature negative", sampling(temperature=-0.1), "sampling.temperature"),
    ("temperature too high", sampling(temperature=2.1), "sampling.temperature"),
    ("top_p 0", sampling(top_p=0), "sampling.top_p"),
    ("top_p NaN", sampling(top_p=NAN), "sampling.top_p"),
    ("top_p above 1", sampling(top_p=1.01), "sampling.top_p"),
    ("top_k too many", sampling(top_k=1001), "sampling.top_k"),
    ("logprobs too many", sampling(logprobs=21), "sampling.logprobs"),
    ("thousands of stop texts", sampling(stop=["x"] * 5000), "sampling.stop"),
    ("empty stop text", sampling(stop=["ok", ""]), "sampling.stop[1]"),
    ("long stop text", sampling(stop=["x" * 257]), "sampling.stop[0]"),
    ("unknown task", request(task=99), "task"),
    ("unknown priority", request(priority=99), "priority"),
    ("unknown pin", request(precision=_Preference(pin=99)), "precision.pin"),
    ("unspecified pin", request(precision=_Preference(pin=0)), "precision.pin"),
    ("unknown floor", request(precision=_Preference(at_least=99)), "precision.at_least"),
    ("hostile id: colon", request(request_id="a:b"), "request_id"),
    ("hostile id: star", request(request_id="*"), "request_id"),
    ("hostile id: newline", request(request_id="a\n"), "request_id"),
    ("hostile id: braces", request(request_id="{0}"), "request_id"),
    ("hostile id: slash", request(request_id="../globex/x"), "request_id"),
    ("hostile id: long", request(request_id="x" * 129), "request_id"),
    ("hostile id: not ASCII", request(request_id="ä"), "request_id"),
    ("too many labels", request(labels={str(i): "x" for i in range(33)}), "labels"),
    ("long label key", request(labels={"x" * 65: "x"}), "labels"),
    ("label with a newline", request(labels={"team": "a\nb"}), "labels[team]"),
    ("long conversation id", request(conversation_id="x" * 129), "conversation_id"),
    ("control characters in the conversation id", request(conversation_id="a\nb"), "conversation_id"),
    ("deep schema", deep_schema(5000), "guided.json_schema"),
    (
        "huge schema",
        request(guided=pb.GuidedDecoding(json_schema='{"a":"' + "x" * 70_000 + '"}')),
        "guided.json_schema",
    ),
    ("schema that is no JSON", request(guided=pb.GuidedDecoding(json_schema="{")), "guided.json_schema"),
    ("schema that is no object", request(guided=pb.GuidedDecoding(json_schema="[1]")), "guided.json_schema"),
    ("long regex", request(guided=pb.GuidedDecoding(regex="(a+)+" * 1000)), "guided.regex"),
    ("NUL in the regex", request(guided=pb.GuidedDecoding(regex="a\0")), "guided.regex"),
    ("negative grace", request(disconnect_grace={"seconds": -1}), "disconnect_grace"),
    ("long grace", request(disconnect_grace={"seconds": 601}), "disconnect_grace"),
]


@pytest.fixture(scope="module")
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.target) as channel:
        yield channel


def call(
    channel: grpc.Channel, method: str, body: bytes, key: str | None = ACME, metadata: tuple[tuple[str, str], ...] = ()
) -> list[bytes]:
    """Sends raw bytes and returns the raw replies; raises grpc.RpcError."""
    invoke = cast("Callable[..., Iterator[bytes]]", channel.unary_stream(method))
    credentials = (("authorization", f"Bearer {key}"),) if key is not None else ()
    return list(invoke(body, metadata=(*credentials, *metadata), timeout=30))


def status_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """The code, and the google.rpc.Status of the trailers."""
    assert isinstance(error, grpc.Call)
    trailers = dict(cast("Iterable[tuple[str, bytes]]", error.trailing_metadata() or ()))
    return error.code(), status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))


def fields_of(status: status_pb2.Status) -> list[str]:
    """Fields that the BadRequest detail names."""
    for detail in status.details:
        if detail.type_url == "type.googleapis.com/google.rpc.BadRequest":
            return [v.field for v in status_pb2.BadRequest.FromString(detail.value).field_violations]
    return []


@pytest.fixture(autouse=True)
def alive(stack: Stack, channel: grpc.Channel) -> Iterator[None]:
    """After each case the same processes serve a good request."""
    yield
    everyone: list[Process] = [*stack.routers, *(w for workers in stack.workers.values() for w in workers)]
    assert [p.name for p in everyone if p.returncode is not None] == []
    events = [pb.GenerateEvent.FromString(e) for e in call(channel, _GENERATE, request().SerializeToString())]
    assert "".join(event.delta.text for event in events) == expected_text("hi", 3)


@pytest.mark.parametrize(("bad", "field"), [case[1:] for case in TABLE], ids=[case[0] for case in TABLE])
def test_every_fault_names_its_field(channel: grpc.Channel, bad: pb.GenerateRequest, field: str) -> None:
    for method, body, prefix in (
        ("Generate", bad.SerializeToString(), ""),
        ("Complete", pb.CompleteRequest(request=bad).SerializeToString(), "request."),
        ("Explain", pb.ExplainRequest(request=bad).SerializeToString(), "request."),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, f"/bitlane.v1.InferenceService/{method}", body)
        code, status = status_of(caught.value)
        assert code is grpc.StatusCode.INVALID_ARGUMENT, status
        assert prefix + field in fields_of(status)
        assert status.code == code.value[0]


@pytest.mark.parametrize("method", ["Resume", "Cancel"])
@pytest.mark.parametrize("request_id", ["", "a:b", "*", "a\nb", "x" * 129])
def test_ids_of_other_calls_are_checked_too(channel: grpc.Channel, method: str, request_id: str) -> None:
    body = pb.CancelRequest(request_id=request_id).SerializeToString()  # field 1 in both
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, f"/bitlane.v1.InferenceService/{method}", body)
    code, status = status_of(caught.value)
    assert (code, fields_of(status)) == (grpc.StatusCode.INVALID_ARGUMENT, ["request_id"])


LONE_SURROGATE = b"\x12\x07smollm2\x1a\x05hi\xed\xa0\x80"  # fields 2 (model) and 3 (prompt)


@pytest.mark.parametrize(
    "body",
    [LONE_SURROGATE, request().SerializeToString()[:-1], b"\xff" * 100, random.Random(1).randbytes(1000), b"\x08"],
    ids=["lone surrogate", "truncated", "all ones", "random", "cut tag"],
)
def test_a_body_that_is_no_message_is_the_callers_fault(channel: grpc.Channel, body: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, _GENERATE, body)
    code, status = status_of(caught.value)
    assert (code, fields_of(status)) == (grpc.StatusCode.INVALID_ARGUMENT, ["request"])


def test_many_faults_are_all_told_within_the_trailers_limit(channel: grpc.Channel) -> None:
    bad = messages(*[(99, "a\0" * 100)] * 1000)
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, _GENERATE, bad.SerializeToString())
    code, status = status_of(caught.value)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(fields_of(status)) == 16
    assert "and 1998 more" in status.message


def test_transport_limits_answer_with_the_transports_error(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as too_big:
        call(channel, _GENERATE, b"x" * (5 * _MIB))
    assert status_of(too_big.value)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as too_much_metadata:
        call(channel, _GENERATE, request().SerializeToString(), metadata=(("x-long", "y" * 20_000),))
    assert status_of(too_much_metadata.value)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_unknown_names_are_not_found(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as model:
        call(channel, _GENERATE, request(model="no-such").SerializeToString())
    assert status_of(model.value)[0] is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as method:
        call(channel, "/bitlane.v1.InferenceService/NoSuch", b"")
    assert status_of(method.value)[0] is grpc.StatusCode.UNIMPLEMENTED


def test_random_bytes_at_the_port(stack: Stack) -> None:
    host, _, port = stack.target.rpartition(":")
    noise = random.Random(2)
    for size in (1, 24, 100, 10_000):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            try:
                connection.sendall(noise.randbytes(size))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
            except OSError:
                continue  # cut off: an answer too
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(preface + noise.randbytes(500))


def test_health_and_reflection_are_open(channel: grpc.Channel) -> None:
    (health,) = call(channel, "/grpc.health.v1.Health/Check", b"", key=None)
    assert health == b"\x08\x01"  # SERVING
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    invoke = cast("Callable[..., Iterator[bytes]]", channel.stream_stream(method))
    (listing,) = list(invoke(iter([b"\x3a\x00"]), timeout=10))  # list_services
    assert b"bitlane.v1.InferenceService" in listing
    assert b"bitlane.v1.PolicyService" in listing
    assert b"bitlane.v1.AdminService" in listing
