"""What operators want of a worker, and a real worker that obeys: without loss, at once, and again after a restart."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from broker import Broker
from broker.types import Directive, RequestRef, WorkerInfo
from telemetry.attempts import WorkerTelemetry
from telemetry.setup import no_telemetry
from tests.contract.broker.requests import POOL, make_submission
from workers.engines.scripted import ScriptedEngine, ScriptedOptions
from workers.worker import Worker, WorkerOptions

SOON_S = 10.0


@asynccontextmanager
async def working(broker: Broker, name: str = "w1", token_ms: float = 0.0) -> AsyncGenerator[Worker, None]:
    """A worker with two slots, gone at the end as if its machine had gone."""
    engine = ScriptedEngine(ScriptedOptions(slots=2, token_ms=token_ms))
    await engine.start()
    telemetry = WorkerTelemetry(no_telemetry(), worker=name, pool=POOL, engine="scripted")
    worker = Worker(broker, engine, WorkerOptions(name, POOL, drain_s=0), telemetry)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def submit(broker: Broker, request_id: str, tokens: int = 3) -> RequestRef:
    job = job_pb2.Job(request_id=request_id, prompt="x", sampling=pb.SamplingParams(max_tokens=tokens))
    await broker.submit(make_submission(request_id, job=job.SerializeToString()))
    return RequestRef("acme", request_id)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SOON_S):
        while not await true():
            await asyncio.sleep(0.02)


async def says(broker: Broker, name: str = "w1", **expected: object) -> None:
    """Waits until the registry shows the worker so."""

    async def shown() -> bool:
        (pool,) = await broker.pools([POOL])
        found = [info for info in pool.workers if info.worker == name]
        return bool(found) and all(getattr(found[0], field) == value for field, value in expected.items())

    await until(shown)


async def ended(broker: Broker, ref: RequestRef) -> None:
    async def has_ended() -> bool:
        return (await broker.read_log(ref, 0)).ending is not None

    await until(has_ended)


async def test_a_directive_comes_with_every_heartbeat_until_it_is_taken_back(broker: Broker) -> None:
    info = WorkerInfo("w1", POOL, b"", 1, 0)
    assert (await broker.register(info)).directive is Directive.SERVE
    await broker.direct(POOL, "w1", Directive.DRAIN)
    await broker.direct(POOL, "not-started-yet", Directive.QUARANTINE)
    assert (await broker.register(info)).directive is Directive.DRAIN
    await broker.unregister(POOL, "w1")
    assert (await broker.register(info)).directive is Directive.DRAIN
    assert await broker.directives(POOL) == {"w1": Directive.DRAIN, "not-started-yet": Directive.QUARANTINE}
    assert await broker.directives("smollm2/fp8") == {}
    await broker.direct(POOL, "w1", Directive.SERVE)
    assert (await broker.register(info)).directive is Directive.SERVE
    assert await broker.directives(POOL) == {"not-started-yet": Directive.QUARANTINE}
    with pytest.raises(ValueError, match="cannot be part of a key"):
        await broker.direct(POOL, "a b", Directive.DRAIN)


async def test_the_registry_shows_a_quarantine(broker: Broker) -> None:
    info = WorkerInfo("w1", POOL, b"p", 1, 0, draining=True, quarantined=True)
    await broker.register(info)
    assert (await broker.pools([POOL]))[0].workers == (info,)


async def test_a_drained_worker_ends_what_it_has_and_claims_no_more(broker: Broker) -> None:
    async with working(broker, token_ms=100):
        running = await submit(broker, "running", tokens=40)
        await says(broker, running=1, draining=False)
        await broker.direct(POOL, "w1", Directive.DRAIN)
        await says(broker, draining=True, quarantined=False, running=1)
        waiting = await submit(broker, "waiting")
        await ended(broker, running)
        log = await broker.read_log(running, 0)
        assert log.ending is not None
        assert (log.ending.attempts, log.ending.usage.output_tokens) == (1, 40)
        await says(broker, draining=True, running=0)
        assert (await broker.pools([POOL]))[0].waiting == 1
        await broker.direct(POOL, "w1", Directive.SERVE)
        await ended(broker, waiting)
        await says(broker, draining=False)


async def test_an_idle_worker_that_waits_for_work_is_drained_too(broker: Broker) -> None:
    """The directive comes while its claim loop is blocked; the work that comes then is another's."""
    async with working(broker, "w1"):
        await says(broker, "w1", draining=False)
        await broker.direct(POOL, "w1", Directive.DRAIN)
        await says(broker, "w1", draining=True)
        ref = await submit(broker, "r1")
        async with working(broker, "w2"):
            await ended(broker, ref)
        assert (await broker.pools([POOL]))[0].running == 0


async def test_a_quarantined_worker_hands_back_what_runs_and_another_goes_on(broker: Broker) -> None:
    async with working(broker, "w1", token_ms=50):
        ref = await submit(broker, "r1", tokens=100)

        async def has_chunks() -> bool:
            return (await broker.read_log(ref, 0)).next_index > 2

        await until(has_chunks)
        await broker.direct(POOL, "w1", Directive.QUARANTINE)
        await says(broker, "w1", draining=True, quarantined=True, running=0)
        assert (await broker.pools([POOL]))[0].waiting == 1
        async with working(broker, "w2"):
            await ended(broker, ref)
        ending = (await broker.read_log(ref, 0)).ending
        assert ending is not None
        assert (ending.attempts, ending.usage.output_tokens) == (1, 100)  # it was no failed attempt
        await broker.direct(POOL, "w1", Directive.SERVE)
        again = await submit(broker, "r2")
        await ended(broker, again)


@pytest.mark.parametrize("directive", [Directive.DRAIN, Directive.QUARANTINE])
async def test_a_directive_outlives_a_restart(broker: Broker, directive: Directive) -> None:
    await broker.direct(POOL, "w1", directive)
    ref = await submit(broker, "r1")
    async with working(broker, "w1"):
        await says(broker, "w1", draining=True, quarantined=directive is Directive.QUARANTINE)
        await asyncio.sleep(0.3)
        assert (await broker.pools([POOL]))[0].waiting == 1, "it claimed before it knew what it shall do"
        await broker.direct(POOL, "w1", Directive.SERVE)
        await ended(broker, ref)
