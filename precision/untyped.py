"""Reading JSON whose shape is not known: what is not of the wanted kind counts as missing."""

from collections.abc import Mapping
from typing import cast


def mapping(value: object) -> Mapping[str, object]:
    """An object's members; nothing when it is no object."""
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """A list's items; nothing when it is no list."""
    return cast("list[object]", value) if isinstance(value, list) else []


def strings(value: object) -> tuple[str, ...]:
    """The texts of a list."""
    return tuple(item for item in items(value) if isinstance(item, str))


def integer(value: object, default: int = 0) -> int:
    """A whole number; true and false are none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def text(value: object) -> str:
    """A text; "" when it is none."""
    return value if isinstance(value, str) else ""
