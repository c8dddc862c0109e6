"""W3C trace context as two strings, the form in which it travels in metadata, in a job and to an engine."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_TRACEPARENT, _TRACESTATE = "traceparent", "tracestate"
# What vendors must be able to pass on; more is dropped as a whole, as the standard allows.
_MAX_STATE = 512
# Sampled, and the trace id being random.
_KNOWN_FLAGS = 0b11


class TraceContext(NamedTuple):
    """The place in a trace that work goes on from; both texts empty where there is none."""

    traceparent: str = ""
    tracestate: str = ""

    @classmethod
    def from_metadata(cls, metadata: Iterable[tuple[str, str | bytes]]) -> "TraceContext":
        """From the metadata of an RPC."""
        parent = state = ""
        for name, value in metadata:
            if name == _TRACEPARENT and isinstance(value, str):
                parent = value
            elif name == _TRACESTATE and isinstance(value, str):
                state = f"{state},{value}" if state else value
        return cls(parent, state)

    def headers(self) -> dict[str, str]:
        """As headers for whoever is called next; empty where there is no context."""
        if not self.traceparent:
            return {}
        if not self.tracestate:
            return {_TRACEPARENT: self.traceparent}
        return {_TRACEPARENT: self.traceparent, _TRACESTATE: self.tracestate}


def parse(context: TraceContext) -> SpanContext | None:
    """What the strings say; None when they say nothing valid, for they come from strangers."""
    match = _PARENT.fullmatch(context.traceparent)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    state = TraceState()
    if context.tracestate and len(context.tracestate) <= _MAX_STATE:
        state = TraceState.from_header([context.tracestate])
    parsed = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16) & _KNOWN_FLAGS), state)
    return parsed if parsed.is_valid else None


def strings(context: SpanContext | None) -> TraceContext:
    """The opposite of `parse`."""
    if context is None:
        return TraceContext()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & _KNOWN_FLAGS:02x}"
    return TraceContext(parent, context.trace_state.to_header() if context.trace_state else "")
