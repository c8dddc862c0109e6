"""Level and sampling of the logs, changed in a file while routers and workers run."""

import asyncio
import json
from pathlib import Path

import pytest

import bitlane
from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME

pytestmark = pytest.mark.timeout(120)


def events(stack: Stack, process: Process) -> list[dict[str, object]]:
    lines = (stack.folder / f"{process.name}.log").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def changed(stack: Stack, processes: list[Process], times: int) -> dict[str, object]:
    """Waits until all have followed so many changes; the newest."""

    def changes(process: Process) -> list[dict[str, object]]:
        return [event for event in events(stack, process) if event["event"] == "logging.changed"]

    async with asyncio.timeout(30):
        while any(len(changes(process)) < times for process in processes):
            await asyncio.sleep(0.05)
    return changes(processes[0])[-1]


async def test_a_file_says_what_routers_and_workers_write(make_stack: StackMaker, tmp_path: Path) -> None:
    path = tmp_path / "logs.json"
    stack = make_stack(worker_env={"BITLANE_WORKER_LOG_SETTINGS_FILE": str(path)})
    router = stack.add_router(env={"BITLANE_ROUTER_LOG_SETTINGS_FILE": str(path)})
    target = stack.target_of(router)
    followers = [router, *(worker for workers in stack.workers.values() for worker in workers)]
    none = bitlane.RetryPolicy.none()
    async with bitlane.AsyncClient(target, api_key=ACME, retry=none) as client:

        async def told(request_id: str) -> bool:
            """Whether the end of a request is in the router's log; of a refused one it must be."""
            await client.generate("hi", model="smollm2", max_tokens=2, request_id=request_id)
            with pytest.raises(bitlane.NotFound):
                await client.resume(f"{request_id}-not").result()
            async with asyncio.timeout(30):
                while not _ended(f"{request_id}-not"):
                    await asyncio.sleep(0.05)
            return _ended(request_id)

        def _ended(request_id: str) -> bool:
            found = [event for event in events(stack, router) if event["event"] == "rpc.end"]
            return request_id in {event["request_id"] for event in found}

        assert await told("before")

        path.write_text('{"request_share": 0}', encoding="utf-8")
        said = await changed(stack, followers, 1)
        assert (said["wanted"], said["request_share"]) == ("INFO", 0)
        assert not await told("sampled-out")

        # What cannot be used changes nothing.
        path.write_text('{"level": "LOUD"}', encoding="utf-8")
        async with asyncio.timeout(30):
            while not any(event["event"] == "logging.refused" for event in events(stack, router)):
                await asyncio.sleep(0.05)
        assert not await told("still-sampled-out")

        path.write_text('{"level": "WARNING"}', encoding="utf-8")
        said = await changed(stack, followers, 2)
        assert (said["wanted"], said["request_share"]) == ("WARNING", 1)
        await client.generate("hi", model="smollm2", max_tokens=2, request_id="too-quiet")

        # Without the file the settings of the start apply again.
        path.unlink()
        said = await changed(stack, followers, 3)
        assert (said["wanted"], said["request_share"]) == ("INFO", 1)
        assert await told("after")
        assert not _ended("too-quiet")
