"""How much of a timeout is left, across attempts."""

import math
import time


class Deadline:
    """A moment on the monotonic clock, or never."""

    __slots__ = ("_at",)

    def __init__(self, timeout: float | None) -> None:
        """`timeout` in seconds from now; None or infinity: never."""
        self._at = math.inf if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float:
        """Seconds left, at least 0; infinity when there is no deadline."""
        return max(0.0, self._at - time.monotonic())

    def grpc_timeout(self) -> float | None:
        """What gRPC wants: None for no deadline."""
        left = self.remaining()
        return None if left == math.inf else left
