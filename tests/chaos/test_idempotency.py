"""Promise 12: an id is one execution, however often, and wherever, it is sent."""

import asyncio

import pytest

from tests.chaos.conftest import MakeStack
from tests.chaos.history import Record
from tests.chaos.load import Bare, all_got, ask
from tests.chaos.scoreboard import Scoreboard
from tests.chaos.stack import ChaosStack
from tests.process.scripted import expected_tokens

pytestmark = [pytest.mark.timeout(120), pytest.mark.promise(12)]

TIMES = 50
TOKENS = 60


async def test_one_id_many_times_at_once(chaos_stack: MakeStack, board: Scoreboard, full: bool) -> None:
    rounds = 5 if full else 1
    stack = chaos_stack(engine={"token_ms": 5}, routers=2, workers=2)
    async with (
        Bare(stack.history, stack.targets[0], "acme") as one,
        Bare(stack.history, stack.targets[1], "acme") as two,
    ):
        for number in range(rounds):
            sent = [
                (one, two)[i % 2].generate("same", TOKENS, request_id=f"same-{number}", timeout=30)
                for i in range(TIMES)
            ]
            answers = await asyncio.gather(*sent)
            assert {answer.code.name for answer in answers} == {"OK"}
            assert {answer.record.tokens for answer in answers} == {expected_tokens("same", TOKENS)}
            assert executions(stack, answers[0].record) == 1
            other = await one.generate("another body", TOKENS, request_id=f"same-{number}", timeout=30)
            assert (other.code.name, other.reason) == ("ALREADY_EXISTS", "REQUEST_ID_TAKEN")
            stack.history.records.remove(other.record)  # its id is the others'
    async with stack.broker() as broker:
        (await stack.history.check(broker)).assert_sound()
    board.record(12, f"{rounds} ids {TIMES} times at 2 routers: 1 execution each; other body ALREADY_EXISTS", True)


async def test_sent_again_after_its_router_died(chaos_stack: MakeStack, board: Scoreboard) -> None:
    stack = chaos_stack(engine={"token_ms": 10}, routers=2)
    async with stack.client() as client, Bare(stack.history, stack.targets[1], "acme") as second:
        client_of_first = Bare(stack.history, stack.targets[0], "acme")
        first = asyncio.create_task(client_of_first.generate("again", 150, request_id="again-1", timeout=30))
        await all_got(stack.history, 1, 20)
        stack.history.note("kill router 1")
        stack.routers[0].kill()
        broken = await first
        assert broken.code.name == "UNAVAILABLE"
        again = await second.generate("again", 150, request_id="again-1", timeout=30)
        assert again.record.tokens == expected_tokens("again", 150)
        assert broken.record.tokens == again.record.tokens[: len(broken.record.tokens)]
        assert executions(stack, again.record) == 1
        # The SDK does all of this by itself.
        record = await ask(stack.history, client, "acme", "by itself", 20)
        assert not record.errors
        await client_of_first.close()
    async with stack.broker() as broker:
        verdict = await stack.history.check(broker)
    verdict.assert_sound({"UNAVAILABLE"})
    board.record(12, "sent again after its router's death: same stream", True)


def executions(stack: ChaosStack, record: Record) -> int:
    """How often a worker got the request."""
    changes = stack.story.changes(f"{record.tenant}/{record.request_id}")
    return sum(fields.get("state") == "running" for _, fields in changes)
