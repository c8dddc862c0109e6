"""What every client sent and saw, and the check of all of it against the token logs once the run is over.

A `Record` is one request from its client's side. `History.check` reads every terminal state back and counts what was
lost, doubled, reordered or altered, what has no end or two, receipts that lie, and whatever is left behind in Redis.
Each violation comes with the request's story: what its client saw, its transitions in Redis, the processes' logs, and
the faults that were made meanwhile.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bitlane.internal.v1 import job_pb2
from broker import Broker
from broker.types import Attachment, BrokerUnavailable, Ending, Outcome, RequestNotFound, RequestRef
from tests.chaos import leftovers
from tests.chaos.story import Story
from tests.process.scripted import expected_text, expected_tokens

_IDLE_S = 30.0
_SHOWN = 5  # violations that are told whole
_OUTCOMES = {"stop": Outcome.STOP, "length": Outcome.LENGTH, "cancelled": Outcome.CANCELLED}


@dataclass(frozen=True, slots=True)
class Piece:
    """A delta as its client got it."""

    at: float  # time.time()
    index: int
    next_index: int
    token_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """A `finished` as its client got it."""

    at: float
    reason: str
    output_tokens: int
    attempts: int
    decided: str  # precision
    served: str  # precision by the profile of the worker; empty when none had started


@dataclass(slots=True)
class Record:
    """One request, as its client sees it. Times are seconds since the epoch."""

    tenant: str
    request_id: str
    prompt: str
    max_tokens: int
    sent: float = field(default_factory=time.time)
    precisions: frozenset[str] = frozenset()  # that may serve it; empty: any
    accepted: float | None = None
    pieces: list[Piece] = field(default_factory=list[Piece])
    finishes: list[Finish] = field(default_factory=list[Finish])
    errors: list[str] = field(default_factory=list[str])  # reasons; more than one if it was tried again by hand
    left: bool = False  # its client cancelled it, or went away
    attempts: int = 0  # calls that the client made for it, resumes included

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(token for piece in self.pieces for token in piece.token_ids)

    @property
    def pauses(self) -> list[float]:
        """Seconds between the deltas."""
        return [after.at - before.at for before, after in zip(self.pieces, self.pieces[1:], strict=False)]

    @property
    def longest_pause(self) -> float:
        return max(self.pauses, default=0.0)

    @property
    def first_token_s(self) -> float | None:
        return self.pieces[0].at - self.sent if self.pieces else None


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be."""

    kind: str
    record: Record | None
    detail: str

    def __str__(self) -> str:
        whose = f"{self.record.tenant}/{self.record.request_id}" if self.record else "the whole"
        return f"{self.kind}: {whose}: {self.detail}"


@dataclass(slots=True)
class Verdict:
    """What became of all requests of a run."""

    count: Counter[str] = field(default_factory=Counter[str])
    errors: Counter[str] = field(default_factory=Counter[str])
    violations: list[Violation] = field(default_factory=list[Violation])
    told: str = ""

    @property
    def sound(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.count.items()))
        return f"{counts}; errors: {dict(self.errors) or 'none'}; violations: {len(self.violations)}"

    def assert_sound(self, allowed_errors: Collection[str] = ()) -> None:
        """Fails with the stories of the first violations. `allowed_errors`: reasons that a client may be told."""
        assert self.sound, f"{self}\n{self.told}"
        unexpected = {reason: n for reason, n in self.errors.items() if reason not in allowed_errors}
        assert not unexpected, f"{self}\nclients were told {unexpected}"


class History:
    """All requests of a run, and the faults that were made."""

    def __init__(self, story: Story) -> None:
        self.records: list[Record] = []
        self.story = story

    def open(
        self, tenant: str, request_id: str, prompt: str, max_tokens: int, precisions: Collection[str] = ()
    ) -> Record:
        """A record for a request that is about to be sent."""
        record = Record(tenant, request_id, prompt, max_tokens, precisions=frozenset(precisions))
        self.records.append(record)
        return record

    def note(self, fault: str) -> None:
        """Remembers a fault that is made now."""
        self.story.note(fault)

    async def check(self, broker: Broker) -> Verdict:
        """Waits until nothing waits or runs, reads every request back, and tells what is wrong."""
        verdict = Verdict()
        verdict.violations += [Violation("left behind", None, fault) for fault in await leftovers.idle(broker, _IDLE_S)]
        for record in self.records:
            await self._check(record, broker, verdict)
        if verdict.violations:
            shown = verdict.violations[:_SHOWN]
            stories = [f"{v}\n{self.story.tell(v.record) if v.record else ''}" for v in shown]
            verdict.told = "\n\n".join([*stories, f"({len(verdict.violations)} violations in all)"])
        return verdict

    async def _check(self, record: Record, broker: Broker, verdict: Verdict) -> None:
        def wrong(kind: str, detail: str) -> None:
            verdict.violations.append(Violation(kind, record, detail))

        verdict.count["requests"] += 1
        verdict.count["accepted"] += record.accepted is not None
        verdict.count["tokens"] += len(record.tokens)
        verdict.count["resumes"] += max(0, record.attempts - 1)
        verdict.errors.update(record.errors)
        for kind, detail in token_faults(record):
            wrong(kind, detail)
        ends = len(record.finishes)
        if ends > 1 or (record.finishes and record.errors):
            wrong("two ends", f"{record.finishes} {record.errors}")
        if record.accepted is not None and not ends and not record.errors and not record.left:
            wrong("no end", "its client was told none")
        verdict.count["finished"] += bool(ends)
        for finish in record.finishes:
            verdict.count["migrated"] += finish.attempts > 1
            for kind, detail in receipt_faults(record, finish):
                wrong(kind, detail)
        attachment = await _read_back(broker, record)
        if attachment is None:
            if record.accepted is not None:
                wrong("no end", "it was accepted, and the server does not know it")
            return
        if attachment.ending is None:
            wrong("no end", "the server has none")
            return
        for kind, detail in log_faults(record, attachment, attachment.ending):
            wrong(kind, detail)


