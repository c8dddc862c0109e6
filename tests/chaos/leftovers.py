"""What must be gone when nothing waits and nothing runs: slots, leases, queues, reservations, prompts."""

import asyncio
import inspect
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
    """Which of the broker's invariants do not hold. They are the contract tests' own, new ones included."""
    given = {"space": space, "requests": space.named("req:"), "replayed": ()}
    found: list[str] = []
    for name, check in inspect.getmembers(invariants, inspect.isfunction):
        asked = inspect.signature(check).parameters
        if name in _NOT_HERE or check.__module__ != invariants.__name__ or not asked.keys() <= given.keys():
            continue
        try:
            check(**{parameter: given[parameter] for parameter in asked})
        except KeyError:
            continue  # an inbox tells of a request that has expired since
        except AssertionError as error:
            found.append(f"{name}: {check.__doc__} {error}"[:500])
    return found


# All of them together, and one that is about the chunks of those tests.
_NOT_HERE = frozenset({"check", "logs_without_holes"})
