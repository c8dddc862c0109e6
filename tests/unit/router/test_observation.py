"""What the router puts on a request's span, and what it says that a request cost."""

from pathlib import Path

import pytest
import yaml

from bitlane.v1 import inference_pb2 as pb
from broker.types import Ending, Outcome, RequestRef, Usage
from precision.decision import PriorityClass
from router.config import Config
from router.observation import tell_ending, tell_request
from telemetry.calls import RouterTelemetry, ServedCall
from telemetry.instruments import Registry
from telemetry.tenants import MOST, TenantLabels
from tests.unit.telemetry.memory import SAMPLED, Memory

_FILE = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
PRICES = Config.model_validate(_FILE).pool_prices
GENERATE = "bitlane.v1.InferenceService/Generate"


def _call(memory: Memory, pool: str = "smollm2/fp4") -> tuple[RouterTelemetry, ServedCall]:
    telemetry = memory.telemetry()
    telemetry.registry = Registry()
    router = RouterTelemetry(telemetry, TenantLabels())
    call = router.call(GENERATE, [("traceparent", SAMPLED)])
    call.resumed(model="smollm2", pool=pool)
    return router, call


def _told(request: pb.GenerateRequest) -> dict[str, object]:
    memory = Memory.make()
    _, call = _call(memory)
    tell_request(call, request, RequestRef("acme", "r1"), PriorityClass.BATCH)
    call.end("OK")
    return dict(memory.finished[GENERATE].attributes or {})


def test_what_was_not_asked_for_is_not_told() -> None:
    told = _told(pb.GenerateRequest(model="smollm2", prompt="canary"))
    assert told["bitlane.priority"] == "batch"
    assert told["gen_ai.request.stream"] is True
    assert not [
        name for name in told if name.startswith(("gen_ai.request.t", "gen_ai.request.s")) and "stream" not in name
    ]
    assert "gen_ai.conversation.id" not in told


def test_a_seed_that_is_no_number_for_opentelemetry_is_left_out() -> None:
    """It would spoil the whole batch of spans that it is exported with."""
    for seed, kept in ((2**63 - 1, True), (2**63, False), (2**64 - 1, False)):
        told = _told(pb.GenerateRequest(sampling=pb.SamplingParams(seed=seed, top_k=4, top_p=0.5)))
        assert ("gen_ai.request.seed" in told) is kept
        assert (told["gen_ai.request.top_k"], told["gen_ai.request.top_p"]) == (4, 0.5)


@pytest.mark.parametrize(
    ("pool", "outcome", "cost", "fp8_cost"),
    [
        # 8 prompt tokens, 2 cached ones and 5 output tokens, at the prices of config/local.yaml.
        ("smollm2/fp4", Outcome.STOP, 8 * 50 + 2 * 25 + 5 * 100, 8 * 100 + 2 * 50 + 5 * 200),
        ("smollm2/fp8", Outcome.CANCELLED, 8 * 100 + 2 * 50 + 5 * 200, 8 * 100 + 2 * 50 + 5 * 200),
        ("smollm2/fp4", Outcome.ATTEMPTS_EXHAUSTED, 0, 0),
        ("smollm2/fp4", Outcome.NOT_MIGRATABLE, 0, 0),
        ("another/fp4", Outcome.STOP, 0, 0),
    ],
)
def test_costs_are_as_the_broker_counts_them(pool: str, outcome: Outcome, cost: int, fp8_cost: int) -> None:
    router, call = _call(Memory.make(), pool)
    ending = Ending(outcome, "", Usage(10, 2, 5), 1, b"", 0, 0, 0, 0, 1)
    tell_ending(call, ending, PRICES)
    assert [round(p.value * 1e9) for p in router.cost.points()] == [cost]
    assert [round(p.value * 1e9) for p in router.fp8_cost.points()] == [fp8_cost]


def test_the_configuration_bounds_the_tenants_that_metrics_tell_apart() -> None:
    names = [f"t-{number}" for number in range(MOST + 1)]
    assert Config.model_validate({**_FILE, "telemetry": {"tenants": names[1:]}}).telemetry.tenants == tuple(names[1:])
    with pytest.raises(ValueError, match=f"at most {MOST}"):
        Config.model_validate({**_FILE, "telemetry": {"tenants": names}})
