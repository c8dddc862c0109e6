"""Pages of lists, and the tokens between them."""

import base64
import binascii
from collections.abc import Sequence
from typing import Protocol, TypeVar

from router.faults import Violation, invalid

DEFAULT_SIZE = 100
MAX_SIZE = 1000
_MAX_TOKEN = 512
T = TypeVar("T")


class _PagedRequest(Protocol):
    page_size: int
    page_token: str


def page_size(request: _PagedRequest) -> int:
    """Raises Fault INVALID_ARGUMENT when it is too large."""
    if request.page_size > MAX_SIZE:
        raise invalid([Violation("page_size", f"is {request.page_size}; use 1 to {MAX_SIZE}, or 0 for {DEFAULT_SIZE}")])
    return request.page_size or DEFAULT_SIZE


def page_token(kind: str, after: str) -> str:
    """Says where the next page of a list of this kind starts; empty when there is none."""
    return base64.urlsafe_b64encode(f"{kind}:{after}".encode()).decode() if after else ""


def page_start(request: _PagedRequest, kind: str) -> str:
    """What `page_token` was made of; empty for the first page. Raises Fault INVALID_ARGUMENT for any other token."""
    if not request.page_token:
        return ""
    try:
        if len(request.page_token) > _MAX_TOKEN:
            raise ValueError
        text = base64.b64decode(request.page_token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise bad_token() from None
    found, _, after = text.partition(":")
    if found != kind or not after:
        raise bad_token()
    return after


def page_of(items: Sequence[tuple[str, T]], request: _PagedRequest, kind: str) -> tuple[list[T], str]:
    """A page of what is known in whole, by name, and the token of the next page."""
    size, after = page_size(request), page_start(request, kind)
    rest = sorted((item for item in items if item[0] > after), key=lambda item: item[0])
    last = rest[size - 1][0] if len(rest) > size else ""
    return [item for _, item in rest[:size]], page_token(kind, last)


def bad_token() -> Exception:
    return invalid([Violation("page_token", "is not one that this list gave; start again without")])
