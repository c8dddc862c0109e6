"""An admin service that remembers what it was asked, and answers what it was told."""

from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc import aio

from bitlane.background import BackgroundLoop
from bitlane.testing import Fault
from bitlane.v1 import admin_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"]


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


class ScriptedAdmin:
    """All 19 methods. Answers are given in their order, and the last one again; without one: the empty response."""

    def __init__(self) -> None:
        self.target = ""
        self.asked: list[Message] = []
        self.metadata: dict[str, str] = {}
        self.time_left = 0.0
        """Of the last call, with its metadata."""
        self.answers: defaultdict[str, deque[Message | Fault]] = defaultdict(deque)

    def answer(self, *answers: Message | Fault, method: str = "") -> None:
        for each in answers:
            self.answers[method or type(each).__name__.removesuffix("Response")].append(each)

    async def start(self) -> aio.Server:
        server = aio.server()
        handlers = {method.name: self._handler(method.name) for method in SERVICE.methods}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)])
        self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        return server

    def _handler(self, method: str) -> "grpc.RpcMethodHandler[Any, Any]":
        async def rpc(request: Message, context: "aio.ServicerContext[Any, Any]") -> Message:
            self.asked.append(request)
            self.metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
            self.time_left = context.time_remaining()
            answers = self.answers[method]
            answer = answers.popleft() if len(answers) > 1 else answers[0] if answers else None
            if isinstance(answer, Fault):
                await context.abort(grpc.StatusCode[answer.code], answer.message, tuple(answer.trailers()))
            return answer or getattr(pb, f"{method}Response")()

        return grpc.unary_unary_rpc_method_handler(rpc, getattr(pb, f"{method}Request").FromString, _serialize)


@asynccontextmanager
async def scripted() -> AsyncGenerator[ScriptedAdmin]:
    """In this event loop."""
    service = ScriptedAdmin()
    server = await service.start()
    yield service
    await server.stop(None)


@contextmanager
def scripted_in_thread() -> Generator[ScriptedAdmin]:
    """For blocking tests."""
    service, loop = ScriptedAdmin(), BackgroundLoop("scripted-admin")
    server = loop.run(service.start())
    yield service
    loop.run(server.stop(None))
    loop.close()
