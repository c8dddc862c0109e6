"""Any order of transitions keeps the invariants: a stateful property test against a real server."""

import sys
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from broker.types import Limit
from deploy.local.server import LocalServer
from tests.contract.broker.machine import BrokerMachine

# What a run must have seen to be worth its time. Rarer answers have a test of their own in test_lifecycle.py; to demand
# them here as well would make the test fail by chance.
MUST_HAPPEN = {
    *("submit: accepted", "submit: joined", "submit: conflict", "submit: pool_full", "submit: too_late"),
    *(f"submit: over_limit: {limit.value}" for limit in Limit),
    *("claim: 1", "claim: 2", "claim: 3"),
    *("append: yes", "append: ended", "append: fenced", "renew: yes", "renew: fenced", "finish: yes", "finish: fenced"),
    *("release: waiting", "release: fenced", "reclaim: waits again", "attach: waiting", "attach: finished"),
    *("cancel: waiting", "cancel: running", "cancel: finished", "abandon: ended"),
}


@pytest.mark.timeout(300)
def test_any_order_of_transitions_keeps_the_invariants(shared_server: LocalServer) -> None:
    seen: Counter[str] = Counter()
    machine = type("Machine", (BrokerMachine,), {"url": shared_server.url, "count": seen})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=400,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        ),
    )
    # Shown by `pytest -s`, and with a failure.
    sys.stdout.write("\n".join(f"{count:6} {step}" for step, count in sorted(seen.items())) + "\n")
    assert seen.keys() >= MUST_HAPPEN, f"never seen: {sorted(MUST_HAPPEN - seen.keys())}"
