"""The worker: claim, generate, append, finish, in one visible loop, and the few tasks that stand beside it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

import structlog
from google.protobuf.message import DecodeError

from broker.client import Broker
from broker.pace import gap_s
from broker.types import BrokerUnavailable, Claim, Directive, Held, Outcome, RequestRef, Sickness, WorkerInfo
from telemetry.attempts import FAILED, WorkerTelemetry
from workers.convert import UNREADABLE, Parsed, job_of, parse, profile_to_bytes, told_of
from workers.engine import Engine, EngineDead, FinishReason, Job, JobRejected
from workers.fitness import FitnessLog
from workers.run import Run

_log = structlog.get_logger("bitlane.worker")
_OUTCOMES = {FinishReason.STOP: Outcome.STOP, FinishReason.LENGTH: Outcome.LENGTH}
# A worker that is frozen, or cut off, while it waits still takes what comes within this time; it returns after a lease.
_WAIT_S = 0.25
_HEARTBEAT_S = 0.5
_SOON_S = 0.05
_HEALTH_S = 1.0
# At most, on average: what a dead worker held waits for it on top of the lease.
_RECLAIM_S = 0.25
_TRIAL_S = 0.005
_STEP_BACK_S, _LONGEST_STEP_BACK_S = 0.01, 0.5
# For so long other workers have the first right to what failed here; who is ejected leaves it to them altogether.
_AVOID_S, _AVOID_WHEN_EJECTED_S = 5.0, 86_400.0


def _now() -> float:
    return asyncio.get_running_loop().time()


def _parse(claim: Claim) -> Parsed:
    try:
        return parse(claim.job, claim.chunks)
    except DecodeError as error:
        _log_unreadable(claim, error)
        return UNREADABLE


def _log_unreadable(claim: Claim, error: Exception) -> None:
    ref = claim.lease.ref
    _log.error("job.unreadable", tenant=ref.tenant, request_id=ref.request_id, error=type(error).__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works."""

    name: str  # unique among the workers
    pool: str
    flush_ms: float = 3.0  # between two times that new tokens are logged, at least
    drain_s: float = 30.0  # how long running requests may go on after `stop`


@dataclass(frozen=True, slots=True)
class _Serving:
    """A request in one of the worker's slots."""

    run: Run
    task: asyncio.Task[None]


