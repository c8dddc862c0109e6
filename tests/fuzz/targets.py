"""What is fuzzed: functions that take any bytes at all, and may fail in the ways that they document only.

A target returns when the input was good or was refused as it should be; whatever it raises is a find.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from bitlane.errors import BitlaneError
from bitlane.faults import from_rpc_error
from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from classifier import Classifier
from classifier.model import load as load_classifier
from precision.decision import PriorityClass
from precision.policy.document import PolicyInvalid, read_policy
from router.features import estimate_prompt_tokens, extract_features
from router.job import digest_of
from router.language import guess_language
from router.policy_validation import check_gate, check_rows
from router.validation import Bounds, check_request
from workers.convert import job_of, parse
from workers.engines.reference.gguf_file import GgufFile, NotGguf

Target = Callable[[bytes], None]


def job(data: bytes) -> None:
    """The envelope between router and worker, with the log that came with it. The worker catches these two."""
    try:
        job_of("t/r/1", parse(data, (data,)), {})
    except (DecodeError, KeyError):
        return


def admission(data: bytes) -> None:
    """What routers keep beside a request."""
    try:
        job_pb2.Admission.FromString(data)
    except DecodeError:
        return


def policy(data: bytes) -> None:
    """A tenant's policy, as text in YAML or JSON."""
    try:
        read_policy(data.decode(errors="replace"), "v1")
    except PolicyInvalid as invalid:
        str(invalid)


def generate(data: bytes) -> None:
    """A request from its bytes to its features: whatever passes the validation can be worked on."""
    try:
        request = pb.GenerateRequest.FromString(data)
    except DecodeError:
        return
    for violation in check_request(request, Bounds(context_tokens=2048)):
        assert violation.field
        assert violation.description
        return
    extract_features(request, _classifier(), PriorityClass.INTERACTIVE, estimate_prompt_tokens(request))
    digest_of(request)
    guess_language(request.prompt)


def gate(data: bytes) -> None:
    """An operator's gate."""
    try:
        check_gate(ppb.SetGateRequest.FromString(data))
    except DecodeError:
        return


def replay(data: bytes) -> None:
    """Rows of an earlier time, to be decided again."""
    try:
        request = ppb.ReplayPolicyRequest.FromString(data)
    except DecodeError:
        return
    check_rows(request.rows, {"smollm2"})


def status(data: bytes) -> None:
    """The details of an error, as the SDK reads them from a server that may be anybody's."""
    trailers = aio.Metadata(("grpc-status-details-bin", data), ("grpc-retry-pushback-ms", data.decode("latin-1")))
    error = aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), trailers, "text")
    assert isinstance(from_rpc_error(error, "r1"), BitlaneError)


def gguf(data: bytes) -> None:
    """A model's file."""
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(data or b"\0")  # an empty file cannot be mapped, and is no find
        file.flush()
        try:
            model = GgufFile(Path(file.name))
            for name in model.names[:8]:
                model.tensor(name)
        except NotGguf:
            return


TARGETS: dict[str, Target] = {
    function.__name__: function for function in (job, admission, policy, generate, gate, replay, status, gguf)
}
FOLDER = Path(__file__).parent


def corpus(target: str) -> dict[str, bytes]:
    """Seeds of a target, and the cases that broke it once."""
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in ("seeds", "found")
        for path in sorted((FOLDER / folder / target).glob("*"))
    }


@functools.cache
def _classifier() -> Classifier:
    return load_classifier()


__all__ = ["FOLDER", "TARGETS", "Target", "corpus"]
