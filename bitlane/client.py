"""The client for asyncio. The blocking one in sync.py is made from it."""
# ruff: noqa: ASYNC109  # `timeout` is sent to the server as the request's deadline; asyncio.timeout would not be

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from bitlane import convert, defaults
from bitlane.arguments import Options, build_request
from bitlane.channel import Address, Channels
from bitlane.deadline import Deadline
from bitlane.errors import BitlaneError, ConfigError, InvalidRequest, Violation
from bitlane.exchange import Exchange
from bitlane.line import Line
from bitlane.policies import AsyncPolicies
from bitlane.retry import RetryPolicy
from bitlane.stream import AsyncStream
from bitlane.tls import Tls
from bitlane.types import Cancellation, Completion, Explanation, Message, MessageDict, Model
from bitlane.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from bitlane.admin import AsyncAdmin


def _metadata(api_key: str | None, extra: Mapping[str, str] | None) -> list[tuple[str, str]]:
    pairs = [(name.lower(), value) for name, value in (extra or {}).items()]
    if api_key is None:
        api_key = os.environ.get(defaults.ENV_API_KEY)
    if api_key:
        # The key itself is never shown, not even when it is the fault.
        if not (api_key.isascii() and api_key.isprintable()) or api_key != api_key.strip():
            raise ConfigError("the API key holds characters that no key has, perhaps a newline or a space")
        pairs.append(("authorization", f"Bearer {api_key}"))
    return pairs