async def _read_back(broker: Broker, record: Record) -> Attachment | None:
    while True:
        try:
            return await broker.read_log(RequestRef(record.tenant, record.request_id), 0)
        except RequestNotFound:
            return None
        except BrokerUnavailable:
            await asyncio.sleep(0.1)


def token_faults(record: Record) -> list[tuple[str, str]]:
    """What is wrong with the tokens that the client saw. Each token of the scripted engine names its own position."""
    faults: list[tuple[str, str]] = []
    due = 0
    for piece in record.pieces:
        if piece.index > due:
            faults.append(("lost", f"chunk {due} was due and {piece.index} came"))
        elif piece.index < due:
            faults.append(("doubled", f"chunk {due} was due and {piece.index} came"))
        due = piece.next_index
    faults += order_faults("".join(piece.text for piece in record.pieces))
    if not faults and record.tokens != expected_tokens(record.prompt, len(record.tokens)):
        faults.append(("altered", "token ids differ from the script"))
    return faults


def order_faults(text: str) -> list[tuple[str, str]]:
    """Reads the positions 0, 1, 2, ... that the texts of the tokens begin with."""
    try:
        positions = [int(word.partition("-")[0]) for word in text.split()]
    except ValueError:
        return [("altered", f"text that the engine never says: {text[:100]!r}")]
    if positions == list(range(len(positions))):
        return []
    missing = sorted(set(range(max(positions, default=-1) + 1)) - set(positions))
    doubled = [position for position, n in Counter(positions).items() if n > 1]
    faults: list[tuple[str, str]] = []
    if missing:
        faults.append(("lost", f"tokens {missing[:10]}"))
    if doubled:
        faults.append(("doubled", f"tokens {doubled[:10]}"))
    return faults or [("reordered", f"tokens came as {positions[:50]}")]


def receipt_faults(record: Record, finish: Finish) -> list[tuple[str, str]]:
    """What a client can see to be wrong with an end."""
    faults: list[tuple[str, str]] = []
    if finish.output_tokens != len(record.tokens):
        faults.append(("receipt", f"says {finish.output_tokens} tokens, and {len(record.tokens)} came"))
    if finish.reason == "length" and len(record.tokens) != record.max_tokens:
        faults.append(("lost", f"{len(record.tokens)} of {record.max_tokens} tokens came, and the reason is `length`"))
    if finish.served and finish.served != finish.decided:
        faults.append(("receipt", f"decided {finish.decided}, and {finish.served} served"))
    if record.precisions and finish.served and finish.served not in record.precisions:
        faults.append(("wrong precision", f"{finish.served} served; allowed: {sorted(record.precisions)}"))
    return faults


def log_faults(record: Record, attachment: Attachment, ending: Ending) -> list[tuple[str, str]]:
    """What is wrong with the log, or differs between it and what the client saw."""
    faults: list[tuple[str, str]] = []
    chunks = [job_pb2.Chunk.FromString(chunk) for chunk in attachment.chunks]
    logged = tuple(token for chunk in chunks for token in chunk.token_ids)
    text = "".join(chunk.text for chunk in chunks)
    if logged != expected_tokens(record.prompt, len(logged)) or text != expected_text(record.prompt, len(logged)):
        faults += order_faults(text) or [("altered", "the log differs from the script")]
    if record.tokens != logged[: len(record.tokens)]:
        faults.append(("altered", "what the client saw is no beginning of the log"))
    if record.finishes:
        if len(record.tokens) != len(logged):
            faults.append(
                ("lost", f"the log holds {len(logged)} tokens; the client saw {len(record.tokens)} and an end")
            )
        if ending.outcome is not _OUTCOMES[record.finishes[0].reason]:
            faults.append(
                ("two ends", f"the client saw {record.finishes[0].reason}, the server {ending.outcome.value}")
            )
    if ending.usage.output_tokens != len(logged):
        faults.append(("receipt", f"the end counts {ending.usage.output_tokens} tokens of {len(logged)} in the log"))
    return faults


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of the values that at least the share `q` of all do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan
