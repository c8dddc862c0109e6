"""Where a request's time went: waiting, prefill, decode, migration."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bitlane.request_types import RequestStory, Transition, TransitionKind


class Phase(StrEnum):
    """What a request was in."""

    QUEUE = "queue"
    """Waiting for its first worker."""
    PREFILL = "prefill"
    """From its first claim to its first token."""
    DECODE = "decode"
    """While tokens came, or should have come: a worker that is lost is missed when its lease runs out."""
    MIGRATION = "migration"
    """From the loss of a worker to the first token of the next one."""
    UNKNOWN = "unknown"
    """What was left out of a long story."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds in one phase."""

    phase: Phase
    seconds: float
    share: float
    """Of all, 0 to 1."""


_STARTS = {
    TransitionKind.SUBMITTED: Phase.QUEUE,
    TransitionKind.REPLAYED: Phase.QUEUE,
    TransitionKind.FIRST_TOKEN: Phase.DECODE,
    TransitionKind.RELEASED: Phase.MIGRATION,
    TransitionKind.RECLAIMED: Phase.MIGRATION,
}


def spent(story: RequestStory) -> list[Spent]:
    """What each phase took, those that took nothing left out; until now if the request has not ended."""
    seconds = dict.fromkeys(Phase, 0.0)
    phase: Phase | None = None
    since: datetime | None = None
    for step in (*story.transitions, None):
        moment = step.time if step else story.request.read_at
        if phase and since and moment:
            # What stands before a gap tells only of the time until its own next step, which is not there.
            lost = step is not None and step.kind is TransitionKind.DROPPED
            seconds[Phase.UNKNOWN if lost else phase] += max(0.0, (moment - since).total_seconds())
        since = moment
        phase = _next(phase, step) if step else None
    total = sum(seconds.values())
    return [Spent(phase, took, took / total) for phase, took in seconds.items() if took > 0]


def _next(phase: Phase | None, step: Transition) -> Phase | None:
    if step.kind is TransitionKind.ENDED:
        return None
    if step.kind is TransitionKind.DROPPED:
        return Phase.UNKNOWN
    if step.kind is TransitionKind.CLAIMED:
        return Phase.MIGRATION if phase in (Phase.MIGRATION, Phase.UNKNOWN) else Phase.PREFILL
    return _STARTS.get(step.kind, phase)


def losses(transitions: Sequence[Transition]) -> list[Transition]:
    """Where it left a worker before its end."""
    return [step for step in transitions if step.kind in (TransitionKind.RELEASED, TransitionKind.RECLAIMED)]