class AsyncClient:
    """Talks to bitlane from asyncio code.

        async with AsyncClient("localhost:50051") as client:
            reply = await client.generate("The capital of France is", model="smollm2", max_tokens=8)
            print(reply.text, reply.precision, reply.decision.reason)

    Nothing is connected until the first call. One client serves any number of calls at once; it belongs to the event
    loop that uses it first. Every call raises the errors of `bitlane.errors` and no other.
    """

    def __init__(
        self,
        target: str | Sequence[str] | None = None,
        *,
        api_key: str | None = None,
        tls: bool | Tls | None = None,
        insecure: bool = False,
        timeout: float | None = defaults.TIMEOUT,
        retry: RetryPolicy | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Sets the client up.

        Args:
            target: `host:port`, a gRPC target such as `dns:///host:port`, or several as a list or with commas between
                them: the next is used when one fails. Default: the environment's BITLANE_TARGET, else localhost:50051.
            api_key: Default: the environment's BITLANE_API_KEY.
            tls: True, False or a `Tls` with certificates of your own. Default: plaintext on loopback, TLS elsewhere.
            insecure: Allows plaintext beyond loopback, where the key and the prompts can be read on the way.
            timeout: Seconds for a whole reply, waiting and retries included. Default 600; None: no limit. Calls that
                answer at once take 10 s at most, or this when it is less.
            retry: How to retry and resume; `RetryPolicy.none()` does neither.
            metadata: Sent with every call.

        Raises:
            ConfigError: for a target or key that cannot work, and for plaintext beyond loopback without `insecure`.
        """
        self._address = Address.read(target, tls, insecure)
        self._timeout = timeout
        self._line = Line(Channels(self._address), retry or RetryPolicy(), _metadata(api_key, metadata))
        self.policies = AsyncPolicies(self._line)
        """The precision policies of the tenant, their shadows, and the gates."""

    @cached_property
    def admin(self) -> "AsyncAdmin":
        """Tenants, API keys, quotas, usage, pools and workers, dead letters, the audit log."""
        from bitlane.admin import AsyncAdmin  # noqa: PLC0415  # few need it

        return AsyncAdmin(self._line)

    @property
    def targets(self) -> tuple[str, ...]:
        """Where the servers are, in the order of preference."""
        return self._address.targets

    def stream(
        self,
        prompt: str | None = None,
        *,
        model: str,
        messages: Sequence[Message | MessageDict] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> AsyncStream:
        """Generates a reply and streams it. Nothing is sent until the stream is read.

        Args:
            prompt: A plain text, completed as it stands. Either this or `messages`.
            model: As `list_models` names it.
            messages: A conversation, put through the model's chat template; the last turn is the user's.
            timeout: Seconds for the whole reply. Default: the client's.
            metadata: Sent with this call, e.g. `{"traceparent": ...}`.
            options: See `bitlane.Options`.

        Raises:
            InvalidRequest: for arguments that cannot work, before anything is sent.
        """
        request = build_request(prompt, messages, model, options)
        keep_on_close = options.get("disconnect_grace") or 0
        return self._stream(request, request.request_id, 0, timeout, metadata, bool(keep_on_close))

    async def generate(
        self,
        prompt: str | None = None,
        *,
        model: str,
        messages: Sequence[Message | MessageDict] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> Completion:
        """Generates a reply and returns it whole. Takes the same arguments as `stream`.

        It is streamed underneath, so that a broken connection is resumed and loses nothing.
        """
        async with self.stream(
            prompt, model=model, messages=messages, timeout=timeout, metadata=metadata, **options
        ) as stream:
            return await stream.result()

    def resume(
        self,
        request_id: str,
        next_index: int = 0,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncStream:
        """Streams a reply that is running, or that ended within the last 60 s, from chunk `next_index` on.

        Breaks within a stream are resumed without this; it is for a reply that another client began. Closing the
        stream early leaves the ending to the request's own `disconnect_grace`. Reading raises NotFound for an id that
        is unknown, too old or another tenant's.
        """
        if next_index < 0:
            raise InvalidRequest(
                reason="FIELD_INVALID",
                metadata={"checked_by": "client"},
                violations=[Violation("next_index", f"must be at least 0, got {next_index}")],
            )
        return self._stream(None, request_id, next_index, timeout, metadata, keep_on_close=True)

    async def cancel(
        self, request_id: str, *, timeout: float | None = None, metadata: Mapping[str, str] | None = None
    ) -> Cancellation:
        """Ends a waiting or running request; its streams end with FinishReason.CANCELLED. Raises NotFound."""
        deadline, pairs = self._deadline(timeout), self._pairs(metadata)
        request = pb.CancelRequest(request_id=request_id)
        reply = await self._line.unary(
            lambda left: self._line.channels.stub().Cancel(request, timeout=left.grpc_timeout(), metadata=pairs),
            deadline,
            request_id,
        )
        return convert.cancellation(reply)

    async def explain(
        self,
        prompt: str | None = None,
        *,
        model: str,
        messages: Sequence[Message | MessageDict] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> Explanation:
        """The precision decision for a request, and every step that led to it, without running it.

        Takes the same arguments as `stream`.
        """
        request = pb.ExplainRequest(request=build_request(prompt, messages, model, options))
        deadline, pairs = self._deadline(timeout), self._pairs(metadata)
        reply = await self._line.unary(
            lambda left: self._line.channels.stub().Explain(request, timeout=left.grpc_timeout(), metadata=pairs),
            deadline,
            request.request.request_id,
        )
        return convert.explanation(reply)

    async def list_models(
        self, *, timeout: float | None = None, metadata: Mapping[str, str] | None = None
    ) -> list[Model]:
        """The models that the key may use, with their pools."""
        deadline, pairs = self._deadline(timeout), self._pairs(metadata)
        request = pb.ListModelsRequest()
        reply = await self._line.unary(
            lambda left: self._line.channels.stub().ListModels(request, timeout=left.grpc_timeout(), metadata=pairs),
            deadline,
        )
        return [convert.model(model) for model in reply.models]

    async def close(self) -> None:
        """Closes the connections. Replies that are being read raise Aborted."""
        await self._line.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {','.join(self.targets)}>"

    def _pairs(self, extra: Mapping[str, str] | None) -> list[tuple[str, str]]:
        return [*self._line.metadata, *((name.lower(), value) for name, value in (extra or {}).items())]

    def _deadline(self, timeout: float | None) -> Deadline:
        if timeout is None:
            timeout = min(defaults.UNARY_TIMEOUT, defaults.UNARY_TIMEOUT if self._timeout is None else self._timeout)
        return Deadline(timeout)

    def _stream(
        self,
        request: pb.GenerateRequest | None,
        request_id: str,
        next_index: int,
        timeout: float | None,
        metadata: Mapping[str, str] | None,
        keep_on_close: bool,
    ) -> AsyncStream:
        limit = self._timeout if timeout is None else timeout
        exchange = Exchange(self._line, request, request_id, next_index, limit, self._pairs(metadata))

        async def cancel() -> Cancellation:
            return await self.cancel(request_id, metadata=metadata)

        async def cancel_quietly() -> None:
            try:
                await self.cancel(request_id, timeout=defaults.CLOSE_TIMEOUT, metadata=metadata)
            except (BitlaneError, RuntimeError):
                # Best effort: the caller is leaving, and without the server there is nothing to end.
                return

        return AsyncStream(exchange, cancel, None if keep_on_close else cancel_quietly)
