"""What a real worker on a real broker tells of its attempts: how each ended, and the trace that the engine gets."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from broker import Broker
from broker.types import Priority, RequestRef
from telemetry.attempts import WorkerTelemetry
from telemetry.instruments import Registry
from tests.contract.broker.requests import POOL, make_submission
from tests.unit.telemetry.memory import SAMPLED, Memory, ids
from workers.engine import Delta, EngineDead, Job
from workers.engines.scripted import ScriptedEngine, ScriptedOptions
from workers.worker import Worker, WorkerOptions

_SOON_S = 20.0


class Engine(ScriptedEngine):
    """Keeps the jobs it gets, and can be told to die."""

    def __init__(self, options: ScriptedOptions) -> None:
        super().__init__(options)
        self.jobs: list[Job] = []
        self.dies = False

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        self.jobs.append(job)
        if self.dies:
            raise EngineDead("gone")
        async for delta in super().generate(job):
            yield delta


@dataclass
class Works:
    """A worker at work, and what it tells."""

    worker: Worker
    engine: Engine
    telemetry: WorkerTelemetry
    memory: Memory
    running: "asyncio.Task[None]"

    async def attempt(self, request_id: str) -> ReadableSpan:
        """The span of the request's newest attempt, once it has ended."""

        def found() -> list[ReadableSpan]:
            spans = [span for span in self.memory.exporter.get_finished_spans() if span.name == "process"]
            return [span for span in spans if (span.attributes or {})["bitlane.request.id"] == request_id]

        async with asyncio.timeout(_SOON_S):
            while not found():
                await asyncio.sleep(0.01)
        return found()[-1]

    async def outcome(self, request_id: str) -> tuple[object, object]:
        told = (await self.attempt(request_id)).attributes or {}
        return told["bitlane.outcome"], told.get("error.type", "")

    async def until_running(self, count: int = 1) -> None:
        async with asyncio.timeout(_SOON_S):
            while len(self.engine.jobs) < count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def working(broker: Broker, options: ScriptedOptions, name: str = "w1") -> AsyncGenerator[Works]:
    memory = Memory.make()
    telemetry = memory.telemetry()
    telemetry.registry = Registry()
    observer = WorkerTelemetry(telemetry, worker=name, pool=POOL, engine="scripted")
    engine = Engine(options)
    await engine.start()
    worker = Worker(broker, engine, WorkerOptions(name, POOL, drain_s=0), observer)
    running = asyncio.create_task(worker.run())
    try:
        yield Works(worker, engine, observer, memory, running)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def submit(broker: Broker, request_id: str, prompt: str = "x", **changes: Any) -> RequestRef:
    job = job_pb2.Job(
        request_id=request_id,
        model="smollm2",
        prompt=prompt,
        sampling=pb.SamplingParams(max_tokens=5),
        priority=pb.PRIORITY_BATCH,
        traceparent=SAMPLED,
        tracestate="vendor=1",
    )
    fields: dict[str, Any] = {"job": job.SerializeToString(), "priority": Priority.BATCH, **changes}
    await broker.submit(make_submission(request_id, **fields))
    return RequestRef("acme", request_id)


async def test_the_engine_gets_the_context_of_its_own_span(broker: Broker) -> None:
    async with working(broker, ScriptedOptions()) as works:
        await submit(broker, "r1")
        assert await works.outcome("r1") == ("length", "")
        (job,) = works.engine.jobs
        finished = works.memory.finished
        span = ids(finished["text_completion smollm2"])
        assert job.trace_headers == {
            "traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-01",
            "tracestate": "vendor=1",
        }
        told = (await works.attempt("r1")).attributes or {}
        assert (told["bitlane.priority"], told["bitlane.tokens.generated"]) == ("batch", 5)
        assert [point.labels for point in works.telemetry.queue_time.points()] == [(POOL, "batch")]
        slots = {point.value for point in works.telemetry.slots.points()}
        assert slots == {ScriptedOptions().slots}


async def test_each_end_of_an_attempt_has_its_name(broker: Broker) -> None:
    async with working(
        broker, ScriptedOptions(token_ms=20, fail_on="trouble", hang_on="hang", context_tokens=100)
    ) as works:
        cancelled = await submit(broker, "cancelled")
        await works.until_running(1)
        await broker.cancel(cancelled)
        assert await works.outcome("cancelled") == ("cancelled", "cancelled")

        await submit(broker, "late", prompt="hang", timeout_ms=2000)
        assert await works.outcome("late") == ("deadline", "deadline")

        await submit(broker, "rejected", prompt="word " * 200)
        assert await works.outcome("rejected") == ("rejected", "rejected")

        await submit(broker, "unreadable", job=b"\xff\xff")
        assert await works.outcome("unreadable") == ("failed", "JobUnreadable")

        await submit(broker, "trouble", prompt="trouble")
        assert await works.outcome("trouble") == ("failed", "RuntimeError")


async def test_what_a_stopping_worker_hands_back_was_released(broker: Broker) -> None:
    async with working(broker, ScriptedOptions(token_ms=50)) as works:
        await submit(broker, "handed-back")
        await works.until_running()
        works.worker.stop()
        await works.running
        outcome, _ = await works.outcome("handed-back")
        assert outcome == "released"
        assert (await works.attempt("handed-back")).status.status_code is StatusCode.UNSET


async def test_a_dead_engines_attempt_failed(broker: Broker) -> None:
    async with working(broker, ScriptedOptions()) as works:
        works.engine.dies = True
        await submit(broker, "r1")
        assert await works.outcome("r1") == ("failed", "EngineDead")
