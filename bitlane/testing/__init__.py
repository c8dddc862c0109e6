"""A fake bitlane server for tests: real gRPC on loopback, scripted replies, faults on demand.

    from bitlane import Client
    from bitlane.testing import Fault, FakeServer, Reply

    def test_survives_a_dropped_connection():
        with FakeServer(Reply(["Hello", ", ", "world"])) as server, Client(server.target) as client:
            server.inject(Fault.drop(after=2))
            assert client.generate("Hi", model="fake").text == "Hello, world"
            assert [call.method for call in server.calls] == ["Generate", "Resume"]

In asyncio tests use `async with FakeServer() as server`.
"""

from bitlane.testing.script import Call, Fault, Reply
from bitlane.testing.server import FakeServer

__all__ = ["Call", "FakeServer", "Fault", "Reply"]
