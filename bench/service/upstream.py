"""A stand-in for a model server, spoken to without bitlane: `python -m bench.service.upstream --token-ms 5`.

Serves the inference service itself, a message for each token. Token i is the one of the `scripted` engine, so that all
variants send the same bytes.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from grpc import aio

from bitlane.v1 import inference_pb2 as pb
from workers.engines.scripted import scripted_text, scripted_token

# A stream whose prompt holds this text stops after so many tokens, and stays: as `hang_on` of the `scripted` engine.
HELD, HELD_TOKENS = "hold this", 3


class Upstream:
    """Answers at once, whoever asks."""

    def __init__(self, token_ms: float) -> None:
        self._gap_s = token_ms / 1000

    async def generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateEvent]:
        yield pb.GenerateEvent(accepted=pb.Accepted(request_id="upstream"))
        for i in range(request.sampling.max_tokens):
            if i:
                await asyncio.sleep(self._gap_s)
            if i == HELD_TOKENS and HELD in request.prompt:
                await asyncio.Event().wait()
            delta = pb.Delta(index=i, next_index=i + 1, text=scripted_text(request.prompt, i))
            delta.token_ids.append(scripted_token(request.prompt, i))
            yield pb.GenerateEvent(delta=delta)
        yield pb.GenerateEvent(finished=pb.Finished(reason=pb.FINISH_REASON_LENGTH))

    async def complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteResponse:
        prompt, count = request.request.prompt, request.request.sampling.max_tokens
        await asyncio.sleep(self._gap_s * (count - 1))
        return pb.CompleteResponse(
            request_id="upstream",
            text="".join(scripted_text(prompt, i) for i in range(count)),
            token_ids=[scripted_token(prompt, i) for i in range(count)],
            finish_reason=pb.FINISH_REASON_LENGTH,
        )

    def handler(self) -> grpc.GenericRpcHandler:
        """Two methods of the inference service."""
        return grpc.method_handlers_generic_handler(
            pb.DESCRIPTOR.services_by_name["InferenceService"].full_name,
            {
                "Generate": grpc.unary_stream_rpc_method_handler(
                    self.generate, pb.GenerateRequest.FromString, pb.GenerateEvent.SerializeToString
                ),
                "Complete": grpc.unary_unary_rpc_method_handler(
                    self.complete, pb.CompleteRequest.FromString, pb.CompleteResponse.SerializeToString
                ),
            },
        )


async def _serve(token_ms: float) -> None:
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Upstream(token_ms).handler(),))
    port = server.add_insecure_port("localhost:0")
    await server.start()
    print(json.dumps({"event": "bench.ready", "port": port}), file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--token-ms", type=float, default=0.0)
    uvloop.run(_serve(parser.parse_args().token_ms))
