"""Drives every transition of a real server and of the model with the same steps, and demands the same answers."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker import Broker, BrokerOptions, keys, replies, story
from broker.scripts import load_scripts
from broker.types import (
    Account,
    Attachment,
    ChunkConflict,
    EndEvent,
    Ending,
    Held,
    IndexOutOfRange,
    Lease,
    Limits,
    Outcome,
    Price,
    Priority,
    RequestNotFound,
    RequestRef,
    Submission,
    Usage,
)
from tests.contract.broker import invariants, model
from tests.contract.broker.clock import FROZEN_CLOCK, Clock
from tests.contract.broker.keyspace import Keyspace, read_keyspace
from tests.contract.broker.ledger import cost_of

T = TypeVar("T")

TENANTS = ("acme", "blue", "coda")
POOLS = ("m/fp4", "m/fp8")
WORKERS = ("w1", "w2", "w3")
ROUTERS = ("r1", "r2", "nobody")  # the last never opens an inbox: as good as dead
IDS = tuple(f"id{n}" for n in range(12))
OUTCOMES = (Outcome.STOP, Outcome.LENGTH, Outcome.REJECTED)

tenants = st.sampled_from(TENANTS)
pools = st.sampled_from(POOLS)
picks = st.integers(0, 10_000)
tokens = st.integers(0, 40)
# Few bounds, and one at a time: one that refuses is enough, and what is refused tests nothing else.
BOUNDS = (
    *(Limits(requests_per_minute=bound) for bound in (1, 2, 60)),
    *(Limits(tokens_per_minute=bound) for bound in (60, 200, 1_000)),
    *(Limits(concurrent_requests=bound) for bound in (0, 1, 3)),
    *(Limits(queued_requests=bound) for bound in (0, 1, 3)),
    *(Limits(day_budget=bound) for bound in (200, 1_000, 5_000)),
    *(Limits(month_budget=bound) for bound in (200, 1_000, 5_000)),
    Limits(60, 1_000, 10, 10, 10_000, 20_000),
)
limits = st.one_of(*[st.just(Limits())] * 6, st.sampled_from(BOUNDS))
own_account = limits.map(lambda bounds: Account("", "", bounds))
further_accounts = st.sets(st.sampled_from((("ci", ""), ("", "m"), ("ci", "m"), ("web", ""))), max_size=3).flatmap(
    lambda names: st.tuples(*(st.builds(Account, st.just(key), st.just(model), limits) for key, model in sorted(names)))
)
prices = st.sampled_from((Price(), Price(3, 1, 5), Price(10, 10, 40)))


class BrokerMachine(RuleBasedStateMachine):
    """`url` and `count`, of the rules that did something, are set on a subclass."""

    url: str
    count: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        options = BrokerOptions(
            url=self.url,
            timeout_s=10,
            lease_ms=model.LEASE_MS,
            max_attempts=model.MAX_ATTEMPTS,
            batch_turn=model.BATCH_TURN,
        )
        self.broker = Broker(options, load_scripts(options, {"clock": FROZEN_CLOCK}))
        self.model = model.Model()
        self.clock = Clock(self.broker)  # stands still between steps
        self.leases: list[Lease] = []
        self.replayed = set[str]()
        self.run(self.command("FLUSHALL"))
        self.set_clock()

    @initialize()
    def open_inboxes(self) -> None:
        for router in ROUTERS[:2]:
            self.run(self.run_script("inbox", keys.inbox(0, router), -1, 60_000))
            self.model.inboxes[router] = []

    def teardown(self) -> None:
        self.run(self.broker.close())
        self.loop.close()

    # Rules.

    @rule(
        tenant=tenants,
        first=st.integers(0, len(IDS) - 1),
        times=st.sampled_from((1, 1, 1, 2, 4)),
        pool=pools,
        priority=st.sampled_from(Priority),
        weight=st.sampled_from((0.5, 1.0, 4.0)),
        router=st.sampled_from(ROUTERS),
        timeout_ms=st.sampled_from((None, None, None, 2_000, 6_000, 20_000)),
        migratable=st.sampled_from((True, True, True, False)),
        digest=st.sampled_from("aaaab"),
        prompt=tokens,
        output=tokens,
        key=st.sampled_from(("", "ci", "web")),
        task=st.sampled_from(("chat", "code")),
        price=prices,
        fp8_price=prices,
        own=own_account,
        further=further_accounts,
        pool_max_waiting=st.sampled_from((None,) * 8 + (0, 2)),
    )
    def submit(
        self,
        tenant: str,
        first: int,
        times: int,
        pool: str,
        priority: Priority,
        weight: float,
        router: str,
        timeout_ms: int | None,
        migratable: bool,
        digest: str,
        prompt: int,
        output: int,
        key: str,
        task: str,
        price: Price,
        fp8_price: Price,
        own: Account,
        further: tuple[Account, ...],
        pool_max_waiting: int | None,
    ) -> None:
        submission = Submission(
            RequestRef(tenant, IDS[first]),
            pool,
            digest,
            job=b"job",
            decision=b"decision",
            router=router,
            timeout_ms=timeout_ms,
            prompt_tokens=prompt,
            output_tokens=output,
            priority=priority,
            weight=weight,
            migratable=migratable,
            key=key,
            task=task,
            price=price,
            fp8_price=fp8_price,
            accounts=(own, *further),
            pool_max_waiting=pool_max_waiting,
        )
        for n in range(first, first + times):
            self.submit_one(replace(submission, ref=RequestRef(tenant, IDS[n % len(IDS)]), job=b"job of %d" % n))

    def submit_one(self, submission: Submission) -> None:
        result = self.run(self.broker.submit(submission))
        assert result == self.model.submit(submission)
        why = f": {result.over.limit.value}" if result.over else ""
        self.count[f"submit: {result.status.value}{why}"] += 1

    # Mostly where work waits: most random claims would find nothing, and so would most reclaims.
    @precondition(lambda self: self.in_state("waiting"))
    @rule(
        pick=picks,
        worker=st.sampled_from(WORKERS),
        limit=st.integers(1, 6),
        avoid_ms=st.sampled_from((0, 200, 60_000, 60_000)),
    )
    def claim(self, pick: int, worker: str, limit: int, avoid_ms: int) -> None:
        pool = self.pool("waiting", pick)
        claims = self.run(self.broker.claim(pool, worker, worker.encode(), limit, avoid_ms))
        expected = self.model.claim(pool, worker, limit, avoid_ms)
        assert [claim.lease for claim in claims] == [
            Lease(request.ref, pool, worker, request.epoch) for request in expected
        ]
        for claim, request in zip(claims, expected, strict=True):
            assert claim.job == request.submission.job
            assert claim.attempt == request.attempts
            assert list(claim.chunks) == request.chunks
            timeout = request.timeout_ms
            left = None if timeout is None else request.submitted_ms + timeout - self.model.now
            assert claim.remaining_ms == left
            assert claim.waited_ms == request.waited_ms
            assert claim.failures == request.failures
            self.leases.append(claim.lease)
        self.count[f"claim: {len(claims)}"] += 1

    @precondition(lambda self: self.leases)
    @rule(
        pick=picks,
        offset=st.sampled_from((0, 0, 0, 0, 0, 0, -1, 1)),
        count=tokens,
        prompt=st.sampled_from((0, 17)),
        other_bytes=st.sampled_from((False, False, False, True)),
        times=st.integers(1, 4),
        resend=st.booleans(),
    )
    def append(
        self, pick: int, offset: int, count: int, prompt: int, other_bytes: bool, times: int, resend: bool
    ) -> None:
        lease, index = self.lease(pick, -1 if other_bytes else offset)
        for chunk_index in range(index, index + times):
            self.append_one(lease, chunk_index, self.chunk(chunk_index, count, other_bytes), count, prompt)
        if resend:  # as after a lost reply
            last = index + times - 1
            self.append_one(lease, last, self.chunk(last, count, other_bytes), count, prompt)

    def append_one(self, lease: Lease, index: int, chunk: bytes, count: int, prompt: int) -> None:
        answer = self.run(self.written(self.broker.append(lease, index, chunk, count, prompt, prompt // 2)))
        assert answer == self.model.append(lease.ref, lease.epoch, index, chunk, count, prompt, prompt // 2)
        self.count[f"append: {answer if isinstance(answer, str) else answer.value}"] += 1

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        lease, _ = self.lease(pick)
        held = self.run(self.broker.renew(lease))
        assert held is self.model.renew(lease.ref, lease.epoch)
        self.count[f"renew: {held.value}"] += 1

    @precondition(lambda self: self.leases)
    @rule(
        pick=picks,
        offset=st.sampled_from((0, 0, 0, -1, -2, 1)),
        count=tokens,
        with_chunk=st.booleans(),
        outcome=st.sampled_from(OUTCOMES),
        prompt=tokens,
        output=tokens,
    )
    def finish(
        self, pick: int, offset: int, count: int, with_chunk: bool, outcome: Outcome, prompt: int, output: int
    ) -> None:
        lease, index = self.lease(pick, offset)
        chunk = self.chunk(index, count) if with_chunk else None
        usage = Usage(prompt, 0, output)
        answer = self.run(self.written(self.broker.finish(lease, index, chunk, count, outcome, "by the worker", usage)))
        assert answer == self.model.finish(lease.ref, lease.epoch, index, chunk, count, outcome, usage)
        self.count[f"finish: {answer if isinstance(answer, str) else answer.value}"] += 1

    @precondition(lambda self: self.in_state("waiting"))
    @rule(pick=picks, times=st.integers(1, 4), ms=st.sampled_from((100, 2_000)))
    def serve(self, pick: int, times: int, ms: int) -> None:
        """One after the other, as by a worker with one slot: only so a rate is measured; then one that may be late."""
        for _ in range(times):
            before = len(self.leases)
            self.claim(pick, "w1", 1, 0)
            self.pass_time(ms)
            if len(self.leases) > before:
                self.finish(-1, 0, 1, True, Outcome.STOP, 3, 5)
        for request in self.in_state("waiting")[-1:]:
            ref = RequestRef(request.ref.tenant, f"late-{len(self.model.requests)}")
            self.submit_one(replace(request.submission, ref=ref, timeout_ms=ms))

    @precondition(lambda self: self.leases)
    @rule(pick=picks, failed=st.booleans(), shared=st.booleans())
    def release(self, pick: int, failed: bool, shared: bool) -> None:
        lease, _ = self.lease(pick)
        held = self.run(self.broker.release(lease, failed, "it broke", shared=shared))
        assert held is self.model.release(lease.ref, lease.epoch, failed, "it broke", shared)
        state = self.model.requests[lease.ref].state
        self.count[f"release: {state if held is Held.YES else held.value}"] += 1

    @precondition(lambda self: self.in_state("running"))
    @rule(pick=picks, late_ms=st.sampled_from((-1, 0, 0, 0, 20_000)))
    def reclaim(self, pick: int, late_ms: int) -> None:
        """Once the oldest lease has run out, or just not yet."""
        pool = self.pool("running", pick)
        oldest = min(r.lease_end for r in self.in_state("running") if r.submission.pool == pool)
        self.pass_time(max(0, oldest + late_ms - self.model.now))
        reclaimed = self.run(self.broker.reclaim(pool))
        assert reclaimed == self.model.reclaim(pool)
        for entry in reclaimed:
            self.count[f"reclaim: {entry.outcome.value if entry.outcome else 'waits again'}"] += 1

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        ref = self.ref(pick)
        before = self.model.requests[ref].state if ref in self.model.requests else "unknown"
        expected = self.model.cancel(ref)
        try:
            self.compare_ending(self.run(self.broker.cancel(ref)), expected)
        except RequestNotFound:
            assert expected is None
        self.count[f"cancel: {before}"] += 1

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, router=st.sampled_from(ROUTERS))
    def abandon(self, pick: int, router: str) -> None:
        ref = self.ref(pick)
        ending = self.run(self.broker.abandon(ref, router))
        self.compare_ending(ending, self.model.abandon(ref, router))
        self.count[f"abandon: {'ended' if ending else 'goes on or unknown'}"] += 1

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, router=st.sampled_from((*ROUTERS, "")), index=st.sampled_from((0, 0, 1, 2, 5)))
    def attach(self, pick: int, router: str, index: int) -> None:
        ref = self.ref(pick)
        reading = self.broker.attach(ref, router, index) if router else self.broker.read_log(ref, index)
        known = self.model.requests.get(ref)
        self.show_request(ref)
        try:
            attachment = self.run(reading)
        except RequestNotFound:
            assert known is None
            return
        except IndexOutOfRange:
            assert known is not None
            assert index > len(known.chunks)
            return
        request = self.model.attach(ref, router) if router else known
        assert request is not None
        self.compare_attachment(attachment, request, index)
        self.count[f"attach: {request.state}"] += 1

    @precondition(lambda self: self.in_state("waiting") or self.in_state("running"))
    @rule(ms=st.sampled_from((1, 500, 2_000, 2_000, model.LEASE_MS - 1, model.LEASE_MS, 20_000, 90_000)))
    def pass_time(self, ms: int) -> None:
        self.model.now += ms
        self.set_clock()
        self.show_pool(POOLS[ms % 2])
        self.count["time passes"] += 1

    @precondition(lambda self: self.model.dead)
    @rule(pick=picks, how=st.sampled_from(("replay", "replay", "purge")))
    def settle_letter(self, pick: int, how: str) -> None:
        ref = self.model.dead[pick % len(self.model.dead)]
        settling = self.broker.replay(ref) if how == "replay" else self.broker.purge(ref)
        self.replayed.add(keys.member(ref))
        assert self.run(settling) == self.model.settle_letter(ref, how)
        self.leases = [lease for lease in self.leases if lease.ref in self.model.requests]
        self.count[f"dead letter: {how}"] += 1

    # At most one: with both gone, nobody would be left to listen.
    @precondition(lambda self: len(self.model.inboxes) == 2 and len(self.leases) > 6)
    @rule()
    def router_dies(self) -> None:
        router = max(self.model.inboxes)
        del self.model.inboxes[router]
        self.run(self.command("DEL", keys.inbox(0, router)))
        self.count["router dies"] += 1

    # After every step.

    @invariant()
    def keys_agree(self) -> None:
        space = self.run(read_keyspace(self.broker))
        invariants.check(space, self.replayed)
        self.compare_requests(space)
        self.compare_virtual_times(space)
        self.compare_accounts(space)
        self.compare_rates(space)
        assert space.lists.get("recent", []) == [keys.member(ref).encode() for ref in self.model.recent]
        inboxes = {name.removeprefix("in:"): entries for name, entries in space.streams.items() if name != "dead"}
        assert inboxes.keys() == self.model.inboxes.keys(), "an expired inbox was made again"
        for router, expected in self.model.inboxes.items():
            assert [entry_id for entry_id, _ in inboxes[router]] == [
                b"0-%d" % (n + 1) for n in range(len(expected) + 1)
            ]
            events = [replies.inbox_event(fields) for _, fields in inboxes[router][1:]]
            assert expected == [
                (event.ref, event.ending.outcome if isinstance(event, EndEvent) else event.index)
                for event in events
                if event
            ]
        for worker, told in self.model.told.items():
            endings = [replies.lease_ended(entry) for entry in space.lists[f"ctl:{worker}"]]
            assert [(ending.epoch, ending.ref) for ending in endings] == told
        assert [fields[1].decode() for _, fields in space.streams.get("dead", [])] == [
            keys.member(ref) for ref in self.model.dead
        ]

    # What the steps share. To look is no rule of its own: it would take steps from those that change something.

    def show_request(self, ref: RequestRef) -> None:
        known = self.model.requests.get(ref)
        try:
            self.compare_view(self.run(self.broker.story(ref)).request)
        except RequestNotFound:
            assert known is None
        recent = list(dict.fromkeys(known for known in self.model.recent if known in self.model.requests))
        assert [view.ref for view in self.run(self.broker.recent(1_000))] == recent
        own = [view.ref for view in self.run(self.broker.recent(3, ref.tenant))]
        assert own == [known for known in recent if known.tenant == ref.tenant][:3]

    def show_pool(self, pool: str) -> None:
        (state,) = self.run(self.broker.pools([pool]))
        for priority in Priority:
            waiting = [r for r in self.model.waiting(pool) if r.submission.priority is priority]
            assert state.waiting_by_priority[priority] == len(waiting)
            oldest = max((self.model.now - request.queued_ms for request in waiting), default=0)
            assert state.oldest_ms_by_priority[priority] == oldest

    def compare_requests(self, space: Keyspace) -> None:
        stored = space.named("req:")
        assert stored.keys() == {keys.member(ref) for ref in self.model.requests}
        for ref, request in self.model.requests.items():
            fields = stored[keys.member(ref)]
            assert fields["state"].decode() == request.state
            assert int(fields["epoch"]) == request.epoch
            assert int(fields["attempts"]) == request.attempts
            assert fields["owners"].decode().split() == request.owners
            assert space.lists.get(f"log:{keys.member(ref)}", []) == request.chunks
            told = [story.transition(entry) for entry in space.lists[f"story:{keys.member(ref)}"]]
            if len(told) == len(request.story):
                assert told == request.story
            else:  # the middle has been taken out
                assert told[:16] == request.story[:16]
                assert told[-32:] == request.story[-32:]
            if request.state == "running":
                lease_end = space.sorted_sets[f"lease:{request.submission.pool}"][keys.member(ref)]
                assert lease_end == request.lease_end

    def compare_view(self, view: story.RequestView) -> None:
        request = self.model.requests[view.ref]
        submission, usage = request.submission, request.usage
        assert (view.state.value, view.outcome, view.pool) == (request.state, request.outcome, submission.pool)
        assert (view.decision, view.key, view.priority) == (b"decision", submission.key, submission.priority)
        assert (view.epoch, view.attempts, view.worker) == (request.epoch, request.attempts, request.worker)
        assert (view.submitted_ms, view.queued_ms) == (request.submitted_ms, request.queued_ms)
        assert (view.claimed_ms, view.first_chunk_ms) == (request.claimed_ms, request.first_chunk_ms)
        assert (view.ended_ms is not None) == request.ended
        if usage is None:
            usage = Usage(request.engine_prompt, request.engine_cached, request.logged_tokens)
        assert view.usage == usage
        failed = request.outcome in {Outcome.NOT_MIGRATABLE, Outcome.ATTEMPTS_EXHAUSTED}
        assert view.cost == (0 if failed else cost_of(submission.price, usage))
        assert view.fp8_cost == (0 if failed else cost_of(submission.fp8_price, usage))

    def compare_virtual_times(self, space: Keyspace) -> None:
        for (tenant, pool, batch), time in self.model.virtual.items():
            field = f"{'bv' if batch else 'v'}:{pool}"
            assert float(space.hashes.get(f"tenant:{tenant}", {}).get(field, b"0")) == time

    def compare_accounts(self, space: Keyspace) -> None:
        """Buckets, what is spent, and usage; what is held of each account is among the invariants."""
        ledger = self.model.ledger
        names = list(space.accounts())
        looks = [self.broker.account(*name, Limits(requests_per_minute=7, tokens_per_minute=100)) for name in names]
        states = dict(zip(names, self.run(gathered(looks)), strict=True))
        for name, book in space.accounts().items():
            for field, levels in (("requests", ledger.requests), ("tokens", ledger.tokens)):
                level, since = levels.get(name, (0, 0))
                assert int(book.get(f"{field}_level", b"0")) == level * 60_000
                assert int(book.get(f"{field}_ms", b"0")) == since
            day, month = ledger.spent(name, self.model.now)
            state = states[name]
            assert (state.day_spent, state.month_spent) == (day, month)
            assert state.requests_used == float(ledger.level(ledger.requests, name, 7, self.model.now))
            assert state.tokens_used == float(ledger.level(ledger.tokens, name, 100, self.model.now))
        stored = {
            name: {field: int(amount) for field, amount in fields.items()}
            for name, fields in space.named("usage:").items()
        }
        assert stored == ledger.usage()

    def compare_rates(self, space: Keyspace) -> None:
        for pool, rate in self.model.rates.items():
            stored = space.hashes[f"pool:{pool}"]
            assert (float(stored["rate"]) if "rate" in stored else None) == rate.per_s
            assert float(stored.get("used_rate", b"0")) == rate.used_per_s
            assert float(stored.get("run_ms", b"0")) == rate.run_ms
            assert float(stored.get("run_tokens", b"0")) == rate.run_tokens

    def compare_attachment(self, attachment: Attachment, request: model.Request, index: int) -> None:
        assert attachment.decision == request.submission.decision
        assert list(attachment.chunks) == request.chunks[index:]
        assert attachment.next_index == len(request.chunks)
        assert (attachment.ending is not None) == request.ended
        self.compare_ending(attachment.ending, request if request.ended else None)

    def compare_ending(self, ending: Ending | None, request: model.Request | None) -> None:
        assert (ending is None) == (request is None)
        if ending is None or request is None:
            return
        assert request.outcome is not None
        assert request.usage is not None
        assert ending == Ending(
            outcome=request.outcome,
            detail=request.detail,
            usage=request.usage,
            attempts=request.attempts,
            profile=request.worker.encode(),
            submitted_ms=request.submitted_ms,
            claimed_ms=request.claimed_ms,
            first_chunk_ms=request.first_chunk_ms,
            ended_ms=request.ended_ms,
            next_index=len(request.chunks),
        )

    def lease(self, pick: int, offset: int = 0) -> tuple[Lease, int]:
        """A lease, the newest for a pick of -1, else a live or recent one; and an index near its log's end."""
        live = [
            lease
            for lease in self.leases
            if (request := self.model.requests[lease.ref]).state == "running" and request.epoch == lease.epoch
        ]
        choice = live if live and pick % 4 else self.leases[-8:]
        lease = choice[pick % len(choice)] if pick >= 0 else self.leases[-1]
        return lease, max(0, len(self.model.requests[lease.ref].chunks) + offset)

    def in_state(self, state: str) -> list[model.Request]:
        return [request for request in self.model.requests.values() if request.state == state]

    def pool(self, state: str, pick: int) -> str:
        """The pool of some request in a state, or any."""
        pools = [request.submission.pool for request in self.in_state(state)] or list(POOLS)
        return pools[pick % len(pools)]

    def ref(self, pick: int) -> RequestRef:
        """A request, a running one every other time, sometimes one that nobody has submitted."""
        running = [ref for ref, request in self.model.requests.items() if request.state == "running"]
        known = [*(running if running and pick % 2 else self.model.requests), RequestRef("acme", "never-seen")]
        return known[pick % len(known)]

    def chunk(self, index: int, count: int, other: bool = False) -> bytes:
        return b"%d|%s" % (index, b"other" if other else b"text" * (count % 2))

    async def written(self, writing: Coroutine[Any, Any, Held]) -> Held | str:
        try:
            return await writing
        except IndexOutOfRange:
            return "hole"
        except ChunkConflict:
            return "conflict"

    def set_clock(self) -> None:
        self.run(self.clock.set(self.model.now))

    async def command(self, *command: str | int) -> None:
        await self.broker._shards[0].command(*command)  # pyright: ignore[reportPrivateUsage]

    async def run_script(self, name: str, key: str, *arguments: int) -> None:
        await self.broker._shards[0].run(name, [key], *arguments)  # pyright: ignore[reportPrivateUsage]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)


async def gathered(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    return await asyncio.gather(*calls)
