"""What a worker tells of the requests that it claims: a trace that goes on from the router's, and metrics.

An attempt's span is a child of the span that sent the job, and linked to it. Its id follows from the job and the
lease's epoch, so that a later attempt can link to the first one without anybody storing its id. Spans of what happened
before or within (the wait in the queue, prefill, decode) are made afterwards, with explicit times.
"""

import time
from dataclasses import dataclass

from opentelemetry.trace import SpanContext, SpanKind

from telemetry import catalogue
from telemetry.attributes import SpanAttributes
from telemetry.context import TraceContext, parse
from telemetry.process import ProcessMetrics
from telemetry.setup import Telemetry
from telemetry.spans import Span, attempt_span_id

# How an attempt ends when it is not by the request's own outcome.
FAILED, LOST, RELEASED = "failed", "lost", "released"
_FAULTS = frozenset({FAILED, LOST})
# What becomes of a request whose lease ran out.
_AFTER_A_LOSS = ("waiting", "deadline", "not_migratable", "attempts_exhausted")


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a worker knows of a request that it claimed."""

    request_id: str
    tenant: str
    model: str
    operation: str  # chat or text_completion
    priority: str  # interactive, standard or batch
    epoch: int  # of the lease
    attempt: int
    waited_s: float  # since it last entered the queue, by the broker's clock
    inherited_tokens: int  # output tokens that earlier attempts logged


class WorkerTelemetry(ProcessMetrics):
    """The instruments of a worker process; `attempt` begins with each claim."""

    def __init__(self, telemetry: Telemetry, *, worker: str, pool: str, engine: str) -> None:
        registry = telemetry.registry
        super().__init__(registry)
        self.spans = telemetry.spans
        self.worker, self.pool, self.engine = worker, pool, engine
        self.queue_time = registry.histogram(catalogue.QUEUE_TIME)
        self.prefill = registry.histogram(catalogue.PREFILL)
        self.attempts = registry.counter(catalogue.ATTEMPTS)
        self.engine_tokens = registry.counter(catalogue.ENGINE_TOKENS)
        self.slots = registry.observed(catalogue.SLOTS)
        self.slots_used = registry.observed(catalogue.SLOTS_USED)
        self.engine_running = registry.observed(catalogue.ENGINE_RUNNING)
        self.engine_waiting = registry.observed(catalogue.ENGINE_WAITING)
        self.engine_cache = registry.observed(catalogue.ENGINE_CACHE)
        self._leases_lost = registry.counter(catalogue.LEASES_LOST)
        self._migrations = registry.counter(catalogue.MIGRATIONS)
        self._fences = registry.counter(catalogue.FENCES)
        self._leases_lost.begin(*((pool, outcome) for outcome in _AFTER_A_LOSS))
        self._migrations.begin((pool,))
        self._fences.begin((pool,))

    def attempt(self, sent: TraceContext, claimed: "Claimed") -> "Attempt":
        """Begins an attempt at a request that was just claimed; `sent` is the trace context of its job."""
        self.queue_time.record(claimed.waited_s, (self.pool, claimed.priority))
        if claimed.epoch > 1:
            self._migrations.add(1, (self.pool,))
        return Attempt(self, parse(sent), claimed)

    def lease_lost(self, outcome: str) -> None:
        """Tells of a reclaimed request: its outcome, or `waiting` where it goes on."""
        self._leases_lost.add(1, (self.pool, outcome))

    def fenced(self) -> None:
        """Tells that the broker refused a write of ours."""
        self._fences.add(1, (self.pool,))


class Attempt:
    """One claimed request in a worker. Ends with `end`; later calls do nothing."""

    def __init__(self, worker: WorkerTelemetry, sent: SpanContext | None, claimed: Claimed) -> None:
        self._worker = worker
        self._claimed = claimed
        self._began_ns = time.time_ns()
        self._first_ns: int | None = None
        self._ended = False
        self._engine: Span | None = None
        self.span = self._start(sent)

    def _start(self, sent: SpanContext | None) -> Span:
        """The attempt's span, and the one of the wait before it."""
        claimed, pool, spans = self._claimed, self._worker.pool, self._worker.spans
        if not spans.may_record(sent):
            return Span(spans, sent, None)
        span = spans.start(
            "process",
            SpanKind.CONSUMER,
            sent,
            links=_links(sent, claimed.epoch),
            start_ns=self._began_ns,
            span_id=None if sent is None else attempt_span_id(sent, claimed.epoch),
        )
        if not span.recording:
            return span
        common: SpanAttributes = {
            "messaging.system": "redis",
            "messaging.destination.name": pool,
            "messaging.message.id": claimed.request_id,
            "bitlane.request.id": claimed.request_id,
            "bitlane.tenant": claimed.tenant,
            "bitlane.pool": pool,
            "bitlane.priority": claimed.priority,
            "bitlane.epoch": claimed.epoch,
            "bitlane.attempt": claimed.attempt,
        }
        span.set(
            {
                **common,
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "bitlane.worker": self._worker.worker,
                "bitlane.tokens.inherited": claimed.inherited_tokens,
            }
        )
        entered_ns = self._began_ns - round(claimed.waited_s * 1e9)
        waiting = spans.start("queue", SpanKind.INTERNAL, sent or span.where, common, start_ns=entered_ns)
        waiting.set({"bitlane.queue.time": claimed.waited_s})
        waiting.end(end_ns=self._began_ns)
        return span

    def call_engine(self) -> dict[str, str]:
        """Begins the engine's part. Returns the headers that carry the trace on to an engine that takes them."""
        if not self.span.recording:
            return self.span.context.headers()
        self._engine = self.span.child(
            f"{self._claimed.operation} {self._claimed.model}",
            SpanKind.CLIENT,
            {
                "gen_ai.operation.name": self._claimed.operation,
                "gen_ai.provider.name": self._worker.engine,
                "gen_ai.request.model": self._claimed.model,
            },
        )
        return self._engine.context.headers()

    def first_token(self) -> None:
        """Tells that the engine yielded a token; only the first time counts."""
        if self._first_ns is None:
            self._first_ns = time.time_ns()
            seconds = (self._first_ns - self._began_ns) / 1e9
            where = self.span.where if self.span.recording else None
            self._worker.prefill.record(seconds, (self._worker.pool,), where)

    def fenced(self) -> None:
        """Tells that the broker refused a write of this attempt."""
        self._worker.fenced()

    def end(
        self,
        outcome: str,
        *,
        prompt_tokens: int = 0,
        cached_prompt_tokens: int = 0,
        generated_tokens: int = 0,
        error: str = "",
    ) -> None:
        """Ends the attempt.

        Args:
            outcome: the request's (stop, length, cancelled, deadline, rejected), or FAILED, LOST or RELEASED.
            generated_tokens: by this attempt.
            error: the class of the engine's error, where it failed.
        """
        if self._ended:
            return
        self._ended = True
        worker = self._worker
        worker.attempts.add(1, (worker.pool, outcome))
        worker.engine_tokens.add(prompt_tokens, (worker.pool, "input"))
        worker.engine_tokens.add(generated_tokens, (worker.pool, "output"))
        if not self.span.recording:
            return
        now = time.time_ns()
        word = error or ("" if outcome in ("stop", "length") else outcome)
        fault = outcome in _FAULTS
        if self._engine is not None:
            self._engine.end(word, fault=fault, end_ns=now)
        self.span.child("prefill", start_ns=self._began_ns).end(end_ns=self._first_ns or now)
        if self._first_ns is not None:
            self.span.child("decode", start_ns=self._first_ns).end(end_ns=now)
        self.span.set(
            {
                "bitlane.outcome": outcome,
                "bitlane.tokens.prompt": prompt_tokens,
                "bitlane.tokens.cached": cached_prompt_tokens,
                "bitlane.tokens.generated": generated_tokens,
            }
        )
        self.span.end(word, fault=fault, end_ns=now)


def _links(sent: SpanContext | None, epoch: int) -> list[SpanContext]:
    if sent is None:
        return []
    if epoch == 1:
        return [sent]
    first = SpanContext(sent.trace_id, attempt_span_id(sent, 1), True, sent.trace_flags, sent.trace_state)
    return [sent, first]
