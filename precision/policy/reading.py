"""Typed reading of plain values: each fault is kept with its path, and reading goes on, so that all are told."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar, cast

_Member = TypeVar("_Member", bound=Enum)
_MOST_FAULTS = 32


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place of a document."""

    path: str  # such as rules[2].match.tokens.min; empty for the whole
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


@dataclass(slots=True)
class Reader:
    """Reads values at paths. What is wrong is noted and read as the default."""

    faults: list[Fault] = field(default_factory=list[Fault])

    def fault(self, path: str, reason: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(Fault(path, reason))

    def mapping(self, value: object, path: str, known: Iterable[str]) -> Mapping[str, object]:
        """A mapping with no keys but the known ones."""
        if not isinstance(value, Mapping):
            self.fault(path, f"is {kind(value)}; a mapping is needed")
            return {}
        entries = cast("Mapping[str, object]", value)
        names = list(known)
        for key in entries:
            if key not in names:
                near = difflib.get_close_matches(key[:64], names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
                self.fault(join(path, key[:64]), f"is not known; {hint}")
        return entries

    def entries(self, value: object, path: str, most: int, needed: str) -> Mapping[str, object]:
        """A mapping with keys of the user's own, at least one."""
        found: Mapping[str, object] = cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
        if not found:
            self.fault(path, f"is {'empty' if isinstance(value, Mapping) else kind(value)}; {needed}")
        if len(found) > most:
            self.fault(path, f"has {len(found)} entries; at most {most}")
            return {}
        return found

    def items(self, value: object, path: str, most: int) -> list[tuple[str, object]]:
        """The entries of a list, each with its path."""
        if not isinstance(value, list):
            self.fault(path, f"is {kind(value)}; a list is needed")
            return []
        entries = cast("list[object]", value)
        if len(entries) > most:
            self.fault(path, f"has {len(entries)} entries; at most {most}")
            return []
        return [(f"{path}[{i}]", entry) for i, entry in enumerate(entries)]

    def text(self, value: object, path: str, most: int) -> str:
        if not isinstance(value, str):
            self.fault(path, f"is {kind(value)}; a text is needed (put it in quotes)")
            return ""
        if not 1 <= len(value) <= most:
            self.fault(path, f"has {len(value)} characters; use 1 to {most}")
        elif not value.isprintable():
            self.fault(path, "has control characters; remove them")
        return value

    def flag(self, value: object, path: str, default: bool) -> bool:
        if isinstance(value, bool):
            return value
        self.fault(path, f"is {kind(value)}; use true or false")
        return default

    def whole(self, value: object, path: str, least: int, most: int, default: int) -> int:
        """An integer within bounds."""
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(path, f"is {kind(value)}; a whole number is needed")
        elif not least <= value <= most:
            self.fault(path, f"is {value}; use {least} to {most}")
        else:
            return value
        return default

    def number(self, value: object, path: str, least: float, most: float, default: float) -> float:
        """A number within bounds; NaN is within none."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(path, f"is {kind(value)}; a number is needed")
        elif not least <= value <= most:
            self.fault(path, f"is {value:g}; use {least:g} to {most:g}")
        else:
            return float(value)
        return default

    def member(self, enum: type[_Member], value: object, path: str) -> _Member | None:
        """An enum's member by its name, in any case."""
        if isinstance(value, str) and value.upper() in enum.__members__:
            return enum[value.upper()]
        names = [name if name.startswith(("FP", "BF")) else name.lower() for name in enum.__members__]
        shown = f"{value[:40]!r}" if isinstance(value, str) else kind(value)
        near = difflib.get_close_matches(value[:40].lower(), names, n=1) if isinstance(value, str) else []
        hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(names)}"
        self.fault(path, f"is {shown}, which is not known; {hint}")
        return None

    def members(self, enum: type[_Member], value: object, path: str) -> frozenset[_Member]:
        """One name, or a list of them."""
        if isinstance(value, str):
            one = self.member(enum, value, path)
            return frozenset(() if one is None else (one,))
        if value == []:
            self.fault(path, "is empty; name at least one, or leave it out")
        found = [self.member(enum, entry, at) for at, entry in self.items(value, path, len(enum))]
        return frozenset(member for member in found if member is not None)

    def names(self, value: object, path: str, most: int) -> frozenset[str]:
        """One text, or a list of them."""
        if isinstance(value, str):
            return frozenset((self.text(value, path, 64),))
        if value == []:
            self.fault(path, "is empty; name at least one, or leave it out")
        return frozenset(self.text(entry, at, 64) for at, entry in self.items(value, path, most))


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def kind(value: object) -> str:
    """What a value is, in the document's words."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value:g}"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list"
        case _:
            return "a mapping"
