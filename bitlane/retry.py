"""When a failed attempt is made again, and after how long. Pure: no I/O, no clock; the dice are passed in.

The SDK does all retrying itself and switches gRPC's own off, so that attempts never multiply; see
docs/decisions/003-sdk-retry-and-resume.md.
"""

from dataclasses import dataclass

from bitlane.errors import BitlaneError, QuotaExceeded, Unavailable

__all__ = ["RetryBudget", "RetryPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a client retries and resumes. `RetryPolicy.none()` does neither.

    Before a reply's first event, and for the calls that do not stream, a failed attempt is made again within
    `max_attempts` and the budget. After the first event a broken stream is resumed within `resume_window`; that is not
    charged to the budget, because the reply is being computed anyway and giving up on it would waste the work.
    """

    max_attempts: int = 5
    """Attempts until the first event, the first included. 1: no retries."""
    initial_backoff: float = 0.1
    """Seconds; the wait before retry n is random between 0 and initial_backoff * multiplier ** n."""
    backoff_multiplier: float = 2.0
    max_backoff: float = 2.0
    """Seconds; no random wait is longer."""
    max_quota_wait: float = 30.0
    """Seconds; the longest wait that a QuotaExceeded may ask for and still be retried. 0: never retried."""
    budget: float = 10.0
    """Retries that a client may make when nothing succeeds at all. A connection that breaks costs one, however many
    calls were waiting on it: each of them may be made again once."""
    budget_per_success: float = 0.2
    """Retries that each success adds, up to `budget`: retries stay within 20 % of the successes."""
    connect_window: float = 5.0
    """Seconds after the connections to all targets were lost, within which a call waits for one to come back before it
    is made. A call that waits is no attempt and costs no budget. 0: never waits."""
    resume_window: float = 60.0
    """Seconds after a break without a new token, after which the stream is given up. 0: never resumed. The server
    keeps a reply for 60 s by default."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if self.backoff_multiplier < 1:
            raise ValueError(f"backoff_multiplier must be at least 1, got {self.backoff_multiplier}")
        for name in (
            "initial_backoff",
            "max_backoff",
            "max_quota_wait",
            "connect_window",
            "budget",
            "budget_per_success",
            "resume_window",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @classmethod
    def none(cls) -> "RetryPolicy":
        """Every fault is raised at once."""
        return cls(max_attempts=1, connect_window=0, resume_window=0)

    def ceiling(self, failures: int) -> float:
        """The longest random wait in seconds after that many failures in a row (at least 1)."""
        # An exponent without bound would overflow long before the window ends.
        exponent = min(failures - 1, 64)
        return min(self.max_backoff, self.initial_backoff * self.backoff_multiplier**exponent)

    def delay(self, error: BitlaneError, failures: int, dice: float) -> float | None:
        """Seconds to wait before the next attempt, or None when the error is not to be retried.

        `dice` is uniform in 0 to 1: full jitter, which also spreads the clients that were told the same wait.
        """
        if error.final:
            return None
        wait = dice * self.ceiling(failures)
        if isinstance(error, Unavailable):
            return wait + (error.retry_after or 0.0)
        if isinstance(error, QuotaExceeded) and error.retry_after is not None:
            return wait + error.retry_after if error.retry_after <= self.max_quota_wait else None
        return None


class RetryBudget:
    """A token bucket that keeps retries from becoming a storm.

    Invariant: retries <= capacity + per_success * successes, where the calls that one break of a connection met count
    as one. When nothing succeeds, retries end after `capacity`.
    """

    __slots__ = ("_break_met", "_capacity", "_per_success", "_tokens")

    def __init__(self, capacity: float, per_success: float) -> None:
        self._capacity = capacity
        self._per_success = per_success
        self._tokens = capacity
        self._break_met = float("-inf")

    def earn(self) -> None:
        """A call succeeded."""
        self._tokens = min(self._capacity, self._tokens + self._per_success)

    def spend(self) -> bool:
        """Takes one retry out of the budget; False when it is empty."""
        # 0.2 five times is a hair below 1 in binary.
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens = max(0.0, self._tokens - 1)
        return True

    def spend_on_break(self, began: float, now: float) -> bool:
        """The same for a call's first attempt, begun at `began`, whose connection broke.

        All that were under way when the break was first met are paid for by one retry. Both times are seconds of one
        clock that only rises.
        """
        if began < self._break_met:
            return True
        if not self.spend():
            return False
        self._break_met = now
        return True
