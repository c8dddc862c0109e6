"""Single requests as `client.admin` shows them: how one is, and what happened to it. Never what they say.

All moments are by one clock, the server's. Money is `Decimal` in units of the service's currency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from bitlane.types import Decision, Priority, Profile, Usage

__all__ = ["RequestOutcome", "RequestState", "RequestStatus", "RequestStory", "Transition", "TransitionKind"]


class RequestState(StrEnum):
    """Where a request is."""

    UNSPECIFIED = "unspecified"
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    DEAD = "dead"
    """It failed on every attempt and is a dead letter."""


class RequestOutcome(StrEnum):
    """How a request ended."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    """By its client, which may have left."""
    DEADLINE = "deadline"
    """Its deadline passed."""
    REJECTED = "rejected"
    """The engine found the request itself at fault."""
    NOT_MIGRATABLE = "not_migratable"
    """Its worker was lost, and it could not go on with another one."""
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"


class TransitionKind(StrEnum):
    """What happened to a request."""

    UNSPECIFIED = "unspecified"
    SUBMITTED = "submitted"
    """A router queued it."""
    CLAIMED = "claimed"
    """A worker took it."""
    FIRST_TOKEN = "first_token"  # noqa: S105  # no password
    """A worker wrote its first part of the reply."""
    RELEASED = "released"
    """Its worker gave it back: it drains, or failed on it."""
    RECLAIMED = "reclaimed"
    """It was taken from a worker that let its lease run out."""
    FENCED = "fenced"
    """A worker that had lost it tried to write, and was refused."""
    ATTACHED = "attached"
    """A further router follows it, as after a resume."""
    ABANDONED = "abandoned"
    """A router follows it no longer: its client left."""
    CANCELLED = "cancelled"
    ENDED = "ended"
    REPLAYED = "replayed"
    """An operator queued the dead letter again."""
    DROPPED = "dropped"
    """Some transitions are not kept; the time is that of the last of them."""


@dataclass(frozen=True, slots=True)
class RequestStatus:
    """A request without its content. A moment is None when it has not come to that."""

    tenant: str
    request_id: str
    key: str
    """Name of the key that sent it."""
    state: RequestState
    priority: Priority
    decision: Decision
    worker: str
    """That has it, or had it last; empty when none had."""
    profile: Profile | None
    """Of that worker."""
    attempts: int
    """Workers that took it, less those that gave it back without having failed."""
    submitted_at: datetime | None
    queued_at: datetime | None
    """When it last entered the queue."""
    first_claimed_at: datetime | None
    first_token_at: datetime | None
    ended_at: datetime | None
    deadline: datetime | None
    outcome: RequestOutcome | None
    """None: it has not ended."""
    detail: str
    """Of the ending or the last failure."""
    usage: Usage
    """Until its end what is known so far."""
    cost: Decimal
    """Of that usage."""
    fp8_cost: Decimal
    """What the same tokens would have cost in FP8."""
    currency: str
    """Such as `USD`."""
    read_at: datetime | None
    """When this was read."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of a request's story."""

    time: datetime | None
    kind: TransitionKind
    router: str
    """The router that did it; of SUBMITTED, ATTACHED and ABANDONED."""
    worker: str
    """The worker that it is about; empty when there is none."""
    epoch: int
    """Of the lease that it is about: each claim has the next one. 0: of none."""
    attempt: int
    """Of CLAIMED."""
    failed: bool
    """Of RELEASED and RECLAIMED: whether the attempt counts as failed."""
    index: int
    """Of FIRST_TOKEN: index of its delta."""
    detail: str
    """Why, or how it ended."""
    dropped: int
    """Of DROPPED: so many."""


@dataclass(frozen=True, slots=True)
class RequestStory:
    """A request, and what happened to it, oldest first. Of a long story the middle is left out, and counted."""

    request: RequestStatus
    transitions: Sequence[Transition]
