"""Which traces are kept: one in a hundred of those that begin here, and exactly those that the caller keeps."""

from opentelemetry.sdk.trace import TracerProvider

from telemetry.context import TraceContext, parse
from telemetry.environment import TelemetrySettings
from telemetry.spans import SpanIds, Spans
from tests.unit.telemetry.memory import NOT_SAMPLED, SAMPLED


def _spans(environ: dict[str, str]) -> Spans:
    settings, ids = TelemetrySettings.read(environ), SpanIds()
    provider = TracerProvider(sampler=settings.sampler, id_generator=ids, shutdown_on_exit=False)
    return Spans(provider.get_tracer("test"), ids, parent_decides=settings.parent_decides)


def _recorded(spans: Spans, parent: str, calls: int) -> int:
    return sum(spans.serve("a/B", TraceContext(parent), {}).recording for _ in range(calls))


def test_one_in_a_hundred_by_default() -> None:
    # 20,000 tries at 1 %: 200, give or take 14; ten times that is never met by chance.
    assert 60 < _recorded(_spans({}), "", 20_000) < 340


def test_the_caller_decides_for_its_own_traces() -> None:
    spans = _spans({})
    assert _recorded(spans, SAMPLED, 100) == 100
    assert _recorded(spans, NOT_SAMPLED, 100) == 0


def test_a_sampler_that_does_not_ask_the_caller() -> None:
    assert _recorded(_spans({"OTEL_TRACES_SAMPLER": "always_on"}), NOT_SAMPLED, 10) == 10
    assert _recorded(_spans({"OTEL_TRACES_SAMPLER": "always_off"}), SAMPLED, 10) == 0


def test_router_and_worker_keep_the_same_traces() -> None:
    router, worker = _spans({"OTEL_TRACES_SAMPLER_ARG": "0.5"}), _spans({"OTEL_TRACES_SAMPLER_ARG": "0.5"})
    for _ in range(200):
        served = router.serve("a/B", TraceContext(), {})
        assert worker.serve("process", served.context, {}).recording is served.recording


def test_what_is_not_sampled_has_ids_for_the_logs_all_the_same() -> None:
    served = _spans({"OTEL_TRACES_SAMPLER": "always_off"}).serve("a/B", TraceContext(), {})
    assert parse(served.context) is not None
    assert served.context.traceparent.endswith("-00") or served.context.traceparent.endswith("-02")
