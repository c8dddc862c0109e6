"""Any bytes: every parser takes them, or refuses them as it says it does."""

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import policy_pb2 as ppb
from tests.fuzz.strategies import messages, mutated
from tests.fuzz.targets import TARGETS, corpus

pytestmark = pytest.mark.timeout(120)

_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
_SHAPES: dict[str, Descriptor] = {
    "job": job_pb2.Job.DESCRIPTOR,
    "admission": job_pb2.Admission.DESCRIPTOR,
    "generate": pb.GenerateRequest.DESCRIPTOR,
    "gate": ppb.SetGateRequest.DESCRIPTOR,
    "replay": ppb.ReplayPolicyRequest.DESCRIPTOR,
}


@pytest.mark.parametrize(("target", "name"), [(target, name) for target in TARGETS for name in corpus(target)], ids=str)
def test_seeds_and_found_cases(target: str, name: str) -> None:
    TARGETS[target](corpus(target)[name])


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_seeds(target: str) -> None:
    @settings(max_examples=300, deadline=None, suppress_health_check=_SLOW)
    @given(data=mutated(list(corpus(target).values())))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()


@pytest.mark.parametrize("target", _SHAPES)
def test_messages_that_make_no_sense(target: str) -> None:
    @settings(max_examples=300, deadline=None, suppress_health_check=_SLOW)
    @given(message=messages(_SHAPES[target]))
    def holds(message: object) -> None:
        TARGETS[target](message.SerializeToString())  # type: ignore[attr-defined]

    holds()


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_policies_of_any_text(text: str) -> None:
    TARGETS["policy"](text.encode(errors="replace"))
