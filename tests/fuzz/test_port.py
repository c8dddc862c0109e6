"""Anything at a router's port: a real router answers with the transport's error or with INVALID_ARGUMENT, and lives."""

import random
import socket
from collections.abc import Callable, Iterator
from typing import cast

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.stack import Stack
from tests.fuzz.strategies import messages
from tests.process.scripted import ACME, ACME_ADMIN, OPERATOR

pytestmark = pytest.mark.timeout(240)

METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in (pb.DESCRIPTOR, ppb.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
# Our bug, whatever was sent.
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_PATIENCE_S = 5.0
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(engine="scripted", engine_options='{"tokens": 20}') as stack:
        yield stack.start()


@pytest.fixture(scope="module")
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.target) as channel:
        yield channel


@pytest.fixture(autouse=True)
def alive(stack: Stack, channel: grpc.Channel) -> Iterator[None]:
    """After each test the same processes serve a good request."""
    pids = [process.pid for process in (*stack.routers, *(w for ws in stack.workers.values() for w in ws))]
    yield
    good = pb.GenerateRequest(model="smollm2", prompt="hi", sampling=pb.SamplingParams(max_tokens=3))
    code, events = call(channel, "/bitlane.v1.InferenceService/Generate", good.SerializeToString(), ACME)
    assert code is grpc.StatusCode.OK
    assert pb.GenerateEvent.FromString(events[-1]).HasField("finished")
    assert stack.dead() is None
    assert pids == [process.pid for process in (*stack.routers, *(w for ws in stack.workers.values() for w in ws))]


def call(channel: grpc.Channel, method: str, body: bytes, key: str) -> tuple[grpc.StatusCode, list[bytes]]:
    """Sends raw bytes with some seconds of patience; returns the code and the raw replies."""
    invoke = cast("Callable[..., Iterator[bytes]]", channel.unary_stream(method))
    replies: list[bytes] = []
    try:
        replies.extend(invoke(body, metadata=(("authorization", f"Bearer {key}"),), timeout=_PATIENCE_S))
    except grpc.RpcError as error:
        return cast("grpc.Call", error).code(), replies
    return grpc.StatusCode.OK, replies


@pytest.mark.parametrize("method", METHODS)
def test_messages_that_make_no_sense(channel: grpc.Channel, method: str) -> None:
    key = {"InferenceService": ACME, "PolicyService": ACME_ADMIN}.get(METHODS[method].containing_service.name, OPERATOR)

    @settings(max_examples=25, deadline=None, suppress_health_check=_SLOW)
    @given(message=messages(METHODS[method].input_type))
    def holds(message: Message) -> None:
        code, _ = call(channel, method, message.SerializeToString(), key)
        assert code not in NEVER, (code, message)

    holds()


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message(channel: grpc.Channel, method: str) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=_SLOW)
    @given(body=st.binary(max_size=200))
    def holds(body: bytes) -> None:
        code, _ = call(channel, method, body, OPERATOR if "Policy" in method else ACME)
        assert code not in NEVER, (code, body)

    holds()


def test_bytes_that_are_no_http2(stack: Stack) -> None:
    dice = random.Random(6)
    for length in (1, 9, 24, 100, 5_000, 100_000):
        send(stack, dice.randbytes(length))


def test_frames_that_make_no_sense(stack: Stack) -> None:
    """A good beginning, then frames of any type, flags, stream and length."""
    dice = random.Random(7)
    for _ in range(60):
        frames = b"".join(frame(dice) for _ in range(dice.randrange(1, 12)))
        send(stack, _PREFACE + _SETTINGS + frames[: dice.randrange(len(frames) + 1)])


def frame(dice: random.Random) -> bytes:
    payload = dice.randbytes(dice.choice((0, 1, 4, 8, 100, 16_384)))
    length = len(payload) if dice.random() < 0.8 else dice.randrange(1 << 24)
    kind, flags, stream = dice.randrange(12), dice.randrange(256), dice.choice((0, 1, 2, 3, dice.randrange(1 << 32)))
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def send(stack: Stack, data: bytes) -> None:
    """Sends it all and hangs up; what comes back does not matter."""
    host, _, port = stack.target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as line:
        line.settimeout(0.05)
        try:
            line.sendall(data)
            line.recv(4096)
        except OSError:
            return
