"""What must be gone when nothing waits and nothing runs: slots, leases, queues, reservations, prompts."""

import asyncio
import time

from broker import Broker
from broker.types import BrokerUnavailable
from tests.contract.broker import invariants
from tests.contract.broker.keyspace import Keyspace, read_keyspace

_POLL_S = 0.1


async def idle(broker: Broker, within_s: float) -> list[str]:
    """Waits until no request waits or runs; returns what is wrong then, or what still goes on after that time."""
    until = time.monotonic() + within_s
    while True:
        try:
            busy = await _busy(broker)
            if not busy:
                break
        except BrokerUnavailable as error:
            busy = [str(error)]
        if time.monotonic() > until:
            return [f"not idle after {within_s:g} s: {busy}"]
        await asyncio.sleep(_POLL_S)
    return faults(await read_keyspace(broker))


async def _busy(broker: Broker) -> list[str]:
    """Requests that wait or run, found without a look at all keys."""
    found: list[str] = []
    for pattern in ("bl:{0}:lease:*", "bl:{0}:q:*"):
        names = await broker._shards[0].command("KEYS", pattern)  # pyright: ignore[reportPrivateUsage]
        found += [name.decode() for name in names]  # type: ignore[union-attr]
    return found


def faults(space: Keyspace) -> list[str]:
    """What breaks the broker's invariants, as the contract tests have them. A replayed dead letter ends twice."""
    requests = space.named("req:")
    found: list[str] = []
    for check in _CHECKS:
        try:
            check(space, requests)
        except KeyError:
            continue  # an inbox tells of a request that has expired since
        except AssertionError as error:
            found.append(f"broken: {check.__doc__} {error}"[:500])
    try:
        invariants.jobs_only_while_needed(requests)
    except AssertionError:
        found.append("broken: prompt bytes of a request that has ended")
    return found


_CHECKS = (
    invariants.one_state,
    invariants.ends_once,
    invariants.reserved_is_the_sum,
    invariants.nothing_left_when_idle,
    invariants.fair_sets_follow_the_queues,
)
