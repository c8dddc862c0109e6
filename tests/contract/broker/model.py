"""What the broker promises, once more, as plain Python over lists and dictionaries: the oracle of the property test.

Everything is said in the simplest way, with a scan or a `min` where the scripts keep an index. Weights are powers of
two, so virtual time is exact and the model can demand equality.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field

from broker.story import Transition, TransitionKind
from broker.types import (
    Held,
    Outcome,
    Priority,
    Reclaimed,
    RequestRef,
    Submission,
    SubmitResult,
    SubmitStatus,
    Usage,
)
from tests.contract.broker.ledger import AccountKey, Ending, Ledger

LEASE_MS = 5_000
MAX_ATTEMPTS = 3
BATCH_TURN = 4
START_MS = 1_835_481_480_000  # 2028-02-29T23:58:00Z: a day, and a month, end soon
WINDOW_MS = 2_000
FRESH_MS = 60_000
FIRST_WINDOW_MS, FIRST_ENDS = 500, 8
SLACK = 1.2


@dataclass(eq=False)
class Request:
    submission: Submission
    arrival: int
    submitted_ms: int
    owners: list[str]
    took: set[AccountKey]  # whose buckets gave it its tokens
    state: str = "waiting"
    epoch: int = 0
    attempts: int = 0
    failures: int = 0
    failed_by: str = ""
    claimed_length: int = 0
    worker: str = ""
    lease_end: int = 0
    queued_ms: int = 0
    waited_ms: int = 0  # until its last claim
    charge: float = 0.0
    chunks: list[bytes] = field(default_factory=list[bytes])
    logged_tokens: int = 0
    engine_prompt: int = 0
    engine_cached: int = 0
    claimed_ms: int | None = None
    first_chunk_ms: int | None = None
    ended_ms: int = 0
    ended_by: int = 0
    outcome: Outcome | None = None
    detail: str = ""
    usage: Usage | None = None
    replayed: bool = False
    story: list[Transition] = field(default_factory=list[Transition])
    told_epoch: int = 0  # of whose lease the first chunk is in the story

    def note(
        self, now: int, kind: TransitionKind, who: str = "", epoch: int = 0, number: int = 0, detail: str = ""
    ) -> None:
        self.story.append(Transition(now, kind, who, epoch, number, detail))

    @property
    def ref(self) -> RequestRef:
        return self.submission.ref

    @property
    def ended(self) -> bool:
        return self.state in {"finished", "dead"}

    @property
    def reserved(self) -> int:
        return self.submission.prompt_tokens + self.submission.output_tokens

    @property
    def urgency(self) -> tuple[int, int]:
        return self.submission.priority.value, self.arrival

    @property
    def batch(self) -> bool:
        return self.submission.priority is Priority.BATCH

    @property
    def timeout_ms(self) -> int | None:
        return None if self.replayed else self.submission.timeout_ms

    def overdue(self, now: int) -> bool:
        timeout = self.timeout_ms
        return timeout is not None and now >= self.submitted_ms + timeout


@dataclass
class Rate:
    """How fast a pool is, in estimated tokens per second."""

    window_ms: int | None = None  # when the window was opened
    window_tokens: int = 0
    window_used: int = 0
    window_ends: int = 0
    per_s: float | None = None
    used_per_s: float = 0.0
    measured_ms: int = 0

    # How long runs in one attempt took, and their output tokens, the latest counting most.
    run_ms: float = 0.0
    run_tokens: float = 0.0
    pace_ms: int | None = None

    def known(self, now: int) -> bool:
        return bool(self.per_s and self.used_per_s) and now - self.measured_ms <= FRESH_MS


class Model:
    """One shard."""

    def __init__(self) -> None:
        self.now = START_MS
        self.requests: dict[RequestRef, Request] = {}
        self.ledger = Ledger()
        self.virtual: dict[tuple[str, str, bool], float] = defaultdict(float)  # by tenant, pool, whether batch
        self.fair: dict[tuple[str, bool], dict[str, float]] = defaultdict(
            dict
        )  # weights by pool, whether batch; tenant
        self.clock: dict[tuple[str, bool], float] = defaultdict(float)  # by pool, whether batch
        # Tokens used and estimated of what ended lately, by tenant, pool, whether batch.
        self.shares: dict[tuple[str, str, bool], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        self.rates: dict[str, Rate] = defaultdict(Rate)  # by pool
        self.claims: dict[str, int] = defaultdict(int)  # by pool
        self.arrivals: dict[str, int] = defaultdict(int)  # by pool
        self.inboxes: dict[str, list[tuple[RequestRef, int | Outcome]]] = {}  # of live routers
        self.told: dict[str, list[tuple[int, RequestRef]]] = defaultdict(list)  # by worker
        self.dead: list[RequestRef] = []
        self.recent: list[RequestRef] = []  # newest first

    # Transitions.

    def submit(self, submission: Submission) -> SubmitResult:
        pool, tenant = submission.pool, submission.ref.tenant
        waiting = len(self.waiting(pool, tenant))
        known = self.requests.get(submission.ref)
        if known is not None:
            same = known.submission.digest == submission.digest
            return SubmitResult(SubmitStatus.JOINED if same else SubmitStatus.CONFLICT, waiting)
        open_requests = [(r.submission, r.state == "waiting") for r in self.requests.values() if not r.ended]
        over = self.ledger.over(submission, open_requests, self.now)
        if over is not None:
            return SubmitResult(SubmitStatus.OVER_LIMIT, waiting, over)
        if submission.pool_max_waiting is not None and len(self.waiting(pool)) >= submission.pool_max_waiting:
            return SubmitResult(SubmitStatus.POOL_FULL, waiting)
        turn_ms = self._turn_in(submission)
        run_ms = self._run_of(submission) if turn_ms else 0
        timeout = submission.timeout_ms
        if timeout is not None and (turn_ms > timeout or (run_ms and (turn_ms + run_ms) * SLACK > timeout)):
            return SubmitResult(SubmitStatus.TOO_LATE, waiting, wait_ms=turn_ms, run_ms=run_ms)
        self.arrivals[pool] += 1
        took = self.ledger.admit(submission, self.now)
        request = Request(submission, self.arrivals[pool], self.now, [submission.router], took)
        self.requests[submission.ref] = request
        self._join(request)
        request.note(self.now, TransitionKind.SUBMIT, submission.router)
        self.recent.insert(0, submission.ref)
        return SubmitResult(SubmitStatus.ACCEPTED, waiting + 1)

    def claim(self, pool: str, worker: str, limit: int, avoid_ms: int) -> list[Request]:
        claimed: list[Request] = []
        while len(claimed) < limit:
            open_to_it = [r for r in self.waiting(pool) if r.overdue(self.now) or not self._left(r, worker, avoid_ms)]
            batch_turn = (self.claims[pool] + 1) % BATCH_TURN == 0
            batch = batch_turn if any(r.batch == batch_turn for r in open_to_it) else not batch_turn
            of_class = [request for request in open_to_it if request.batch == batch]
            if not of_class:
                break
            tenant = min((r.ref.tenant for r in of_class), key=lambda name: (self.virtual[name, pool, batch], name))
            request = min((r for r in of_class if r.ref.tenant == tenant), key=lambda r: r.urgency)
            if request.overdue(self.now):
                self._end(request, Outcome.DEADLINE)
                continue
            if self._cannot_finish(request):
                self._end(request, Outcome.DEADLINE, "it could not have been done in time")
                continue
            self.claims[pool] += 1
            self.clock[pool, batch] = max(self.clock[pool, batch], self.virtual[tenant, pool, batch])
            request.state, request.worker, request.lease_end = "running", worker, self.now + LEASE_MS
            request.epoch += 1
            request.attempts += 1
            request.claimed_length = len(request.chunks)
            request.claimed_ms = request.claimed_ms or self.now
            request.waited_ms = self.now - request.queued_ms
            self._leave(request)
            expected = math.ceil(request.reserved * self._used_share(tenant, pool, batch))
            request.charge = expected / request.submission.weight
            self.virtual[tenant, pool, batch] += request.charge
            request.note(self.now, TransitionKind.CLAIM, worker, request.epoch, request.attempts)
            claimed.append(request)
        return claimed

    def _left(self, request: Request, worker: str, avoid_ms: int) -> bool:
        return request.failed_by == worker and self.now - request.queued_ms < avoid_ms

    def hold(self, ref: RequestRef, epoch: int) -> Held:
        request = self.requests.get(ref)
        if request is None:
            return Held.FENCED
        if request.epoch != epoch or request.state == "waiting":
            request.note(self.now, TransitionKind.FENCE, epoch=epoch)
            return Held.FENCED
        if request.ended:
            return Held.ENDED
        if request.overdue(self.now):
            self._end(request, Outcome.DEADLINE)
            return Held.ENDED
        return Held.YES

    def write(self, request: Request, index: int, chunk: bytes, tokens: int, prompt: int, cached: int) -> str:
        if index > len(request.chunks):
            return "hole"
        if index < len(request.chunks):
            return "repeated" if request.chunks[index] == chunk else "conflict"
        if request.told_epoch != request.epoch:
            request.note(self.now, TransitionKind.FIRST, epoch=request.epoch, number=index)
            request.told_epoch = request.epoch
        request.chunks.append(chunk)
        request.logged_tokens += tokens
        request.first_chunk_ms = request.first_chunk_ms or self.now
        if prompt:
            request.engine_prompt, request.engine_cached = prompt, cached
        self._tell(request, index)
        return "written"

    def append(
        self, ref: RequestRef, epoch: int, index: int, chunk: bytes, tokens: int, prompt: int, cached: int
    ) -> Held | str:
        if (held := self.hold(ref, epoch)) is not Held.YES:
            return held
        request = self.requests[ref]
        done = self.write(request, index, chunk, tokens, prompt, cached)
        if done in {"hole", "conflict"}:
            return done
        request.lease_end = self.now + LEASE_MS
        return Held.YES

    def renew(self, ref: RequestRef, epoch: int) -> Held:
        held = self.hold(ref, epoch)
        if held is Held.YES:
            self.requests[ref].lease_end = self.now + LEASE_MS
        return held

    def finish(
        self, ref: RequestRef, epoch: int, index: int, chunk: bytes | None, tokens: int, outcome: Outcome, usage: Usage
    ) -> Held | str:
        request = self.requests[ref]
        if request.ended_by == epoch:
            return Held.YES
        if (held := self.hold(ref, epoch)) is not Held.YES:
            return held
        length = len(request.chunks)
        if chunk is None:
            if index != length:
                return "hole" if index > length else "conflict"
        else:
            if index < length - 1:
                return "conflict"
            done = self.write(request, index, chunk, tokens, usage.prompt_tokens, usage.cached_prompt_tokens)
            if done in {"hole", "conflict"}:
                return done
        request.ended_by = epoch
        self._end(request, outcome, "by the worker", usage)
        return Held.YES

    def release(self, ref: RequestRef, epoch: int, failed: bool, detail: str, shared: bool) -> Held:
        request = self.requests[ref]
        if request.state == "waiting" and request.epoch == epoch:
            return Held.YES
        held = self.hold(ref, epoch)
        if held is Held.YES:
            request.note(self.now, TransitionKind.RELEASE, request.worker, epoch, int(failed), detail)
            self._give_back(request, failed, shared, detail)
        return held

    def reclaim(self, pool: str) -> list[Reclaimed]:
        gone = [r for r in self.requests.values() if r.state == "running" and r.submission.pool == pool]
        gone = [request for request in gone if request.lease_end <= self.now]
        gone.sort(key=lambda r: (r.lease_end, f"{r.ref.tenant}/{r.ref.request_id}"))
        reclaimed: list[Reclaimed] = []
        for request in gone:
            self.told[request.worker].append((request.epoch, request.ref))
            worker, epoch = request.worker, request.epoch
            request.note(self.now, TransitionKind.RECLAIM, worker, epoch, 1, "the lease ran out")
            self._give_back(request, True, True, "the lease ran out")
            reclaimed.append(Reclaimed(request.ref, worker, epoch, request.outcome))
        return reclaimed

    def cancel(self, ref: RequestRef) -> Request | None:
        request = self.requests.get(ref)
        if request is not None and not request.ended:
            request.note(self.now, TransitionKind.CANCEL)
            self._cancel(request)
        return request

    def _cancel(self, request: Request) -> None:
        if request.state == "running":
            self.told[request.worker].append((request.epoch, request.ref))
        self._end(request, Outcome.CANCELLED)

    def abandon(self, ref: RequestRef, router: str) -> Request | None:
        request = self.requests.get(ref)
        if request is None or request.ended:
            return request
        request.note(self.now, TransitionKind.ABANDON, router)
        request.owners = [owner for owner in request.owners if owner != router]
        if any(owner in self.inboxes for owner in request.owners):
            return None
        self._cancel(request)
        return request

    def attach(self, ref: RequestRef, router: str) -> Request | None:
        request = self.requests.get(ref)
        if request is not None and not request.ended and router not in request.owners:
            request.owners.append(router)
            request.note(self.now, TransitionKind.ATTACH, router)
        return request

    def settle_letter(self, ref: RequestRef, how: str) -> bool:
        if ref not in self.dead:
            return False
        self.dead.remove(ref)
        request = self.requests[ref]
        if how == "purge":
            del self.requests[ref]
        else:
            request.state, request.attempts, request.owners, request.took = "waiting", 0, [], set()
            request.failures, request.failed_by = 0, ""
            request.outcome, request.usage, request.replayed = None, None, True
            self._join(request)
            request.note(self.now, TransitionKind.REPLAY)
        return True

    # What follows from the state.

    def waiting(self, pool: str, tenant: str | None = None) -> list[Request]:
        return [
            request
            for request in self.requests.values()
            if (request.state, request.submission.pool) == ("waiting", pool) and tenant in (None, request.ref.tenant)
        ]

    def _turn_in(self, submission: Submission) -> int:
        """In how many ms the turn of a new request would come; 0 when that is not known."""
        pool, tenant = submission.pool, submission.ref.tenant
        batch = submission.priority is Priority.BATCH
        rate = self.rates[pool]
        everything = [request for request in self.waiting(pool) if request.batch == batch]
        before = [r for r in everything if r.ref.tenant == tenant and r.submission.priority <= submission.priority]
        own = sum(request.reserved for request in before)
        if not rate.known(self.now) or rate.per_s is None:
            return 0
        used_share = self._used_share(tenant, pool, batch)
        expected = own * used_share
        turn = 0.0
        if own:
            weights = self.fair[pool, batch]
            half_served = self.virtual[tenant, pool, batch] + expected / weights[tenant] / 2
            others = [weights[name] for name in weights if name != tenant]
            competing = [n for n in weights if n != tenant and self.virtual[n, pool, batch] <= half_served]
            share = 1 + (sum(others) * len(competing) / len(others) / weights[tenant] if others else 0)
            in_all = sum(request.reserved for request in everything) / rate.per_s
            turn = min(in_all, expected * share / rate.used_per_s)
        if batch:
            urgent = sum(request.reserved for request in self.waiting(pool) if not request.batch) / rate.per_s
            itself = (submission.prompt_tokens + submission.output_tokens) * used_share / rate.used_per_s
            turn = min(turn + urgent, (turn + itself) * BATCH_TURN)
        return int(turn * 1000 + 0.5)

    def _run_of(self, submission: Submission) -> int:
        """In how many ms a request would be done once it runs; 0 when that is not known."""
        pool, batch = submission.pool, submission.priority is Priority.BATCH
        rate = self.rates[pool]
        if rate.pace_ms is None or self.now - rate.pace_ms > FRESH_MS:
            return 0
        output = submission.output_tokens * self._used_share(submission.ref.tenant, pool, batch)
        return int(rate.run_ms / rate.run_tokens * output + 0.5)

    def _cannot_finish(self, request: Request) -> bool:
        timeout = request.timeout_ms
        if timeout is None or request.logged_tokens or len(self.waiting(request.submission.pool)) < 2:
            return False
        return self.now + self._run_of(request.submission) * SLACK > request.submitted_ms + timeout

    def _used_share(self, tenant: str, pool: str, batch: bool) -> float:
        used, estimated = self.shares[tenant, pool, batch]
        return max(1 / 32, used / estimated) if estimated else 1.0

    # Steps that transitions share.

    def _join(self, request: Request) -> None:
        """What a request does that begins to wait."""
        request.queued_ms = self.now
        tenant, pool, batch = request.ref.tenant, request.submission.pool, request.batch
        members = self.fair[pool, batch]
        if tenant not in members:
            least = min((self.virtual[name, pool, batch] for name in members), default=self.clock[pool, batch])
            self.virtual[tenant, pool, batch] = max(self.virtual[tenant, pool, batch], least)
            members[tenant] = request.submission.weight

    def _leave(self, request: Request) -> None:
        """What a request does that waits no longer; its state has been changed."""
        tenant, pool, batch = request.ref.tenant, request.submission.pool, request.batch
        if not any(other.batch == batch for other in self.waiting(pool, tenant)):
            del self.fair[pool, batch][tenant]
        if not self.waiting(pool):
            self.rates[pool].window_ms = None

    def _learn(self, request: Request, outcome: Outcome, usage: Usage) -> None:
        """What the end of a running request says about its tenant's estimates, and about the pool's rate and pace."""
        used = usage.prompt_tokens + usage.output_tokens
        name = request.ref.tenant, request.submission.pool, request.batch
        before = self.shares[name]
        self.shares[name] = before[0] * 0.9 + used, before[1] * 0.9 + request.reserved
        rate = self.rates[request.submission.pool]
        if self.waiting(request.submission.pool):
            whole = outcome in {Outcome.STOP, Outcome.LENGTH, Outcome.REJECTED}
            self._measure(rate, request.reserved if whole else used, used)
        if request.epoch == 1 and usage.output_tokens and outcome in {Outcome.STOP, Outcome.LENGTH}:
            assert request.claimed_ms is not None
            rate.run_ms = rate.run_ms * 0.95 + (self.now - request.claimed_ms)
            rate.run_tokens = rate.run_tokens * 0.95 + usage.output_tokens
            rate.pace_ms = self.now

    def _measure(self, rate: Rate, tokens: int, used: int) -> None:
        elapsed = self.now - rate.window_ms if rate.window_ms is not None else None
        known = rate.per_s is not None and self.now - rate.measured_ms <= FRESH_MS
        soon = not known and rate.window_ends + 1 >= FIRST_ENDS
        if elapsed is not None and elapsed < (FIRST_WINDOW_MS if soon else WINDOW_MS):
            rate.window_tokens += tokens
            rate.window_used += used
            rate.window_ends += 1
            return
        if elapsed is not None and elapsed <= FRESH_MS:
            measured = (rate.window_tokens + tokens) * 1000 / elapsed
            measured_used = (rate.window_used + used) * 1000 / elapsed
            if known and rate.per_s is not None:
                measured, measured_used = (measured + rate.per_s) / 2, (measured_used + rate.used_per_s) / 2
            rate.per_s, rate.used_per_s, rate.measured_ms = measured, measured_used, self.now
        rate.window_ms, rate.window_tokens, rate.window_used, rate.window_ends = self.now, 0, 0, 0

    def _give_back(self, request: Request, failed: bool, shared: bool, detail: str) -> None:
        if failed:
            got_on = len(request.chunks) > request.claimed_length
            request.failures = 1 if shared and got_on else request.failures + 1
            request.failed_by = request.worker
        if not request.submission.migratable and request.chunks:
            self._end(request, Outcome.NOT_MIGRATABLE, detail)
        elif request.overdue(self.now):
            self._end(request, Outcome.DEADLINE, detail)
        elif failed and (request.failures >= MAX_ATTEMPTS or request.attempts >= 5 * MAX_ATTEMPTS):
            self._end(request, Outcome.ATTEMPTS_EXHAUSTED, detail)
        else:
            tenant, pool = request.ref.tenant, request.submission.pool
            self.virtual[tenant, pool, request.batch] -= request.charge
            request.state, request.charge = "waiting", 0.0
            request.attempts -= not failed
            self._join(request)

    def _end(self, request: Request, outcome: Outcome, detail: str = "", usage: Usage | None = None) -> None:
        tenant, pool = request.ref.tenant, request.submission.pool
        if usage is None:
            prompt = request.engine_prompt or (request.submission.prompt_tokens if request.claimed_ms else 0)
            usage = Usage(prompt, request.engine_cached, request.logged_tokens)
        ran = request.state == "running"
        worker, epoch = (request.worker, request.epoch) if ran else ("", 0)
        request.note(self.now, TransitionKind.END, worker, epoch, detail=f"{outcome.value} {detail}".strip())
        worked = ran or request.logged_tokens > 0
        spent = usage.prompt_tokens + usage.output_tokens if worked else 0
        self.virtual[tenant, pool, request.batch] += spent / request.submission.weight - request.charge
        request.state = "dead" if outcome is Outcome.ATTEMPTS_EXHAUSTED else "finished"
        if request.state == "dead":
            self.dead.append(request.ref)
        request.charge, request.outcome, request.detail, request.usage = 0.0, outcome, detail, usage
        request.ended_ms = self.now
        if ran:
            self._learn(request, outcome, usage)
        else:
            self._leave(request)
        failed = outcome in {Outcome.NOT_MIGRATABLE, Outcome.ATTEMPTS_EXHAUSTED}
        self.ledger.end(Ending(request.submission, self.now, failed, usage), request.took)
        self._tell(request, outcome)

    def _tell(self, request: Request, what: int | Outcome) -> None:
        for router in request.owners:
            if router in self.inboxes:
                self.inboxes[router].append((request.ref, what))
