"""Without any fault: a request is served. What fails this has broken more than a fence (`tests/chaos/mutations.py`)."""

from tests.chaos.conftest import MakeStack
from tests.chaos.load import ask
from tests.process.scripted import expected_tokens


async def test_a_plain_request_is_served(chaos_stack: MakeStack) -> None:
    stack = chaos_stack()
    async with stack.client() as client:
        record = await ask(stack.history, client, "acme", "plain", 20, timeout=60)
    assert record.finishes, record.errors
    assert record.tokens == expected_tokens("plain", 20)
