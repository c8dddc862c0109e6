"""A receiver of spans and metrics that takes connections and never answers: nobody waits for it, nothing piles up."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

import bitlane
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scrape import scrape, total
from tests.process.scripted import ACME, expected_tokens

pytestmark = pytest.mark.timeout(120)

_QUEUE, _BATCH = 50, 10
_REQUESTS = 300


@pytest.fixture
def deaf() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def stack(make_stack: StackMaker, deaf: str) -> Stack:
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": deaf,
        "OTEL_TRACES_SAMPLER": "parentbased_always_on",
        "OTEL_BSP_MAX_QUEUE_SIZE": str(_QUEUE),
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(_BATCH),
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
        "OTEL_METRICS_EXPORTER": "otlp,prometheus",
    }
    return make_stack(telemetry=telemetry)


async def test_requests_go_on_and_spans_are_dropped_and_counted(stack: Stack) -> None:
    async with bitlane.AsyncClient(stack.target, api_key=ACME, timeout=60) as client:
        for first in range(0, _REQUESTS, 50):
            prompts = [f"request {number}" for number in range(first, first + 50)]
            replies = await asyncio.gather(
                *(client.generate(prompt, model="smollm2", pin="fp8", max_tokens=3) for prompt in prompts)
            )
            for prompt, reply in zip(prompts, replies, strict=True):
                assert reply.token_ids == expected_tokens(prompt, 3)
    samples = await asyncio.to_thread(scrape, stack)
    router = total(samples, "bitlane_telemetry_spans_total", bitlane_telemetry_result="dropped")
    # Six spans a request at the router, and five at the worker; what is not dropped waits, or is on its way.
    assert router >= 11 * _REQUESTS - 2 * (_QUEUE + 4 * _BATCH)
    assert total(samples, "bitlane_telemetry_spans_total", bitlane_telemetry_result="exported") == 0
    # One line says so, not one for each failure.
    for process in (stack.routers[0], stack.workers["smollm2/fp8"][0]):
        log = (stack.folder / f"{process.name}.log").read_text(encoding="utf-8")
        assert log.count("telemetry.away") <= 2  # one for spans, one for metrics


async def test_processes_end_in_good_order(stack: Stack) -> None:
    async with bitlane.AsyncClient(stack.target, api_key=ACME, timeout=60) as client:
        await client.generate("hi", model="smollm2", pin="fp8", max_tokens=3)
    for process in stack.processes:
        process.terminate()
    # An export by itself would be tried for 10 s, and by the SDK's own processors for 30 s more.
    for process in stack.processes:
        assert process.wait(30) == 0
