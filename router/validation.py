"""Whether a request is well formed: one plain function, no I/O; every fault names its field and what to do."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bitlane.v1 import inference_pb2 as pb
from router.faults import Violation

ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MODEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_TEXT_BYTES = 1 << 20
MAX_TURNS = 1024
MAX_STOPS = 16
MAX_STOP_BYTES = 256
MAX_LABELS = 32
MAX_SCHEMA_BYTES = 64 << 10
MAX_SCHEMA_DEPTH = 32
MAX_REGEX_BYTES = 4 << 10
MAX_GRACE_S = 600


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the model adds to the general limits."""

    context_tokens: int


def check_request(request: pb.GenerateRequest, bounds: Bounds | None = None, path: str = "") -> list[Violation]:
    """All that is wrong with a request, field by field; empty when nothing is.

    Args:
        bounds: of the model, where it is known already.
        path: prefix of the field paths, such as "request." when the message is nested.
    """
    return [Violation(path + v.field, v.description) for v in _check(request, bounds)]


def check_request_id(request_id: str) -> list[Violation]:
    """An id that must be there (Resume, Cancel)."""
    if ID.fullmatch(request_id):
        return []
    return [Violation("request_id", "is required: 1 to 128 characters of A-Z a-z 0-9 . _ -")]


def _check(request: pb.GenerateRequest, bounds: Bounds | None) -> Iterator[Violation]:
    if request.request_id and not ID.fullmatch(request.request_id):
        yield Violation("request_id", "must be 1 to 128 characters of A-Z a-z 0-9 . _ - (or be left out)")
    if not request.model:
        yield Violation("model", "is required; ListModels names the models")
    elif not _MODEL.fullmatch(request.model):
        yield Violation("model", "is no model name (1 to 64 characters of a-z 0-9 . _ -); ListModels names the models")
    yield from _check_input(request)
    yield from _check_sampling(request.sampling, bounds)
    yield from _check_enum("task", request.task, pb.Task)
    yield from _check_enum("priority", request.priority, pb.Priority)
    yield from _check_precision(request.precision)
    yield from _check_labels(request)
    if len(request.conversation_id.encode()) > 128:
        yield Violation("conversation_id", "has more than 128 bytes; shorten it")
    elif not request.conversation_id.isprintable():
        yield Violation("conversation_id", "has control characters; remove them")
    yield from _check_guided(request.guided)
    grace = request.disconnect_grace.seconds + request.disconnect_grace.nanos / 1e9
    if not 0 <= grace <= MAX_GRACE_S:
        yield Violation("disconnect_grace", f"is {grace:g} s; use 0 to {MAX_GRACE_S} s")


def _check_input(request: pb.GenerateRequest) -> Iterator[Violation]:
    if request.prompt and request.messages:
        yield Violation("prompt", "is set and so is messages; set exactly one of them")
        return
    if not request.prompt and not request.messages:
        yield Violation("prompt", "is empty and so is messages; set exactly one of them")
        return
    if request.prompt:
        yield from _check_text("prompt", request.prompt)
        return
    if len(request.messages) > MAX_TURNS:
        yield Violation("messages", f"has {len(request.messages)} turns; at most {MAX_TURNS}")
        return
    total = 0
    for i, message in enumerate(request.messages):
        field = f"messages[{i}]"
        if message.role not in (pb.ROLE_SYSTEM, pb.ROLE_USER, pb.ROLE_ASSISTANT):
            yield Violation(f"{field}.role", f"is {message.role}; use system, user or assistant")
        if not message.content and message.role != pb.ROLE_ASSISTANT:
            yield Violation(f"{field}.content", "is empty; a system or user turn needs text")
        yield from _check_text(f"{field}.content", message.content)
        total += len(message.content.encode())
    if total > MAX_TEXT_BYTES:
        yield Violation("messages", f"have {total} bytes together; at most {MAX_TEXT_BYTES}")
    if request.messages[-1].role != pb.ROLE_USER:
        yield Violation(f"messages[{len(request.messages) - 1}].role", "is not user; the last turn is the user's")


def _check_text(field: str, text: str) -> Iterator[Violation]:
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        yield Violation(field, f"has {size} bytes; at most {MAX_TEXT_BYTES}")
    at = text.find("\0")
    if at >= 0:
        yield Violation(field, f"has a NUL character at position {at}; remove it")


