"""`client.policies`: the precision policies of a tenant, their shadows, and the gates of FP4, for asyncio.

A key with the scope `read` may look, one with `admin` may change its own tenant; an operator's key names the tenant and
may set gates. The server reads and checks all documents; the SDK only carries them.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message as Wire

from bitlane import convert, defaults, policy_convert
from bitlane.arguments import build_request, member
from bitlane.deadline import Deadline
from bitlane.errors import InvalidRequest, Violation
from bitlane.line import Line
from bitlane.policy_types import (
    Gate,
    PolicyChange,
    PolicyCheck,
    PolicyPut,
    PolicyVersion,
    ReplayResult,
    ReplayRow,
    Shadow,
)
from bitlane.types import GateState, Task, TaskName
from bitlane.v1 import policy_pb2 as pb

if TYPE_CHECKING:
    # Exists in the stub file only.
    from grpc import aio

    from bitlane.v1.policy_pb2_grpc import PolicyServiceAsyncStub as Stub

_Response = TypeVar("_Response", bound=Wire)

# The server's bounds on one call, with room for the documents beside the rows.
_ROWS_AT_ONCE = 500
_BYTES_AT_ONCE = 1 << 20
_REPLAY_TIMEOUT = 60.0


class AsyncPolicies:
    """The calls of the policy API. `tenant` is for operators' keys; others manage their own tenant."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def validate(self, document: str, *, tenant: str = "") -> PolicyCheck:
        """What is wrong with a document, and what is noteworthy. Changes nothing."""
        request = pb.ValidatePolicyRequest(tenant=tenant, document=document)
        reply = await self._call(lambda stub: stub.ValidatePolicy, request)
        return PolicyCheck(policy_convert.findings(reply.faults), policy_convert.findings(reply.warnings))

    async def diff(self, old: str | None = None, new: str | None = None, *, tenant: str = "") -> list[PolicyChange]:
        """What differs between two documents, defaults filled in. None: the policy that acts now."""
        request = pb.DiffPoliciesRequest(tenant=tenant, old_document=old or "", new_document=new or "")
        reply = await self._call(lambda stub: stub.DiffPolicies, request)
        return [policy_convert.change(change) for change in reply.changes]

    async def replay(
        self, rows: Sequence[ReplayRow], *, old: str | None = None, new: str | None = None, tenant: str = ""
    ) -> list[ReplayResult]:
        """Decides recorded requests under two policies, and runs none. None: the policy that acts now.

        Raises InvalidRequest; a bad row is named as `rows[<index>].<field>`.
        """
        results: list[ReplayResult] = []
        for batch in _batches([_row_message(row, number) for number, row in enumerate(rows)]):
            request = pb.ReplayPolicyRequest(tenant=tenant, old_document=old or "", new_document=new or "", rows=batch)
            try:
                reply = await self._call(lambda stub: stub.ReplayPolicy, request, _REPLAY_TIMEOUT)
            except InvalidRequest as error:
                raise _counted_from(error, len(results)) from None
            results += [policy_convert.result(result) for result in reply.results]
        return results

    async def get(self, version: int | None = None, *, tenant: str = "") -> PolicyVersion:
        """The policy that acts now, or a kept version. Raises NotFound for one that is not kept."""
        request = pb.GetPolicyRequest(tenant=tenant, version=version or 0)
        return policy_convert.version((await self._call(lambda stub: stub.GetPolicy, request)).policy)

    async def put(self, document: str, *, etag: str, note: str = "", tenant: str = "") -> PolicyPut:
        """Makes a document the tenant's policy; it acts on every server within a second.

        Args:
            etag: of the version that it was made from, as `get` tells; "" when there was no live one.
            note: why, for those who read the versions.

        Raises:
            EditConflict: another version is current; its etag is in `metadata["current_etag"]`.
            InvalidRequest: every fault of the document with its path.
        """
        request = pb.PutPolicyRequest(tenant=tenant, document=document, etag=etag, note=note)
        reply = await self._call(lambda stub: stub.PutPolicy, request)
        return PolicyPut(policy_convert.version(reply.policy), policy_convert.findings(reply.warnings))

    async def versions(self, *, tenant: str = "") -> list[PolicyVersion]:
        """The kept versions, newest first, without their documents."""
        reply = await self._call(lambda stub: stub.ListPolicyVersions, pb.ListPolicyVersionsRequest(tenant=tenant))
        return [policy_convert.version(version) for version in reply.versions]

    async def rollback(self, version: int, *, etag: str = "", tenant: str = "") -> PolicyVersion:
        """Makes a kept version the policy again, as a new version. Without an etag whichever is current is replaced."""
        request = pb.RollbackPolicyRequest(tenant=tenant, version=version, etag=etag)
        return policy_convert.version((await self._call(lambda stub: stub.RollbackPolicy, request)).policy)

    async def shadow(self, *, tenant: str = "") -> Shadow | None:
        """The shadow policy and what was counted; None when there is none."""
        request = pb.GetShadowPolicyRequest(tenant=tenant)
        return policy_convert.shadow(await self._call(lambda stub: stub.GetShadowPolicy, request))

    async def set_shadow(self, document: str, *, tenant: str = "") -> PolicyPut:
        """Attaches a policy that decides every request as well, and acts on none. Its counts start from zero."""
        request = pb.SetShadowPolicyRequest(tenant=tenant, document=document)
        reply = await self._call(lambda stub: stub.SetShadowPolicy, request)
        return PolicyPut(policy_convert.version(reply.shadow), policy_convert.findings(reply.warnings))

    async def clear_shadow(self, *, tenant: str = "") -> None:
        """Detaches the shadow policy."""
        await self._call(lambda stub: stub.ClearShadowPolicy, pb.ClearShadowPolicyRequest(tenant=tenant))

    async def gates(self, model: str = "") -> list[Gate]:
        """Every gate of the checkpoints that are served, or were ever written about. Default: all models."""
        reply = await self._call(lambda stub: stub.ListGates, pb.ListGatesRequest(model=model))
        return [policy_convert.gate(gate) for gate in reply.gates]

    async def set_gate(
        self,
        model: str,
        task: Task | TaskName,
        state: GateState | str,
        *,
        evidence: str = "",
        checkpoint_digest: str | None = None,
    ) -> list[Gate]:
        """Sets a gate for all tenants, at once on every server. Needs an operator's key.

        Args:
            evidence: what it rests on.
            checkpoint_digest: Default: what the model's FP4 pool serves now.
        """
        request = pb.SetGateRequest(
            model=model,
            checkpoint_digest=checkpoint_digest,
            task=convert.task_to_wire(member(Task, task, "task")),
            state=convert.gate_state_to_wire(member(GateState, state, "state")),
            evidence=evidence,
        )
        reply = await self._call(lambda stub: stub.SetGate, request)
        return [policy_convert.gate(gate) for gate in reply.gates]

    def _call(
        self,
        method: "Callable[[Stub], Callable[..., aio.UnaryUnaryCall[Any, _Response]]]",
        request: Wire,
        timeout_s: float = defaults.UNARY_TIMEOUT,
    ) -> Awaitable[_Response]:
        def start(left: Deadline) -> "aio.UnaryUnaryCall[Any, _Response]":
            stub = self._line.channels.policy_stub()
            return method(stub)(request, timeout=left.grpc_timeout(), metadata=self._line.metadata)

        return self._line.unary(start, Deadline(timeout_s))


