"""As much of HTTP/1.1 as the mock upstream and the client need, cheaply: the load must not be what is measured."""

import asyncio
from dataclasses import dataclass

MOST = 1 << 20  # bytes of a head, a line, or what one read returns
_LENGTH = b"content-length"


class BadHttp(Exception):
    """The other side sent what this is not made for; the message says what."""


@dataclass(frozen=True, slots=True)
class Head:
    """The start line, and the headers by their name in small letters."""

    start: str
    headers: dict[bytes, bytes]

    @property
    def length(self) -> int:
        """Bytes of the body; 0 when nobody says."""
        return int(self.headers.get(_LENGTH, b"0"))

    @property
    def chunked(self) -> bool:
        return self.headers.get(b"transfer-encoding", b"").lower() == b"chunked"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next request's or response's head; None when the other side has closed the connection in good order.

    Raises:
        BadHttp: it closed it in the middle of a head.
    """
    try:
        text = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadHttp("the connection ended within a head") from error
        return None
    start, *lines = text[:-4].split(b"\r\n")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    return Head(start.decode("latin-1"), headers)


class Chunks:
    """Takes the framing off a chunked body, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._left = 0  # of the chunk that has begun, its line break included
        self._held = b""  # the beginning of a size line
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """What the piece holds of the body. Raises BadHttp."""
        if self._held:
            data, self._held = self._held + data, b""
        found: list[bytes] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                end = min(len(data), at + self._left)
                # The last two bytes of a chunk are its line break.
                found.append(data[at : min(end, at + max(0, self._left - 2))])
                self._left -= end - at
                at = end
                continue
            line = data.find(b"\r\n", at)
            if line < 0:
                self._held = data[at:]
                break
            try:
                size = int(data[at:line].partition(b";")[0], 16)
            except ValueError as error:
                raise BadHttp(f"{data[at:line][:40]!r} is no chunk's size") from error
            at = line + 2
            self._left = size + 2
            self.ended = size == 0  # trailers are not looked at
        return b"".join(found)
