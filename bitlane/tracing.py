"""Traces, for applications that use OpenTelemetry: one client span for each reply, over all its attempts.

The SDK does not depend on OpenTelemetry, and loads nothing of it that the application has not loaded: without it, all
of this does nothing. Prompts and replies are never told.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bitlane.errors import BitlaneError
from bitlane.types import Accepted, Delta, Finished
from bitlane.v1 import inference_pb2 as pb
from bitlane.version import read_version

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

_PROVIDER = "bitlane"
_CANCELLED = "CANCELLED"
# A greater seed is no number for OpenTelemetry.
_MOST_SEED = (1 << 63) - 1


class ReplySpan:
    """The span of one reply, from the first read to the end; its parent is the reader's current span."""

    def __init__(self, request: pb.GenerateRequest | None, request_id: str) -> None:
        """Without a `request`, a reply that somebody else began is resumed."""
        self._began = time.perf_counter()
        self._waiting = True
        self._span: Span | None = None
        self.headers: Mapping[str, str] = {}
        """The trace's context (W3C) as metadata for the server; empty where there is none."""
        if "opentelemetry.trace" in sys.modules:
            self._start(request, request_id)

    def _start(self, request: pb.GenerateRequest | None, request_id: str) -> None:
        from opentelemetry.trace import SpanKind, get_tracer, set_span_in_context  # noqa: PLC0415  # if there is one
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        attributes: dict[str, AttributeValue] = {"bitlane.request.id": request_id, "gen_ai.response.id": request_id}
        name = "resume"
        if request is not None:
            operation = "chat" if request.messages else "text_completion"
            name = f"{operation} {request.model}"
            attributes |= {"gen_ai.operation.name": operation, "gen_ai.provider.name": _PROVIDER, **_asked(request)}
        tracer = get_tracer("bitlane", read_version())
        self._span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        headers: dict[str, str] = {}
        # This form alone, whatever the application prefers: it is the one that servers read.
        TraceContextTextMapPropagator().inject(headers, set_span_in_context(self._span))
        self.headers = headers

    def sent_to(self, target: str) -> None:
        """Tells where the next attempt goes."""
        if self._span is not None and self._span.is_recording():
            host, _, port = target.rpartition(":")
            self._span.set_attribute("server.address", host if port.isdigit() else target)
            if port.isdigit():
                self._span.set_attribute("server.port", int(port))

    def tell(self, event: Accepted | Delta | Finished) -> None:
        """Tells what came; the reply's end ends the span."""
        if self._span is None or not self._span.is_recording():
            return
        match event:
            case Accepted():
                decision = event.decision
                self._span.set_attribute("bitlane.pool", decision.pool)
                self._span.set_attribute("bitlane.precision", decision.precision.name)
                self._span.set_attribute("bitlane.decision.reason", decision.reason.value)
            case Delta() if self._waiting:
                self._waiting = False
                seconds = time.perf_counter() - self._began
                self._span.set_attribute("gen_ai.response.time_to_first_chunk", round(seconds, 6))
            case Delta():
                return
            case Finished():
                self._span.set_attributes(
                    {
                        "gen_ai.response.finish_reasons": (event.reason.value,),
                        "gen_ai.usage.input_tokens": event.usage.prompt_tokens,
                        "gen_ai.usage.cache_read.input_tokens": event.usage.cached_prompt_tokens,
                        "gen_ai.usage.output_tokens": event.usage.output_tokens,
                        "bitlane.attempts": event.receipt.attempts,
                    }
                )
                self._span.end()

    def fail(self, error: BaseException | None) -> None:
        """Ends the span, unless it has ended. None: the reader left before the reply's end."""
        if self._span is None or not self._span.is_recording():
            return
        left = error is None or isinstance(error, asyncio.CancelledError)
        self._span.set_attribute("error.type", _CANCELLED if left else _word(error))
        if not left:
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415  # there is one

            # No description: the text of an error may quote what was asked.
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _asked(request: pb.GenerateRequest) -> "dict[str, AttributeValue]":
    asked: dict[str, AttributeValue] = {"gen_ai.request.model": request.model, "gen_ai.request.stream": True}
    sampling = request.sampling
    if sampling.HasField("max_tokens"):
        asked["gen_ai.request.max_tokens"] = sampling.max_tokens
    if sampling.HasField("temperature"):
        asked["gen_ai.request.temperature"] = sampling.temperature
    if sampling.HasField("top_p"):
        asked["gen_ai.request.top_p"] = sampling.top_p
    if sampling.HasField("top_k"):
        asked["gen_ai.request.top_k"] = sampling.top_k
    if sampling.HasField("seed") and sampling.seed <= _MOST_SEED:
        asked["gen_ai.request.seed"] = sampling.seed
    if request.conversation_id:
        asked["gen_ai.conversation.id"] = request.conversation_id
    return asked


def _word(error: BaseException | None) -> str:
    """The reason of an error, or the name of its class: never its text."""
    reason = error.reason if isinstance(error, BitlaneError) else ""
    return reason or type(error).__name__
