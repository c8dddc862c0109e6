"""Which metrics and labels a PromQL expression names. Knows as much of the language as that takes."""

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<range>\[[^\]]*\])|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"""
    r"""|(?P<number>[0-9.]+(?:[eE][+-]?[0-9]+)?[a-z]*)|(?P<sign>[^\s])"""
)
_LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_WORDS = frozenset({"and", "or", "unless", "offset", "bool", "inf", "nan", "atan2"})


@dataclass
class Names:
    """What an expression names."""

    metrics: set[str] = field(default_factory=set[str])
    matched: dict[str, set[str]] = field(default_factory=dict[str, set[str]])  # labels in the braces of each metric
    grouped: set[str] = field(default_factory=set[str])  # labels of by (...), on (...) and the like


def names_in(expression: str) -> Names:
    """Reads one expression. Grafana's variables may stand in ranges and in strings."""
    tokens = [(match.lastgroup or "", match.group()) for match in _TOKEN.finditer(expression)]
    names = Names()
    metric, place = "", ""  # place: within which brackets we are
    for index, (kind, text) in enumerate(tokens):
        following = tokens[index + 1][1] if index + 1 < len(tokens) else ""
        if text == "{":
            place = "matchers"
        elif text == "(" and index and tokens[index - 1][1] in _LISTS:
            place = "labels"
        elif text in {"}", ")"} and place:
            place = ""
        elif kind == "name" and place == "matchers":
            names.matched.setdefault(metric, set()).add(text)
        elif kind == "name" and place == "labels":
            names.grouped.add(text)
        elif kind == "name" and text not in _WORDS | _LISTS and following not in {"(", *_LISTS}:
            metric = text
            names.metrics.add(text)
    return names
