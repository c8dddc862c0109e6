"""The inference service: each RPC, thin over admission, broker and relay."""

import asyncio
import time

import structlog

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from broker.client import Broker
from broker.pace import gap_s
from broker.types import (
    BrokerUnavailable,
    Ending,
    IndexOutOfRange,
    Outcome,
    RequestNotFound,
    RequestRef,
    SubmitStatus,
)
from router.admission import Admission, Admitted
from router.convert import (
    accepted_event,
    completion,
    delta_message,
    finish_reason,
    finished_message,
    usage_message,
)
from router.faults import (
    Violation,
    attempts_exhausted,
    deadline_exceeded,
    invalid,
    not_migratable,
    unknown_request,
)
from router.observation import Prices, tell_ending
from router.pools import PoolWatch
from router.relay import Reader, Relay
from router.rpc import Call
from router.validation import check_request_id
from telemetry.calls import ServedCall

_log = structlog.get_logger("bitlane.router")
_ABANDON_TRIES = 5
_UNSURE_GRACE_S = 5.0


class InferenceService:
    """See `bitlane.v1.InferenceService`; one method for each RPC, called by `router.rpc`."""

    def __init__(
        self, broker: Broker, admission: Admission, relay: Relay, pools: PoolWatch, prices: Prices, merge_ms: float
    ) -> None:
        self._broker = broker
        self._admission = admission
        self._relay = relay
        self._pools = pools
        self._prices = prices
        self._merge_s = merge_ms / 1000
        self._draining = False
        self._abandoning: set[asyncio.Task[None]] = set()

    async def generate(self, request: pb.GenerateRequest, call: Call) -> None:
        admitted = await self._admit(request, call, "")
        reader = self._relay.open(admitted.submission.ref)
        try:
            admission = await self._submit(admitted, reader, call.watch)
            del request, admitted  # a stream may last for minutes, and its prompt be large
            await self._stream(call, reader, admission)
        finally:
            self._close(reader, call.watch)

    async def complete(self, request: pb.CompleteRequest, call: Call) -> pb.CompleteResponse:
        admitted = await self._admit(request.request, call, "request.")
        reader = self._relay.open(admitted.submission.ref)
        try:
            admission = await self._submit(admitted, reader, call.watch)
            del request, admitted
            chunks: list[bytes] = []
            with call.watch.relay():
                while True:
                    batch = await reader.read()
                    chunks += batch.chunks
                    if chunks:
                        call.watch.first_token()
                    if batch.ending:
                        _raise_error(batch.ending)
                        finished = finished_message(batch.ending, admission.decision)
                        return completion(call.request_id, delta_message(0, chunks), finished)
        finally:
            self._close(reader, call.watch)

    async def resume(self, request: pb.ResumeRequest, call: Call) -> None:
        ref = self._ref(request.request_id, call)
        reader = self._relay.open(ref, request.next_index)
        try:
            admission = await self._attach(reader)
            if reader.ending is None:
                # One that has ended was counted by the router that saw it end.
                pool = admission.decision.pool
                call.watch.resumed(model=pool.rpartition("/")[0], pool=pool)
            await self._stream(call, reader, admission)
        finally:
            self._close(reader, call.watch)

    async def cancel(self, request: pb.CancelRequest, call: Call) -> pb.CancelResponse:
        ref = self._ref(request.request_id, call)
        try:
            ending = await self._broker.cancel(ref)
        except RequestNotFound:
            raise unknown_request(request.request_id) from None
        return pb.CancelResponse(
            cancelled=ending.outcome is Outcome.CANCELLED,
            reason=finish_reason(ending.outcome),
            usage=usage_message(ending),
        )

    async def explain(self, request: pb.ExplainRequest, call: Call) -> pb.ExplainResponse:
        checked = self._admission.check(request.request, call.caller, call.tenant, "request.", call.watch)
        return self._admission.explain(checked, call.watch)

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(
            models=[
                pb.Model(name=model.name, context_tokens=model.context_tokens, pools=self._pools.messages(model))
                for model in self._admission.models(call.tenant)
            ]
        )

    def drain(self) -> None:
        """Ends every stream with UNAVAILABLE, so that its client resumes at another router; the requests go on."""
        self._draining = True
        self._relay.drain()

    async def close(self) -> None:
        """Stops giving up requests that lost their readers: another router may get them back."""
        for task in self._abandoning:
            task.cancel()
        await asyncio.gather(*self._abandoning, return_exceptions=True)

    async def _admit(self, request: pb.GenerateRequest, call: Call, path: str) -> Admitted:
        if not check_request_id(request.request_id):
            call.request_id = request.request_id
        checked = self._admission.check(request, call.caller, call.tenant, path, call.watch)
        refusal = self._admission.throttled(checked)
        if refusal and not (request.request_id and await self._is_known(call)):
            raise refusal
        admitted = self._admission.admit(checked, timeout_s=call.context.time_remaining(), watch=call.watch)
        call.request_id = admitted.submission.ref.request_id
        return admitted

    async def _is_known(self, call: Call) -> bool:
        """Whether a request with this id is stored: who asks for it again joins it, whatever the limits are now."""
        try:
            await self._broker.read_log(RequestRef(call.tenant.id, call.request_id), 0)
        except RequestNotFound:
            return False
        return True

    def _ref(self, request_id: str, call: Call) -> RequestRef:
        violations = check_request_id(request_id)
        if violations:
            raise invalid(violations)
        call.request_id = request_id
        return RequestRef(call.tenant.id, request_id)

    async def _submit(self, admitted: Admitted, reader: Reader, watch: ServedCall) -> job_pb2.Admission:
        """Queues the request, or joins the one that already has its id."""
        submission = admitted.submission
        # From here on the request may be queued, whatever happens to this call.
        reader.grace_s = admitted.admission.disconnect_grace_ms / 1000
        asked_at = time.monotonic()
        try:
            with admitted.submitting:
                result = await self._broker.submit(submission)
        except BrokerUnavailable:
            # Perhaps it was queued: the client may come back for it by its id.
            reader.grace_s = max(reader.grace_s, _UNSURE_GRACE_S)
            raise
        if result.status is SubmitStatus.ACCEPTED:
            return admitted.admission
        reader.grace_s = None
        if result.status is SubmitStatus.JOINED:
            watch.joined()
            return await self._attach(reader)
        raise self._admission.refusal(admitted, result, asked_at)

    async def _attach(self, reader: Reader) -> job_pb2.Admission:
        start = reader.next_index
        try:
            attachment = await self._broker.attach(reader.ref, self._relay.router, start)
        except RequestNotFound:
            raise unknown_request(reader.ref.request_id) from None
        except IndexOutOfRange as error:
            text = f"is {error.asked}, beyond the log's end; use 0 to {error.next_index}"
            raise invalid([Violation("next_index", text)]) from None
        admission = job_pb2.Admission.FromString(attachment.decision)
        reader.grace_s = admission.disconnect_grace_ms / 1000
        reader.push_log(attachment, start)
        return admission

    async def _stream(self, call: Call, reader: Reader, admission: job_pb2.Admission) -> None:
        """Writes the whole stream: the first token at once, what follows merged."""
        with call.watch.relay():
            await call.write(accepted_event(reader.ref.request_id, admission.decision))
            while True:
                batch = await reader.read()
                if batch.chunks:
                    await call.write(pb.GenerateEvent(delta=delta_message(batch.index, batch.chunks)))
                    call.watch.first_token()
                if batch.ending:
                    _raise_error(batch.ending)
                    await call.write(pb.GenerateEvent(finished=finished_message(batch.ending, admission.decision)))
                    return
                if self._merge_s:
                    await reader.pause(max(self._merge_s, gap_s(self._relay.open_readers)))

    def _close(self, reader: Reader, watch: ServedCall) -> None:
        """Forgets a reader; when it was the last one of a request that goes on, gives that up after its grace."""
        last = self._relay.close(reader)
        if reader.ending is not None:
            tell_ending(watch, reader.ending, self._prices)
            return
        if not last or reader.grace_s is None or self._draining:
            return
        task = asyncio.create_task(self._abandon(reader.ref, reader.grace_s, watch))
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)

    async def _abandon(self, ref: RequestRef, grace_s: float, watch: ServedCall) -> None:
        await asyncio.sleep(grace_s)
        for attempt in range(_ABANDON_TRIES):
            if ref in self._relay.readers or self._draining:
                return
            try:
                ending = await self._broker.abandon(ref, self._relay.router)
            except BrokerUnavailable:
                await asyncio.sleep(0.2 * 2**attempt)
            except RequestNotFound:
                return
            else:
                if ending is not None:
                    tell_ending(watch, ending, self._prices)
                return
        _log.warning("abandon.failed", tenant=ref.tenant, request_id=ref.request_id)


def _raise_error(ending: Ending) -> None:
    """Raises the fault of an ending that is an error."""
    match ending.outcome:
        case Outcome.STOP | Outcome.LENGTH | Outcome.CANCELLED:
            return
        case Outcome.DEADLINE:
            raise deadline_exceeded()
        case Outcome.REJECTED:
            field, _, description = ending.detail.partition(": ")
            raise invalid([Violation(field, description)])
        case Outcome.NOT_MIGRATABLE:
            raise not_migratable()
        case Outcome.ATTEMPTS_EXHAUSTED:
            raise attempts_exhausted(ending.attempts)
