"""The metrics of a running stack: every one that a dashboard or an alert asks for, true, and bounded in number."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import aio

import bitlane
from deploy.local.stack import Stack
from tests.contract.telemetry.receiver import Receiver, receiver
from tests.process.conftest import StackMaker
from tests.process.scrape import Sample, scrape, text_of, total
from tests.process.tenants import Operator, key_of, seeded
from tests.process.traced import sent_to
from tests.unit.telemetry.queries import QUERIES, RECORDED, query_names

pytestmark = pytest.mark.timeout(150)

CANARY = "canary-9d1e-in-the-prompt"
FP8 = "smollm2/fp8"
SCRAPED = {"OTEL_METRICS_EXPORTER": "otlp,prometheus"}


@pytest.fixture
def otlp() -> Iterator[Receiver]:
    with receiver() as servicer:
        yield servicer


def client_of(stack: Stack, tenant: str) -> bitlane.AsyncClient:
    return bitlane.AsyncClient(stack.target, api_key=key_of(tenant), retry=bitlane.RetryPolicy.none(), timeout=60)


async def scraped(stack: Stack) -> list[Sample]:
    return await asyncio.to_thread(scrape, stack)


async def mixed_load(stack: Stack) -> list[bitlane.Completion]:
    """Streams in both precisions, a worker's death, a request that fails everywhere, refusals, cancels."""
    done: list[bitlane.Completion] = []
    async with client_of(stack, "acme") as acme, client_of(stack, "small") as small:
        chats = [{"role": "user", "content": f"Tell me a story of {CANARY} and {number}."} for number in range(4)]
        done += await asyncio.gather(
            *(acme.generate(messages=[chat], model="smollm2", max_tokens=10) for chat in chats),  # type: ignore[list-item]
            *(acme.generate(CANARY, task="math", model="smollm2", max_tokens=10) for _ in range(3)),
        )
        stream = acme.stream(CANARY, pin="fp8", model="smollm2", max_tokens=100)
        await anext(stream)
        stack.add_worker(FP8)
        stack.workers[FP8][0].kill()
        done.append(await stream.result())
        assert done[-1].receipt.attempts == 2
        done.append(await small.generate(CANARY, pin="fp8", model="smollm2", max_tokens=1))
        with pytest.raises(bitlane.QuotaExceeded):
            await small.generate(CANARY, pin="fp8", model="smollm2", max_tokens=1)
        with pytest.raises(bitlane.NotFound):
            await acme.generate(CANARY, model="no-such-model")
        with pytest.raises(bitlane.Aborted):
            await acme.generate(f"{CANARY} engine-fails", pin="fp8", model="smollm2", max_tokens=10)
        cancelled = acme.stream(CANARY, pin="fp8", model="smollm2", max_tokens=2000)
        await anext(cancelled)
        await cancelled.cancel()
        done.append(await cancelled.result())
    async with bitlane.AsyncClient(stack.target, api_key="bl_nobody") as nobody:
        with pytest.raises(bitlane.AuthenticationError):
            await nobody.generate(CANARY, model="smollm2")
    return done


