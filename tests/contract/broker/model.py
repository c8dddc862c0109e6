"""What the broker promises, once more, as plain Python over lists and dictionaries: the oracle of the property test.

Everything is said in the simplest way, with a scan or a `min` where the scripts keep an index. Weights are powers of
two, so virtual time is exact and the model can demand equality.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from broker.types import Held, Outcome, Priority, Reclaimed, RequestRef, Submission, SubmitStatus, Usage

LEASE_MS = 5_000
MAX_ATTEMPTS = 3
BATCH_TURN = 4


@dataclass(eq=False)
class Request:
    submission: Submission
    arrival: int
    submitted_ms: int
    owners: list[str]
    state: str = "waiting"
    epoch: int = 0
    attempts: int = 0
    worker: str = ""
    lease_end: int = 0
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

    def overdue(self, now: int) -> bool:
        timeout = self.submission.timeout_ms
        return timeout is not None and now >= self.submitted_ms + timeout


class Model:
    """One shard."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.requests: dict[RequestRef, Request] = {}
        self.virtual: dict[tuple[str, str], float] = defaultdict(float)  # by tenant, pool
        self.fair: dict[tuple[str, bool], set[str]] = defaultdict(set)  # by pool, whether batch
        self.clock: dict[str, float] = defaultdict(float)  # by pool
        self.claims: dict[str, int] = defaultdict(int)  # by pool
        self.arrivals: dict[str, int] = defaultdict(int)  # by pool
        self.inboxes: dict[str, list[tuple[RequestRef, int | Outcome]]] = {}  # of live routers
        self.told: dict[str, list[tuple[int, RequestRef]]] = defaultdict(list)  # by worker
        self.dead: list[RequestRef] = []

    # Transitions.

    def submit(self, submission: Submission) -> tuple[SubmitStatus, int]:
        pool, tenant = submission.pool, submission.ref.tenant
        waiting = len(self.waiting(pool, tenant))
        known = self.requests.get(submission.ref)
        if known is not None:
            same = known.submission.digest == submission.digest
            return (SubmitStatus.JOINED if same else SubmitStatus.CONFLICT), waiting
        if waiting >= submission.max_waiting:
            return SubmitStatus.QUEUE_FULL, waiting
        self.arrivals[pool] += 1
        request = Request(submission, self.arrivals[pool], self.now, [submission.router])
        self.requests[submission.ref] = request
        self._place(tenant, pool)
        return SubmitStatus.ACCEPTED, waiting + 1

    def claim(self, pool: str, worker: str, limit: int) -> list[Request]:
        claimed: list[Request] = []
        while len(claimed) < limit:
            batch_turn = (self.claims[pool] + 1) % BATCH_TURN == 0
            tenants = self.fair[pool, batch_turn] or self.fair[pool, not batch_turn]
            if not tenants:
                break
            tenant = min(tenants, key=lambda name: (self.virtual[name, pool], name))
            request = min(self.waiting(pool, tenant), key=lambda r: r.urgency)
            if request.overdue(self.now):
                self._end(request, Outcome.DEADLINE)
                continue
            self.claims[pool] += 1
            self.clock[pool] = max(self.clock[pool], self.virtual[tenant, pool])
            request.state, request.worker, request.lease_end = "running", worker, self.now + LEASE_MS
            request.epoch += 1
            request.attempts += 1
            request.claimed_ms = request.claimed_ms or self.now
            self._place(tenant, pool)
            request.charge = request.reserved / request.submission.weight
            self.virtual[tenant, pool] += request.charge
            claimed.append(request)
        return claimed

    def hold(self, ref: RequestRef, epoch: int) -> Held:
        request = self.requests.get(ref)
        if request is None or request.epoch != epoch or request.state == "waiting":
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

    def release(self, ref: RequestRef, epoch: int, failed: bool, detail: str) -> Held:
        request = self.requests[ref]
        if request.state == "waiting" and request.epoch == epoch:
            return Held.YES
        held = self.hold(ref, epoch)
        if held is Held.YES:
            self._give_back(request, failed, detail)
        return held

    def reclaim(self, pool: str) -> list[Reclaimed]:
        gone = [r for r in self.requests.values() if r.state == "running" and r.submission.pool == pool]
        gone = [request for request in gone if request.lease_end <= self.now]
        gone.sort(key=lambda r: (r.lease_end, f"{r.ref.tenant}/{r.ref.request_id}"))
        reclaimed: list[Reclaimed] = []
        for request in gone:
            self.told[request.worker].append((request.epoch, request.ref))
            worker, epoch = request.worker, request.epoch
            self._give_back(request, True, "the lease ran out")
            reclaimed.append(Reclaimed(request.ref, worker, epoch, request.outcome))
        return reclaimed

    def cancel(self, ref: RequestRef) -> Request | None:
        request = self.requests.get(ref)
        if request is not None and not request.ended:
            if request.state == "running":
                self.told[request.worker].append((request.epoch, ref))
            self._end(request, Outcome.CANCELLED)
        return request

    def abandon(self, ref: RequestRef, router: str) -> Request | None:
        request = self.requests.get(ref)
        if request is None or request.ended:
            return request
        request.owners = [owner for owner in request.owners if owner != router]
        if any(owner in self.inboxes for owner in request.owners):
            return None
        return self.cancel(ref)

    def attach(self, ref: RequestRef, router: str) -> Request | None:
        request = self.requests.get(ref)
        if request is not None and not request.ended and router not in request.owners:
            request.owners.append(router)
        return request

    # What follows from the state.

    def waiting(self, pool: str, tenant: str) -> list[Request]:
        return [
            request
            for request in self.requests.values()
            if (request.state, request.submission.pool, request.ref.tenant) == ("waiting", pool, tenant)
        ]

    # Steps that transitions share.

    def _place(self, tenant: str, pool: str) -> None:
        waiting = self.waiting(pool, tenant)
        for batch in (False, True):
            wanted = bool(waiting) and batch == all(r.submission.priority is Priority.BATCH for r in waiting)
            members = self.fair[pool, batch]
            if not wanted:
                members.discard(tenant)
            elif tenant not in members:
                least = min((self.virtual[name, pool] for name in members), default=self.clock[pool])
                self.virtual[tenant, pool] = max(self.virtual[tenant, pool], least)
                members.add(tenant)

    def _give_back(self, request: Request, failed: bool, detail: str) -> None:
        if not request.submission.migratable and request.chunks:
            self._end(request, Outcome.NOT_MIGRATABLE, detail)
        elif request.overdue(self.now):
            self._end(request, Outcome.DEADLINE, detail)
        elif failed and request.attempts >= MAX_ATTEMPTS:
            self._end(request, Outcome.ATTEMPTS_EXHAUSTED, detail)
        else:
            tenant, pool = request.ref.tenant, request.submission.pool
            self.virtual[tenant, pool] -= request.charge
            request.state, request.charge = "waiting", 0.0
            request.attempts -= not failed
            self._place(tenant, pool)

    def _end(self, request: Request, outcome: Outcome, detail: str = "", usage: Usage | None = None) -> None:
        tenant, pool = request.ref.tenant, request.submission.pool
        if usage is None:
            prompt = request.engine_prompt or request.submission.prompt_tokens
            usage = Usage(prompt, request.engine_cached, request.logged_tokens)
        worked = request.state == "running" or request.logged_tokens > 0
        spent = usage.prompt_tokens + usage.output_tokens if worked else 0
        self.virtual[tenant, pool] += spent / request.submission.weight - request.charge
        request.state = "dead" if outcome is Outcome.ATTEMPTS_EXHAUSTED else "finished"
        if request.state == "dead":
            self.dead.append(request.ref)
        request.charge, request.outcome, request.detail, request.usage = 0.0, outcome, detail, usage
        request.ended_ms = self.now
        self._place(tenant, pool)
        self._tell(request, outcome)

    def _tell(self, request: Request, what: int | Outcome) -> None:
        for router in request.owners:
            if router in self.inboxes:
                self.inboxes[router].append((request.ref, what))
