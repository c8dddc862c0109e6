"""What a router tells of the calls that it serves: spans and metrics, in a few words where things happen.

One `ServedCall` goes with each RPC from its arrival to its end. Spans that only some calls have (validate, classify,
decide, submit, relay) are opened where the work is done, in a `with` statement.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Literal

from opentelemetry.trace import SpanContext, SpanKind

from telemetry import catalogue
from telemetry.context import TraceContext
from telemetry.instruments import Labels
from telemetry.process import ProcessMetrics
from telemetry.setup import Telemetry
from telemetry.spans import SERVER_FAULTS, Span
from telemetry.tenants import TenantLabels

PROVIDER = "bitlane"
_BAD_ENDINGS = ("not_migratable", "attempts_exhausted")
_GENERATING = ("/Generate", "/Complete")
_NANOS = 1e-9


class RouterTelemetry(ProcessMetrics):
    """The instruments of a router process; `call` begins with each RPC."""

    def __init__(self, telemetry: Telemetry, tenants: TenantLabels) -> None:
        registry = telemetry.registry
        super().__init__(registry)
        self.spans = telemetry.spans
        self.tenants = tenants
        self.call_duration = registry.histogram(catalogue.CALL_DURATION)
        self.request_duration = registry.histogram(catalogue.REQUEST_DURATION)
        self.first_token = registry.histogram(catalogue.FIRST_TOKEN)
        self.per_token = registry.histogram(catalogue.PER_TOKEN)
        self.requests = registry.counter(catalogue.REQUESTS)
        self.rejections = registry.counter(catalogue.REJECTIONS)
        self.decisions = registry.counter(catalogue.DECISIONS)
        self.confidence = registry.histogram(catalogue.CONFIDENCE)
        self.tokens = registry.counter(catalogue.TOKENS)
        self.cost = registry.counter(catalogue.COST)
        self.fp8_cost = registry.counter(catalogue.FP8_COST)
        # Observed: give each a callback that reads a snapshot (telemetry.instruments.Observed).
        self.streams = registry.observed(catalogue.STREAMS)
        self.queue_depth = registry.observed(catalogue.QUEUE_DEPTH)
        self.queue_age = registry.observed(catalogue.QUEUE_AGE)
        self.pool_workers = registry.observed(catalogue.POOL_WORKERS)
        self.gate_state = registry.observed(catalogue.GATE_STATE)
        self.policy_version = registry.observed(catalogue.POLICY_VERSION)
        self._known: set[Labels] = set()

    def served(self, model: str, pool: str, tenant: str) -> Labels:
        """The labels of what serves a tenant, whose series begin before the first request ends badly."""
        labels = (model, pool, self.tenants.of(tenant))
        if labels not in self._known:
            self._known.add(labels)
            self.requests.begin(*((*labels, outcome) for outcome in _BAD_ENDINGS))
        return labels

    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]] = ()) -> "ServedCall":
        """Begins an RPC. `method` as in `bitlane.v1.InferenceService/Generate`; `metadata` is the caller's."""
        return ServedCall(self, method, TraceContext.from_metadata(metadata))


