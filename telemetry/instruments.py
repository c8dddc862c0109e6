"""Counters, histograms and gauges that cost a third of a microsecond. The SDK's cost six, and a request needs a dozen.

Recording belongs to one thread, the event loop's. Collecting may be done by any: it copies. What is collected goes to
OpenTelemetry's exporters (telemetry.otlp) and to Prometheus (telemetry.scrape).
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, TypeVar

import structlog
from opentelemetry.trace import SpanContext

from telemetry.attributes import MetricAttribute

_log = structlog.get_logger("bitlane.telemetry")

Labels: TypeAlias = tuple[str, ...]  # values, in the order of the instrument's attributes
Observations: TypeAlias = Iterable[tuple[float, Labels]]
# Of one instrument. Every value is bounded, so this is only met by a bug; then what is new goes into one last series.
MAX_SERIES = 5000
OVERFLOW = "overflow"


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Instrument:
    """What the catalogue says of a metric."""

    name: str
    kind: Kind
    unit: str  # UCUM: s, 1, {token}
    description: str
    attributes: tuple[MetricAttribute, ...] = ()
    boundaries: tuple[float, ...] = ()  # upper bounds of a histogram's buckets, each included; the last is open


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One measurement of a bucket, and the span that it was made in."""

    value: float
    time_ns: int
    where: SpanContext


@dataclass(frozen=True, slots=True)
class NumberPoint:
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class HistogramPoint:
    labels: Labels
    counts: tuple[int, ...]  # by bucket, not cumulative
    total: float
    exemplars: tuple[tuple[int, Exemplar], ...]  # with the number of its bucket


class Counter:
    """A sum that only grows."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self._sums: dict[Labels, float] = {}

    def add(self, amount: float, labels: Labels = ()) -> None:
        sums = self._sums
        if labels in sums:
            sums[labels] += amount
        else:
            labels = _admitted(self.instrument, labels, len(sums))
            sums[labels] = sums.get(labels, 0) + amount

    def begin(self, *series: Labels) -> None:
        """Shows series at 0 before anything happens: one that begins at 1 has not increased, as Prometheus sees it."""
        for labels in series:
            self.add(0, labels)

    def points(self) -> list[NumberPoint]:
        return [NumberPoint(labels, value) for labels, value in list(self._sums.items())]


class _Series:
    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}


class Histogram:
    """A distribution over fixed buckets; each bucket keeps its newest measurement that was made in a sampled span."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self._boundaries = instrument.boundaries
        self._series: dict[Labels, _Series] = {}

    def record(self, value: float, labels: Labels = (), where: SpanContext | None = None) -> None:
        """Takes a measurement; `where` is the recorded span that it belongs to, if there is one."""
        series = self._series.get(labels)
        if series is None:
            labels = _admitted(self.instrument, labels, len(self._series))
            series = self._series.setdefault(labels, _Series(len(self._boundaries) + 1))
        bucket = bisect_left(self._boundaries, value)
        series.counts[bucket] += 1
        series.total += value
        if where is not None:
            series.exemplars[bucket] = Exemplar(value, time.time_ns(), where)

    def points(self) -> list[HistogramPoint]:
        return [
            HistogramPoint(labels, tuple(series.counts), series.total, tuple(series.exemplars.copy().items()))
            for labels, series in list(self._series.items())
        ]


class Observed:
    """A gauge, or a counter that somebody else keeps: read when it is collected.

    Callbacks run on the collector's thread: they may only read what is replaced as a whole and never changed in place.
    """

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self._callbacks: list[Callable[[], Observations]] = []
        self._complained = False

    def observe(self, callback: Callable[[], Observations]) -> None:
        """Has the callback asked for (value, labels) at each collection; of equal labels the last counts."""
        self._callbacks.append(callback)

    def points(self) -> list[NumberPoint]:
        values: dict[Labels, float] = {}
        for callback in self._callbacks:
            try:
                for value, labels in callback():
                    values[_admitted(self.instrument, labels, len(values))] = value
            except Exception as error:  # a gauge less is better than no metrics
                if not self._complained:
                    _log.error("gauge.failed", metric=self.instrument.name, error=type(error).__name__)
                self._complained = True
        return [NumberPoint(labels, value) for labels, value in values.items()]


AnyInstrument: TypeAlias = Counter | Histogram | Observed
_Any = TypeVar("_Any", Counter, Histogram, Observed)


class Registry:
    """The instruments of a process. One that is not enabled hands out instruments that keep nothing."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.start_ns = time.time_ns()
        self._all: dict[str, AnyInstrument] = {}

    def counter(self, instrument: Instrument) -> Counter:
        return self._add(Counter(instrument) if self.enabled else _NoCounter(instrument))

    def histogram(self, instrument: Instrument) -> Histogram:
        return self._add(Histogram(instrument) if self.enabled else _NoHistogram(instrument))

    def observed(self, instrument: Instrument) -> Observed:
        return self._add(Observed(instrument))

    @property
    def instruments(self) -> Sequence[AnyInstrument]:
        return list(self._all.values())

    def _add(self, made: _Any) -> _Any:
        name = made.instrument.name
        if name in self._all:
            raise ValueError(f"metric {name} exists already in this process")
        self._all[name] = made
        return made


class _NoCounter(Counter):
    def add(self, amount: float, labels: Labels = ()) -> None:
        pass


class _NoHistogram(Histogram):
    def record(self, value: float, labels: Labels = (), where: SpanContext | None = None) -> None:
        pass


def _admitted(instrument: Instrument, labels: Labels, series: int) -> Labels:
    """The labels of a new series, or those of the series for all that are too many."""
    if len(labels) != len(instrument.attributes):
        raise ValueError(f"{instrument.name} has the attributes {instrument.attributes}, not values {labels}")
    return labels if series < MAX_SERIES else (OVERFLOW,) * len(labels)
