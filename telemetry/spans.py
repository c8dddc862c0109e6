"""Spans as the project uses them: started and ended by hand, their context passed by hand.

There are no context variables here on purpose: grpc.aio ends handlers by cancelling or closing their coroutines, and a
context that is attached before an `await` is then detached in another one. Nothing but this module touches the spans of
OpenTelemetry, so that no attribute outside of `telemetry.attributes` and no event or message ever gets onto one.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self, cast

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.util.types import AttributeValue

from telemetry.attributes import ALLOWED_ON_SPANS, SpanAttributes
from telemetry.context import TraceContext, parse, strings

_NOWHERE = Context()  # never the current context: the parent is always given
_ERROR = Status(StatusCode.ERROR)  # without a description, which could hold anything
# A server's span is an error where the server is at fault; the conventions for RPC list these codes.
SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
CANCELLED = "CANCELLED"


class Span:
    """A span, or, where it is not recorded, only its place in the trace: then everything but `context` does nothing.

    In a `with` statement it ends with the block; an exception that leaves the block is the span's error.
    """

    __slots__ = ("_otel", "_spans", "_where")

    def __init__(self, spans: "Spans", where: SpanContext | None, otel: OtelSpan | None) -> None:
        self._spans = spans
        self._where = where
        self._otel = otel

    @property
    def recording(self) -> bool:
        """Whether attributes are worth computing."""
        return self._otel is not None

    @property
    def where(self) -> SpanContext | None:
        """The span's ids; None where there is no trace at all."""
        return self._where

    @property
    def context(self) -> TraceContext:
        """For whoever goes on with the work elsewhere."""
        return strings(self._where)

    def child(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: SpanAttributes | None = None,
        start_ns: int | None = None,
    ) -> "Span":
        """A span within this one, from now or from `start_ns` on (ns since the epoch).

        Where this one is not recorded, no span is made: what comes back is this one, which says where it stands.
        """
        if self._otel is None:
            return self
        return self._spans.start(name, kind, self._where, attributes, start_ns=start_ns)

    def set(self, attributes: SpanAttributes) -> None:
        """Adds attributes; those that are empty are left out."""
        if self._otel is not None:
            self._otel.set_attributes(_clean(attributes))

    def end(self, error: str = "", *, fault: bool = True, end_ns: int | None = None) -> None:
        """Ends it, once: later calls do nothing.

        Args:
            error: a word from a bounded set, for `error.type`; empty: it went well.
            fault: whether the error is this side's fault, which is what makes the span's status an error.
            end_ns: when, in ns since the epoch; default now.
        """
        otel, self._otel = self._otel, None
        if otel is None:
            return
        if error:
            otel.set_attributes(_clean({"error.type": error}))
            if fault:
                otel.set_status(_ERROR)
        otel.end(end_ns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._otel is not None:
            self.end("" if error is None else error_type(error), fault=error is not None and _is_fault(error))


class Spans:
    """Starts the spans of a process; without a tracer it records none and hands contexts through."""

    def __init__(
        self, tracer: Tracer | None = None, ids: "SpanIds | None" = None, *, parent_decides: bool = False
    ) -> None:
        """`parent_decides`: whether the sampler never records what its parent does not."""
        self._tracer = tracer
        self._ids = ids or SpanIds()
        self._parent_decides = parent_decides

    def serve(self, name: str, caller: TraceContext, attributes: SpanAttributes) -> Span:
        """The first span of this process for a call from outside."""
        return self.start(name, SpanKind.SERVER, parse(caller), attributes)

    def may_record(self, parent: SpanContext | None) -> bool:
        """False where it is certain that a span below `parent` is not recorded; costs a tenth of asking the sampler."""
        if self._tracer is None:
            return False
        return not self._parent_decides or parent is None or bool(parent.trace_flags & TraceFlags.SAMPLED)

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        attributes: SpanAttributes | None = None,
        *,
        links: Sequence[SpanContext] = (),
        start_ns: int | None = None,
        span_id: int | None = None,
    ) -> Span:
        """A span below `parent`, or a trace's first one. `span_id` is made up unless given."""
        if self._tracer is None or not self.may_record(parent):
            return Span(self, parent, None)
        self._ids.next_span_id = span_id
        otel = self._tracer.start_span(
            name,
            context=_NOWHERE if parent is None else set_span_in_context(NonRecordingSpan(parent), _NOWHERE),
            kind=kind,
            links=[Link(link) for link in links],
            start_time=start_ns,
            record_exception=False,
            set_status_on_exception=False,
        )
        if not otel.is_recording():
            return Span(self, otel.get_span_context(), None)
        if attributes:
            otel.set_attributes(_clean(attributes))
        return Span(self, otel.get_span_context(), otel)


class SpanIds(RandomIdGenerator):
    """Makes up ids, but for a span whose id was asked for.

    Spans are started on the event loop's thread only, so that what is asked for meets its span.
    """

    def __init__(self) -> None:
        self.next_span_id: int | None = None

    def generate_span_id(self) -> int:
        asked, self.next_span_id = self.next_span_id, None
        return super().generate_span_id() if asked is None else asked


def attempt_span_id(sent: SpanContext, epoch: int) -> int:
    """The id of an attempt's span. Whoever has the job can tell it, so that a later attempt can link to the first."""
    told = b"%032x%016x%d" % (sent.trace_id, sent.span_id, epoch)
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest()) or 1


def error_type(error: BaseException) -> str:
    """A word for an exception: the `reason` of ours, else the name of its class. Never its text."""
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, str) else type(error).__name__


def _is_fault(error: BaseException) -> bool:
    """Whether an exception is this side's fault: not if it was cancelled, or if its gRPC code says otherwise."""
    if isinstance(error, asyncio.CancelledError):
        return False
    code: object = getattr(getattr(error, "code", None), "name", None)
    return not isinstance(code, str) or code in SERVER_FAULTS


def _clean(attributes: SpanAttributes) -> dict[str, AttributeValue]:
    """The gate: what is not on the list does not pass. Empty texts say nothing and stay out."""
    pairs = cast("dict[str, AttributeValue]", attributes).items()
    return {name: value for name, value in pairs if name in ALLOWED_ON_SPANS and value != ""}
