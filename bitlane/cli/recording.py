"""Recorded requests: a file of JSON lines. A bad line is named by file, line and field."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from bitlane.errors import ConfigError, InvalidRequest, Violation
from bitlane.policy_types import ReplayRow

_FIELDS = ("text", "messages", "model", "task", "labels", "priority", "prompt_tokens", "at_least", "pin")
_TEXTS = ("text", "model", "task", "priority", "at_least", "pin")


def read_text(path: str) -> str:
    """A file's text; - reads stdin. Raises ConfigError."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is no UTF-8 text ({error.reason} at byte {error.start})") from None


class Recording:
    """The rows of a file, and the line that each stands on."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows: list[ReplayRow] = []
        self._lines: list[int] = []
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.strip():
                self.rows.append(self._row(line, number))
                self._lines.append(number)
        if not self.rows:
            raise ConfigError(f"{path} holds no request")

    def in_words_of_the_file(self, error: InvalidRequest) -> InvalidRequest:
        """The same error with `rows[4].task` told as `requests.jsonl:5: task`."""
        named = [Violation(self._place(each.field), each.description) for each in error.violations]
        return InvalidRequest("bad rows", reason=error.reason, metadata=error.metadata, violations=named)

    def _place(self, field: str) -> str:
        row, _, name = field.removeprefix("rows[").partition("].")
        if not (field.startswith("rows[") and row.isdigit() and int(row) < len(self._lines)):
            return field
        return f"{self.path}:{self._lines[int(row)]}: {name}"

    def _row(self, line: str, number: int) -> ReplayRow:
        try:
            values: object = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._fault(number, "", f"is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise self._fault(number, "", "is no JSON object")
        row = cast("Mapping[str, object]", values)
        self._check(row, number)
        return ReplayRow(**row)  # pyright: ignore[reportArgumentType]  # checked just now; the rest by ReplayRow's reader

    def _check(self, row: Mapping[str, object], number: int) -> None:
        for name, value in row.items():
            if name not in _FIELDS:
                raise self._fault(number, name, f"is not known; use {', '.join(_FIELDS)}")
            if name in _TEXTS and not isinstance(value, str):
                raise self._fault(number, name, "must be a text")
            if name == "labels" and not _is_labels(value):
                raise self._fault(number, name, "must be an object of texts")
            if name == "prompt_tokens" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise self._fault(number, name, "must be a whole number of at least 0")
            if name == "messages" and not isinstance(value, list):
                raise self._fault(number, name, "must be a list of messages")
        if "model" not in row:
            raise self._fault(number, "model", "is missing")
        if ("text" in row) == ("messages" in row):
            raise self._fault(number, "text", "give either text or messages")

    def _fault(self, number: int, field: str, description: str) -> InvalidRequest:
        place = f"{self.path}:{number}" + (f": {field[:64]}" if field else "")
        return InvalidRequest(
            "bad row",
            reason="FIELD_INVALID",
            metadata={"checked_by": "client"},
            violations=[Violation(place, description)],
        )


def _is_labels(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return all(isinstance(label, str) for label in cast("dict[str, object]", value).values())
