"""The blocking client: the asyncio one, run by a thread of its own. It adds no behaviour."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from bitlane import defaults
from bitlane.arguments import Options
from bitlane.background import BackgroundLoop
from bitlane.client import AsyncClient
from bitlane.retry import RetryPolicy
from bitlane.stream import AsyncStream
from bitlane.sync_policies import Policies
from bitlane.tls import Tls
from bitlane.types import (
    Accepted,
    Cancellation,
    Completion,
    Decision,
    Delta,
    Explanation,
    Finished,
    Message,
    MessageDict,
    Model,
)

if TYPE_CHECKING:
    from bitlane.sync_admin import Admin


class Stream:
    """One reply as it is generated. Iterate over it for its deltas:

        with client.stream(messages=[{"role": "user", "content": "Tell me a story."}], model="smollm2") as stream:
            for delta in stream:
                print(delta.text, end="", flush=True)
        print(stream.finished.receipt)

    The request is sent when the stream is first read. Leaving the `with` block early, `close`, or Ctrl-C ends the
    request at the server. Errors come out of whatever reads the stream; a broken connection is resumed silently.
    One thread at a time may read it; `cancel` and `close` may come from another.
    """

    def __init__(self, stream: AsyncStream, loop: BackgroundLoop) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def request_id(self) -> str:
        """Names the request for `resume` and `cancel`, known before it is sent."""
        return self._stream.request_id

    @property
    def decision(self) -> Decision | None:
        """Which precision was chosen, and why. None until the first event; `accepted()` waits for it."""
        return self._stream.decision

    @property
    def finished(self) -> Finished | None:
        """How the reply ended. None until its last delta was read; `result()` reads on to there."""
        return self._stream.finished

    @property
    def next_index(self) -> int:
        """Where `resume` would continue."""
        return self._stream.next_index

    @property
    def text(self) -> str:
        """The text that was read so far."""
        return self._stream.text

    def accepted(self) -> Accepted:
        """Waits until the server has stored the request and decided on its precision."""
        return self._loop.run(self._stream.accepted())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        delta = self._loop.run(self._stream.next_delta())
        if delta is None:
            raise StopIteration
        return delta

    def result(self) -> Completion:
        """Reads to the end and returns the whole reply. Of a resumed stream: what came since its start index."""
        return self._loop.run(self._stream.result())

    def cancel(self) -> Cancellation:
        """Ends the request. The stream then ends by itself, with FinishReason.CANCELLED; read on to see it."""
        return self._loop.run(self._stream.cancel())

    def close(self) -> None:
        """Stops reading. A request that has not ended is ended at the server, unless it has a `disconnect_grace`."""
        # A closed client has ended its streams already.
        if not self._loop.closed:
            self._loop.run(self._stream.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._stream).replace("AsyncStream", "Stream", 1)


class Client:
    """Talks to bitlane from blocking code.

        with Client("localhost:50051") as client:
            reply = client.generate("The capital of France is", model="smollm2", max_tokens=8)
            print(reply.text, reply.precision, reply.decision.reason)

    Nothing is connected until the first call, which also starts the client's one background thread. Any number of
    threads may use one client. It does not survive a fork (`RuntimeError` in the child): make one in each process,
    after the fork. Every call raises the errors of `bitlane.errors` and no other.
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
        """Takes the same arguments as `AsyncClient` and raises the same errors."""
        self._client = AsyncClient(
            target,
            api_key=api_key,
            tls=tls,
            insecure=insecure,
            timeout=timeout,
            retry=retry,
            metadata=metadata,
        )
        self._loop = BackgroundLoop("bitlane-client")
        self._pid = os.getpid()
        self.policies = Policies(self._client.policies, self._running)
        """The precision policies of the tenant, their shadows, and the gates."""

    @cached_property
    def admin(self) -> "Admin":
        """Tenants, API keys, quotas, usage, pools and workers, dead letters, the audit log."""
        from bitlane.sync_admin import Admin  # noqa: PLC0415  # few need it

        return Admin(self._client.admin, self._running)

    @property
    def targets(self) -> tuple[str, ...]:
        """Where the servers are, in the order of preference."""
        return self._client.targets

    def stream(
        self,
        prompt: str | None = None,
        *,
        model: str,
        messages: Sequence[Message | MessageDict] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> Stream:
        """Generates a reply and streams it; see `AsyncClient.stream`."""
        stream = self._client.stream(
            prompt, model=model, messages=messages, timeout=timeout, metadata=metadata, **options
        )
        return Stream(stream, self._running())

    def generate(
        self,
        prompt: str | None = None,
        *,
        model: str,
        messages: Sequence[Message | MessageDict] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> Completion:
        """Generates a reply and returns it whole; see `AsyncClient.stream` for the arguments."""
        return self._running().run(
            self._client.generate(prompt, model=model, messages=messages, timeout=timeout, metadata=metadata, **options)
        )

    def resume(
        self,
        request_id: str,
        next_index: int = 0,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Stream:
        """Streams a reply that is running or lately ended from chunk `next_index` on; see `AsyncClient.resume`."""
        stream = self._client.resume(request_id, next_index, timeout=timeout, metadata=metadata)
        return Stream(stream, self._running())

    def cancel(
        self, request_id: str, *, timeout: float | None = None, metadata: Mapping[str, str] | None = None
    ) -> Cancellation:
        """Ends a waiting or running request. Raises NotFound."""
        return self._running().run(self._client.cancel(request_id, timeout=timeout, metadata=metadata))

    def explain(
        self,
        prompt: str | None = None,
        *,
        model: str,
        messages: Sequence[Message | MessageDict] | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> Explanation:
        """The precision decision for a request, without running it; see `AsyncClient.stream` for the arguments."""
        return self._running().run(
            self._client.explain(prompt, model=model, messages=messages, timeout=timeout, metadata=metadata, **options)
        )

    def list_models(self, *, timeout: float | None = None, metadata: Mapping[str, str] | None = None) -> list[Model]:
        """The models that the key may use, with their pools."""
        return self._running().run(self._client.list_models(timeout=timeout, metadata=metadata))

    def close(self) -> None:
        """Closes the connections and stops the thread. Replies that are being read raise Aborted."""
        if os.getpid() != self._pid:
            # The thread and the connections are the parent's.
            return
        if not self._loop.closed:
            self._loop.run(self._client.close())
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._client).replace("AsyncClient", "Client", 1)

    def _running(self) -> BackgroundLoop:
        # Checked here and not in the channel: the loop's thread is missing after a fork, and waiting would never end.
        if os.getpid() != self._pid:
            raise RuntimeError("a client does not survive a fork: make a new one in the child process")
        return self._loop
