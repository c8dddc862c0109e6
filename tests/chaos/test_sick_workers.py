"""Promise 16: a worker that fails, or is much slower than its peers, gets no more work until it is well again."""

import asyncio
import time
from datetime import datetime

import pytest

from broker import Broker
from tests.chaos.conftest import MakeStack
from tests.chaos.history import Record
from tests.chaos.load import ask, closed_loop
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import FP8, ChaosStack

pytestmark = [pytest.mark.timeout(180), pytest.mark.promise(16)]

OUT_S = 5.0
# What a sick worker may still get once it is out: probes.
PROBES = 0.05


@pytest.mark.parametrize(
    "sickness", [{"fail_on": "work", "token_ms": 5}, {"token_ms": 50}], ids=["fails-always", "ten-times-slower"]
)
async def test_a_sick_worker_is_out_within_seconds(
    chaos_stack: MakeStack, board: Scoreboard, full: bool, sickness: dict[str, object]
) -> None:
    seconds = 15.0 if full else 8.0
    stack = chaos_stack(engine={"token_ms": 5, "slots": 8}, workers=2, lease_ms=2000)
    sick = stack.add_odd_worker(FP8, slots=8, **sickness)
    await stack.ready(sick)
    over = time.monotonic() + OUT_S + seconds
    async with stack.client() as client, stack.broker() as broker:

        async def turn(user: int, number: int) -> None:
            await ask(stack.history, client, "acme", f"work {user} {number}", 20, pin="fp8")

        began = time.time()
        await closed_loop(20, lambda: time.monotonic() > over, turn)
        tries = {record.request_id: workers_of(stack, record).count(sick.name) for record in stack.history.records}
        later = [record for record in stack.history.records if record.sent > began + OUT_S]
        by_sick = [record for record in later if tries[record.request_id]]
        verdict = await stack.history.check(broker)
        states = await states_of(broker)
    share = len(by_sick) / len(later)
    verdict.assert_sound()
    assert share <= PROBES, f"{share:.0%} of the requests still went to the sick worker"
    assert max(tries.values()) == 1, f"one request was tried there {max(tries.values())} times"
    assert by_sick, "it is never probed, and so would never be taken back"
    ejected = datetime.fromisoformat(str(sick.wait_for("worker.ejected", 0.0)["timestamp"]))
    out_s = ejected.timestamp() - began
    board.record(
        16, f"{sick.name}: out after {out_s:.1f} s, then {share:.1%} of the requests; {states}", out_s <= OUT_S
    )


async def test_not_all_are_ejected(chaos_stack: MakeStack, board: Scoreboard) -> None:
    """All fail on these prompts, so none is worse than its peers: other prompts are served at once."""
    stack = chaos_stack(engine={"fail_on": "trouble", "token_ms": 2}, workers=2, lease_ms=2000)
    async with stack.client() as client, stack.broker() as broker:
        await asyncio.gather(
            *(ask(stack.history, client, "acme", f"trouble {i}", 10, pin="fp8", timeout=20) for i in range(30))
        )
        await asyncio.sleep(1.0)
        (state,) = await broker.pools([FP8])
        serving = [worker for worker in state.workers if worker.ejected is None]
        fine = await ask(stack.history, client, "acme", "fine", 10, pin="fp8", timeout=5)
        assert fine.finishes, fine.errors
    # Who fails first may be out until its peers have failed as well; half of them stay in whatever happens.
    assert len(serving) * 2 >= len(state.workers) == 2
    board.record(16, f"all fail: {len(serving)} of {len(state.workers)} left in", True)


def workers_of(stack: ChaosStack, record: Record) -> list[str]:
    """Who worked on a request, once for each attempt."""
    changes = stack.story.changes(f"{record.tenant}/{record.request_id}")
    return [fields["worker"] for _, fields in changes if "worker" in fields]


async def states_of(broker: Broker) -> str:
    (state,) = await broker.pools([FP8])
    return ", ".join(f"{worker.worker} {worker.ejected.value if worker.ejected else 'in'}" for worker in state.workers)
