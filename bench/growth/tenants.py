"""With tenants: what a request costs router and Redis when the requests come from so many of them."""

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.growth.curve import Curve
from bench.service import parts
from bench.service.load import Work
from bench.service.measure import measure
from bench.service.variants import BITLANE, of_stack
from deploy.local.stack import Stack

TENANTS = (1, 10, 100, 1_000)
GROWS, ROUTER, REDIS = "tenants", "router CPU a request, us", "Redis CPU a request, us"


def measure_tenants(rounds: int, numbers: Sequence[int] = TENANTS) -> list[Curve]:
    """All tenants exist all the time; the load comes from one or many of them."""
    router, redis = Curve(ROUTER, GROWS, BITLANE), Curve(REDIS, GROWS, BITLANE)
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        names = [parts.TENANT, *(f"{parts.TENANT}-{n}" for n in range(max(numbers)))]
        stack = Stack(
            engine="scripted",
            engine_options=json.dumps({"slots": 64}),
            config=parts.configuration(folder, tenants=names),
            telemetry=started.enter_context(parts.telemetry(True)),
        )
        (variant,) = of_stack(started.enter_context(stack).start(), BITLANE)

        def work(tenants: int, requests: int, tag: str) -> Work:
            tag = f"{tenants} {tag}"
            return Work(target=variant.target, requests=requests, at_once=16, tokens=4, tag=tag, tenants=tenants)

        # Each tenant's first request makes its account.
        for tenants in numbers:
            measure(variant, work(tenants, max(200, tenants), "warm-up"))
        for number in range(rounds):
            for tenants in (*numbers[number % len(numbers) :], *numbers[: number % len(numbers)]):
                one = measure(variant, work(tenants, 400, str(number)))
                router.add(tenants, 1e6 * one.cpu_s["proxy"] / one.requests)
                redis.add(tenants, 1e6 * one.cpu_s["redis"] / one.requests)
    return [router, redis]
