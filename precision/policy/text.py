"""From a policy document's text, YAML or JSON, to plain values. The text may be hostile: limits are checked while it is
read, before anything large is built, and nothing recurses.

What YAML offers beyond plain values is refused rather than understood: aliases and anchors (a few lines can stand for
billions), tags, several documents, duplicate keys. Scalars follow YAML 1.2: `no` and `on` are texts, and so is a date.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import yaml

MAX_BYTES = 64 << 10
MAX_DEPTH = 8
MAX_VALUES = 10_000
MAX_TEXT = 1_024  # characters of one value or key

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool | None"
# The C parser where PyYAML has it: the same events, ten times as fast.
_Loader = cast("Any", getattr(yaml, "CSafeLoader", yaml.SafeLoader))

_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]{1,32}|[0-9]{1,32}(\.[0-9]{0,32})?)([eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class TextInvalid(Exception):
    """The text cannot be read as a document; the message says where and why."""


def read_text(text: str) -> Plain:
    """The values of a document.

    Raises:
        TextInvalid: it is too large or too deep, is neither YAML nor JSON, or uses what is not allowed.
    """
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        raise TextInvalid(f"has {size} bytes; a document has at most {MAX_BYTES}")
    if (at := text.find("\0")) >= 0:
        raise TextInvalid(f"has a NUL character at position {at}; remove it")
    if (line_break := _LINE_BREAKS.search(text)) is not None:
        raise TextInvalid(
            f"has the line break U+{ord(line_break[0]):04X}, which YAML and JSON read differently; remove it"
        )
    if text.lstrip().startswith("{"):
        # JSON is nearly YAML; its escapes of characters beyond the first plane are not.
        text = _yaml_of_json(text)
    return _Builder().build(text)


def _yaml_of_json(text: str) -> str:
    """A JSON text whose escapes YAML understands too; other texts as they are, for YAML to judge."""
    return re.sub(
        r"\\ud([89ab][0-9a-f]{2})\\ud([c-f][0-9a-f]{2})",
        lambda pair: cast("str", json.loads(f'"{pair[0]}"')),
        text,
        flags=re.IGNORECASE,
    )


class _Builder:
    """Puts values together from the parser's events."""

    def __init__(self) -> None:
        self._root: list[Plain] = []
        self._open: list[dict[str, Plain] | list[Plain]] = [self._root]
        self._keys: list[str | None] = [None]  # of each open container: the key that waits for its value
        self._count = 0

    def build(self, text: str) -> Plain:
        for event in _events(text):
            match event:
                case yaml.DocumentStartEvent() if self._root:
                    raise _fault(event, "a second document begins; a file holds one policy")
                case yaml.AliasEvent():
                    raise _fault(event, f"the alias *{_short(str(event.anchor))} is not allowed; write the value out")
                case yaml.ScalarEvent():
                    self._check(event)
                    self._scalar(event)
                case yaml.MappingStartEvent():
                    self._check(event)
                    self._begin(event, {})
                case yaml.SequenceStartEvent():
                    self._check(event)
                    self._begin(event, [])
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._open.pop()
                    self._keys.pop()
                case _:
                    pass
        return self._root[0] if self._root else None

    def _check(self, event: Any) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _fault(event, f"more than {MAX_VALUES} values")
        if event.anchor:
            raise _fault(event, f"the anchor &{_short(event.anchor)} is not allowed; write the value out each time")
        if event.tag:
            raise _fault(event, f"the tag {_short(event.tag)} is not allowed; write plain values")

    def _begin(self, event: Any, container: "dict[str, Plain] | list[Plain]") -> None:
        if len(self._open) > MAX_DEPTH:
            raise _fault(event, f"nested more than {MAX_DEPTH} levels deep")
        if self._awaits_key():
            raise _fault(event, "a key must be a text, not a list or mapping")
        self._add(container)
        self._open.append(container)
        self._keys.append(None)

    def _scalar(self, event: Any) -> None:
        text: str = event.value
        if len(text) > MAX_TEXT:
            raise _fault(event, f"a text of {len(text)} characters; at most {MAX_TEXT}")
        if not self._awaits_key():
            self._add(_plain(text) if event.implicit[0] else text)
            return
        if text == "<<":
            raise _fault(event, "the merge key << is not allowed; write the values out")
        if text in self._open[-1]:
            raise _fault(event, f"the key {_short(text)!r} is there twice")
        self._keys[-1] = text

    def _awaits_key(self) -> bool:
        return isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _add(self, value: Plain) -> None:
        parent = self._open[-1]
        if isinstance(parent, list):
            parent.append(value)
        else:
            parent[cast("str", self._keys[-1])] = value
            self._keys[-1] = None


def _events(text: str) -> Iterator[Any]:
    try:
        yield from cast("Iterator[Any]", yaml.parse(text, Loader=_Loader))
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        raise TextInvalid(_yaml_message(error)) from None
    except RecursionError:
        raise TextInvalid(f"nested more than {MAX_DEPTH} levels deep") from None


def _yaml_message(error: Exception) -> str:
    mark: Any = getattr(error, "problem_mark", None)
    problem: str = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}is no YAML or JSON: {_short(str(problem), 200)}"


def _plain(text: str) -> Plain:
    """What a plain scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return text


def _fault(event: Any, problem: str) -> TextInvalid:
    return TextInvalid(f"line {event.start_mark.line + 1}, column {event.start_mark.column + 1}: {problem}")


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[:most] + "..."