def _check_sampling(sampling: pb.SamplingParams, bounds: Bounds | None) -> Iterator[Violation]:
    most = bounds.context_tokens if bounds else 1 << 20
    if sampling.HasField("max_tokens") and not 1 <= sampling.max_tokens <= most:
        yield Violation("sampling.max_tokens", f"is {sampling.max_tokens}; use 1 to {most}")
    if sampling.HasField("temperature") and not 0 <= sampling.temperature <= 2:  # refuses NaN too
        yield Violation("sampling.temperature", f"is {sampling.temperature:g}; use 0 to 2")
    if sampling.HasField("top_p") and not 0 < sampling.top_p <= 1:
        yield Violation("sampling.top_p", f"is {sampling.top_p:g}; use more than 0, up to 1")
    if sampling.top_k > 1000:
        yield Violation("sampling.top_k", f"is {sampling.top_k}; use 0 (off) to 1000")
    if sampling.logprobs > 20:
        yield Violation("sampling.logprobs", f"is {sampling.logprobs}; use 0 to 20")
    if len(sampling.stop) > MAX_STOPS:
        yield Violation("sampling.stop", f"has {len(sampling.stop)} texts; at most {MAX_STOPS}")
        return
    for i, stop in enumerate(sampling.stop):
        if not 1 <= len(stop.encode()) <= MAX_STOP_BYTES:
            yield Violation(f"sampling.stop[{i}]", f"has {len(stop.encode())} bytes; use 1 to {MAX_STOP_BYTES}")


def _check_enum(
    field: str, value: int, enum: type[pb.Task] | type[pb.Priority] | type[pb.Precision]
) -> Iterator[Violation]:
    if value not in enum.values():
        yield Violation(field, f"is {value}, which is not known; use one of {', '.join(enum.keys()[1:])}")


def _check_precision(preference: pb.PrecisionPreference) -> Iterator[Violation]:
    which = preference.WhichOneof("preference")
    if which is None:
        return
    value = preference.pin if which == "pin" else preference.at_least
    if value == pb.PRECISION_UNSPECIFIED:
        yield Violation(f"precision.{which}", "is unspecified; name a precision or leave it out")
    else:
        yield from _check_enum(f"precision.{which}", value, pb.Precision)


def _check_labels(request: pb.GenerateRequest) -> Iterator[Violation]:
    if len(request.labels) > MAX_LABELS:
        yield Violation("labels", f"has {len(request.labels)} entries; at most {MAX_LABELS}")
        return
    for key, value in request.labels.items():
        if not 1 <= len(key.encode()) <= 64 or not key.isprintable():
            yield Violation("labels", f"has the key {key[:64]!r}; use 1 to 64 bytes of printable text")
        elif len(value.encode()) > 256 or not value.isprintable():
            yield Violation(f"labels[{key}]", "must be at most 256 bytes of printable text")


def _check_guided(guided: pb.GuidedDecoding) -> Iterator[Violation]:
    guide = guided.WhichOneof("guide")
    if guide == "json_schema":
        yield from _check_schema(guided.json_schema)
    elif guide == "regex":
        # Never compiled here: the engine's automaton decides, under its own limits.
        if not 1 <= len(guided.regex.encode()) <= MAX_REGEX_BYTES:
            yield Violation("guided.regex", f"has {len(guided.regex.encode())} bytes; use 1 to {MAX_REGEX_BYTES}")
        elif "\0" in guided.regex:
            yield Violation("guided.regex", "has a NUL character; remove it")


def _check_schema(schema: str) -> Iterator[Violation]:
    size = len(schema.encode())
    if size > MAX_SCHEMA_BYTES:
        yield Violation("guided.json_schema", f"has {size} bytes; at most {MAX_SCHEMA_BYTES}")
        return
    depth = _depth(schema)
    if depth > MAX_SCHEMA_DEPTH:
        yield Violation("guided.json_schema", f"is nested {depth} levels deep; at most {MAX_SCHEMA_DEPTH}")
        return
    try:
        parsed = json.loads(schema)
    except ValueError as error:
        yield Violation("guided.json_schema", f"is not JSON: {error}")
        return
    if not isinstance(parsed, dict):
        yield Violation("guided.json_schema", "is not a JSON object")


def _depth(text: str) -> int:
    """How deep brackets nest, outside of strings: counted before parsing, which would recurse."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
