"""What each promise of a single request looks like from outside."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from broker import Broker, BrokerOptions
from broker.types import (
    Account,
    ChunkConflict,
    Held,
    IndexOutOfRange,
    LeaseEnded,
    Limits,
    Outcome,
    Priority,
    Reclaimed,
    RequestNotFound,
    RequestRef,
    SubmitStatus,
    Usage,
    WorkerInfo,
)
from deploy.local.server import LocalServer
from tests.contract.broker import invariants
from tests.contract.broker.keyspace import all_bytes, read_keyspace
from tests.contract.broker.requests import POOL, USAGE, claim_one, finish, make_submission


async def test_fifty_submits_of_one_id_are_one_request(broker: Broker) -> None:
    results = await asyncio.gather(*(broker.submit(make_submission()) for _ in range(50)))
    assert Counter(result.status for result in results) == {SubmitStatus.ACCEPTED: 1, SubmitStatus.JOINED: 49}
    assert len(await broker.claim(POOL, "w1", b"", 10)) == 1


async def test_one_id_with_another_body_is_a_conflict_of_its_tenant_only(broker: Broker) -> None:
    await broker.submit(make_submission())
    assert (await broker.submit(make_submission(digest="other"))).status is SubmitStatus.CONFLICT
    assert (await broker.submit(make_submission(tenant="blue", digest="other"))).status is SubmitStatus.ACCEPTED


async def test_a_full_queue_refuses_without_a_trace(broker: Broker) -> None:
    assert (
        await broker.submit(make_submission("a", accounts=(Account("", "", Limits(queued_requests=1)),)))
    ).status is SubmitStatus.ACCEPTED
    before = await read_keyspace(broker)
    result = await broker.submit(make_submission("b", accounts=(Account("", "", Limits(queued_requests=1)),)))
    assert (result.status, result.waiting) == (SubmitStatus.OVER_LIMIT, 1)
    assert await read_keyspace(broker) == before


async def test_an_append_repeated_after_a_lost_reply_is_written_once(broker: Broker) -> None:
    await broker.submit(make_submission())
    claim = await claim_one(broker)
    for _ in range(2):
        assert await broker.append(claim.lease, 0, b"one", 3) is Held.YES
    log = await broker.read_log(claim.lease.ref, 0)
    assert log.chunks == (b"one",)
    assert (await broker.cancel(claim.lease.ref)).usage.output_tokens == 3


async def test_an_append_that_lost_count_is_an_error(broker: Broker) -> None:
    await broker.submit(make_submission())
    claim = await claim_one(broker)
    with pytest.raises(IndexOutOfRange):
        await broker.append(claim.lease, 1, b"two", 1)
    await broker.append(claim.lease, 0, b"one", 1)
    with pytest.raises(ChunkConflict):
        await broker.append(claim.lease, 0, b"other", 1)
    with pytest.raises(ChunkConflict):
        await broker.finish(claim.lease, 0, None, 0, Outcome.STOP, "", USAGE)


async def test_a_repeated_finish_is_answered_as_the_first(broker: Broker) -> None:
    await broker.submit(make_submission())
    claim = await claim_one(broker)
    for _ in range(2):
        held = await broker.finish(claim.lease, 0, b"last", 1, Outcome.LENGTH, "", USAGE)
        assert held is Held.YES
    log = await broker.read_log(claim.lease.ref, 0)
    assert log.chunks == (b"last",)
    assert log.ending is not None
    assert log.ending.outcome is Outcome.LENGTH
    assert log.ending.usage == USAGE


async def test_a_last_chunk_is_the_last(broker: Broker) -> None:
    await broker.submit(make_submission())
    claim = await claim_one(broker)
    for index in range(3):
        await broker.append(claim.lease, index, b"%d" % index, 1)
    with pytest.raises(ChunkConflict):
        await broker.finish(claim.lease, 0, b"0", 1, Outcome.STOP, "", USAGE)
    assert await broker.finish(claim.lease, 2, b"2", 1, Outcome.STOP, "", USAGE) is Held.YES
    assert (await broker.read_log(claim.lease.ref, 0)).chunks == (b"0", b"1", b"2")


async def test_a_zombie_is_refused_after_its_lease_was_reclaimed(shared_server: LocalServer, broker: Broker) -> None:
    async with Broker(replace(broker.options, lease_ms=30)) as hasty:
        await hasty.submit(make_submission())
        zombie = await claim_one(hasty, "w1")
        await hasty.append(zombie.lease, 0, b"one", 1)
        async with hasty.endings("w1") as endings:
            await asyncio.sleep(0.05)
            assert await hasty.reclaim(POOL) == [Reclaimed(zombie.lease.ref, "w1", 1, None)]
            assert await anext(endings) == LeaseEnded(zombie.lease.ref, 1)
        second = await claim_one(hasty, "w2")
        assert (second.attempt, second.chunks) == (2, (b"one",))
        assert await hasty.append(zombie.lease, 1, b"zombie", 1) is Held.FENCED
        assert await hasty.renew(zombie.lease) is Held.FENCED
        assert await hasty.release(zombie.lease, failed=True) is Held.FENCED
        assert await hasty.finish(zombie.lease, 1, b"zombie", 1, Outcome.STOP, "", USAGE) is Held.FENCED
        assert await hasty.append(second.lease, 1, b"two", 1) is Held.YES
        assert (await hasty.read_log(second.lease.ref, 0)).chunks == (b"one", b"two")


async def test_renewal_keeps_a_lease(broker: Broker) -> None:
    async with Broker(replace(broker.options, lease_ms=150)) as hasty:
        await hasty.submit(make_submission())
        claim = await claim_one(hasty)
        for _ in range(4):
            await asyncio.sleep(0.06)
            assert await hasty.renew(claim.lease) is Held.YES
            assert await hasty.reclaim(POOL) == []


async def test_cancel_while_waiting_never_starts(broker: Broker) -> None:
    await broker.submit(make_submission())
    ending = await broker.cancel(RequestRef("acme", "r1"))
    assert (ending.outcome, ending.usage, ending.claimed_ms) == (Outcome.CANCELLED, Usage(0, 0, 0), None)
    assert await broker.claim(POOL, "w1", b"", 1) == []


async def test_cancel_while_running_fences_and_tells_the_worker(broker: Broker) -> None:
    await broker.submit(make_submission())
    claim = await claim_one(broker)
    await broker.append(claim.lease, 0, b"one", 2, prompt_tokens=11, cached_prompt_tokens=4)
    async with broker.endings("w1") as endings:
        ending = await broker.cancel(claim.lease.ref)
        assert await anext(endings) == LeaseEnded(claim.lease.ref, claim.lease.epoch)
    assert ending.usage == Usage(11, 4, 2)
    assert await broker.append(claim.lease, 1, b"two", 1) is Held.ENDED
    assert (await broker.pools([POOL]))[0].running == 0


async def test_cancel_after_the_end_reports_the_old_ending(broker: Broker) -> None:
    await broker.submit(make_submission())
    claim = await claim_one(broker)
    await finish(broker, claim)
    assert (await broker.cancel(claim.lease.ref)).outcome is Outcome.STOP
    with pytest.raises(RequestNotFound):
        await broker.cancel(RequestRef("acme", "nobody"))
    with pytest.raises(RequestNotFound):
        await broker.attach(RequestRef("blue", "r1"), "router-1", 0)


async def test_the_last_router_to_leave_cancels(broker: Broker) -> None:
    async with broker.inbox("router-1"), broker.inbox("router-2"):
        ref = RequestRef("acme", "r1")
        await broker.submit(make_submission())
        await broker.attach(ref, "router-2", 0)
        assert await broker.abandon(ref, "router-1") is None
        ending = await broker.abandon(ref, "router-2")
        assert ending is not None
        assert ending.outcome is Outcome.CANCELLED


async def test_a_deadline_ends_a_running_request_at_the_next_write(broker: Broker) -> None:
    await broker.submit(make_submission(timeout_ms=40))
    claim = await claim_one(broker)
    assert claim.remaining_ms is not None
    assert 0 < claim.remaining_ms <= 40
    await asyncio.sleep(0.05)
    assert await broker.append(claim.lease, 0, b"late", 1) is Held.ENDED
    log = await broker.read_log(claim.lease.ref, 0)
    assert log.chunks == ()
    assert log.ending is not None
    assert log.ending.outcome is Outcome.DEADLINE


async def test_a_deadline_passed_in_the_queue_never_starts(broker: Broker) -> None:
    await broker.submit(make_submission(timeout_ms=1))
    await asyncio.sleep(0.01)
    assert await broker.claim(POOL, "w1", b"", 1) == []
    ending = (await broker.read_log(RequestRef("acme", "r1"), 0)).ending
    assert ending is not None
    assert ending.outcome is Outcome.DEADLINE


async def test_poison_is_dead_after_three_attempts(broker: Broker) -> None:
    await broker.submit(make_submission(job=b"poison"))
    for attempt in (1, 2, 3):
        claim = await claim_one(broker)
        assert claim.attempt == attempt
        assert await broker.release(claim.lease, failed=True, detail="the engine died") is Held.YES
    assert await broker.claim(POOL, "w1", b"", 1) == []
    (letter,) = (await broker.dead_letters()).items
    assert (letter.ref, letter.attempts, letter.detail) == (RequestRef("acme", "r1"), 3, "the engine died")
    ((_, stored),) = (await read_keyspace(broker)).streams["dead"]
    assert not any(b"poison" in value for value in stored)


async def test_a_dead_letter_can_be_replayed_and_purged(broker: Broker) -> None:
    ref = RequestRef("acme", "r1")
    await broker.submit(make_submission(job=b"the secret prompt", timeout_ms=60_000))
    for _ in range(3):
        claim = await claim_one(broker)
        await broker.release(claim.lease, failed=True)
    assert await broker.replay(ref)
    assert not await broker.replay(ref)
    assert (await broker.dead_letters()).items == ()
    invariants.check(await read_keyspace(broker))
    for attempt in (1, 2, 3):
        claim = await claim_one(broker)
        assert (claim.attempt, claim.job, claim.remaining_ms) == (attempt, b"the secret prompt", None)
        assert claim.lease.epoch == 3 + attempt
        await broker.release(claim.lease, failed=True)
    assert await broker.purge(ref)
    assert not await broker.purge(ref)
    assert b"secret" not in await all_bytes(broker)
    assert (await broker.dead_letters()).items == ()


async def test_a_graceful_release_does_not_count(broker: Broker) -> None:
    await broker.submit(make_submission())
    for _ in range(5):
        claim = await claim_one(broker)
        assert claim.attempt == 1
        await broker.release(claim.lease, failed=False)


async def test_what_came_back_goes_first(broker: Broker) -> None:
    for request_id in ("first", "second"):
        await broker.submit(make_submission(request_id))
    claim = await claim_one(broker)
    await broker.release(claim.lease, failed=True)
    assert (await claim_one(broker)).lease.ref.request_id == "first"


async def test_what_cannot_migrate_ends_after_its_first_chunk(broker: Broker) -> None:
    await broker.submit(make_submission(migratable=False))
    claim = await claim_one(broker)
    await broker.release(claim.lease, failed=True)
    claim = await claim_one(broker)
    await broker.append(claim.lease, 0, b"one", 1)
    await broker.release(claim.lease, failed=False)
    ending = (await broker.read_log(claim.lease.ref, 0)).ending
    assert ending is not None
    assert ending.outcome is Outcome.NOT_MIGRATABLE


async def test_attach_reads_from_an_index_and_not_beyond_the_end(broker: Broker) -> None:
    await broker.submit(make_submission())
    claim = await claim_one(broker)
    for index in range(3):
        await broker.append(claim.lease, index, b"%d" % index, 1)
    attachment = await broker.attach(claim.lease.ref, "router-2", 1)
    assert (attachment.decision, attachment.chunks, attachment.next_index) == (b"decision", (b"1", b"2"), 3)
    assert (await broker.attach(claim.lease.ref, "router-2", 3)).chunks == ()
    with pytest.raises(IndexOutOfRange) as error:
        await broker.attach(claim.lease.ref, "router-2", 4)
    assert (error.value.asked, error.value.next_index) == (4, 3)


async def test_owners_stay_few(broker: Broker) -> None:
    await broker.submit(make_submission())
    for number in range(30):
        await broker.attach(RequestRef("acme", "r1"), f"router-{number}", 0)
    owners = (await read_keyspace(broker)).hashes["req:acme/r1"]["owners"].split()
    assert len(owners) == 8
    assert owners[-1] == b"router-29"


async def test_no_prompt_byte_is_left_after_the_end(broker: Broker) -> None:
    await broker.submit(make_submission("done", job=b"the secret prompt"))
    await broker.submit(make_submission("dropped", job=b"the secret prompt"))
    claim = await claim_one(broker)
    assert b"secret" in await all_bytes(broker)
    await finish(broker, claim)
    await broker.cancel(RequestRef("acme", "dropped"))
    assert b"secret" not in await all_bytes(broker)


async def test_everything_of_a_request_expires_after_the_resume_window(broker: Broker) -> None:
    async with Broker(replace(broker.options, resume_window_ms=30)) as hasty:
        await hasty.submit(make_submission())
        claim = await claim_one(hasty)
        await finish(hasty, claim, 0, b"last")
        assert (await hasty.read_log(claim.lease.ref, 0)).chunks == (b"last",)
        await asyncio.sleep(0.06)
        with pytest.raises(RequestNotFound):
            await hasty.read_log(claim.lease.ref, 0)
        assert await hasty.append(claim.lease, 1, b"late", 1) is Held.FENCED
        space = await read_keyspace(hasty)
        assert set(space.lists) <= {"recent"}
        assert await hasty.recent() == []
        left = {name for name in space.hashes if not name.startswith("usage:")}
        assert left == {"tenant:acme", f"pool:{POOL}"}


async def test_a_request_that_was_lost_stops_nobody(broker: Broker) -> None:
    """Its hash deleted by hand or by eviction, once in the queue and once under a lease."""
    async with Broker(replace(broker.options, lease_ms=20)) as hasty:
        for name in ("lost-1", "kept-1", "lost-2", "kept-2"):
            await hasty.submit(make_submission(name))
        await hasty._shards[0].command("DEL", "bl:{0}:req:acme/lost-1")  # pyright: ignore[reportPrivateUsage]
        claims = await hasty.claim(POOL, "w1", b"", 2)
        assert [claim.lease.ref.request_id for claim in claims] == ["kept-1", "lost-2"]
        await hasty._shards[0].command("DEL", "bl:{0}:req:acme/lost-2")  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0.04)
        assert [entry.ref.request_id for entry in await hasty.reclaim(POOL)] == ["kept-1"]
        (state,) = await hasty.pools([POOL])
        assert (state.waiting, state.running) == (2, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("weight", 0.0), ("weight", float("nan")), ("timeout_ms", 0), ("prompt_tokens", -1), ("output_tokens", -1)],
)
async def test_numbers_that_would_break_the_books_are_refused(broker: Broker, field: str, value: float) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=field):
        await broker.submit(make_submission(**changes))


async def test_the_bell_wakes_one_worker_for_each_piece_of_work(broker: Broker) -> None:
    assert not await broker.wait_for_work(POOL, 0.02)
    waiting = [asyncio.create_task(broker.wait_for_work(POOL, 5)) for _ in range(3)]
    await asyncio.sleep(0.1)
    await broker.submit(make_submission("a"))
    await broker.submit(make_submission("b"))
    done, _ = await asyncio.wait(waiting, timeout=0.3)
    assert len(done) == 2
    # The first claim leaves work behind and rings for the third; the last claim stills the bell.
    await claim_one(broker)
    assert await waiting[0]
    assert await waiting[2]
    await claim_one(broker)
    assert not await broker.wait_for_work(POOL, 0.02)


async def test_the_registry_forgets_the_silent(shared_server: LocalServer, broker: Broker) -> None:
    loud = WorkerInfo("loud", POOL, b"\x00profile\n", 4, 2, draining=True, context_tokens=2048)
    async with Broker(BrokerOptions(url=shared_server.url, worker_ttl_ms=80)) as hasty:
        await hasty.register(loud)
        await hasty.register(replace(loud, worker="silent"))
        assert {info.worker for info in (await hasty.pools([POOL]))[0].workers} == {"loud", "silent"}
        await asyncio.sleep(0.05)
        await hasty.register(loud)
        await asyncio.sleep(0.05)
        await hasty.submit(make_submission("a"))
        await hasty.submit(make_submission("b"))
        await claim_one(hasty)
        state, empty = await hasty.pools([POOL, "smollm2/fp8"])
        assert (state.workers, state.waiting, state.running) == ((loud,), 1, 1)
        assert (empty.workers, empty.waiting, empty.running) == ((), 0, 0)
        await hasty.unregister(POOL, "loud")
        assert (await hasty.pools([POOL]))[0].workers == ()


async def test_a_pool_tells_what_waits_by_priority_and_for_how_long(broker: Broker) -> None:
    await broker.submit(make_submission("a", priority=Priority.BATCH))
    await asyncio.sleep(0.02)
    for n in range(3):
        await broker.submit(make_submission(f"b{n}", tenant=f"tenant-{n}"))
    (state,) = await broker.pools([POOL])
    assert state.waiting == 4
    assert state.waiting_by_priority == {Priority.INTERACTIVE: 0, Priority.STANDARD: 3, Priority.BATCH: 1}
    oldest = state.oldest_ms_by_priority
    assert oldest[Priority.BATCH] >= 20 + oldest[Priority.STANDARD] - 1
    assert oldest[Priority.INTERACTIVE] == 0


@pytest.mark.parametrize("bad", ["", "a:b", "a b", "a/b", "{x}", "a*", "ä", "a\n", "x" * 257])
async def test_a_name_that_would_break_a_key_is_refused(broker: Broker, bad: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a key"):
        await broker.submit(make_submission(request_id=bad))
    with pytest.raises(ValueError, match="cannot be part of a key"):
        await broker.submit(make_submission(tenant=bad))
    with pytest.raises(ValueError, match="cannot be part of a key"):
        await broker.submit(make_submission(router=bad))
    with pytest.raises(ValueError, match="cannot be part of a key"):
        await broker.claim(f"{bad}/fp4/x", "w1", b"", 1)
