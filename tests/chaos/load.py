"""Clients that write down what they send and see: through the SDK, or by bare gRPC calls that try nothing again."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc import aio

import bitlane
from bitlane.rpc.v1 import status_pb2
from bitlane.v1 import inference_pb2 as pb
from bitlane.v1.inference_pb2_grpc import InferenceServiceStub
from tests.chaos.history import Finish, History, Piece, Record
from tests.process.scripted import ACME, GLOBEX

if TYPE_CHECKING:
    # Exists in the stub file only.
    from bitlane.v1.inference_pb2_grpc import InferenceServiceAsyncStub

KEYS = {"acme": ACME, "globex": GLOBEX}
MODEL = "smollm2"
ONCE = bitlane.RetryPolicy.none()
_numbers = itertools.count(1)


def new_id(prefix: str = "c") -> str:
    """A request id that no other of this run has."""
    return f"{prefix}-{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class Habit:
    """What a client does with a reply. None: it reads to the end."""

    cancel_at: int | None = None  # after so many tokens it asks for the end, and reads on to see it
    leave_at: int | None = None  # after so many tokens it goes away
    pause_s: float = 0.0  # between two deltas
    wait: asyncio.Event | None = None  # after the first delta, until it is set
    disconnect_grace: float = 0.0  # seconds that the request outlives its client


READ = Habit()


async def ask(
    history: History,
    client: bitlane.AsyncClient,
    tenant: str,
    prompt: str,
    max_tokens: int,
    *,
    habit: Habit = READ,
    request_id: str | None = None,
    precisions: Sequence[str] = (),
    timeout: float | None = None,  # noqa: ASYNC109, the request's deadline
    **options: Any,
) -> Record:
    """Sends one request by the SDK and reads it as the habit says. Errors are written down, never raised."""
    record = history.open(tenant, request_id or new_id(), prompt, max_tokens, precisions)
    if habit.disconnect_grace:
        options["disconnect_grace"] = habit.disconnect_grace
    stream = client.stream(
        prompt, model=MODEL, max_tokens=max_tokens, request_id=record.request_id, timeout=timeout, **options
    )
    _count_calls(stream, record)
    try:
        async with stream:
            await stream.accepted()
            record.accepted = time.time()
            await _read(record, stream, habit)
    except bitlane.BitlaneError as error:
        record.errors.append(error.reason or type(error).__name__)
    return record


async def _read(record: Record, stream: bitlane.AsyncStream, habit: Habit) -> None:
    tokens = 0
    cancelled = False
    while True:
        if habit.leave_at is not None and tokens >= habit.leave_at:
            record.left = True
            return
        if habit.cancel_at is not None and tokens >= habit.cancel_at and not cancelled:
            cancelled = True
            await stream.cancel()
        delta = await stream.next_delta()
        if delta is None:
            break
        record.pieces.append(Piece(time.time(), delta.index, delta.next_index, delta.token_ids, delta.text))
        tokens += len(delta.token_ids)
        if habit.pause_s:
            await asyncio.sleep(habit.pause_s)
    if (finished := stream.finished) is not None:
        receipt = finished.receipt
        served = receipt.profile.precision.value if receipt.profile else ""
        record.finishes.append(
            Finish(
                time.time(),
                finished.reason.value,
                finished.usage.output_tokens,
                receipt.attempts,
                receipt.decision.precision.value,
                served,
            )
        )


def _count_calls(stream: bitlane.AsyncStream, record: Record) -> None:
    """Has the record count the calls that the SDK makes for it: nothing of its API tells."""
    exchange = stream._exchange  # pyright: ignore[reportPrivateUsage]
    original = exchange._open  # pyright: ignore[reportPrivateUsage]

    def counted(*arguments: Any) -> Any:
        record.attempts += 1
        return original(*arguments)

    exchange._open = counted  # type: ignore[method-assign]


# Bare gRPC.


class Bare:
    """Calls without the SDK: one attempt, every event seen as it came, and fast enough to overload a router."""

    def __init__(self, history: History, target: str, tenant: str, key: str | None = None) -> None:
        self._history = history
        self._tenant = tenant
        self._metadata = (("authorization", f"Bearer {key or KEYS[tenant]}"),)
        self._channel = aio.insecure_channel(
            target, [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        )
        self._stub = cast("InferenceServiceAsyncStub", InferenceServiceStub(self._channel))

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> "Bare":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def generate(
        self,
        prompt: str,
        max_tokens: int,
        *,
        timeout: float | None = None,  # noqa: ASYNC109, the request's deadline
        pin: int = 0,
        priority: int = 0,
        request_id: str | None = None,
        habit: Habit = READ,
        logprobs: int | None = None,
    ) -> "Answer":
        """One Generate, read to the end of the stream."""
        record = self._history.open(self._tenant, request_id or new_id("b"), prompt, max_tokens)
        sampling = pb.SamplingParams(max_tokens=max_tokens)
        if logprobs is not None:
            sampling.logprobs = logprobs
        request = pb.GenerateRequest(
            model=MODEL,
            prompt=prompt,
            request_id=record.request_id,
            sampling=sampling,
            priority=cast("pb.Priority.ValueType", priority),
        )
        if pin:
            request.precision.pin = cast("pb.Precision.ValueType", pin)
        began = time.perf_counter()
        record.attempts = 1
        answer = Answer(record)
        call = self._stub.Generate(request, metadata=self._metadata, timeout=timeout)
        try:
            await self._read(cast("aio.UnaryStreamCall[Any, pb.GenerateEvent]", call), record, habit)
        except aio.AioRpcError as error:
            answer.code = error.code()
            answer.reason, answer.pushback = error_reason(error)
            record.errors.append(answer.reason or error.code().name)
        finally:
            call.cancel()
        answer.seconds = time.perf_counter() - began
        return answer

    async def _read(self, call: "aio.UnaryStreamCall[Any, pb.GenerateEvent]", record: Record, habit: Habit) -> None:
        tokens = 0
        while habit.leave_at is None or tokens < habit.leave_at:
            event = await call.read()
            if not isinstance(event, pb.GenerateEvent):
                return
            tokens += _write_down(record, event)
            if habit.wait is not None and tokens:
                await habit.wait.wait()
            if habit.pause_s:
                await asyncio.sleep(habit.pause_s)
        record.left = True


@dataclass(slots=True)
class Answer:
    """How one bare call ended."""

    record: Record
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    pushback: bool = False  # the server said when to come back, or not to
    seconds: float = 0.0


def _write_down(record: Record, event: pb.GenerateEvent) -> int:
    """Puts an event into the record; returns how many tokens it brought."""
    now = time.time()
    match event.WhichOneof("event"):
        case "accepted":
            record.accepted = record.accepted or now
        case "delta":
            delta = event.delta
            record.pieces.append(Piece(now, delta.index, delta.next_index, tuple(delta.token_ids), delta.text))
            return len(delta.token_ids)
        case "finished":
            done = event.finished
            served = _name(done.receipt.profile.precision) if done.receipt.HasField("profile") else ""
            record.finishes.append(
                Finish(
                    now,
                    pb.FinishReason.Name(done.reason).removeprefix("FINISH_REASON_").lower(),
                    done.usage.output_tokens,
                    done.receipt.attempts,
                    _name(done.receipt.decision.precision),
                    served,
                )
            )
        case None:
            pass
    return 0


def _name(precision: "pb.Precision.ValueType") -> str:
    return pb.Precision.Name(precision).removeprefix("PRECISION_").lower()


def error_reason(error: aio.AioRpcError) -> tuple[str, bool]:
    """The ErrorInfo's reason, and whether the server pushed back."""
    reason, pushback = "", False
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-retry-pushback-ms":
            pushback = True
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(cast("bytes", value)).details:
                if detail.type_url.endswith("google.rpc.ErrorInfo"):
                    reason = status_pb2.ErrorInfo.FromString(detail.value).reason
    return reason, pushback


