"""Any order of transitions keeps the invariants: a stateful property test against a real server."""

import sys
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from deploy.local.server import LocalServer
from tests.contract.broker.machine import BrokerMachine

# What a run must have seen to be worth its time: each answer of each transition.
MUST_HAPPEN = {
    *("submit: accepted", "submit: joined", "submit: conflict", "submit: queue_full"),
    *("claim: 1", "claim: 2", "append: yes", "append: ended", "append: fenced", "append: hole", "append: conflict"),
    *(
        "renew: yes",
        "renew: fenced",
        "finish: yes",
        "finish: fenced",
        "finish: hole",
        "release: waiting",
        "release: dead",
        "release: fenced",
    ),
    *("reclaim: waits again", "reclaim: attempts_exhausted", "reclaim: not_migratable", "reclaim: deadline"),
    *(
        "cancel: waiting",
        "cancel: running",
        "cancel: finished",
        "attach: running",
        "attach: finished",
        "abandon: ended",
        "router dies",
    ),
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
