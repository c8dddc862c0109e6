"""Counting: sums, buckets, exemplars, and bounds on the number of series."""

import asyncio
import threading

import pytest

from telemetry import catalogue, instruments
from telemetry.context import TraceContext, parse
from telemetry.instruments import MAX_SERIES, Instrument, Kind, Observations, Registry
from telemetry.process import ProcessMetrics
from telemetry.tenants import MOST, TenantLabels
from tests.unit.telemetry.memory import SAMPLED

_LATENCY = Instrument("latency", Kind.HISTOGRAM, "s", "", ("bitlane.pool",), (0.1, 1.0))
_COUNT = Instrument("count", Kind.COUNTER, "{x}", "", ("bitlane.pool",))
_LEVEL = Instrument("level", Kind.GAUGE, "{x}", "", ("bitlane.pool",))


def test_a_bucket_includes_its_upper_bound() -> None:
    histogram = Registry().histogram(_LATENCY)
    for value in (0.0, 0.1, 0.100001, 1.0, 7.0):
        histogram.record(value, ("a",))
    (point,) = histogram.points()
    assert point.counts == (2, 2, 1)
    assert point.total == pytest.approx(8.200001)


def test_a_bucket_keeps_its_newest_sampled_measurement() -> None:
    histogram = Registry().histogram(_LATENCY)
    where = parse(TraceContext(SAMPLED))
    histogram.record(0.01, ("a",), where)
    histogram.record(0.02, ("a",), where)
    histogram.record(0.03, ("a",))
    histogram.record(5.0, ("a",), where)
    (point,) = histogram.points()
    assert {bucket: exemplar.value for bucket, exemplar in point.exemplars} == {0: 0.02, 2: 5.0}


def test_series_are_bounded_whatever_happens() -> None:
    registry = Registry()
    counter, histogram = registry.counter(_COUNT), registry.histogram(_LATENCY)
    for number in range(MAX_SERIES + 500):
        counter.add(1, (str(number),))
        histogram.record(1, (str(number),))
    assert len(counter.points()) == len(histogram.points()) == MAX_SERIES + 1
    assert counter.points()[-1].labels == (instruments.OVERFLOW,)
    assert counter.points()[-1].value == 500
    assert sum(histogram.points()[-1].counts) == 500


def test_labels_must_be_as_many_as_the_attributes() -> None:
    registry = Registry()
    with pytest.raises(ValueError, match="count has the attributes"):
        registry.counter(_COUNT).add(1, ("a", "b"))
    with pytest.raises(ValueError, match="latency has the attributes"):
        registry.histogram(_LATENCY).record(1)


def test_a_name_exists_once() -> None:
    registry = Registry()
    registry.counter(_COUNT)
    with pytest.raises(ValueError, match="count exists already"):
        registry.counter(_COUNT)


def test_gauges_are_read_when_they_are_collected_and_a_broken_one_is_left_out() -> None:
    gauge = Registry().observed(_LEVEL)
    level = {"a": 1.0}
    gauge.observe(lambda: [(value, (pool,)) for pool, value in level.items()])
    assert [(p.labels, p.value) for p in gauge.points()] == [(("a",), 1.0)]
    level = {"b": 2.0}
    assert [(p.labels, p.value) for p in gauge.points()] == [(("b",), 2.0)]

    def broken() -> Observations:
        raise RuntimeError

    gauge.observe(broken)
    assert [(p.labels, p.value) for p in gauge.points()] == [(("b",), 2.0)]


def test_a_registry_that_is_off_keeps_nothing() -> None:
    registry = Registry(enabled=False)
    counter, histogram = registry.counter(_COUNT), registry.histogram(_LATENCY)
    counter.add(1, ("a",))
    histogram.record(1, ("a",))
    assert (counter.points(), histogram.points()) == ([], [])


def test_collecting_beside_recording() -> None:
    """What another thread collects is a whole number of measurements of each series."""
    histogram = Registry().histogram(_LATENCY)
    done = threading.Event()
    seen: list[int] = []

    def collect() -> None:
        while not done.is_set():
            seen.extend(sum(point.counts) for point in histogram.points())

    collector = threading.Thread(target=collect)
    collector.start()
    for number in range(20_000):
        histogram.record(0.5, (str(number % 500),), None)
    done.set()
    collector.join()
    assert sum(sum(point.counts) for point in histogram.points()) == 20_000
    assert all(0 <= count <= 40 for count in seen)


def test_tenants_have_a_label_of_their_own_or_share_one() -> None:
    labels = TenantLabels(["acme", "globex"])
    assert [labels.of(tenant) for tenant in ("acme", "globex", "initech", "")] == ["acme", "globex", "other", "none"]
    assert {labels.of(f"tenant-{number}") for number in range(10_000)} == {"other"}
    assert labels.named == {"acme", "globex"}
    with pytest.raises(ValueError, match=f"at most {MOST}"):
        TenantLabels(map(str, range(MOST + 1)))


async def test_the_event_loop_is_watched() -> None:
    registry = Registry()
    metrics = ProcessMetrics(registry)
    watch = asyncio.create_task(metrics.watch_event_loop())
    lag = next(each for each in registry.instruments if each.instrument is catalogue.LOOP_LAG)
    while not lag.points():
        await asyncio.sleep(0.05)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


def test_round_trips_tell_their_errors_apart() -> None:
    registry = Registry()
    metrics = ProcessMetrics(registry)
    metrics.round_trip(0.0002)
    metrics.round_trip(1.0, "BrokerUnavailable")
    trips = next(each for each in registry.instruments if each.instrument is catalogue.BROKER_DURATION)
    assert {point.labels for point in trips.points()} == {("redis", ""), ("redis", "BrokerUnavailable")}