class Worker:
    """Serves one pool with one started engine until it is stopped or the engine dies."""

    def __init__(self, broker: Broker, engine: Engine, options: WorkerOptions, telemetry: WorkerTelemetry) -> None:
        self._broker = broker
        self._engine = engine
        self._options = options
        self._telemetry = telemetry
        telemetry.slots.observe(lambda: [(engine.slots, (options.pool,))])
        telemetry.slots_used.observe(lambda: [(len(self._serving), (options.pool,))])
        telemetry.engine_running.observe(lambda: [(engine.load().running, (options.pool,))])
        telemetry.engine_waiting.observe(lambda: [(engine.load().waiting, (options.pool,))])
        telemetry.engine_cache.observe(self._cache_used)
        self._profile = profile_to_bytes(engine.profile)
        self._lease_s = broker.options.lease_ms / 1000
        self._serving: dict[RequestRef, _Serving] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._tokens_wait = asyncio.Event()
        self._engine_lost: EngineDead | None = None
        self._stopping = False
        self._directive: Directive | None = None  # what operators want; None: not known yet
        self._fitness = FitnessLog()
        self._failed_in_row = 0  # attempts, by the engine's fault
        self._others = 0  # workers of the pool that work as well
        self._probe: Run | None = None  # while ejected: the request that it last tried itself on
        self._beat_soon = asyncio.Event()
        # These follow from the state, by `_note`.
        self._may_claim = asyncio.Event()  # or has to stop
        self._pausing = asyncio.Event()
        self._has_to_empty = asyncio.Event()

    def _cache_used(self) -> list[tuple[float, tuple[str, ...]]]:
        """Nothing where the engine does not say."""
        used = self._engine.load().kv_cache_used
        return [] if used is None else [(used, (self._options.pool,))]

    def stop(self) -> None:
        """Claims no more; `run` returns when the running requests are done or handed back."""
        self._stopping = True
        self._note()

    async def run(self) -> None:
        """Works until stopped.

        Raises:
            EngineDead: the engine is lost; the running requests were handed back.
        """
        claiming = asyncio.create_task(self._claim(), name="claim")
        beside = [
            asyncio.create_task(work(), name=work.__name__)
            for work in (
                self._flush,
                self._renew,
                self._heartbeat,
                self._obey_endings,
                self._empty,
                self._reclaim,
                self._watch_engine,
                self._telemetry.watch_event_loop,
            )
        ]
        try:
            done, _ = await asyncio.wait([claiming, *beside], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*done)  # claiming ends with `stop`; anything else that ends is a bug and raises here
            await self._drain()
        finally:
            for task in (claiming, *beside):
                task.cancel()
            await asyncio.gather(claiming, *beside, return_exceptions=True)
            await self._sign_off()
        if self._engine_lost:
            raise self._engine_lost

    # The loop.

    async def _claim(self) -> None:
        """Takes work for free slots only: what waits, waits in the fair queue."""
        pool, name = self._options.pool, self._options.name
        while True:
            await self._may_claim.wait()
            if self._stopping:
                return
            if self._failed_in_row:
                # It has free slots again, and its peers may not: it would have the whole queue fail here.
                pause_s = min(_LONGEST_STEP_BACK_S, _STEP_BACK_S * 2 ** min(self._failed_in_row, 9))
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._pausing.wait()
                if not self._may_claim.is_set():
                    continue
            free = self._engine.slots - len(self._serving)
            if self._fitness.ejected:
                free = 1
            began = _now()
            try:
                claims = await self._broker.claim_next(
                    pool, name, self._profile, free, _WAIT_S, self._pausing, self._avoid_ms()
                )
                if not claims and _now() - began < _WAIT_S / 2:
                    await asyncio.sleep(_STEP_BACK_S)  # what rang is left to others, and rings until they have it
                runs = await self._start_all(claims)
                if runs and self._fitness.ejected:
                    self._probe = runs[0]
                    self._fitness.probed(_now())
                    self._note()
            except BrokerUnavailable:
                await asyncio.sleep(random.uniform(0.1, 0.5))

    def _avoid_ms(self) -> int:
        if not self._others:
            return 0
        return int((_AVOID_WHEN_EJECTED_S if self._fitness.ejected else _AVOID_S) * 1000)

    async def _start_all(self, claims: Sequence[Claim]) -> list[Run]:
        """Starts what was claimed; of those on their last attempt one, and nothing else until that one got on.

        All that ran beside a request that kills its engine has failed as often as that one has. Alone among its like
        it fails alone, and the others are cleared by their first chunk.
        """
        last = self._broker.options.max_attempts - 1
        suspects = [claim for claim in claims if 0 < claim.failures == last]
        # Back before anything starts that may take this process down.
        spare = [
            Run(self._broker, claim, 0, self._telemetry.attempt(*told_of(claim, _parse(claim))))
            for claim in suspects[1:]
        ]
        await asyncio.gather(*(run.release(failed=False) for run in spare))
        runs = {claim.lease.ref: self._start(claim) for claim in claims if claim not in suspects[1:]}
        if suspects:
            await self._gets_on_or_leaves(runs[suspects[0].lease.ref])
        return list(runs.values())

    async def _gets_on_or_leaves(self, run: Run) -> None:
        while not (self._stopping or run.got_on) and self._serves(run):  # noqa: ASYNC110, three things end this
            await asyncio.sleep(_TRIAL_S)

    def _serves(self, run: Run) -> bool:
        serving = self._serving.get(run.lease.ref)
        return serving is not None and serving.run is run

    def _start(self, claim: Claim) -> Run:
        ref = claim.lease.ref
        former = self._serving.get(ref)
        if former is not None:
            # Our own former lease of it ran out: what still runs under that is fenced.
            former.run.lose()
            former.task.cancel()
        parsed = _parse(claim)
        attempt = self._telemetry.attempt(*told_of(claim, parsed))
        job_id = f"{ref.tenant}/{ref.request_id}/{claim.lease.epoch}"
        try:
            job = None if parsed is UNREADABLE else job_of(job_id, parsed, attempt.call_engine())
        except KeyError as error:
            _log_unreadable(claim, error)
            job = None
        run = Run(self._broker, claim, job.generated.tokens if job else 0, attempt)
        task = asyncio.create_task(self._serve(run, job, claim.remaining_ms), name="serve")
        self._serving[ref] = _Serving(run, task)
        task.add_done_callback(lambda _: self._leave_slot(run))
        self._note()
        return run

    def _leave_slot(self, run: Run) -> None:
        run.tell_if_taken_away()
        if self._serves(run):
            del self._serving[run.lease.ref]
        self._note()

    def _note(self) -> None:
        """Wakes and holds back who waits for a change of the state."""
        serves = self._directive is Directive.SERVE
        quarantined = self._directive is Directive.QUARANTINE
        serves = serves and self._may_take_one()
        for event, holds in (
            (self._may_claim, self._stopping or (serves and len(self._serving) < self._engine.slots)),
            (self._pausing, self._stopping or not serves),
            (self._has_to_empty, quarantined and bool(self._serving)),
        ):
            if holds:
                event.set()
            else:
                event.clear()

    def _may_take_one(self) -> bool:
        """Whether the worker is not ejected, or is to try itself on one request now."""
        if not self._fitness.ejected:
            return True
        wait_s = self._fitness.probe_in(_now())
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._note)
        return wait_s == 0 and not (self._probe and self._serves(self._probe))

    async def _serve(self, run: Run, job: Job | None, remaining_ms: int | None) -> None:
        """Generates one reply into the token log and ends the request, or gives it back."""
        try:
            if job is None:
                run.tell_end(FAILED, "JobUnreadable")
                await run.release(failed=True, detail="the job cannot be read")
                return
            async with asyncio.timeout(None if remaining_ms is None else remaining_ms / 1000):
                await self._generate(run, job)
        except TimeoutError:
            # The broker's clock decides: past the deadline, a renewal ends the request.
            while run.held is Held.YES:
                await run.renew()
                await asyncio.sleep(0.02)
        except JobRejected as rejected:
            await run.finish(Outcome.REJECTED, str(rejected))
        except EngineDead as dead:
            self._engine_lost = dead
            run.tell_end(FAILED, type(dead).__name__)
            await run.release(failed=True, detail="the engine died", shared=True)
            self.stop()
        except Exception as error:
            # The text of an engine's error may hold a prompt; its type does not.
            kind = type(error).__name__
            ref = run.lease.ref
            _log.warning(
                "attempt.failed", tenant=ref.tenant, request_id=ref.request_id, attempt=run.attempt, error=kind
            )
            run.tell_end(FAILED, kind)
            self._attempt_ended(failed=True)
            await run.release(failed=True, detail=kind)

    def _attempt_ended(self, *, failed: bool) -> None:
        self._fitness.attempt(_now(), failed=failed)
        self._failed_in_row = self._failed_in_row + 1 if failed else 0
        if failed:
            self._beat_soon.set()  # each moment counts: what fails is free again first, and claims most

    async def _generate(self, run: Run, job: Job) -> None:
        first = True
        asked_at = 0.0
        async with aclosing(self._engine.generate(job)) as deltas:
            async for delta in deltas:
                if not first:
                    now = _now()
                    self._fitness.decoded(now, delta.tokens, now - asked_at)
                run.add(delta)
                if delta.finish_reason is not None:
                    self._attempt_ended(failed=False)
                    await run.finish(_OUTCOMES[delta.finish_reason])
                elif first:
                    await run.flush()  # at once: somebody waits for it
                    first = False
                else:
                    self._tokens_wait.set()
                if run.held is not Held.YES or delta.finish_reason is not None:
                    return
                asked_at = _now()
        raise RuntimeError("the engine ended a generation without a finish reason")

    # Beside the loop.

    async def _flush(self) -> None:
        """Logs the new tokens of all requests together: at once after a pause, and then every few milliseconds, more
        seldom the more requests run.
        """
        due = 0.0
        while True:
            await self._tokens_wait.wait()
            await asyncio.sleep(max(0.0, due - _now()))  # one turn at least, for those whose tokens came in this one
            self._tokens_wait.clear()
            writes = 0
            for serving in list(self._serving.values()):
                if serving.run.pending and not serving.run.writing:
                    self._write(serving, serving.run.flush)
                    writes += 1
            due = _now() + max(self._options.flush_ms / 1000, gap_s(writes))

    async def _renew(self) -> None:
        """Keeps the leases of requests that have nothing to log, in a long prefill for instance."""
        while True:
            await asyncio.sleep(self._lease_s / 6)
            now = asyncio.get_running_loop().time()
            for serving in list(self._serving.values()):
                if now - serving.run.renewed_at > self._lease_s / 3 and not serving.run.writing:
                    self._write(serving, serving.run.renew)

    def _write(self, serving: _Serving, call: Callable[[], Awaitable[None]]) -> None:
        """Runs a write beside the others, and stops the generation if its lease is lost."""

        async def write() -> None:
            await call()
            if serving.run.held is not Held.YES:
                serving.task.cancel()
            elif serving.run.pending:
                self._tokens_wait.set()  # they came while we wrote

        task = asyncio.create_task(write(), name="write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _obey_endings(self) -> None:
        """Stops at once what was cancelled, or taken away from us."""
        async with self._broker.endings(self._options.name) as endings:
            async for ended in endings:
                serving = self._serving.get(ended.ref)
                if serving is not None and serving.run.lease.epoch == ended.epoch:
                    serving.run.held = Held.ENDED
                    serving.task.cancel()

    async def _empty(self) -> None:
        """Hands back what runs in quarantine, and what a claim brings that was under way."""
        while True:
            await self._has_to_empty.wait()
            await self._hand_back(failed=False)

    async def _heartbeat(self) -> None:
        """Keeps the worker in its pool's registry, and learns what operators want of it."""
        ready = False
        while True:
            said, said_ejected = self._directive, self._fitness.ejected
            draining = self._stopping or said is not Directive.SERVE
            self._beat_soon.clear()
            try:
                orders = await self._broker.register(
                    WorkerInfo(
                        worker=self._options.name,
                        pool=self._options.pool,
                        profile=self._profile,
                        slots=self._engine.slots,
                        running=len(self._serving),
                        draining=draining,
                        context_tokens=self._engine.context_tokens,
                        quarantined=said is Directive.QUARANTINE,
                        ejected=said_ejected,
                    ),
                    self._fitness.figures(_now()),
                )
            except BrokerUnavailable as error:
                _log.warning("broker.away", error=str(error))
            else:
                directive, self._others = orders.directive, orders.others
                if self._fitness.told(_now(), orders.ejected):
                    self._log_ejection(orders.ejected)
                    self._note()
                if directive is not said:
                    if said is not None or directive is not Directive.SERVE:
                        _log.info("worker.directed", worker=self._options.name, directive=directive.value)
                    self._directive = directive
                    self._note()
                if directive is not said or orders.ejected is not said_ejected:
                    continue  # to say at once what it does now
                if not ready:
                    _log.info("worker.ready", worker=self._options.name, pool=self._options.pool)
                ready = True
            await self._until_next_beat()

    async def _until_next_beat(self) -> None:
        """Half a second, or less when an attempt has failed."""
        await asyncio.sleep(_SOON_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEARTBEAT_S - _SOON_S):
                await self._beat_soon.wait()

    def _log_ejection(self, ejected: Sickness | None) -> None:
        if ejected:
            _log.warning("worker.ejected", worker=self._options.name, pool=self._options.pool, reason=ejected.value)
        else:
            _log.info("worker.back", worker=self._options.name, pool=self._options.pool)

    async def _reclaim(self) -> None:
        """Gives requests of dead workers back to the queue. All workers of the pool try; each goes back once."""
        while True:
            await asyncio.sleep(min(_RECLAIM_S, self._lease_s / 4) * random.uniform(0.5, 1.5))
            try:
                for reclaimed in await self._broker.reclaim(self._options.pool):
                    outcome = reclaimed.outcome.value if reclaimed.outcome else "waiting"
                    self._telemetry.lease_lost(outcome)
                    _log.warning(
                        "lease.reclaimed",
                        tenant=reclaimed.ref.tenant,
                        request_id=reclaimed.ref.request_id,
                        worker=reclaimed.worker,
                        outcome=outcome,
                    )
            except BrokerUnavailable:
                continue  # the heartbeat says so already

    async def _watch_engine(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_S)
            try:
                await self._engine.health()
            except EngineDead as dead:
                if not self._engine_lost:
                    _log.error("engine.died", error=type(dead).__name__)
                self._engine_lost = self._engine_lost or dead
                self.stop()

    # The end.

    async def _drain(self) -> None:
        """Lets running requests finish for a while, then hands the rest back; at once if the engine is dead."""
        drain_s = 0.0 if self._engine_lost else self._options.drain_s
        _log.info("worker.draining", worker=self._options.name, running=len(self._serving), seconds=drain_s)
        if self._serving:
            await asyncio.wait([serving.task for serving in self._serving.values()], timeout=drain_s)
        await self._hand_back(failed=bool(self._engine_lost))
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _hand_back(self, *, failed: bool) -> None:
        """Stops all running requests and gives them back to the queue."""
        left = list(self._serving.values())
        for serving in left:
            serving.task.cancel()
        await asyncio.gather(*(serving.task for serving in left), return_exceptions=True)
        await asyncio.gather(*(serving.run.release(failed=failed, shared=True) for serving in left))

    async def _sign_off(self) -> None:
        try:
            await self._broker.unregister(self._options.pool, self._options.name)
        except BrokerUnavailable:
            return  # the registry forgets us by itself
        _log.info("worker.stopped", worker=self._options.name)
