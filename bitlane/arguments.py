"""The arguments of a request: their types, their check, and the message made of them."""

import difflib
import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypedDict, TypeVar

from bitlane import convert
from bitlane.errors import InvalidRequest, Violation
from bitlane.types import Message, MessageDict, Precision, PrecisionName, Priority, PriorityName, Role, Task, TaskName
from bitlane.v1 import inference_pb2 as pb

_Member = TypeVar("_Member", bound=StrEnum)


class Options(TypedDict, total=False):
    """Everything of a request but its model and prompt. What is left out takes the server's default."""

    max_tokens: int | None
    """Most tokens to generate. Default 256."""
    temperature: float | None
    """0 is greedy. 0 to 2; default: what the model is configured with, else 0.7."""
    top_p: float | None
    """Nucleus sampling. Default 1 (off), above 0 to 1."""
    top_k: int | None
    """Only the k most probable tokens. Default 0 (off), at most 1,000."""
    seed: int | None
    """Makes sampling repeatable within one precision. Default: random."""
    stop: str | Sequence[str] | None
    """Texts that end the reply, which ends before them. At most 16, each 1 to 256 bytes."""
    logprobs: int | None
    """Log probabilities of the chosen token and of this many of the most probable. Default none, at most 20."""
    task: Task | TaskName | None
    """A hint at the task. Default: the server classifies the prompt."""
    at_least: Precision | PrecisionName | None
    """A floor: this precision or a higher one (fp4 < fp8 < bf16)."""
    pin: Precision | PrecisionName | None
    """Exactly this precision. Not together with `at_least`."""
    labels: Mapping[str, str] | None
    """Labels that the tenant's policy can match on. At most 32."""
    priority: Priority | PriorityName | None
    """Default standard."""
    conversation_id: str | None
    """Groups the requests of one conversation in traces."""
    json_schema: str | Mapping[str, Any] | None
    """A JSON schema that the reply must satisfy, where the engine can."""
    regex: str | None
    """A regular expression that the reply must match. Not together with `json_schema`."""
    request_id: str | None
    """Names the request: 1 to 128 of A-Z a-z 0-9 . _ -. The same id and body never run twice. Default: made up."""
    disconnect_grace: float | None
    """Seconds that the request goes on when its reader is gone. Default 0: cancelled at once; at most 600."""


def new_request_id() -> str:
    """An id that no other request has."""
    return uuid.uuid4().hex


def invalid(field: str, description: str) -> InvalidRequest:
    """The error for what the SDK finds wrong itself."""
    return InvalidRequest(
        "the request is not valid",
        reason="FIELD_INVALID",
        metadata={"checked_by": "client"},
        violations=[Violation(field, description)],
    )


def member(enum: type[_Member], value: object, field: str) -> _Member:
    """The enum's member for a member or its name; InvalidRequest names the field and the nearest good name."""
    if isinstance(value, str) and value != "unspecified":
        try:
            return enum(value)
        except ValueError:
            pass
    names = [each.value for each in enum if each.value != "unspecified"]
    near = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise invalid(field, f"{value!r} is none of {', '.join(names)}.{hint}")


def _put(field: str, value: object, set_field: Callable[[Any], object]) -> None:
    """Lets protobuf check type and range, and names the field when it objects."""
    try:
        set_field(value)
    except (TypeError, ValueError, OverflowError) as error:
        # Texts may hold secrets: only numbers are shown.
        shown = repr(value) if isinstance(value, int | float) else f"a value of type {type(value).__name__}"
        raise invalid(field, f"{shown} does not fit: {error}") from None


def assign(message: Any, name: str, value: object, path: str = "") -> None:
    """Sets a message's field unless the value is None; InvalidRequest names what does not fit as path and name."""
    if value is not None:
        _put(path + name, value, lambda good: setattr(message, name, good))


def _messages(request: pb.GenerateRequest, messages: Sequence[Message | MessageDict]) -> None:
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]  # users without a type checker
        raise invalid("messages", "must be a list of messages; a plain text goes into `prompt`")
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        match message:
            case Message():
                role, content = message.role, message.content
            case {"role": role, "content": content}:
                pass
            case _:
                raise invalid(path, "must be a Message or a dict with 'role' and 'content'")
        turn = request.messages.add(role=convert.role_to_wire(member(Role, role, f"{path}.role")))
        assign(turn, "content", content, f"{path}.")


def _sampling(request: pb.GenerateRequest, options: Options) -> None:
    sampling = request.sampling
    for name in ("max_tokens", "temperature", "top_p", "top_k", "seed", "logprobs"):
        assign(sampling, name, options.get(name), "sampling.")
    stop = options.get("stop")
    if stop is not None:
        _put("sampling.stop", [stop] if isinstance(stop, str) else stop, sampling.stop.extend)


def _precision(request: pb.GenerateRequest, options: Options) -> None:
    at_least, pin = options.get("at_least"), options.get("pin")
    if at_least is not None and pin is not None:
        raise invalid("precision", "`at_least` and `pin` exclude each other")
    if at_least is not None:
        floor = member(Precision, at_least, "precision.at_least")
        request.precision.at_least = convert.precision_to_wire(floor)
    if pin is not None:
        request.precision.pin = convert.precision_to_wire(member(Precision, pin, "precision.pin"))


def _guided(request: pb.GenerateRequest, options: Options) -> None:
    schema, regex = options.get("json_schema"), options.get("regex")
    if schema is not None and regex is not None:
        raise invalid("guided", "`json_schema` and `regex` exclude each other")
    if isinstance(schema, Mapping):
        try:
            schema = json.dumps(schema)
        except (TypeError, ValueError) as error:
            raise invalid("guided.json_schema", f"cannot be written as JSON: {error}") from None
    if schema is not None:
        assign(request.guided, "json_schema", schema, "guided.")
    if regex is not None:
        assign(request.guided, "regex", regex, "guided.")


def _grace(request: pb.GenerateRequest, grace: float) -> None:
    if not math.isfinite(grace) or grace < 0:
        raise invalid("disconnect_grace", f"must be 0 to 600 seconds, got {grace}")
    request.disconnect_grace.CopyFrom(convert.duration_to_wire(grace))


def build_request(
    prompt: str | None,
    messages: Sequence[Message | MessageDict] | None,
    model: str,
    options: Options,
) -> pb.GenerateRequest:
    """The message for the server, with a request id in any case.

    Raises InvalidRequest for what is plainly wrong, TypeError for an unknown option; limits are the server's to check.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    request = pb.GenerateRequest()
    if prompt is not None and messages is not None:
        raise invalid("prompt", "`prompt` and `messages` exclude each other")
    if prompt is None and messages is None:
        raise invalid("prompt", "either `prompt` or `messages` is required")
    assign(request, "model", model)
    assign(request, "prompt", prompt)
    if messages is not None:
        _messages(request, messages)
    request_id = options.get("request_id")
    if request_id == "":
        raise invalid("request_id", "must not be empty; leave it out for a new one")
    assign(request, "request_id", request_id if request_id is not None else new_request_id())
    assign(request, "conversation_id", options.get("conversation_id"))
    _sampling(request, options)
    _precision(request, options)
    _guided(request, options)
    if (task := options.get("task")) is not None:
        request.task = convert.task_to_wire(member(Task, task, "task"))
    if (priority := options.get("priority")) is not None:
        request.priority = convert.priority_to_wire(member(Priority, priority, "priority"))
    if (labels := options.get("labels")) is not None:
        _put("labels", labels, request.labels.update)
    if (grace := options.get("disconnect_grace")) is not None:
        _grace(request, grace)
    return request
