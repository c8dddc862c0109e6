"""The fake service behind FakeServer: keeps requests by id, so that Resume, Cancel and idempotency work."""

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message as ProtoMessage
from grpc import aio

from bitlane import convert
from bitlane.testing.script import Call, Fault, Method, Reply
from bitlane.types import FinishReason, Precision, Task
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1 import inference_pb2_grpc as pb_grpc

Script: TypeAlias = Callable[[pb.GenerateRequest], Reply]
Context: TypeAlias = "aio.ServicerContext[Any, Any]"

CONTEXT_TOKENS = 8192


@dataclass(slots=True)
class Run:
    """One request that was accepted, and its log."""

    request: pb.GenerateRequest
    reply: Reply
    decision: pb.Decision
    released: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    """The most chunks that any reader got."""
    over: bool = False

    def usage(self) -> pb.Usage:
        return pb.Usage(prompt_tokens=len(_text(self.request).split()), output_tokens=self.sent)


def _text(request: pb.GenerateRequest) -> str:
    return request.prompt or " ".join(message.content for message in request.messages)


class FakeService(pb_grpc.InferenceServiceServicer):
    """The RPCs. Everything runs in the server's event loop."""

    def __init__(self, script: Script, models: tuple[str, ...], api_key: str | None) -> None:
        self.script = script
        self.models = models
        self.api_key = api_key
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.runs: dict[str, Run] = {}
        self.secrets: set[str] = set()
        """SHA-256 of the keys that are let in beside `api_key`."""
        self._ids = itertools.count(1)

    async def Generate(  # noqa: N802  # named by the protocol
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateEvent]:
        async with self.call("Generate", request.request_id, request, context) as fault:
            await self.fail_early(fault, context)
            request_id, run = await self._accept(request, context)
            async for event in self._events(request_id, run, 0, fault, context):
                yield event

    async def Resume(  # noqa: N802
        self, request: pb.ResumeRequest, context: Context
    ) -> AsyncIterator[pb.GenerateEvent]:
        async with self.call("Resume", request.request_id, request, context) as fault:
            await self.fail_early(fault, context)
            run = await self._find(request.request_id, context)
            async for event in self._events(request.request_id, run, request.next_index, fault, context):
                yield event

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:  # noqa: N802
        async with self.call("Complete", request.request.request_id, request.request, context) as fault:
            await self.fail_early(fault, context)
            request_id, run = await self._accept(request.request, context)
            end = pb.Finished()
            async for event in self._events(request_id, run, 0, None, context):
                end = event.finished
            text = "".join(run.reply.chunks[: run.sent])
            return pb.CompleteResponse(
                request_id=request_id, text=text, finish_reason=end.reason, usage=end.usage, receipt=end.receipt
            )

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:  # noqa: N802
        async with self.call("Cancel", request.request_id, request, context) as fault:
            await self.fail_early(fault, context)
            run = await self._find(request.request_id, context)
            reason = FinishReason.CANCELLED if not run.over or run.cancelled.is_set() else run.reply.finish_reason
            response = pb.CancelResponse(
                cancelled=not run.over,
                reason=pb.FinishReason.Value(f"FINISH_REASON_{reason.name}"),
                usage=run.usage(),
            )
            run.cancelled.set()
            run.over = True
            return response

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:  # noqa: N802
        async with self.call("Explain", request.request.request_id, request.request, context) as fault:
            await self.fail_early(fault, context)
            await self._check(request.request, context)
            decision = self._decide(request.request, self.script(request.request))
            response = pb.ExplainResponse(
                decision=decision,
                pools=[self._pool(request.request.model, each) for each in ("FP4", "FP8")],
                estimated_prompt_tokens=len(_text(request.request).split()),
            )
            asked = request.request.precision.WhichOneof("preference")
            response.steps.add(name="client preference", applied=bool(asked), detail=f"asks for {asked or 'nothing'}")
            response.steps.add(name="default map", applied=not asked, detail="low sensitivity goes to FP4")
            return response

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        async with self.call("ListModels", "", request, context) as fault:
            await self.fail_early(fault, context)
            response = pb.ListModelsResponse()
            for name in self.models:
                pools = [self._pool(name, each) for each in ("FP4", "FP8")]
                response.models.add(name=name, context_tokens=CONTEXT_TOKENS, pools=pools)
            return response

    @asynccontextmanager
    async def call(
        self, method: Method, request_id: str, request: ProtoMessage, context: Context
    ) -> AsyncGenerator[Fault | None]:
        """Records the call and picks its fault."""
        pairs = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        left = context.time_remaining()
        # gRPC gives a year or so, or None, when there is no deadline.
        timeout = left if left is not None and left < 1e7 else None  # pyright: ignore[reportUnnecessaryComparison]
        call = Call(method, request_id, request, pairs, timeout)
        self.calls.append(call)
        if self.api_key is not None and not self._lets_in(pairs.get("authorization", "").removeprefix("Bearer ")):
            call.outcome = "failed"
            call.ended.set()
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid API key")
        fault = next((each for each in self.faults if each.times > 0 and each.method in (None, method)), None)
        if fault is not None:
            fault.times -= 1
        try:
            yield fault
            call.outcome = "ok"
        except (asyncio.CancelledError, GeneratorExit):
            call.outcome = "cancelled"
            raise
        except BaseException:
            call.outcome = "failed"
            raise
        finally:
            call.ended.set()

    def _lets_in(self, secret: str) -> bool:
        return secret == self.api_key or hashlib.sha256(secret.encode()).hexdigest() in self.secrets

    async def fail_early(self, fault: Fault | None, context: Context) -> None:
        if fault is not None and fault.after is None:
            await self.fail(fault, context)

    async def fail(self, fault: Fault, context: Context) -> None:
        await context.abort(grpc.StatusCode[fault.code], fault.message, tuple(fault.trailers()))

    async def _check(self, request: pb.GenerateRequest, context: Context) -> None:
        if request.model not in self.models:
            message = f"no model {request.model!r}; there are {', '.join(self.models)}"
            await self.fail(Fault("NOT_FOUND", message, reason="MODEL_NOT_FOUND"), context)

    async def _accept(self, request: pb.GenerateRequest, context: Context) -> tuple[str, Run]:
        await self._check(request, context)
        request_id = request.request_id or f"fake-{next(self._ids)}"
        run = self.runs.get(request_id)
        if run is None:
            reply = self.script(request)
            run = self.runs[request_id] = Run(request, reply, self._decide(request, reply))
        elif run.request != request:
            await self.fail(Fault("ALREADY_EXISTS", "the request id is taken", reason="REQUEST_ID_TAKEN"), context)
        return request_id, run

    async def _find(self, request_id: str, context: Context) -> Run:
        run = self.runs.get(request_id)
        if run is None:
            message = f"no request {request_id!r}"
            await self.fail(Fault("NOT_FOUND", message, reason="REQUEST_NOT_FOUND"), context)
            raise AssertionError("abort raises")
        return run

    async def _events(
        self, request_id: str, run: Run, start: int, fault: Fault | None, context: Context
    ) -> AsyncIterator[pb.GenerateEvent]:
        began = time.monotonic()
        yield pb.GenerateEvent(accepted=pb.Accepted(request_id=request_id, decision=run.decision))
        for number, index in enumerate(range(start, len(run.reply.chunks))):
            if fault is not None and fault.after == number:
                await self.fail(fault, context)
            await self._pace(run, index)
            if run.cancelled.is_set():
                break
            run.sent = max(run.sent, index + 1)
            delta = pb.Delta(index=index, next_index=index + 1, text=run.reply.chunks[index], token_ids=[index])
            yield pb.GenerateEvent(delta=delta)
        if fault is not None and fault.after is not None and not run.cancelled.is_set():
            # Asked for at or past the last chunk: everything arrived but the end.
            await self.fail(fault, context)
        run.over = True
        yield pb.GenerateEvent(finished=self._finished(run, time.monotonic() - began))

    async def _pace(self, run: Run, index: int) -> None:
        if run.reply.pause and not run.cancelled.is_set():
            await asyncio.sleep(run.reply.pause)
        if run.reply.hold_after != index:
            return
        waits = [asyncio.ensure_future(event.wait()) for event in (run.released, run.cancelled)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _finished(self, run: Run, took: float) -> pb.Finished:
        reason = FinishReason.CANCELLED if run.cancelled.is_set() else run.reply.finish_reason
        return pb.Finished(
            reason=pb.FinishReason.Value(f"FINISH_REASON_{reason.name}"),
            usage=run.usage(),
            receipt=pb.Receipt(
                decision=run.decision,
                profile=_profile(run.decision.precision),
                attempts=1,
                total_time=convert.duration_to_wire(took),
            ),
        )

    def _decide(self, request: pb.GenerateRequest, reply: Reply) -> pb.Decision:
        precision, reason = convert.precision_to_wire(Precision(reply.precision)), reply.reason.name
        match request.precision.WhichOneof("preference"):
            case "pin":
                precision, reason = request.precision.pin, "PINNED"
            case "at_least" if request.precision.at_least > precision:
                precision, reason = request.precision.at_least, "CLIENT_FLOOR"
            case _:
                pass
        name = convert.PRECISIONS[precision].value
        return pb.Decision(
            precision=precision,
            pool=f"{request.model}/{name}",
            reason=pb.DecisionReason.Value(f"DECISION_REASON_{reason}"),
            policy_version="fake-1",
            task=request.task or convert.task_to_wire(Task(reply.task)),
            task_source=pb.TASK_SOURCE_HINT if request.task else pb.TASK_SOURCE_CLASSIFIER,
            task_confidence=1.0 if request.task else 0.9,
            sensitivity=pb.Sensitivity.Value(f"SENSITIVITY_{reply.sensitivity.name}"),
            gate=pb.GATE_STATE_PASSED,
        )

    def _pool(self, model: str, precision: str) -> pb.Pool:
        number = pb.Precision.Value(f"PRECISION_{precision}")
        running = sum(not run.over and run.decision.precision == number for run in self.runs.values())
        return pb.Pool(
            name=f"{model}/{precision.lower()}",
            precision=number,
            workers=1,
            slots=4,
            running=running,
            profile=_profile(number),
        )


def _profile(precision: pb.Precision.ValueType) -> pb.Profile:
    return pb.Profile(
        precision=precision,
        weight_format="NVFP4" if precision == pb.PRECISION_FP4 else "FP8_E4M3",
        activation_format="FP8_E4M3",
        kv_cache_format="BF16",
        group_size=16 if precision == pb.PRECISION_FP4 else 0,
        compute_path=pb.COMPUTE_PATH_EMULATED,
        checkpoint_digest="sha256:" + "0" * 64,
        engine="fake",
        engine_version="1",
    )