def _row_message(row: ReplayRow, number: int) -> pb.ReplayRow:
    """Checked and converted as the same request would be."""
    path = f"rows[{number}]."
    try:
        built = build_request(
            row.text,
            row.messages,
            row.model,
            {
                "task": row.task,
                "labels": row.labels,
                "priority": row.priority,
                "at_least": row.at_least,
                "pin": row.pin,
            },
        )
        return pb.ReplayRow(
            text=built.prompt,
            messages=built.messages,
            model=built.model,
            task=built.task,
            labels=built.labels,
            priority=built.priority,
            prompt_tokens=row.prompt_tokens,
            precision=built.precision if built.HasField("precision") else None,
        )
    except InvalidRequest as error:
        renamed = [
            Violation(path + each.field.replace("prompt", "text", 1), each.description) for each in error.violations
        ]
        raise InvalidRequest(error.message, reason=error.reason, metadata=error.metadata, violations=renamed) from None
    except (TypeError, ValueError) as error:
        violation = Violation(f"{path}prompt_tokens", f"{row.prompt_tokens!r} does not fit: {error}")
        metadata = {"checked_by": "client"}
        raise InvalidRequest(reason="FIELD_INVALID", metadata=metadata, violations=[violation]) from None


def _batches(rows: Sequence[pb.ReplayRow]) -> Iterator[list[pb.ReplayRow]]:
    """As many rows at a time as one call may carry."""
    batch: list[pb.ReplayRow] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == _ROWS_AT_ONCE or size + row.ByteSize() > _BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row.ByteSize()
    if batch:
        yield batch


def _counted_from(error: InvalidRequest, first: int) -> InvalidRequest:
    """The same error with its rows counted over all batches."""
    violations = [replace(each, field=_shifted(each.field, first)) for each in error.violations]
    message = "; ".join(str(each) for each in violations) or error.message
    return InvalidRequest(message, reason=error.reason, metadata=error.metadata, violations=violations)


def _shifted(field: str, first: int) -> str:
    head, bracket, rest = field.partition("rows[")
    number, _, tail = rest.partition("]")
    return f"rows[{int(number) + first}]{tail}" if bracket and not head and number.isdigit() else field
