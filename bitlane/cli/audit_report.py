"""The audit log in words: who changed what, and which fields of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from bitlane.admin_types import AuditEvent
from bitlane.cli.admin_report import excerpt
from bitlane.cli.report import moment
from bitlane.cli.terminal import Terminal

_CHANGE = 100  # characters


def show_audit(events: Sequence[AuditEvent], terminal: Terminal) -> None:
    if not events:
        terminal.note("no change was recorded")
        return
    rows = [
        (moment(event.time), event.actor, event.action, event.resource, excerpt(_change(event), _CHANGE))
        for event in events
    ]
    terminal.table(("time", "by", "action", "what", "change"), rows)


def _change(event: AuditEvent) -> str:
    """The fields that differ, where the texts are JSON objects; else what was and what is."""
    before, after = _fields(event.before or "{}"), _fields(event.after or "{}")
    if before is None or after is None:
        return f"{excerpt(event.before) or 'nothing'} -> {excerpt(event.after) or 'nothing'}"
    if not before or not after:
        fields = "; ".join(f"{name}: {value}" for name, value in (before or after).items())
        return f"{'gone' if before else 'new'}: {fields}" if fields else ""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return "; ".join(f"{name}: {before.get(name, '-')} -> {after.get(name, '-')}" for name in names)


def _fields(text: str) -> dict[str, str] | None:
    """The leaves of a JSON object by their paths; None when it is none, as one that was cut."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return dict(_leaves(cast("Mapping[str, Any]", value), "")) if isinstance(value, dict) else None


def _leaves(value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, each in value.items():
        if isinstance(each, dict):
            yield from _leaves(cast("Mapping[str, Any]", each), f"{path}{name}.")
        else:
            yield path + name, json.dumps(each, ensure_ascii=False)