class ServedCall:
    """One RPC. Ends with `end`, once, whatever happened."""

    __slots__ = (
        *("_accepted", "_began", "_figures", "_first", "_generation", "_method", "_router", "_served"),
        *("span", "tenant"),
    )

    def __init__(self, router: RouterTelemetry, method: str, caller: TraceContext) -> None:
        self._began = time.perf_counter()
        self._router = router
        self._method = method
        self._generation: Labels | None = None  # operation, provider, model, pool, tenant; of one that began here
        self._served: Labels | None = None  # model, pool, tenant
        self._first: float | None = None
        self._accepted = False
        self._figures: dict[str, str | int | float] = {}
        self.span = router.spans.serve(method, caller, {"rpc.system.name": "grpc", "rpc.method": method})
        """The server's span. Attributes beyond those set here: `if call.span.recording: call.span.set({...})`."""
        self.tenant = ""
        """To be set as soon as the caller is known."""

    @property
    def streams(self) -> bool:
        """Whether the reply is streamed."""
        return not self._method.endswith("/Complete")

    @property
    def pool(self) -> str:
        """Of the request that counts here; empty when none does, or it has ended."""
        return self._served[1] if self._served else ""

    @property
    def ids(self) -> dict[str, str]:
        """trace_id and span_id for the log line; empty where there is no trace."""
        where = self.span.where
        return {} if where is None else {"trace_id": f"{where.trace_id:032x}", "span_id": f"{where.span_id:016x}"}

    @property
    def figures(self) -> Mapping[str, str | int | float]:
        """What the log line of a generation tells: where it ran and why, how it ended, its tokens and times."""
        return self._figures

    def stage(self, name: Literal["validate", "classify", "decide"]) -> Span:
        """A step of the admission, for a `with` statement around it."""
        return self.span.child(name)

    def decided(
        self,
        *,
        operation: str,
        model: str,
        pool: str,
        precision: str,
        reason: str,
        rule: str,
        policy_version: str,
        task: str,
        source: str,
        confidence: float,
        gate: str,
    ) -> None:
        """Tells the decision of a request that is about to be submitted. Enumerations by name, in lower case; the
        precision as FP4. `operation` is chat or text_completion."""
        router = self._router
        self._served = router.served(model, pool, self.tenant)
        self._generation = (operation, PROVIDER, *self._served)
        router.decisions.add(1, (model, precision, task, reason))
        if source == "classifier":
            router.confidence.record(confidence, (task,))
        self._figures = {"pool": pool, "decision": reason, "task": task}
        if self.span.recording:
            self.span.set(
                {
                    "gen_ai.operation.name": operation,
                    "gen_ai.provider.name": PROVIDER,
                    "gen_ai.request.model": model,
                    "bitlane.pool": pool,
                    "bitlane.precision": precision,
                    "bitlane.decision.reason": reason,
                    "bitlane.decision.rule": rule,
                    "bitlane.policy.version": policy_version,
                    "bitlane.task.class": task,
                    "bitlane.task.source": source,
                    "bitlane.task.confidence": confidence,
                    "bitlane.gate.state": gate,
                }
            )

    def resumed(self, *, model: str, pool: str) -> None:
        """Tells that the call goes on with a request that began elsewhere: it counts, its times do not."""
        self._served = self._router.served(model, pool, self.tenant)
        if self.span.recording:
            self.span.set({"gen_ai.request.model": model, "bitlane.pool": pool})

    def joined(self) -> None:
        """Tells that the call goes on with a request of the same id that another call began, and which counts there."""
        self._served = self._generation = None

    def submit(self, pool: str, request_id: str) -> Span:
        """From making the job until Redis has it. The job carries this span's `context`, recorded or not."""
        if not self.span.recording:
            return self.span
        return self.span.child(
            "submit",
            SpanKind.PRODUCER,
            {
                "messaging.system": "redis",
                "messaging.operation.name": "submit",
                "messaging.operation.type": "send",
                "messaging.destination.name": pool,
                "messaging.message.id": request_id,
            },
        )

    def relay(self) -> Span:
        """From the acceptance to the last message of the reply."""
        self._accepted = True
        return self.span.child("relay")

    def first_token(self) -> None:
        """Tells that a token was written to the client; only the first time counts."""
        if self._first is not None:
            return
        self._first = time.perf_counter()
        seconds = self._first - self._began
        self._figures["first_token_ms"] = round(seconds * 1000, 1)
        if self._generation:
            self._router.first_token.record(seconds, self._generation, self._exemplar)
        if self.span.recording:
            self.span.set({"gen_ai.response.time_to_first_chunk": round(seconds, 6)})

    def ended(
        self,
        outcome: str,
        *,
        attempts: int,
        prompt_tokens: int,
        cached_prompt_tokens: int,
        output_tokens: int,
        cost_nanos: int = 0,
        fp8_cost_nanos: int = 0,
    ) -> None:
        """Tells how the request ended. Only the first time counts, at the router that saw it end."""
        if self._generation:
            self._measure(self._generation, outcome, output_tokens)
        if self._served:
            router, served = self._router, self._served
            self._served = self._generation = None
            router.requests.add(1, (*served, outcome))
            router.tokens.add(prompt_tokens, (*served, "input"))
            router.tokens.add(cached_prompt_tokens, (*served, "cached_input"))
            router.tokens.add(output_tokens, (*served, "output"))
            router.cost.add(cost_nanos * _NANOS, served)
            router.fp8_cost.add(fp8_cost_nanos * _NANOS, served)
        self._figures |= {
            "outcome": outcome,
            "attempts": attempts,
            "prompt_tokens": prompt_tokens,
            "output_tokens": output_tokens,
        }
        if self.span.recording:
            self.span.set(
                {
                    "bitlane.outcome": outcome,
                    "bitlane.attempts": attempts,
                    "gen_ai.response.finish_reasons": (outcome,),
                    "gen_ai.usage.input_tokens": prompt_tokens,
                    "gen_ai.usage.cache_read.input_tokens": cached_prompt_tokens,
                    "gen_ai.usage.output_tokens": output_tokens,
                }
            )

    def end(self, code: str, reason: str = "") -> None:
        """Ends the call with the name of its gRPC status code and, for an error, the reason of its ErrorInfo."""
        router = self._router
        error = "" if code == "OK" else reason or code
        seconds = time.perf_counter() - self._began
        router.call_duration.record(seconds, ("grpc", self._method, code, error), self._exemplar)
        if error and code != "CANCELLED" and not self._accepted and self._method.endswith(_GENERATING):
            router.rejections.add(1, (router.tenants.of(self.tenant), error))
        if self.span.recording:
            self.span.set({"rpc.response.status_code": code, "bitlane.tenant": self.tenant})
            self.span.end(error, fault=code in SERVER_FAULTS)

    @property
    def _exemplar(self) -> SpanContext | None:
        return self.span.where if self.span.recording else None

    def _measure(self, generation: Labels, outcome: str, output_tokens: int) -> None:
        now = time.perf_counter()
        error = "" if outcome in ("stop", "length", "cancelled") else outcome
        self._router.request_duration.record(now - self._began, (*generation, error), self._exemplar)
        if self._first is not None and output_tokens > 1:
            self._router.per_token.record((now - self._first) / (output_tokens - 1), generation, self._exemplar)
