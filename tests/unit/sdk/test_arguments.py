"""From arguments to the message, and what is refused before anything is sent."""

import json
import string
from typing import Any

import pytest

from bitlane import InvalidRequest, Message, Options, Precision, Priority, Role, Task
from bitlane.arguments import build_request
from bitlane.v1 import inference_pb2 as pb


def build(prompt: str | None = "hi", messages: Any = None, **options: Any) -> pb.GenerateRequest:
    return build_request(prompt, messages, "m", options)  # pyright: ignore[reportArgumentType]  # wrong on purpose in some


def refused(*args: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        build(*args, **options)
    error = caught.value
    assert error.metadata == {"checked_by": "client"}
    assert error.__cause__ is None
    [violation] = error.violations
    return violation.field, violation.description


def test_everything_arrives():
    request = build(
        max_tokens=7,
        temperature=0,
        top_p=0.5,
        top_k=3,
        seed=2**64 - 1,
        stop=["a", "b"],
        logprobs=0,
        task="math",
        at_least="fp8",
        labels={"team": "x"},
        priority="batch",
        conversation_id="c",
        json_schema={"type": "object"},
        request_id="r",
        disconnect_grace=1.5,
    )
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (7, 0, 0.5, 3)
    assert (sampling.seed, list(sampling.stop), sampling.logprobs) == (2**64 - 1, ["a", "b"], 0)
    assert sampling.HasField("temperature")
    assert sampling.HasField("logprobs")
    assert (request.task, request.priority) == (pb.TASK_MATH, pb.PRIORITY_BATCH)
    assert request.precision.at_least == pb.PRECISION_FP8
    assert dict(request.labels) == {"team": "x"}
    assert json.loads(request.guided.json_schema) == {"type": "object"}
    assert (request.request_id, request.conversation_id, request.model) == ("r", "c", "m")
    assert request.disconnect_grace.ToTimedelta().total_seconds() == 1.5


def test_what_is_left_out_or_none_is_not_sent():
    request = build(**dict.fromkeys(Options.__annotations__))
    assert request == pb.GenerateRequest(prompt="hi", model="m", request_id=request.request_id)


def test_an_id_is_made_up_and_fits_the_rules():
    first, second = build().request_id, build().request_id
    assert first != second
    assert set(first) <= set(string.ascii_letters + string.digits + "._-")


def test_enums_and_their_names_are_the_same():
    plain = build(task="legal", pin="fp4", priority="interactive", request_id="r")
    assert plain == build(task=Task.LEGAL, pin=Precision.FP4, priority=Priority.INTERACTIVE, request_id="r")


def test_messages_as_dicts_or_messages():
    turns = [{"role": "system", "content": "s"}, Message("user", "u"), Message(Role.ASSISTANT, "a")]
    request = build(None, turns)
    assert [(turn.role, turn.content) for turn in request.messages] == [
        (pb.ROLE_SYSTEM, "s"),
        (pb.ROLE_USER, "u"),
        (pb.ROLE_ASSISTANT, "a"),
    ]


def test_one_stop_text_may_stand_alone():
    assert list(build(stop="END").sampling.stop) == ["END"]


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        (("p", [Message("user", "u")]), {}, "prompt"),
        ((None,), {}, "prompt"),
        ((None, "hello"), {}, "messages"),
        ((None, [{"role": "user"}]), {}, "messages[0]"),
        ((None, [Message("user", "u"), {"role": "robot", "content": ""}]), {}, "messages[1].role"),
        ((None, [{"role": "user", "content": 5}]), {}, "messages[0].content"),
        ((), {"task": "maths"}, "task"),
        ((), {"task": "unspecified"}, "task"),
        ((), {"priority": 3}, "priority"),
        ((), {"pin": "fp16"}, "precision.pin"),
        ((), {"at_least": "fp2"}, "precision.at_least"),
        ((), {"pin": "fp4", "at_least": "fp8"}, "precision"),
        ((), {"json_schema": "{}", "regex": "a"}, "guided"),
        ((), {"json_schema": {"a": object()}}, "guided.json_schema"),
        ((), {"max_tokens": -1}, "sampling.max_tokens"),
        ((), {"max_tokens": "12"}, "sampling.max_tokens"),
        ((), {"seed": 2**64}, "sampling.seed"),
        ((), {"stop": 5}, "sampling.stop"),
        ((), {"labels": {"a": 1}}, "labels"),
        ((), {"disconnect_grace": float("inf")}, "disconnect_grace"),
        ((), {"disconnect_grace": -1}, "disconnect_grace"),
        ((), {"request_id": ""}, "request_id"),
        (("lone \ud800 surrogate",), {}, "prompt"),
    ],
)
def test_each_fault_names_its_field(arguments: tuple[Any, ...], options: dict[str, Any], field: str):
    assert refused(*arguments, **options)[0] == field


def test_a_misspelt_task_gets_a_hint():
    _, description = refused(task="maths")
    assert "Did you mean 'math'?" in description
    assert "creative_writing" in description


def test_prompts_are_not_shown_in_errors():
    assert "secret" not in refused("secret \ud800")[1]


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="'max_token'"):
        build(max_token=1)
