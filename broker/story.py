"""Requests as people look at them: how one is, and what happened to it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import cast

from broker import keys, replies
from broker.connection import Reply
from broker.pipeline import Pipeline
from broker.types import Outcome, Priority, RequestNotFound, RequestRef, Usage


class TransitionKind(Enum):
    """What happened to a request. `who`, `epoch`, `number` and `detail` of a transition mean what is said here."""

    SUBMIT = "submit"  # who: the router
    CLAIM = "claim"  # who: the worker; number: the attempt
    FIRST = "first"  # the first chunk of the lease with this epoch; number: its index in the log
    RELEASE = "release"  # who: the worker; number: 1 if the attempt failed; detail: why
    RECLAIM = "reclaim"  # who: the worker that let its lease run out
    FENCE = "fence"  # epoch: of a lease that is over, and whose worker tried to write
    ATTACH = "attach"  # who: a further router that follows it
    ABANDON = "abandon"  # who: the router that follows it no longer
    CANCEL = "cancel"
    END = "end"  # who: the worker, if it ran; detail: the outcome, and what was said about it
    REPLAY = "replay"  # of a dead letter
    DROPPED = "dropped"  # number: so many transitions are not kept here; time: of the last one of them


@dataclass(frozen=True, slots=True)
class Transition:
    """One step. Nothing in it comes from a prompt or a reply."""

    time_ms: int  # by the server's clock
    kind: TransitionKind
    who: str  # empty: nobody in particular
    epoch: int  # of the lease that it is about; 0: of none
    number: int
    detail: str


class RequestState(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as it is now. Times are ms since the epoch by the server's clock; None: it has not come to that."""

    ref: RequestRef
    state: RequestState
    pool: str
    decision: bytes
    key: str  # name of the credential
    worker: str  # the last one; empty: none had it
    profile: bytes  # of the last worker
    outcome: Outcome | None  # None: it has not ended
    detail: str
    priority: Priority
    epoch: int  # of the last lease
    attempts: int
    submitted_ms: int
    queued_ms: int  # when it last entered the queue
    claimed_ms: int | None  # first claim
    first_chunk_ms: int | None
    ended_ms: int | None
    deadline_ms: int | None
    usage: Usage  # until the end what is known so far
    cost: int  # nanos, of that
    fp8_cost: int  # nanos
    now_ms: int  # when this was read


@dataclass(frozen=True, slots=True)
class Story:
    """A request, and what happened to it: the oldest first, with a DROPPED in the middle when it was too much."""

    request: RequestView
    transitions: tuple[Transition, ...]


async def read_story(pipeline: Pipeline, shard: int, ref: RequestRef) -> Story:
    """See `broker.Broker.story`."""
    reply = await pipeline.run("story", [keys.request(shard, ref), keys.story(shard, ref)], keys.member(ref))
    if reply is None:
        raise RequestNotFound(f"request {ref.request_id!r} is not known")
    now, view, entries = replies.array(reply)
    return Story(_view(view, replies.integer(now)), tuple(map(transition, replies.strings(entries))))


async def read_recent(shards: Mapping[int, Pipeline], limit: int, tenant: str | None) -> list[RequestView]:
    """See `broker.Broker.recent`."""
    answers = await asyncio.gather(
        *(pipeline.run("recent", [keys.recent(shard)], limit, tenant or "") for shard, pipeline in shards.items())
    )
    views: list[RequestView] = []
    for answer in answers:
        now, entries = replies.array(answer)
        views += [_view(entry, replies.integer(now)) for entry in replies.array(entries)]
    # Stable: within a shard their order is that of admission.
    return sorted(views, key=lambda view: view.submitted_ms, reverse=True)[:limit]


def transition(entry: bytes) -> Transition:
    """One entry of a story (lua/lib/story.lua)."""
    time_ms, kind, who, epoch, number, detail = entry.decode(errors="replace").split(" ", 5)
    who = "" if who == "-" else who
    return Transition(int(time_ms), TransitionKind(kind), who, int(epoch), int(number), detail.strip())


def _view(reply: Reply, now_ms: int) -> RequestView:
    """Values in the order of lua/lib/view.lua."""
    ref, state, pool, decision, key, worker, profile, outcome, detail, *rest = cast("list[bytes]", reply)
    priority, epoch, attempts, submitted, queued, claimed, first_chunk, ended, deadline, *used = map(int, rest)
    prompt, cached, output, cost, fp8_cost = used
    return RequestView(
        ref=keys.parse_member(ref),
        state=RequestState(state.decode()),
        pool=pool.decode(),
        decision=decision,
        key=key.decode(),
        worker=worker.decode(),
        profile=profile,
        outcome=Outcome(outcome.decode()) if outcome else None,
        detail=detail.decode(errors="replace"),
        priority=Priority(priority),
        epoch=epoch,
        attempts=attempts,
        submitted_ms=submitted,
        queued_ms=queued,
        claimed_ms=claimed or None,
        first_chunk_ms=first_chunk or None,
        ended_ms=ended or None,
        deadline_ms=deadline or None,
        usage=Usage(prompt, cached, output),
        cost=cost,
        fp8_cost=fp8_cost,
        now_ms=now_ms,
    )
