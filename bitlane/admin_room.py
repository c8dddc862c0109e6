"""What all parts of `client.admin` are made of: one call, and lists that come in pages."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message as Wire

from bitlane import defaults
from bitlane.deadline import Deadline
from bitlane.line import Line

if TYPE_CHECKING:
    # Exists in the stub file only.
    from grpc import aio

    from bitlane.v1.admin_pb2_grpc import AdminServiceAsyncStub as Stub

_Item = TypeVar("_Item")
_Response = TypeVar("_Response", bound=Wire)

Page: TypeAlias = tuple[Sequence[_Item], str]
"""Some items, and the token of the page after them; empty: there is none."""


class AsyncPages(Generic[_Item]):
    """An iterator over all pages of a list; each is asked for when the one before has been read."""

    def __init__(self, fetch: Callable[[str], Awaitable[Page[_Item]]]) -> None:
        """`fetch` gets a page by its token; the first one's is empty."""
        self._fetch = fetch
        self._token: str | None = ""

    async def next_page(self) -> Sequence[_Item]:
        """What comes next; nothing at the end only."""
        items: Sequence[_Item] = ()
        while not items and self._token is not None:
            items, token = await self._fetch(self._token)
            self._token = token or None
        return items

    async def __aiter__(self) -> AsyncIterator[_Item]:
        while items := await self.next_page():
            for item in items:
                yield item


class Room:
    """A part of the admin API."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def _call(
        self,
        method: "Callable[[Stub], Callable[..., aio.UnaryUnaryCall[Any, _Response]]]",
        request: Wire,
        timeout_s: float = defaults.UNARY_TIMEOUT,
        *,
        repeatable: bool = True,
    ) -> Awaitable[_Response]:
        """`repeatable`: whether a call that may have taken effect already can be sent once more, to the same answer."""

        def start(left: Deadline) -> "aio.UnaryUnaryCall[Any, _Response]":
            stub = self._line.channels.admin_stub()
            return method(stub)(request, timeout=left.grpc_timeout(), metadata=self._line.metadata)

        return self._line.unary(start, Deadline(timeout_s), repeatable=repeatable)
