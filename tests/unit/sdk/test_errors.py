"""The error tree, and how a gRPC status becomes one of its leaves."""

import pickle
from typing import Any

import grpc
import pytest
from grpc import aio

import bitlane
from bitlane import errors
from bitlane.faults import from_rpc_error, not_sent
from bitlane.rpc.v1 import status_pb2
from bitlane.testing import Fault

TABLE = {
    "INVALID_ARGUMENT": bitlane.InvalidRequest,
    "OUT_OF_RANGE": bitlane.InvalidRequest,
    "NOT_FOUND": bitlane.NotFound,
    "ALREADY_EXISTS": bitlane.AlreadyExists,
    "FAILED_PRECONDITION": bitlane.FailedPrecondition,
    "UNAUTHENTICATED": bitlane.AuthenticationError,
    "PERMISSION_DENIED": bitlane.PermissionDenied,
    "RESOURCE_EXHAUSTED": bitlane.QuotaExceeded,
    "UNAVAILABLE": bitlane.Unavailable,
    "ABORTED": bitlane.Aborted,
    "CANCELLED": bitlane.Aborted,
    "DEADLINE_EXCEEDED": bitlane.DeadlineExceeded,
    "INTERNAL": bitlane.InternalError,
    "UNKNOWN": bitlane.InternalError,
    "DATA_LOSS": bitlane.InternalError,
    "UNIMPLEMENTED": bitlane.InternalError,
}


def convert(fault: Fault) -> bitlane.BitlaneError:
    trailers = aio.Metadata(*fault.trailers())
    return from_rpc_error(aio.AioRpcError(grpc.StatusCode[fault.code], aio.Metadata(), trailers, fault.message), "r1")


@pytest.mark.parametrize(("code", "kind"), TABLE.items())
def test_each_code_has_its_error(code: str, kind: type[bitlane.BitlaneError]):
    error = convert(Fault(code, "what happened", reason="WHY", metadata={"pool": "m/fp4"}))  # pyright: ignore[reportArgumentType]  # the keys are codes
    assert type(error) is kind
    assert "what happened" in str(error)
    assert (error.reason, error.metadata, error.request_id) == ("WHY", {"pool": "m/fp4"}, "r1")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("ABORTED", "ETAG_MISMATCH", bitlane.EditConflict),
        ("ALREADY_EXISTS", "REQUEST_ID_TAKEN", bitlane.IdConflict),
        ("FAILED_PRECONDITION", "PRECISION_UNAVAILABLE", bitlane.PrecisionUnavailable),
    ],
)
def test_some_reasons_have_their_own(code: Any, reason: str, kind: type[bitlane.BitlaneError]):
    assert type(convert(Fault(code, reason=reason))) is kind


def test_the_table_covers_every_code_but_ok():
    assert set(TABLE) == {code.name for code in grpc.StatusCode} - {"OK"}


def test_unavailable_without_a_reason_is_a_broken_connection():
    error = convert(Fault.drop())
    assert type(error) is bitlane.ConnectionFailed
    assert isinstance(error, ConnectionError)


def test_a_deadline_is_a_timeout_error():
    assert isinstance(convert(Fault("DEADLINE_EXCEEDED")), TimeoutError)


def test_violations_are_all_shown():
    bad = [
        bitlane.Violation("sampling.max_tokens", "must be at least 1"),
        bitlane.Violation("messages[2].content", "is empty"),
    ]
    error = convert(Fault("INVALID_ARGUMENT", "2 fields are not valid", violations=bad))
    assert list(error.violations) == bad
    assert str(error) == (
        "2 fields are not valid; sampling.max_tokens: must be at least 1; messages[2].content: is empty"
    )


def test_a_quota_tells_what_was_violated_and_whose_it_is_and_the_wait():
    quota = [bitlane.Violation("tenant:acme/key:ci", "60 requests a minute")]
    metadata = {"limit": "requests_per_minute", "bound": "60"}
    fault = Fault("RESOURCE_EXHAUSTED", "too fast", "QUOTA_REQUESTS", metadata, violations=quota, retry_after=1.25)
    error = convert(fault)
    assert type(error) is bitlane.QuotaExceeded
    assert list(error.violations) == quota
    assert (error.reason, error.metadata) == ("QUOTA_REQUESTS", metadata)
    assert error.retry_after == 1.25
    assert not error.final


@pytest.mark.parametrize(
    ("pushback", "retry_after", "final"),
    [("250", 0.25, False), ("0", 0.0, False), ("-1", None, True), ("x", None, True)],
)
def test_pushback(pushback: str, retry_after: float | None, final: bool):
    error = convert(Fault("UNAVAILABLE", pushback_ms=pushback))
    assert (error.retry_after, error.final) == (retry_after, final)


def test_what_never_fits_names_the_quota_and_the_field_to_lower():
    """As a router sends it: QuotaFailure and BadRequest beside each other, and no wait."""
    status = status_pb2.Status()
    quota, bad = status_pb2.QuotaFailure(), status_pb2.BadRequest()
    quota.violations.add(subject="tenant:acme", description="the limit is 100 tokens a minute")
    bad.field_violations.add(field="sampling.max_tokens", description="is 256; use at most 90")
    for name, detail in (("QuotaFailure", quota), ("BadRequest", bad)):
        status.details.add(type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString())
    trailers = aio.Metadata(("grpc-status-details-bin", status.SerializeToString()), ("grpc-retry-pushback-ms", "-1"))
    error = from_rpc_error(aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, aio.Metadata(), trailers, "m"), "r")
    assert [each.field for each in error.violations] == ["tenant:acme", "sampling.max_tokens"]
    assert (error.retry_after, error.final) == (None, True)


def test_pushback_wins_over_retry_info():
    assert convert(Fault("UNAVAILABLE", retry_after=9, pushback_ms="20")).retry_after == 0.02


def test_broken_details_do_not_hide_the_error():
    trailers = aio.Metadata(("grpc-status-details-bin", b"\xff\xff\xff"))
    error = from_rpc_error(aio.AioRpcError(grpc.StatusCode.ABORTED, aio.Metadata(), trailers, "m"), None)
    assert type(error) is bitlane.Aborted


def test_every_error_is_in_the_drawn_tree():
    tree = errors.__doc__ or ""
    for name in errors.__all__:
        assert name == "Violation" or name in tree


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"Violation"}))
def test_errors_survive_pickling_and_have_a_message(name: str):
    kind: type[bitlane.BitlaneError] = getattr(errors, name)
    assert str(kind())
    error = kind("m", request_id="r", reason="R", metadata={"a": "b"}, violations=[bitlane.Violation("f", "d")])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert copy.__dict__ == error.__dict__
    assert str(copy) == "m; f: d"


def test_catching_by_what_can_be_done():
    assert issubclass(bitlane.QuotaExceeded, bitlane.TryLaterError)
    assert issubclass(bitlane.InvalidRequest, bitlane.RequestError)
    assert issubclass(bitlane.PermissionDenied, bitlane.AccessError)


def test_only_what_certainly_reached_no_server_was_not_sent():
    refused = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
    assert not_sent(convert(Fault("UNAVAILABLE", refused)))
    for fault in (
        Fault.drop(),
        Fault("UNAVAILABLE", "Socket closed"),
        Fault("UNAVAILABLE", refused, reason="BROKER_UNAVAILABLE"),
        Fault("DEADLINE_EXCEEDED", refused),
    ):
        assert not not_sent(convert(fault))