async def test_whatever_dashboards_and_alerts_ask_for_is_there_and_true(
    make_stack: StackMaker, otlp: Receiver, tmp_path: Path
) -> None:
    config = seeded(
        tmp_path,
        {"acme": {}, "small": {"quota": {"limits": {"requests_per_minute": 1}}}},
        telemetry={"tenants": ["acme"]},
    )
    began = time.time()
    stack = make_stack(
        engine_options='{"token_ms": 4, "fail_on": "engine-fails"}',
        config=config,
        telemetry={**sent_to(otlp), **SCRAPED},
    )
    done = await mixed_load(stack)

    asked = {where: query_names(expression) for where, expression in QUERIES}
    wanted = set[str]().union(*(names.metrics for names in asked.values())) - RECORDED
    samples: list[Sample] = []

    async def all_told() -> bool:
        samples[:] = await scraped(stack)
        ended = total(samples, "bitlane_requests_total")
        return wanted <= {sample.name for sample in samples} and ended == len(done) + 1

    async with asyncio.timeout(30):
        while not await all_told():
            await asyncio.sleep(0.2)

    labels = {name: set[str]().union(*(s.labels for s in samples if s.name == name)) for name in wanted}
    given = {"instance", "job"}  # by Prometheus
    for where, names in asked.items():
        for metric, matched in names.matched.items():
            if metric not in RECORDED:
                assert matched <= labels[metric] | given, where

    # What it says is so.
    def requests(**by: str) -> float:
        return total(samples, "bitlane_requests_total", **by)

    assert requests(bitlane_outcome="length") == len(done) - 1
    assert requests(bitlane_outcome="cancelled") == 1
    assert requests(bitlane_outcome="attempts_exhausted", bitlane_pool=FP8) == 1
    assert (requests(bitlane_tenant="acme"), requests(bitlane_tenant="other")) == (len(done), 1)
    rejections = {
        (s.labels["bitlane_tenant"], s.labels["error_type"]): s.value
        for s in samples
        if s.name == "bitlane_rejections_total"
    }
    assert rejections == {
        ("other", "QUOTA_REQUESTS"): 1,
        ("acme", "MODEL_NOT_FOUND"): 1,
        ("none", "CREDENTIAL_INVALID"): 1,
    }
    assert total(samples, "bitlane_decisions_total", bitlane_precision="FP4") == 4
    assert total(samples, "bitlane_decisions_total", bitlane_decision_reason="high_sensitivity") == 3
    assert total(samples, "bitlane_classifier_confidence_count") >= 4
    assert total(samples, "gen_ai_server_time_to_first_token_seconds_count") == len(done) + 1
    assert total(samples, "bitlane_leases_lost_total", bitlane_pool=FP8, bitlane_outcome="waiting") == 1
    assert total(samples, "bitlane_migrations_total", bitlane_pool=FP8) >= 1
    assert total(samples, "bitlane_attempts_total", bitlane_outcome="failed") == 3
    assert total(samples, "bitlane_pool_workers", bitlane_pool="smollm2/fp4", bitlane_worker_state="serving") == 1
    assert total(samples, "bitlane_policy_version", bitlane_tenant="acme") == 1
    gates = [s for s in samples if s.name == "bitlane_gate_state" and s.value]
    assert {s.labels["bitlane_gate_state"] for s in gates} == {"unvalidated"}
    assert len(gates) == len({s.labels["bitlane_task_class"] for s in gates}) == 14

    # The bill says the same.
    async with aio.insecure_channel(stack.target) as channel:
        operator = Operator(channel)
        rows = [row for tenant in ("acme", "small") for row in await operator.usage(tenant, began - 60)]
    cost = sum(row.cost_nanos for row in rows) / 1e9
    fp8_cost = sum(row.fp8_cost_nanos for row in rows) / 1e9
    assert total(samples, "bitlane_cost_total") == pytest.approx(cost)
    assert total(samples, "bitlane_cost_fp8_total") == pytest.approx(fp8_cost)
    assert 0 < cost < fp8_cost
    assert total(samples, "bitlane_tokens_total", gen_ai_token_type="output") == sum(r.output_tokens for r in rows)
    assert total(samples, "bitlane_tokens_total", gen_ai_token_type="input") == sum(r.prompt_tokens for r in rows)

    # And the receiver gets the same names.
    assert {metric.name for metrics in otlp.metrics for metric in metrics} >= {
        "bitlane.requests",
        "bitlane.queue.time",
        "db.client.operation.duration",
    }
    for process in stack.processes:
        if process.returncode is None:
            assert CANARY not in await asyncio.to_thread(text_of, process)
    assert not [data for data in otlp.raw if CANARY.encode() in data]


async def test_the_number_of_series_does_not_grow_with_the_tenants(make_stack: StackMaker, tmp_path: Path) -> None:
    tenants = [f"tenant-{number:02}" for number in range(50)]
    config = seeded(tmp_path, {tenant: {} for tenant in tenants}, telemetry={"tenants": tenants[:2]})
    stack = make_stack(config=config, telemetry={**SCRAPED, "OTEL_METRICS_EXPORTER": "prometheus"})

    async def request(tenant: str) -> None:
        async with client_of(stack, tenant) as client:
            await client.generate(CANARY, pin="fp8", model="smollm2", max_tokens=2)
            await client.generate(CANARY, pin="fp4", model="smollm2", max_tokens=2)
            with pytest.raises(bitlane.NotFound):
                await client.generate(CANARY, model="no-such-model")

    def series(samples: list[Sample]) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return {(s.name, frozenset(s.labels.items())) for s in samples if "bitlane_tenant" in s.labels}

    for tenant in tenants[:3]:
        await request(tenant)
    few = series(await scraped(stack))
    for tenant in tenants[3:]:
        await request(tenant)
    samples = await scraped(stack)
    assert series(samples) == few
    told = {s.labels["bitlane_tenant"] for s in samples if "bitlane_tenant" in s.labels}
    assert told == {*tenants[:2], "other"}
    assert total(samples, "bitlane_requests_total", bitlane_tenant="other") == 96
    assert total(samples, "bitlane_requests_total", bitlane_tenant=tenants[0]) == 2
    # Nor does anything else name one of them, or a request.
    for process in stack.processes:
        text = await asyncio.to_thread(text_of, process)
        assert tenants[7] not in text
        assert "req-" not in text
