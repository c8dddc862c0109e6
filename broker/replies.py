"""What the scripts answer, as the types of `broker.types`. The order of fields is that of the scripts' headers."""

import json
import re
from collections.abc import Sequence
from typing import Any, cast

from broker import keys
from broker.connection import Reply
from broker.types import (
    AccountState,
    AuditEvent,
    BrokerError,
    ChunkConflict,
    ChunkEvent,
    Claim,
    DeadLetter,
    Directive,
    EndEvent,
    Ending,
    Held,
    IndexOutOfRange,
    Lease,
    LeaseEnded,
    Orders,
    Outcome,
    PoolState,
    Priority,
    Reclaimed,
    Sickness,
    Usage,
    WorkerInfo,
)

_ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_HELD = {1: Held.YES, 2: Held.ENDED, 3: Held.FENCED}


def array(reply: Reply) -> list[Reply]:
    """A reply that must be an array."""
    if not isinstance(reply, list):
        raise BrokerError(f"expected an array from the server, not {reply!r}")
    return reply


def strings(reply: Reply) -> list[bytes]:
    """A reply that must be an array of strings."""
    return cast("list[bytes]", array(reply))


def integer(reply: Reply) -> int:
    """A number, which the server sends as an integer or in digits; nil is 0."""
    return int(cast("bytes | int | None", reply) or 0)


def text(reply: Reply) -> str:
    """A reply that must be a string."""
    return cast("bytes", reply).decode()


def held(reply: Reply) -> Held:
    return _HELD[integer(reply)]


def written(reply: Reply, index: int) -> Held:
    """The answer of append and finish. Raises IndexOutOfRange or ChunkConflict."""
    code, length = array(reply)
    if isinstance(code, int):
        return _HELD[code]
    if code == b"hole":
        raise IndexOutOfRange(index, integer(length))
    raise ChunkConflict(f"the log already holds {integer(length)} chunks; what is written at {index} is not among them")


def claim(reply: Reply, pool: str, worker: str) -> Claim:
    ref, epoch, attempt, remaining_ms, job, chunks, waited_ms, failures = array(reply)
    return Claim(
        lease=Lease(keys.parse_member(cast("bytes", ref)), pool, worker, integer(epoch)),
        job=cast("bytes", job),
        attempt=integer(attempt),
        chunks=tuple(strings(chunks)),
        remaining_ms=None if integer(remaining_ms) < 0 else integer(remaining_ms),
        waited_ms=integer(waited_ms),
        failures=integer(failures),
    )


def reclaimed(reply: Reply) -> Reclaimed:
    ref, worker, epoch, outcome = array(reply)
    return Reclaimed(
        keys.parse_member(cast("bytes", ref)),
        cast("bytes", worker).decode(),
        integer(epoch),
        Outcome(cast("bytes", outcome).decode()) if outcome else None,
    )


def ending(values: Sequence[bytes]) -> Ending:
    """Twelve values in the order of lua/lib/ending.lua."""
    outcome, detail, prompt, cached, output, attempts, profile, submitted, claimed, first_chunk, ended, index = values
    return Ending(
        outcome=Outcome(outcome.decode()),
        detail=detail.decode(errors="replace"),
        usage=Usage(int(prompt), int(cached), int(output)),
        attempts=int(attempts),
        profile=profile,
        submitted_ms=int(submitted),
        claimed_ms=int(claimed) or None,
        first_chunk_ms=int(first_chunk) or None,
        ended_ms=int(ended),
        next_index=int(index),
    )


def inbox_event(fields: list[bytes]) -> ChunkEvent | EndEvent | None:
    """One entry of an inbox; None for the entry that opens it."""
    kind = fields[0]
    if kind == b"chunk":
        return ChunkEvent(keys.parse_member(fields[1]), int(fields[3]), fields[5])
    if kind == b"end":
        return EndEvent(keys.parse_member(fields[1]), ending(fields[3::2]))
    return None


def lease_ended(entry: bytes) -> LeaseEnded:
    epoch, _, ref = entry.partition(b" ")
    return LeaseEnded(keys.parse_member(ref), int(epoch))


def dead_letter(entry: Reply, shard: int) -> DeadLetter:
    """One entry of a shard's stream of dead letters, whose id starts with its time in ms."""
    entry_id, values = array(entry)
    fields = dict(zip(strings(values)[::2], strings(values)[1::2], strict=True))
    return DeadLetter(
        letter_id=f"{text(entry_id)}-{shard}",
        ref=keys.parse_member(fields[b"ref"]),
        pool=fields[b"pool"].decode(),
        attempts=int(fields[b"attempts"]),
        detail=fields[b"detail"].decode(errors="replace"),
        worker=fields[b"worker"].decode(),
        died_ms=int(text(entry_id).partition("-")[0]),
    )


def account_state(reply: Reply) -> AccountState:
    """The answer of lua/account.lua."""
    requests, tokens, *numbers = map(integer, array(reply))
    return AccountState(requests / 60_000, tokens / 60_000, *numbers)


def pool_state(pool: str, workers: tuple[WorkerInfo, ...], shards: Sequence[Reply]) -> PoolState:
    """The answers of lua/pool.lua of all shards, summed."""
    parts = [array(shard) for shard in shards]
    rates = [float(text(part[2])) for part in parts if part[2] is not None]
    by_priority = list(enumerate(Priority))
    return PoolState(
        pool=pool,
        workers=workers,
        waiting_by_priority={p: sum(integer(part[3 + 2 * n]) for part in parts) for n, p in by_priority},
        oldest_ms_by_priority={p: max(integer(part[4 + 2 * n]) for part in parts) for n, p in by_priority},
        running=sum(integer(part[1]) for part in parts),
        waiting_tokens=sum(integer(part[0]) for part in parts),
        tokens_per_s=sum(rates) if rates else None,
    )


def before_entry(entry_id: str) -> str:
    """Where to start reading a stream backwards, behind an entry; from its end if empty. Raises ValueError."""
    if not entry_id:
        return "+"
    if _ENTRY_ID.fullmatch(entry_id) is None:
        raise ValueError(f"before_id {entry_id[:64]!r} is no entry's: use the cursor of a page")
    return f"({entry_id}"


def audit_event(entry: Reply) -> AuditEvent:
    """One entry of the audit log, whose id starts with its time in ms."""
    entry_id, values = array(entry)
    event_id = cast("bytes", entry_id).decode()
    texts = [value.decode(errors="replace") for value in strings(values)]
    return AuditEvent(event_id, int(event_id.partition("-")[0]), **dict(zip(texts[::2], texts[1::2], strict=True)))


def pack_worker(info: WorkerInfo) -> bytes:
    """A worker's description: one line of JSON, then the profile's bytes."""
    line = {
        "slots": info.slots,
        "running": info.running,
        "draining": info.draining,
        "quarantined": info.quarantined,
        "context_tokens": info.context_tokens,
        "ejected": info.ejected.value if info.ejected else None,
    }
    return json.dumps(line).encode() + b"\n" + info.profile


def worker(name: bytes, pool: str, description: bytes) -> WorkerInfo:
    line, _, profile = description.partition(b"\n")
    said: dict[str, Any] = json.loads(line)
    ejected: str | None = said.pop("ejected", None)
    return WorkerInfo(name.decode(), pool, profile, ejected=Sickness(ejected) if ejected else None, **said)


def orders(reply: Reply) -> Orders:
    directive, ejected, others = array(reply)
    return Orders(
        Directive(text(directive) or Directive.SERVE.value),
        Sickness(text(ejected)) if text(ejected) else None,
        integer(others),
    )
