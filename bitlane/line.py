"""What all calls of one client share, and the retrying of whatever has not begun yet."""

import asyncio
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from grpc import aio

from bitlane.channel import Channels
from bitlane.deadline import Deadline
from bitlane.errors import Aborted, BitlaneError, ConnectionFailed, Unavailable
from bitlane.faults import from_rpc_error, not_sent
from bitlane.retry import RetryBudget, RetryPolicy

_Result = TypeVar("_Result")
Metadata: TypeAlias = Sequence[tuple[str, str]]


async def guarded(awaitable: Awaitable[_Result], request_id: str | None) -> _Result:
    """Awaits a gRPC call; its failure comes out as the SDK's error, with no trace of gRPC's in its context."""
    try:
        return await awaitable
    except aio.AioRpcError as error:
        fault = from_rpc_error(error, request_id)
    except asyncio.CancelledError:
        # gRPC also raises this when the channel was closed under the call. Only the task knows which it was.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        fault = Aborted("the client was closed", request_id=request_id)
    except aio.UsageError:
        fault = Aborted("the client was closed", request_id=request_id)
    raise fault


class Line:
    """What all calls of one client share: its channels, policy, budget and metadata."""

    def __init__(self, channels: Channels, policy: RetryPolicy, metadata: Metadata) -> None:
        self.channels = channels
        self.policy = policy
        self.budget = RetryBudget(policy.budget, policy.budget_per_success)
        self.metadata = metadata
        self._calls: weakref.WeakSet[aio.Call] = weakref.WeakSet()

    def track(self, call: aio.Call) -> None:
        """Has the call end with the client."""
        self._calls.add(call)

    async def close(self) -> None:
        """Ends all calls and connections. Can be called again."""
        # Closing a channel does not end every call on it: gRPC looks for them among the tasks and misses some.
        for call in list(self._calls):
            call.cancel()
        await self.channels.close()

    async def unary(
        self,
        start: "Callable[[Deadline], aio.UnaryUnaryCall[Any, _Result]]",
        deadline: Deadline,
        request_id: str | None = None,
        *,
        repeatable: bool = True,
    ) -> _Result:
        """Makes a call until it succeeds or the policy ends it.

        One that is not safe to repeat is made again only where the first attempt did certainly not reach a server.
        """
        failures = 0
        while True:
            await self.reach(deadline, request_id)
            target, began = self.channels.current, time.monotonic()
            call = start(deadline)
            self.track(call)
            try:
                result = await guarded(call, request_id)
            except BitlaneError as error:
                failures += 1
                if not (repeatable or not_sent(error)):
                    self._leave(error, target)
                    raise
                await self.wait(error, failures, deadline, target, began)
            else:
                self.budget.earn()
                return result

    async def reach(self, deadline: Deadline, request_id: str | None) -> None:
        """Waits until a call can be sent to somebody, or there is no hope of that. Aborted: the client was closed."""
        was_closed = self.channels.closed
        await self.channels.reach(deadline, self.policy.connect_window)
        if self.channels.closed and not was_closed:
            raise Aborted("the client was closed", request_id=request_id)

    async def wait(self, error: BitlaneError, failures: int, deadline: Deadline, target: int, began: float) -> None:
        """Waits until a first event may be tried for again; raises the error when it may not.

        `began` is when the failed attempt was made, by time.monotonic.
        """
        delay = self.policy.delay(error, failures, random.random())
        if delay is None or failures >= self.policy.max_attempts or delay >= deadline.remaining():
            raise error
        if failures == 1 and isinstance(error, ConnectionFailed):
            paid = self.budget.spend_on_break(began, time.monotonic())
        else:
            paid = self.budget.spend()
        if not paid:
            raise error
        await self.pause(error, delay, target)

    async def pause(self, error: BitlaneError, delay: float, target: int) -> None:
        self._leave(error, target)
        await asyncio.sleep(delay)

    def _leave(self, error: BitlaneError, target: int) -> None:
        if isinstance(error, Unavailable):
            self.channels.fail_over(target)
