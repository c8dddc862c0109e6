"""Promise 5, and the limits of it: the server's clock jumps. Workers in this process, since the clock must be a key."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from broker import Broker, BrokerOptions
from broker.connection import Reply
from broker.scripts import load_scripts
from broker.types import Attachment, Outcome, RequestRef
from deploy.local.server import LocalServer
from telemetry.attempts import WorkerTelemetry
from telemetry.setup import no_telemetry
from tests.chaos.load import until
from tests.contract.broker.requests import make_submission
from tests.process.scripted import expected_tokens
from workers.engines.scripted import ScriptedEngine, ScriptedOptions
from workers.worker import Worker, WorkerOptions

pytestmark = [pytest.mark.timeout(60), pytest.mark.promise(5)]

POOL = "m/fp8"
HOUR_MS = 3_600_000
TOKENS = 150
_CLOCK = """
local function now_ms()
  local time = redis.call('TIME')
  local jump = tonumber(redis.call('GET', 'jump') or 0)
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + jump
end
"""


@asynccontextmanager
async def working(workers: int) -> AsyncGenerator[Broker]:
    """A broker whose clock `jump` sets, and workers of it."""
    with LocalServer() as server:
        options = BrokerOptions(url=server.url, lease_ms=2000)
        scripts = load_scripts(options, {"clock": _CLOCK})
        async with Broker(options, scripts) as broker:
            running = [await _worker(broker, f"w{i}") for i in range(workers)]
            tasks = [asyncio.create_task(worker.run()) for worker in running]
            try:
                yield broker
            finally:
                for worker in running:
                    worker.stop()
                await asyncio.gather(*tasks)


async def _worker(broker: Broker, name: str) -> Worker:
    engine = ScriptedEngine(ScriptedOptions(token_ms=5))
    await engine.start()
    telemetry = WorkerTelemetry(no_telemetry(), worker=name, pool=POOL, engine="scripted")
    return Worker(broker, engine, WorkerOptions(name, POOL, drain_s=0), telemetry)


async def jump(broker: Broker, ms: int) -> Reply:
    return await broker._shards[0].command("SET", "jump", ms)  # pyright: ignore[reportPrivateUsage]


async def submit(broker: Broker, request_id: str, timeout_ms: int | None = None) -> RequestRef:
    ref = RequestRef("acme", request_id)
    job = job_pb2.Job(request_id=request_id, prompt=request_id, sampling=pb.SamplingParams(max_tokens=TOKENS))
    body = job.SerializeToString()
    await broker.submit(make_submission(request_id, pool=POOL, job=body, router="nobody", timeout_ms=timeout_ms))
    return ref


async def ended(broker: Broker, ref: RequestRef) -> Attachment:
    async def has_ended() -> bool:
        return (await broker.read_log(ref, 0)).ending is not None

    await until(has_ended, 20)
    return await broker.read_log(ref, 0)


async def begun(broker: Broker, refs: list[RequestRef]) -> None:
    async def all_have() -> bool:
        return all([(await broker.read_log(ref, 0)).next_index > 5 for ref in refs])

    await until(all_have, 20)


def tokens_of(attachment: Attachment) -> tuple[int, ...]:
    return tuple(token for chunk in attachment.chunks for token in job_pb2.Chunk.FromString(chunk).token_ids)


@pytest.mark.parametrize("ms", [HOUR_MS, -HOUR_MS], ids=["forward", "back"])
async def test_a_jump_loses_and_doubles_nothing(ms: int) -> None:
    """Forward, every lease has run out at once: all is taken back and goes on from the log."""
    async with working(2) as broker:
        refs = [await submit(broker, f"jump-{i}") for i in range(12)]
        await begun(broker, refs)
        await jump(broker, ms)
        for ref in refs:
            attachment = await ended(broker, ref)
            assert attachment.ending is not None
            assert attachment.ending.outcome is Outcome.LENGTH
            assert tokens_of(attachment) == expected_tokens(ref.request_id, TOKENS)


async def test_a_jump_forward_ends_what_has_a_deadline() -> None:
    """The limit: deadlines are moments of the server's clock, so a jump past them ends the requests, once."""
    async with working(1) as broker:
        ref = await submit(broker, "limited", timeout_ms=60_000)
        await begun(broker, [ref])
        await jump(broker, HOUR_MS)
        attachment = await ended(broker, ref)
        assert attachment.ending is not None
        assert attachment.ending.outcome is Outcome.DEADLINE
        tokens = tokens_of(attachment)
        assert tokens == expected_tokens("limited", len(tokens))
