"""With waiting requests: what it costs to admit one more, and to let it go, behind so many of them."""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from bench.growth.curve import Curve
from bench.growth.holder import held
from bench.service import parts
from bench.service.load import Work
from bench.service.measure import measure
from bench.service.upstream import HELD
from bench.service.variants import BITLANE, Variant, of_stack
from broker import Broker, BrokerOptions
from broker.types import Submission
from deploy.local.stack import Stack
from tests.contract.broker.requests import make_submission

WAITING = (10, 1_000, 100_000)
GROWS = "waiting requests"
ROUTER, REDIS = "router CPU to admit and let go, us", "Redis CPU to admit and let go, us"
_POOL = "smollm2/fp8"
_TENANTS = 1_000
_AT_ONCE = 500
_FOREVER_S = 10**6


def measure_waiting(rounds: int, numbers: Sequence[int] = WAITING) -> list[Curve]:
    """A service for each number, whose only slot is held, so that its queues stay as they are."""
    router, redis = Curve(ROUTER, GROWS, BITLANE), Curve(REDIS, GROWS, BITLANE)
    with ExitStack() as started:
        variants: dict[int, Variant] = {}
        for waiting in numbers:
            variants[waiting] = _full(started, waiting)
        for waiting, variant in variants.items():
            measure(variant, _work(variant, waiting, "warm-up"))
        for number in range(rounds):
            for waiting in (*numbers[number % len(numbers) :], *numbers[: number % len(numbers)]):
                one = measure(variants[waiting], _work(variants[waiting], waiting, str(number)))
                router.add(waiting, 1e6 * one.cpu_s["proxy"] / one.requests)
                redis.add(waiting, 1e6 * one.cpu_s["redis"] / one.requests)
    return [router, redis]


def _work(variant: Variant, waiting: int, tag: str) -> Work:
    return Work(target=variant.target, requests=400, at_once=16, tokens=4, leave=True, tag=f"{waiting} {tag}")


def _full(started: ExitStack, waiting: int) -> Variant:
    """A service whose only slot is held, with so many requests waiting for it."""
    folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
    stack = Stack(
        engine="scripted",
        engine_options=json.dumps({"slots": 1, "hang_on": HELD}),
        config=_one_queue(parts.configuration(folder)),
        telemetry=started.enter_context(parts.telemetry(True)),
    )
    (variant,) = of_stack(started.enter_context(stack).start(), BITLANE)
    started.enter_context(held(variant.target, 1))
    asyncio.run(_fill(stack.server.url, waiting))
    return variant


def _one_queue(path: Path) -> Path:
    """All requests go to one pool, whatever they are, and it refuses none."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for model in config["models"]:
        model["pools"] = [{"precision": "FP8", "max_waiting": 10**6}]
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


async def _fill(url: str, waiting: int) -> None:
    async with Broker(BrokerOptions(url=url, timeout_s=30)) as broker:
        for first in range(0, waiting, _AT_ONCE):
            numbers = range(first, min(waiting, first + _AT_ONCE))
            await asyncio.gather(*(broker.submit(_submission(number)) for number in numbers))


def _submission(number: int) -> Submission:
    return make_submission(
        str(number),
        f"waiting-{number % _TENANTS}",
        pool=_POOL,
        job=b"x" * 200,
        router="nobody",
        timeout_ms=1000 * _FOREVER_S,
        prompt_tokens=50,
        output_tokens=200,
    )
