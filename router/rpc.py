"""How every RPC is served: credential, parsing, error mapping and the closing log line, in one place.

Handlers are enumerated from the service descriptor, so that no method can be forgotten. They get raw bytes from gRPC
and parse them here: a body that is no message is the caller's fault (INVALID_ARGUMENT), which gRPC would call INTERNAL.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from traceback import format_tb
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from broker.types import BrokerUnavailable
from router.directory.tenants import Tenant
from router.faults import Fault, Violation, broker_unavailable, internal, invalid, no_tenant
from router.identity.authentication import Context
from router.identity.caller import Caller
from router.scopes import SCOPES, Scope
from telemetry.calls import RouterTelemetry, ServedCall

_log = structlog.get_logger("bitlane.router")

Authenticate = Callable[[Context], Caller]
# A method of the service: takes the parsed request and the call, returns the response, or None after it wrote a stream.
Method = Callable[[Any, "Call"], Awaitable[Message | None]]


@dataclass(slots=True)
class Call:
    """One RPC in progress."""

    caller: Caller
    context: Context
    watch: ServedCall
    request_id: str = ""  # told in errors and logs once it is known

    @property
    def tenant(self) -> Tenant:
        """The caller's. Operators have none, nor a scope for the methods that ask for it."""
        if self.caller.tenant is None:
            raise no_tenant()
        return self.caller.tenant

    async def write(self, message: Message) -> None:
        """Streams one message; waits while the client's window is full."""
        await self.context.write(message.SerializeToString())


def service_handler(
    service: ServiceDescriptor, rooms: Sequence[object], authenticate: Authenticate, telemetry: RouterTelemetry
) -> grpc.GenericRpcHandler:
    """Serves every method of the service by the method of the same name in snake_case that one of the rooms has.

    Raises LookupError for a method that no room has, or that has no scope in `router.scopes`.
    """
    scopes = SCOPES[service.full_name]
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in service.methods:
        handle = _handler(method, _implementation(rooms, method), authenticate, scopes[method.name], telemetry)
        if method.server_streaming:
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(handle)
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(handle)
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _implementation(rooms: Sequence[object], method: MethodDescriptor) -> Method:
    name = _snake_case(method.name)
    for room in rooms:
        found: Method | None = getattr(room, name, None)
        if found is not None:
            return found
    raise LookupError(f"{method.full_name} is served by nobody")


def _handler(
    method: MethodDescriptor,
    implementation: Method,
    authenticate: Authenticate,
    scope: Scope,
    telemetry: RouterTelemetry,
) -> Any:
    parse = GetMessageClass(method.input_type).FromString
    name = f"{method.containing_service.full_name}/{method.name}"

    async def handle(data: bytes, context: Context) -> bytes | None:
        start = time.perf_counter()
        watch = telemetry.call(name, context.invocation_metadata() or ())
        call: Call | None = None
        code, reason = "CANCELLED", ""
        try:
            call = Call(authenticate(context), context, watch)
            watch.tenant = call.caller.tenant.id if call.caller.tenant else ""
            call.caller.require(scope)
            request = _parse(parse, data, method)
            running = implementation(request, call)
            del request, data  # nothing here needs them as long as the call lasts
            response = await running
            code = "OK"
            return None if response is None else response.SerializeToString()
        except Exception as error:
            fault = _fault(error, method)
            code, reason = fault.code.name, fault.reason
            await _abort(context, fault, call.request_id if call else "")
            return None
        finally:
            watch.end(code, reason)
            _log.info(
                "rpc.end",
                method=method.name,
                code=code,
                reason=reason,
                tenant=watch.tenant,
                key=call.caller.key if call else "",
                request_id=call.request_id if call else "",
                ms=round((time.perf_counter() - start) * 1000, 1),
                **watch.figures,
                **watch.ids,
            )

    return handle


def _fault(error: Exception, method: MethodDescriptor) -> Fault:
    if isinstance(error, Fault):
        return error
    if isinstance(error, BrokerUnavailable):
        return broker_unavailable()
    # The text of an unforeseen error may hold a prompt; its type and its place do not.
    _log.error("rpc.failed", method=method.name, error=type(error).__name__, trace=format_tb(error.__traceback__))
    return internal()


def _parse(parse: Callable[[bytes], Message], data: bytes, method: MethodDescriptor) -> Message:
    try:
        return parse(data)
    except DecodeError:
        message = f"is no {method.input_type.full_name} (truncated, or text that is no UTF-8)"
        raise invalid([Violation("request", message)]) from None


async def _abort(context: Context, fault: Fault, request_id: str) -> None:
    trailers: list[tuple[str, str | bytes]] = [
        ("grpc-status-details-bin", fault.status(request_id).SerializeToString())
    ]
    if fault.retry_never:
        trailers.append(("grpc-retry-pushback-ms", "-1"))
    elif fault.retry_after_s is not None:
        trailers.append(("grpc-retry-pushback-ms", str(round(fault.retry_after_s * 1000))))
    await context.abort(fault.code, fault.message, tuple(trailers))


def _snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
