"""`bitlane trace` and `bitlane top` against real processes: what they tell is so, to whom it may be told."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import bitlane
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, OPERATOR

pytestmark = pytest.mark.timeout(120)

FP8 = "smollm2/fp8"
GLOBEX = "bl_local_globex"
SECRET = "canary-of-the-story"  # stands in the prompt, and so in the scripted reply


async def bitlane_cli(stack: Stack, *words: str, key: str = OPERATOR) -> tuple[int, str, str]:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "bitlane", "--target", stack.target, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "BITLANE_API_KEY": key, "COLUMNS": "120"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


async def story_of(stack: Stack, request_id: str) -> Any:
    code, out, err = await bitlane_cli(stack, "trace", request_id, "--tenant", "acme", "--json")
    assert code == 0, err
    return json.loads(out)


async def until_it_has_tokens(stream: bitlane.AsyncStream, count: int) -> None:
    seen = 0
    while seen < count:
        seen += len((await anext(stream)).token_ids)


async def test_the_story_of_a_finished_request_is_what_its_receipt_says(
    stack: Stack, acme: bitlane.AsyncClient
) -> None:
    done = await acme.generate(f"Hello! {SECRET}", model="smollm2", max_tokens=30, request_id="told-1")
    story = await story_of(stack, "told-1")
    request, decision = story["request"], story["request"]["decision"]
    assert done.decision is not None
    assert (decision["precision"], decision["reason"]) == (done.decision.precision, done.decision.reason)
    assert decision["policy_version"] == done.decision.policy_version
    assert (request["state"], request["outcome"], request["attempts"]) == ("finished", "length", 1)
    assert request["usage"]["output_tokens"] == 30
    assert [step["kind"] for step in story["transitions"]] == ["submitted", "claimed", "first_token", "ended"]
    code, out, _ = await bitlane_cli(stack, "trace", "told-1", key=ACME)
    assert code == 0
    assert out.startswith("told-1 of acme/local: ended, length\n")
    assert f"precision  {done.decision.precision} in {done.decision.pool}" in out
    # An operator's key belongs to no tenant, and finds whose it is.
    assert (await bitlane_cli(stack, "trace", "told-1"))[1].splitlines()[0] == out.splitlines()[0]


async def test_another_tenant_is_told_nothing(stack: Stack, acme: bitlane.AsyncClient) -> None:
    await acme.generate("Hello!", model="smollm2", max_tokens=3, request_id="private-1")
    unknown = await bitlane_cli(stack, "trace", "never-was", key=GLOBEX)
    others = await bitlane_cli(stack, "trace", "private-1", key=GLOBEX)
    assert others[:2] == unknown[:2] == (1, "")
    assert others[2] == unknown[2].replace("never-was", "private-1")
    code, out, err = await bitlane_cli(stack, "trace", "private-1", "--tenant", "acme", key=GLOBEX)
    assert (code, out) == (1, "")
    assert "TENANT_NOT_FOUND" in err
    code, out, _ = await bitlane_cli(stack, "top", "--json", key=GLOBEX)
    assert code == 0
    assert {request["tenant"] for request in json.loads(out)["recent"]} <= {"globex"}


async def test_a_lost_worker_and_a_late_one_are_in_the_story(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 4}')
    async with bitlane.AsyncClient(stack.target, api_key=ACME, timeout=60) as client:
        stream = client.stream(f"moves {SECRET}", model="smollm2", pin="fp8", max_tokens=400, request_id="moves")
        await until_it_has_tokens(stream, 10)
        frozen = stack.workers[FP8][0]
        os.kill(frozen.pid, signal.SIGSTOP)
        stack.add_worker(FP8)
        await until_it_has_tokens(stream, 100)
        running = await story_of(stack, "moves")
        assert (running["request"]["state"], running["request"]["outcome"]) == ("running", None)
        os.kill(frozen.pid, signal.SIGCONT)
        await stream.result()
    story = await story_of(stack, "moves")
    steps = [step for step in story["transitions"] if step["kind"] != "fenced"]
    assert [step["kind"] for step in steps] == [
        *("submitted", "claimed", "first_token", "reclaimed", "claimed", "first_token", "ended")
    ]
    first, second = (step for step in steps if step["kind"] == "claimed")
    assert (first["epoch"], second["epoch"], second["attempt"]) == (1, 2, 2)
    assert first["worker"] != second["worker"] == steps[-1]["worker"]
    _, out, _ = await bitlane_cli(stack, "trace", "moves", key=ACME)
    assert "migration" in out
    assert "the lease ran out" in out


async def test_one_that_failed_everywhere_keeps_its_story(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 1, "fail_on": "engine-fails"}')
    async with bitlane.AsyncClient(stack.target, api_key=ACME, timeout=60) as client:
        with pytest.raises(bitlane.Aborted):
            await client.generate(f"engine-fails {SECRET}", model="smollm2", pin="fp8", request_id="poison")
    code, out, _ = await bitlane_cli(stack, "trace", "poison", key=ACME)
    assert code == 0
    assert "attempts exhausted, a dead letter now" in out
    assert out.count("failed: ") >= 3
    assert "none: the service failed" in out


async def test_top_tells_of_all_pools_workers_and_requests(make_stack: StackMaker) -> None:
    stack = make_stack(engine_options='{"token_ms": 100, "tokens": 900, "slots": 2}')
    async with bitlane.AsyncClient(stack.target, api_key=ACME, timeout=60) as client:
        streams = [
            client.stream(f"{SECRET} {n}", model="smollm2", pin="fp8", max_tokens=900, request_id=f"busy-{n}")
            for n in range(5)
        ]
        await asyncio.gather(*(stream.accepted() for stream in streams))
        await until_it_has_tokens(streams[0], 5)
        code, out, err = await bitlane_cli(stack, "top", "--json")
        assert (code, err) == (0, "")
        frame = json.loads(out)
        assert frame["operator"] is True
        (fp8,) = (pool for pool in frame["pools"] if pool["name"] == FP8)
        assert (fp8["workers"], fp8["slots"], fp8["running"] + fp8["waiting"]) == (1, 2, 5)
        (standard,) = (queue for queue in fp8["queues"] if queue["priority"] == "standard")
        assert standard["waiting"] == fp8["waiting"] >= 3
        assert standard["oldest_wait"] > 0
        assert fp8["tokens_per_second"] > 0
        assert {worker["pool"] for worker in frame["workers"]} == {"smollm2/fp4", FP8}
        assert {request["request_id"] for request in frame["recent"]} == {f"busy-{n}" for n in range(5)}
        code, out, err = await bitlane_cli(stack, "top", "--once")
        assert (code, err) == (0, "")
        assert "3 waiting, the oldest for " in out
        assert "busy-4" in out
        own = json.loads((await bitlane_cli(stack, "top", "--json", key=ACME))[1])
        assert (own["operator"], own["workers"], len(own["recent"])) == (False, [], 5)
        for stream in streams:
            await stream.close()
