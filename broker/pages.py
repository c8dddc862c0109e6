"""Pages of a stream, newest first, with bounded work for each: a tenant's few entries may be far apart."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from broker.types import Page

T = TypeVar("T")

_AT_ONCE = 100
_LOOKED_AT_MAX = 1000


async def read_page(
    read: Callable[[str, int], Awaitable[Sequence[T]]],
    id_of: Callable[[T], str],
    wanted: Callable[[T], bool],
    limit: int,
    before_id: str,
) -> Page[T]:
    """Up to `limit` wanted entries before one, from the newest if `before_id` is empty.

    Args:
        read: gives up to so many entries before one, newest first; none at the end only.
    """
    found: list[T] = []
    position, looked_at = before_id, 0
    while looked_at < _LOOKED_AT_MAX:
        entries = await read(position, _AT_ONCE)
        for entry in entries:
            looked_at += 1
            position = id_of(entry)
            if wanted(entry):
                found.append(entry)
                if len(found) >= limit:
                    return Page(tuple(found), position)
        if not entries:
            return Page(tuple(found), "")
    return Page(tuple(found), position)
