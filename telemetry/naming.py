"""What a metric is called in Prometheus, by OpenTelemetry's compatibility rules, so that the name is the same whether a
process is scraped or its metrics come by way of a collector.
"""

import re

from telemetry.instruments import Instrument, Kind

_UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes"}
_NO_NAME = re.compile(r"[^a-zA-Z0-9_:]+")


def prometheus_name(instrument: Instrument) -> str:
    """The name of the family, which is also a gauge's series; a counter's ends in _total."""
    name = label_name(instrument.name)
    unit = _UNITS.get(instrument.unit, "")
    if instrument.unit == "1" and instrument.kind is Kind.GAUGE:
        unit = "ratio"
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if instrument.kind is Kind.COUNTER else name


def series_names(instrument: Instrument) -> tuple[str, ...]:
    """The names that queries may use."""
    name = prometheus_name(instrument)
    if instrument.kind is Kind.HISTOGRAM:
        return (f"{name}_bucket", f"{name}_count", f"{name}_sum")
    return (name,)


def label_name(attribute: str) -> str:
    """The label of an attribute: what Prometheus cannot have in a name becomes an underscore."""
    return _NO_NAME.sub("_", attribute)
