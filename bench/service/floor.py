"""The floor: what a proxy costs that does nothing. `python -m bench.service.floor --upstream localhost:1234`.

Every call goes on to the upstream as it came and every message comes back as it came, as bytes: no queue, no log, no
policy, no account, nothing that outlives a crash. In grpc.aio on uvloop, as the router is.
"""

import argparse
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from grpc import aio


class _Forward(grpc.GenericRpcHandler):
    def __init__(self, channel: aio.Channel) -> None:
        self._channel: Any = channel

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        method = handler_call_details.method
        if method.endswith("/Generate"):
            stream = self._channel.unary_stream(method)

            async def forward(request: bytes, context: Any) -> AsyncIterator[bytes]:
                async for message in stream(request):
                    yield message

            return grpc.unary_stream_rpc_method_handler(forward)
        call = self._channel.unary_unary(method)

        async def forward_one(request: bytes, context: Any) -> bytes:
            return await call(request)

        return grpc.unary_unary_rpc_method_handler(forward_one)


async def _serve(upstream: str) -> None:
    async with aio.insecure_channel(upstream) as channel:
        server = aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((_Forward(channel),))
        port = server.add_insecure_port("localhost:0")
        await server.start()
        print(json.dumps({"event": "bench.ready", "port": port}), file=sys.stderr, flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    uvloop.run(_serve(parser.parse_args().upstream))
