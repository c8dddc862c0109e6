"""What telemetry costs: `python -m bench.telemetry`. CPU microseconds of one process for each request, on one core.

The work of the exporter's thread is in it, for CPU time is the whole process's; the receiver is another process. One
request is what a router tells of a streamed reply (a span with five children, thirteen figures), or what a worker tells
of one attempt (a span with four, five figures). Prints the median of several rounds with their spread; fails nothing:
times on a shared machine say little alone.
"""

import itertools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event

import structlog

from telemetry import catalogue
from telemetry.attempts import Claimed, WorkerTelemetry
from telemetry.calls import RouterTelemetry
from telemetry.context import TraceContext
from telemetry.instruments import Registry
from telemetry.logging import set_level, set_up_logging
from telemetry.setup import Telemetry
from telemetry.tenants import TenantLabels
from tests.contract.telemetry.receiver import receiver

_ROUNDS = 9
_CALLS = 2000
_GENERATE = "bitlane.v1.InferenceService/Generate"
_METADATA = (("authorization", "Bearer none"), ("user-agent", "bitlane"))


def main() -> None:
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    stop = multiprocessing.Event()
    server = multiprocessing.Process(target=_receive, args=(ports, stop), daemon=True)
    server.start()
    endpoint = f"http://127.0.0.1:{ports.get()}"
    print(
        f"{'CPU microseconds a request, median (spread) of ' + str(_ROUNDS) + ' rounds':55}{'router':>24}{'worker':>24}"
    )
    traces = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}
    metrics = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": endpoint}
    ratio = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
    for name, share, environ in (
        ("no endpoint", 0, {}),
        ("metrics", 0, metrics),
        ("traces, none sampled", 0, {**traces, "OTEL_TRACES_SAMPLER": "parentbased_always_off"}),
        ("traces at 1 %, the default", 1, traces),
        ("traces at 10 %", 10, {**traces, **ratio, "OTEL_TRACES_SAMPLER_ARG": "0.1"}),
        ("traces, all sampled", 100, {**traces, "OTEL_TRACES_SAMPLER": "parentbased_always_on"}),
        ("metrics, and traces at 1 %", 1, {**traces, **metrics}),
    ):
        jobs = _jobs(share)
        router, worker = (
            _with(environ, _router_work),
            _with(environ, lambda t, jobs=jobs: _worker_work(t, jobs)),
        )
        print(f"{name:55}{router:>24}{worker:>24}")
    stop.set()
    server.join()
    print()
    _figures()
    _lines()


def _with(environ: dict[str, str], make: Callable[[Telemetry], Callable[[], None]]) -> str:
    """Measures what the telemetry of such an environment costs."""
    telemetry = Telemetry("bench", "1", {}, environ)
    try:
        return _measure(make(telemetry))
    finally:
        telemetry.close()


def _router_work(telemetry: Telemetry) -> Callable[[], None]:
    router = RouterTelemetry(telemetry, TenantLabels(["acme"]))

    def serve() -> None:
        call = router.call(_GENERATE, _METADATA)
        call.tenant = "acme"
        with call.stage("validate"):
            pass
        with call.stage("classify"):
            pass
        with call.stage("decide"):
            pass
        call.decided(
            operation="chat",
            model="m",
            pool="m/fp4",
            precision="FP4",
            reason="low_sensitivity",
            rule="",
            policy_version="acme-3",
            task="chat",
            source="classifier",
            confidence=0.93,
            gate="passed",
        )
        with call.submit("m/fp4", "req-0123456789") as submit:
            _ = submit.context
        with call.relay():
            call.first_token()
        call.ended("stop", attempts=1, prompt_tokens=120, cached_prompt_tokens=0, output_tokens=64, cost_nanos=9)
        call.end("OK")
        _ = call.ids

    return serve


def _worker_work(telemetry: Telemetry, jobs: Iterator[TraceContext]) -> Callable[[], None]:
    worker = WorkerTelemetry(telemetry, worker="w", pool="m/fp4", engine="scripted")

    def work() -> None:
        attempt = worker.attempt(next(jobs), Claimed("req-0123456789", "acme", "m", "chat", "standard", 1, 1, 0.01, 0))
        attempt.call_engine()
        attempt.first_token()
        attempt.end("stop", prompt_tokens=120, generated_tokens=64)

    return work


def _jobs(share: int) -> Iterator[TraceContext]:
    """Trace contexts of jobs, of which `share` in a hundred are sampled."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
    return itertools.cycle([TraceContext(f"{trace}{int(number < share)}") for number in range(100)])


def _figures() -> None:
    registry = Registry()
    tokens, duration = registry.counter(catalogue.TOKENS), registry.histogram(catalogue.PREFILL)
    labels = ("m", "m/fp4", "acme", "output")
    print(f"one counter: {_measure(lambda: tokens.add(64, labels))}")
    print(f"one histogram: {_measure(lambda: duration.record(0.12, ('m/fp4',)))}")


def _lines() -> None:
    """The line of a request's end, as the router writes it, to a file."""
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        set_up_logging("bench", log_format="json")
        log = structlog.get_logger("bitlane.bench")
        ids = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}

        def line() -> None:
            log.info("rpc.end", method="Generate", code="OK", tenant="acme", request_id="req-1", ms=12.5, **ids)

        written = _measure(line)
        set_level("WARNING")
        unwanted = _measure(line)
    finally:
        os.dup2(kept, 2)
    print(f"one log line: {written}; one below the level: {unwanted}")


def _measure(work: Callable[[], None]) -> str:
    rounds: list[float] = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_CALLS):
            work()
        rounds.append((time.process_time() - began) / _CALLS * 1e6)
    return f"{statistics.median(rounds):.1f} ({min(rounds):.1f}-{max(rounds):.1f})"


def _receive(ports: "multiprocessing.Queue[int]", stop: Event) -> None:
    with receiver() as servicer:
        ports.put(servicer.port)
        stop.wait()


if __name__ == "__main__":
    sys.exit(main())
