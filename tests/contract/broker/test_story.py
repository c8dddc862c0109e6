"""What is told of a request: that it stays short, how long it is kept, and what is listed."""

import asyncio
from dataclasses import replace

import pytest

from broker import Broker
from broker.story import RequestState, TransitionKind
from broker.types import Held, Outcome, RequestNotFound, RequestRef
from tests.contract.broker.keyspace import read_keyspace
from tests.contract.broker.requests import USAGE, claim_one, finish, make_submission

REF = RequestRef("acme", "r1")


async def kinds(broker: Broker) -> list[str]:
    return [step.kind.value for step in (await broker.story(REF)).transitions]


async def test_a_migrated_request_tells_who_had_it_and_why_it_moved(broker: Broker) -> None:
    await broker.submit(make_submission())
    first = await claim_one(broker, "w1")
    await broker.append(first.lease, 0, b"one", 1)
    await broker.append(first.lease, 1, b"two", 1)
    await broker.release(first.lease, failed=True, detail="the engine broke")
    second = await claim_one(broker, "w2")
    assert await broker.append(first.lease, 2, b"zombie", 1) is Held.FENCED
    await broker.append(second.lease, 2, b"three", 1)
    await broker.attach(REF, "router-2", 0)
    await finish(broker, second, 3)
    story = await broker.story(REF)
    told = [(step.kind.value, step.who, step.epoch, step.number, step.detail) for step in story.transitions]
    assert told == [
        ("submit", "router-1", 0, 0, ""),
        ("claim", "w1", 1, 1, ""),
        ("first", "", 1, 0, ""),
        ("release", "w1", 1, 1, "the engine broke"),
        ("claim", "w2", 2, 2, ""),
        ("fence", "", 1, 0, ""),
        ("first", "", 2, 2, ""),
        ("attach", "router-2", 0, 0, ""),
        ("end", "w2", 2, 0, "stop"),
    ]
    times = [step.time_ms for step in story.transitions]
    assert times == sorted(times)
    request = story.request
    assert (request.state, request.outcome, request.usage) == (RequestState.FINISHED, Outcome.STOP, USAGE)


async def test_a_long_story_loses_its_middle_and_says_how_much(broker: Broker) -> None:
    await broker.submit(make_submission())
    for _ in range(100):
        claim = await claim_one(broker)
        await broker.release(claim.lease, failed=False)
    steps = (await broker.story(REF)).transitions
    assert len(steps) <= 64
    (dropped,) = [step for step in steps if step.kind is TransitionKind.DROPPED]
    assert steps.index(dropped) == 16
    assert len(steps) - 1 + dropped.number == 201
    assert steps[15].time_ms <= dropped.time_ms <= steps[17].time_ms
    assert steps[0].kind is TransitionKind.SUBMIT
    assert (steps[-2].kind, steps[-2].epoch) == (TransitionKind.CLAIM, 100)
    await broker.cancel(REF)
    assert await kinds(broker) == [*(step.kind.value for step in steps), "cancel", "end"]


async def test_a_story_is_kept_as_long_as_the_log_and_that_of_a_dead_letter_longer(broker: Broker) -> None:
    async with Broker(replace(broker.options, resume_window_ms=30, max_attempts=1)) as hasty:
        await hasty.submit(make_submission())
        await hasty.cancel(REF)
        await asyncio.sleep(0.06)
        with pytest.raises(RequestNotFound):
            await hasty.story(REF)
        assert await hasty.recent() == []
        await hasty.submit(make_submission())
        claim = await claim_one(hasty)
        await hasty.release(claim.lease, failed=True, detail="it broke")
        await asyncio.sleep(0.06)
        story = await hasty.story(REF)
        assert (story.request.state, story.request.cost) == (RequestState.DEAD, 0)
        assert await kinds(hasty) == ["submit", "claim", "release", "end"]
        await hasty.replay(REF)
        await hasty.cancel(REF)
        assert (await kinds(hasty))[4:] == ["replay", "cancel", "end"]


async def test_a_story_begins_with_its_request_only(broker: Broker) -> None:
    """One that was lost is not begun again by a late step: nothing would end it."""
    await broker.submit(make_submission())
    await broker._shards[0].command("DEL", "bl:{0}:story:acme/r1")  # pyright: ignore[reportPrivateUsage]
    await claim_one(broker)
    assert (await broker.story(REF)).transitions == ()
    await broker.submit(make_submission())  # joins
    assert not [name for name in (await read_keyspace(broker)).lists if name.startswith("story:")]


async def test_what_was_said_of_a_failure_is_cut(broker: Broker) -> None:
    await broker.submit(make_submission())
    claim = await claim_one(broker)
    await broker.release(claim.lease, failed=True, detail="é" * 10_000)
    detail = (await broker.story(REF)).transitions[2].detail
    assert detail.startswith("é" * 99)
    assert len(detail) <= 101


async def test_the_list_of_recent_requests_is_short_and_a_tenant_sees_its_own(broker: Broker) -> None:
    for start in range(0, 900, 100):
        names = (f"r{start + n}" for n in range(100))
        await asyncio.gather(*(broker.submit(make_submission(name)) for name in names))
    await broker.submit(make_submission("r1", "blue"))
    assert len((await read_keyspace(broker)).lists["recent"]) < 400
    recent = await broker.recent(1_000)
    assert 200 <= len(recent) < 400
    assert recent[0].ref == RequestRef("blue", "r1")
    assert [view.ref for view in await broker.recent(10, "blue")] == [RequestRef("blue", "r1")]
    assert [view.ref.request_id for view in await broker.recent(2, "acme")] == ["r899", "r898"]