# Rates.


async def closed_loop(users: int, until: Callable[[], bool], turn: Callable[[int, int], Awaitable[object]]) -> int:
    """So many users, each with one request at a time, until `until()` says stop. Returns how many turns were taken.

    `turn` is given the user's number and the turn's.
    """
    turns = 0

    async def user(number: int) -> None:
        nonlocal turns
        for i in itertools.count():
            if until():
                return
            await turn(number, i)
            turns += 1

    await asyncio.gather(*(user(number) for number in range(users)))
    return turns


async def open_loop(rate: float, seconds: float, send: Callable[[int], Awaitable[object]]) -> int:
    """Sends at even intervals, `rate` times a second, whatever becomes of what was sent. Returns how many were sent."""
    tasks: list[asyncio.Task[object]] = []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        ahead = began + number / rate - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        tasks.append(asyncio.ensure_future(cast("asyncio.Future[object]", send(number))))  # type: ignore[arg-type]
    await asyncio.gather(*tasks)
    return len(tasks)


async def spread(delays: random.Random, within_s: float) -> None:
    """Waits for a random time, so that many clients do not begin at once."""
    await asyncio.sleep(delays.uniform(0, within_s))


async def until(condition: Callable[[], bool | Awaitable[bool]], within_s: float, every_s: float = 0.02) -> float:
    """Waits for a condition; returns after how many seconds it held. AssertionError when it never does.

    A condition that fails to answer does not hold.
    """
    began = time.monotonic()
    await asyncio.sleep(0)  # tasks that were made just now begin
    while True:
        with suppress(bitlane.BitlaneError):
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return time.monotonic() - began
        assert time.monotonic() - began < within_s, f"did not come true within {within_s:g} s"
        await asyncio.sleep(every_s)


async def all_got(history: History, count: int, tokens: int) -> None:
    """Waits until the newest `count` requests have so many tokens each, or have ended."""

    def have() -> bool:
        newest = history.records[-count:]
        done = (len(r.tokens) >= tokens or r.finishes or r.errors for r in newest)
        return len(newest) == count and all(done)

    await until(have, 30.0)
