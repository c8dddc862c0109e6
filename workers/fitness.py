"""How a worker does of late, and when one that was ejected tries itself on a request. Pure: time is given to it.

The registry compares the figures of a pool's workers and says who is ejected (`broker/lua/lib/ejection.lua`).
"""

from collections import deque
from dataclasses import dataclass

from broker.types import Fitness, Sickness

# How far back figures look. A sick worker is to be out within 5 s.
WINDOW_S = 10.0
PROBE_S = 1.0
PROBE_MAX_S = 10.0
# Fewer tokens say nothing about how fast a worker is.
_TOKENS_MIN = 16
# Tokens come by the thousand: those of so long a time are kept as one.
_BUCKET_S = 0.25


@dataclass(slots=True)
class _Decoded:
    at: float
    tokens: int
    seconds: float  # of all streams together


class FitnessLog:
    """The latest attempts and tokens of one worker.

    Every time is in seconds, of one clock that only goes forward.
    """

    def __init__(self) -> None:
        self.ejected: Sickness | None = None
        self._attempts = deque[tuple[float, bool]]()
        self._decoded = deque[_Decoded]()
        self._delay = PROBE_S
        self._probe_at = 0.0

    def attempt(self, now: float, *, failed: bool) -> None:
        """An attempt came to its own end, or its engine failed on it. Whatever else ended it is not to be told."""
        if self.ejected is not None:
            if failed:
                self._forget()  # it has to do well from here on
            elif self.ejected is Sickness.FAILING:
                self._delay = PROBE_S  # once more, and it is well
            self._probe_at = now + self._delay
        self._attempts.append((now, failed))

    def decoded(self, now: float, tokens: int, seconds: float) -> None:
        """A stream got tokens so long after those before them."""
        if not self._decoded or now - self._decoded[-1].at > _BUCKET_S:
            self._decoded.append(_Decoded(now, 0, 0.0))
        self._decoded[-1].tokens += tokens
        self._decoded[-1].seconds += seconds

    def told(self, now: float, ejected: Sickness | None) -> bool:
        """Takes the registry's word; whether it is a new one. A new one begins the figures anew."""
        if ejected is self.ejected:
            return False
        self.ejected = ejected
        self._forget()
        self._delay = PROBE_S
        self._probe_at = now + PROBE_S
        return True

    def probe_in(self, now: float) -> float:
        """How long an ejected worker still waits before it may take one request."""
        return max(0.0, self._probe_at - now)

    def probed(self, now: float) -> None:
        """It took one: the next comes later, unless that one goes well."""
        if sum(each.tokens for each in self._decoded) >= _TOKENS_MIN:
            self._decoded.clear()  # it may be faster by now
        self._delay = min(PROBE_MAX_S, self._delay * 2)
        self._probe_at = now + self._delay

    def figures(self, now: float) -> Fitness:
        """Of the window; of an ejected worker all since it was ejected or last failed, because probes are few."""
        if self.ejected is None:
            while self._attempts and self._attempts[0][0] <= now - WINDOW_S:
                self._attempts.popleft()
            while self._decoded and self._decoded[0].at <= now - WINDOW_S:
                self._decoded.popleft()
        tokens = sum(each.tokens for each in self._decoded)
        seconds = sum(each.seconds for each in self._decoded)
        return Fitness(
            attempts=len(self._attempts),
            failed=sum(failed for _, failed in self._attempts),
            tokens_per_s=tokens / seconds if tokens >= _TOKENS_MIN and seconds > 0 else 0.0,
        )

    def _forget(self) -> None:
        self._attempts.clear()
        self._decoded.clear()
