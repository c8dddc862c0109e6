"""What a proxy between the client and a router makes of a router that is gone."""

import grpc
import pytest
from grpc import aio

from bitlane.errors import BitlaneError, ConnectionFailed, InternalError
from bitlane.faults import DETAILS_KEY, from_rpc_error
from bitlane.rpc.v1 import status_pb2

RESET = "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"


def fault(code: grpc.StatusCode, details: str, reason: str = "") -> BitlaneError:
    status = status_pb2.Status()
    if reason:
        status.details.add().Pack(status_pb2.ErrorInfo(reason=reason))
    trailers = aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return from_rpc_error(aio.AioRpcError(code, aio.Metadata(), trailers, details), "r1")


def test_a_stream_that_a_proxy_resets_can_be_resumed() -> None:
    assert type(fault(grpc.StatusCode.INTERNAL, RESET)) is ConnectionFailed
    assert type(fault(grpc.StatusCode.UNAVAILABLE, "upstream connect error")) is ConnectionFailed


@pytest.mark.parametrize("reason", ["INTERNAL", ""])
def test_a_fault_of_the_router_is_none_of_the_proxy(reason: str) -> None:
    assert type(fault(grpc.StatusCode.INTERNAL, "internal error", reason)) is InternalError
