"""What differs between two policies, defaults filled in: to write a default out is no change."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import cast

from precision.policy.glob import Glob
from precision.policy.model import Brownout, Match, Policy, Rule, Spill
from precision.profile import Precision

_LIST = "rules (order)"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; empty where there is nothing on that side."""

    path: str  # as in a document; rules go by their name
    before: str
    after: str


def diff(old: Policy, new: Policy) -> list[Change]:
    """All differences: in the order of the new document, then what is gone."""
    before, after = dict(_values(old)), dict(_values(new))
    paths = [*after, *(path for path in before if path not in after)]
    changes = [Change(path, before.get(path, ""), after.get(path, "")) for path in paths]
    return [change for change in changes if change.before != change.after]


def _values(policy: Policy) -> Iterator[tuple[str, str]]:
    """Path and value of everything that a policy says."""
    for task, precision in sorted(policy.default_map.items()):
        yield f"map.{task.name.lower()}", precision.name
    yield _LIST, ", ".join(rule.name for rule in policy.rules)
    for rule in policy.rules:
        yield from _rule(rule)
    yield "never_below", _text(policy.never_below_fp8)
    yield "confidence_threshold", f"{policy.confidence_threshold:g}"
    yield "risk_threshold", f"{policy.risk_threshold:g}"
    yield "long_context_tokens", str(policy.long_context_tokens)
    yield "allow_uncalibrated_fp4", _text(policy.allow_uncalibrated_fp4)
    yield from _part("spill", policy.spill)
    yield from _part("brownout", policy.brownout)
    yield "client.floor", _text(policy.client.floor)
    yield "client.pins", _text(policy.client.pins)
    yield "client.on_excess", policy.client.on_excess.value


def _rule(rule: Rule) -> Iterator[tuple[str, str]]:
    path = f"rules[{rule.name}]"
    match = ", ".join(f"{name}: {text}" for name, text in _conditions(rule.match))
    yield f"{path}.match", f"{{{match}}}"
    for name, value in (("use", rule.use), ("at_least", rule.at_least), ("forbid", rule.forbid or None)):
        if value is not None:
            yield f"{path}.{name}", _text(value)


def _conditions(match: Match) -> Iterator[tuple[str, str]]:
    named: Mapping[str, Iterable[object] | None] = {
        "task": match.tasks,
        "sensitivity": match.sensitivities,
        "model": match.models,
        "priority": match.priorities,
        "language": match.languages,
    }
    for name, values in named.items():
        if values is not None:
            yield name, _text(values)
    if match.min_tokens is not None or match.max_tokens is not None:
        bounds = (("min", match.min_tokens), ("max", match.max_tokens))
        yield "tokens", "{" + ", ".join(f"{name}: {bound}" for name, bound in bounds if bound is not None) + "}"
    if match.labels:
        yield "labels", "{" + ", ".join(f"{key}: {glob.text}" for key, glob in match.labels) + "}"


def _part(name: str, part: Spill | Brownout | None) -> Iterator[tuple[str, str]]:
    yield name, _text(part is not None)
    for field in fields(part) if part is not None else ():
        yield f"{name}.{field.name}", _text(getattr(part, field.name))


def _text(value: object) -> str:
    """A value as a document would have it."""
    match value:
        case None:
            return "all"
        case bool():
            return str(value).lower()
        case Precision():
            return value.name
        case Enum():
            return value.name.lower()
        case Glob():
            return value.text
        case frozenset():
            return f"[{', '.join(sorted(map(_text, cast('frozenset[object]', value))))}]"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
