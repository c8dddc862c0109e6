"""Whether a request of the policy API is well formed; every fault names its field. Documents have their own reader."""

import re
from collections.abc import Iterator, Sequence

from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from router.faults import Violation
from router.replay import request_of
from router.validation import check_request

MAX_ROWS = 500
_MAX_NOTE_BYTES = 256
_MAX_EVIDENCE_BYTES = 2048
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64})?")


def check_note(note: str) -> list[Violation]:
    if len(note.encode()) > _MAX_NOTE_BYTES or not note.isprintable():
        return [Violation("note", f"must be at most {_MAX_NOTE_BYTES} bytes of printable text")]
    return []


def check_rows(rows: Sequence[ppb.ReplayRow], models: set[str]) -> list[Violation]:
    """Each row as a request would be checked."""
    if not 1 <= len(rows) <= MAX_ROWS:
        return [Violation("rows", f"has {len(rows)} rows; use 1 to {MAX_ROWS}")]
    return [violation for number, row in enumerate(rows) for violation in _check_row(row, f"rows[{number}].", models)]


def _check_row(row: ppb.ReplayRow, path: str, models: set[str]) -> Iterator[Violation]:
    for violation in check_request(request_of(row)):
        field = "text" if violation.field == "prompt" else violation.field
        yield Violation(path + field, violation.description)
    if row.model and row.model not in models:
        yield Violation(f"{path}model", f"is {row.model[:64]!r}; there are {', '.join(sorted(models))}")


def check_gate(request: ppb.SetGateRequest) -> list[Violation]:
    return list(_check_gate(request))


def _check_gate(request: ppb.SetGateRequest) -> Iterator[Violation]:
    if not request.model:
        yield Violation("model", "is required; ListModels names the models")
    if not _DIGEST.fullmatch(request.checkpoint_digest):
        yield Violation("checkpoint_digest", "must be sha256: and 64 hexadecimal digits, or be left out")
    if request.task not in pb.Task.values() or request.task == pb.TASK_UNSPECIFIED:
        yield Violation("task", f"is required; use one of {', '.join(pb.Task.keys()[1:])}")
    if request.state not in pb.GateState.values() or request.state == pb.GATE_STATE_UNSPECIFIED:
        yield Violation("state", f"is required; use one of {', '.join(pb.GateState.keys()[1:])}")
    if len(request.evidence.encode()) > _MAX_EVIDENCE_BYTES:
        yield Violation("evidence", f"has more than {_MAX_EVIDENCE_BYTES} bytes; shorten it")
