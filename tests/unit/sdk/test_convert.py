"""Protobuf and the SDK's types say the same."""

from enum import StrEnum
from typing import Any, get_args

import pytest

from bitlane import convert, types
from bitlane.v1 import inference_pb2 as pb

ENUMS = [
    "Precision",
    "Task",
    "Sensitivity",
    "Priority",
    "Role",
    "FinishReason",
    "DecisionReason",
    "GateState",
    "TaskSource",
    "ComputePath",
]


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_the_same_members(name: str):
    ours: type[StrEnum] = getattr(types, name)
    wire: Any = getattr(pb, name)
    names: list[str] = wire.keys()
    prefix = names[0].removesuffix("UNSPECIFIED")
    assert [member.name for member in ours] == [each.removeprefix(prefix) for each in names]
    assert all(member.value == member.name.lower() for member in ours)


@pytest.mark.parametrize(
    ("names", "enum"),
    [
        (types.PrecisionName, types.Precision),
        (types.TaskName, types.Task),
        (types.PriorityName, types.Priority),
        (types.RoleName, types.Role),
    ],
)
def test_literals_name_every_member(names: Any, enum: type[StrEnum]):
    assert [*get_args(names)] == [member.value for member in enum if member.value != "unspecified"]


@pytest.mark.parametrize(
    ("ours", "wire"),
    [
        (types.Decision, pb.Decision),
        (types.Accepted, pb.Accepted),
        (types.Delta, pb.Delta),
        (types.Finished, pb.Finished),
        (types.Usage, pb.Usage),
        (types.Profile, pb.Profile),
        (types.Receipt, pb.Receipt),
        (types.Completion, pb.CompleteResponse),
        (types.Cancellation, pb.CancelResponse),
        (types.Explanation, pb.ExplainResponse),
        (types.DecisionStep, pb.DecisionStep),
        (types.Model, pb.Model),
        (types.Pool, pb.Pool),
        (types.TokenLogprobs, pb.TokenLogprobs),
        (types.TopLogprob, pb.TopLogprob),
    ],
)
def test_no_field_is_forgotten(ours: Any, wire: Any):
    assert set(ours.__dataclass_fields__) == {field.name for field in wire.DESCRIPTOR.fields}


def test_a_value_of_a_newer_server_reads_as_unspecified():
    assert convert.decision(pb.Decision(reason=999, task=999)).reason is types.DecisionReason.UNSPECIFIED  # pyright: ignore[reportArgumentType]  # unknown on purpose


def test_an_unknown_event_is_none():
    assert convert.event(pb.GenerateEvent()) is None


def test_absent_profiles_and_reasons_are_none():
    assert convert.receipt(pb.Receipt()).profile is None
    assert convert.pool(pb.Pool()).profile is None
    assert convert.cancellation(pb.CancelResponse()).reason is None


@pytest.mark.parametrize("seconds", [0.0, 0.000000001, 1.5, 59.999999999, 600.0])
def test_durations_survive(seconds: float):
    assert convert.seconds(convert.duration_to_wire(seconds)) == pytest.approx(seconds, abs=1e-9)


def test_confidence_comes_without_float32_noise():
    assert convert.decision(pb.Decision(task_confidence=0.9)).task_confidence == 0.9
