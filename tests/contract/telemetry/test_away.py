"""A receiver that is away or never answers: nobody waits, memory is bounded, drops are counted, the end comes."""

import socket
import time
from collections.abc import Iterator

import pytest

from telemetry import catalogue
from telemetry.context import TraceContext
from telemetry.setup import Telemetry
from tests.contract.telemetry.receiver import receiver

_QUEUE, _BATCH = 200, 50
_SPANS = 5_000


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(params=["absent", "silent", "deaf"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """Nobody listens; a receiver that never answers; a port that takes connections and no more."""
    if request.param == "absent":
        yield f"http://127.0.0.1:{_free_port()}"
    elif request.param == "silent":
        with receiver(answering=False) as servicer:
            yield servicer.endpoint
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _telemetry(endpoint: str) -> Telemetry:
    return Telemetry(
        "router",
        "r-1",
        {},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_MAX_QUEUE_SIZE": str(_QUEUE),
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(_BATCH),
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
        },
    )


def test_spans_are_dropped_and_counted_never_waited_for(endpoint: str) -> None:
    telemetry = _telemetry(endpoint)
    queue = telemetry.span_queue
    assert queue is not None
    most = 0
    for _ in range(_SPANS):
        telemetry.spans.serve("a/B", TraceContext(), {"rpc.method": "a/B"}).end()
        most = max(most, queue.waiting)
    # Had even one span waited for the receiver, which does not answer within this test, the loop would still run.
    assert queue.exported == 0
    assert most <= _QUEUE
    assert queue.dropped >= _SPANS - _QUEUE - 2 * _BATCH
    telemetry.close()
    assert queue.waiting == 0
    counts = next(each for each in telemetry.registry.instruments if each.instrument is catalogue.SPANS)
    told = {point.labels[0]: getattr(point, "value", 0) for point in counts.points()}
    assert told["exported"] == 0
    assert told["dropped"] + told["failed"] >= _SPANS - _BATCH


def test_the_end_comes_within_its_bound(endpoint: str) -> None:
    telemetry = _telemetry(endpoint)
    for _ in range(_QUEUE):
        telemetry.spans.serve("a/B", TraceContext(), {}).end()
    time.sleep(0.3)  # exports are under way
    began = time.monotonic()
    telemetry.close()
    # 2 s, and what it takes a busy machine to join threads. An export by itself would try for 10 s.
    assert time.monotonic() - began < 6


def test_what_comes_after_the_end_is_dropped_quietly() -> None:
    telemetry = _telemetry(f"http://127.0.0.1:{_free_port()}")
    telemetry.close()
    telemetry.spans.serve("a/B", TraceContext(), {}).end()
    assert telemetry.span_queue is not None
    assert telemetry.span_queue.dropped == 1


def test_a_receiver_that_comes_back_gets_what_is_new() -> None:
    with receiver(answering=False) as servicer:
        telemetry = _telemetry(servicer.endpoint)
        telemetry.spans.serve("a/Before", TraceContext(), {}).end()
        servicer.wait(lambda got: got.requests > 0)
        servicer.answering.set()
        telemetry.spans.serve("a/After", TraceContext(), {}).end()
        servicer.wait(lambda got: {span.name for span in got.spans} == {"a/Before", "a/After"})
        telemetry.close()
