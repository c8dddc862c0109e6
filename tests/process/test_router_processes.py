"""Several router processes behind one port, under one supervisor."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bitlane
from deploy.local.processes import Process
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, expected_tokens
from workers.processes import below

COUNT = 3
SOON_S = 30.0


def children(process: Process) -> set[int]:
    return set(below(process.pid))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_ready(stack: Stack, router: Process, count: int) -> None:
    """Until so many processes said that they are ready, those that are gone included."""
    until = time.monotonic() + SOON_S
    log = stack.folder / f"{router.name}.log"
    while log.read_text(encoding="utf-8").count('"router.ready"') < count:
        assert time.monotonic() < until, router.tail()
        time.sleep(0.05)


async def wait_until_gone(pids: set[int]) -> None:
    until = time.monotonic() + SOON_S
    while any(map(is_running, pids)):
        assert time.monotonic() < until, f"still there: {[pid for pid in pids if is_running(pid)]}"
        await asyncio.sleep(0.05)


@pytest.fixture
def several(make_stack: StackMaker) -> tuple[Stack, Process, str]:
    stack = make_stack(engine_options='{"token_ms": 20}')
    router = stack.add_router(env={"BITLANE_ROUTER_PROCESSES": str(COUNT)})
    stack.target_of(router)
    wait_until_ready(stack, router, COUNT)
    time.sleep(0.5)  # each looks at the registry a few times a second
    return stack, router, stack.target_of(router)


async def test_streams_survive_the_death_of_each_and_it_is_started_anew(several: tuple[Stack, Process, str]) -> None:
    stack, router, target = several
    first = children(router)
    assert len(first) == COUNT
    clients = [bitlane.AsyncClient(target, api_key=ACME, timeout=60) for _ in range(8)]
    try:
        streams = [c.stream(f"shared {n}", model="smollm2", max_tokens=60) for n, c in enumerate(clients)]
        await asyncio.gather(*(stream.accepted() for stream in streams))
        replies = [asyncio.ensure_future(stream.result()) for stream in streams]
        os.kill(min(first), signal.SIGKILL)
        for n, reply in enumerate(replies):
            assert (await reply).token_ids == expected_tokens(f"shared {n}", 60)
    finally:
        for client in clients:
            await client.close()
    wait_until_ready(stack, router, COUNT + 1)
    assert len(children(router)) == COUNT
    assert children(router) - first


async def test_they_stop_with_the_supervisor_in_good_order(several: tuple[Stack, Process, str]) -> None:
    _, router, target = several
    pids = children(router)
    async with bitlane.AsyncClient(target, api_key=ACME) as client:
        stream = client.stream("to the end", model="smollm2", max_tokens=30)
        await stream.accepted()
        router.terminate()
        assert (await stream.result()).token_ids == expected_tokens("to the end", 30)
    assert await asyncio.to_thread(router.wait, SOON_S) == 0
    assert not any(map(is_running, pids))


async def test_none_outlives_a_supervisor_that_was_killed(several: tuple[Stack, Process, str]) -> None:
    _, router, _ = several
    pids = children(router)
    await asyncio.to_thread(router.kill)
    await wait_until_gone(pids)


def test_a_taken_port_is_told_and_nothing_stays(several: tuple[Stack, Process, str]) -> None:
    stack, _, target = several
    for taken in (target, stack.target):
        done = subprocess.run(
            [sys.executable, "-m", "router", "--listen", taken, "--processes", "2"],
            env={**os.environ, "BITLANE_ROUTER_BROKER_URL": stack.server.url},
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert done.stderr.strip() == f"python -m router: cannot listen on {taken}: the address is taken"


def test_what_cannot_start_is_not_started_again_and_again(stack: Stack) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "router", "--listen", "localhost:0", "--processes", "2"],
        env={
            **os.environ,
            "BITLANE_ROUTER_BROKER_URL": stack.server.url,
            "OTEL_TRACES_SAMPLER": "sometimes",
        },
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "OTEL_TRACES_SAMPLER" in done.stderr
    assert time.monotonic() - began < 60


def test_a_path_cannot_be_shared() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "router", "--listen", "unix:router.sock", "--processes", "2"],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "processes: more than one can share a TCP port only" in done.stderr
