"""Policy documents: from YAML or JSON to a `Policy`. `docs/policy.md` describes the format.

A document that says anything unknown, contradictory or out of bounds is refused with every fault's path and reason:
a policy that was half understood would be worse than none.
"""

from collections.abc import Callable
from types import MappingProxyType

from precision.decision import PriorityClass
from precision.policy.glob import Glob
from precision.policy.model import NEVER_BELOW_FP8, Brownout, ClientRights, Excess, Match, Policy, Rule, Spill
from precision.policy.reading import Fault, Reader, join
from precision.policy.text import TextInvalid, read_text
from precision.profile import Precision
from precision.tasks import Sensitivity, Task

MAX_RULES = 200
_MAX_LABELS = 8
_MAX_STARS = 4
_MAX_TOKENS = 1 << 24
_MOST_PRESSURE = 1_000_000.0
_DEFAULT = Policy()
_RULE = ("name", "match", "use", "at_least", "forbid")
_MATCH = ("task", "sensitivity", "model", "tokens", "labels", "priority", "language")
# What router.language can find.
LANGUAGES = ("en", "zh", "ja", "ko", "ru", "uk", "el", "he", "ar", "fa", "hi", "th", "other-latin", "unknown")


class PolicyInvalid(Exception):
    """The document is no policy; `faults` names each path and reason."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def read_policy(text: str, version: str) -> Policy:
    """The policy of a document.

    Raises:
        PolicyInvalid: with everything that is wrong with it.
    """
    try:
        values = read_text(text)
    except TextInvalid as error:
        raise PolicyInvalid((Fault("", str(error)),)) from None
    return policy_from(values, version)


def policy_from(values: object, version: str, path: str = "") -> Policy:
    """The policy of a document that was read already, such as a part of a configuration file.

    Args:
        path: of the document within the file, as a prefix of the paths in faults.

    Raises:
        PolicyInvalid: with everything that is wrong with it.
    """
    reader = Reader()
    policy = _Document(reader).policy({} if values is None else values, version, path)
    if reader.faults:
        raise PolicyInvalid(tuple(reader.faults))
    return policy


class _Document:
    """Reads the parts of a document."""

    def __init__(self, reader: Reader) -> None:
        self._read = reader

    def policy(self, values: object, version: str, path: str) -> Policy:
        read = self._read
        parts: dict[str, Callable[[object, str], object]] = {
            "description": lambda value, at: read.text(value, at, 1024),
            "map": self._map,
            "rules": self._rules,
            "never_below": self._never_below,
            "confidence_threshold": lambda value, at: read.number(value, at, 0, 1, _DEFAULT.confidence_threshold),
            "risk_threshold": lambda value, at: read.number(value, at, 0, 1, _DEFAULT.risk_threshold),
            "long_context_tokens": lambda value, at: read.whole(
                value, at, 1, _MAX_TOKENS, _DEFAULT.long_context_tokens
            ),
            "allow_uncalibrated_fp4": lambda value, at: read.flag(value, at, False),
            "spill": self._spill,
            "brownout": self._brownout,
            "client": self._client,
        }
        entries = read.mapping(values, path, parts)
        found = {key: parts[key](value, join(path, key)) for key, value in entries.items() if key in parts}
        found.pop("description", None)
        for key, name in (("map", "default_map"), ("never_below", "never_below_fp8")):
            if key in found:
                found[name] = found.pop(key)
        policy = Policy(version, **found)  # type: ignore[arg-type]  # each part was read as its field's type
        self._contradictions(policy, path)
        return policy

    def _map(self, value: object, path: str) -> MappingProxyType[Task, Precision]:
        read = self._read
        result: dict[Task, Precision] = {}
        for key, name in read.mapping(value, path, [task.name.lower() for task in Task]).items():
            precision = read.member(Precision, name, join(path, key))
            if precision is not None and key.upper() in Task.__members__:
                result[Task[key.upper()]] = precision
        return MappingProxyType(result)

    def _rules(self, value: object, path: str) -> tuple[Rule, ...]:
        rules = [self._rule(entry, at) for at, entry in self._read.items(value, path, MAX_RULES)]
        seen: dict[str, str] = {}
        for number, rule in enumerate(rules):
            at = f"{path}[{number}]"
            if rule.name and rule.name in seen:
                self._read.fault(
                    f"{at}.name", f"is {rule.name!r}, as {seen[rule.name]} is; each rule needs its own name"
                )
            seen.setdefault(rule.name, at)
        return tuple(rules)

    def _rule(self, value: object, path: str) -> Rule:
        read = self._read
        entries = read.mapping(value, path, _RULE)
        name = read.text(entries["name"], f"{path}.name", 64) if "name" in entries else ""
        if isinstance(value, dict) and "name" not in entries:
            read.fault(f"{path}.name", "is missing; decisions and counters name the rule by it")
        given = [key for key in ("use", "at_least", "forbid") if key in entries]
        if isinstance(value, dict) and len(given) != 1:
            what = f"has {' and '.join(given)}" if given else "has none of use, at_least, forbid"
            read.fault(path, f"{what}; exactly one of them is needed")
        if isinstance(value, dict) and "match" not in entries:
            read.fault(f"{path}.match", "is missing; write `match: {}` for a rule that is meant for every request")
        match = self._match(entries["match"], f"{path}.match") if "match" in entries else Match()
        use = read.member(Precision, entries["use"], f"{path}.use") if "use" in entries else None
        floor = read.member(Precision, entries["at_least"], f"{path}.at_least") if "at_least" in entries else None
        ban = (
            read.members(Precision, entries["forbid"], f"{path}.forbid")
            if "forbid" in entries
            else frozenset[Precision]()
        )
        if len(ban) == len(Precision):
            read.fault(f"{path}.forbid", "names every precision; no pool could serve such a request")
        return Rule(name, match, use, floor, ban)

    def _match(self, value: object, path: str) -> Match:
        read = self._read
        entries = read.mapping(value, path, _MATCH)

        def at(key: str) -> str:
            return f"{path}.{key}"

        low, high = self._tokens(entries["tokens"], at("tokens")) if "tokens" in entries else (None, None)
        return Match(
            tasks=read.members(Task, entries["task"], at("task")) if "task" in entries else None,
            sensitivities=(
                read.members(Sensitivity, entries["sensitivity"], at("sensitivity"))
                if "sensitivity" in entries
                else None
            ),
            models=read.names(entries["model"], at("model"), 64) if "model" in entries else None,
            min_tokens=low,
            max_tokens=high,
            labels=self._labels(entries["labels"], at("labels")) if "labels" in entries else (),
            priorities=read.members(PriorityClass, entries["priority"], at("priority"))
            if "priority" in entries
            else None,
            languages=self._languages(entries["language"], at("language")) if "language" in entries else None,
        )

    def _tokens(self, value: object, path: str) -> tuple[int | None, int | None]:
        read = self._read
        entries = read.mapping(value, path, ("min", "max"))
        low = read.whole(entries["min"], f"{path}.min", 0, _MAX_TOKENS, 0) if "min" in entries else None
        high = read.whole(entries["max"], f"{path}.max", 0, _MAX_TOKENS, _MAX_TOKENS) if "max" in entries else None
        if low is not None and high is not None and low > high:
            read.fault(f"{path}.min", f"is {low}, above max, which is {high}; no prompt could match")
        if isinstance(value, dict) and low is None and high is None:
            read.fault(path, "is empty; give min, max or both")
        return low, high

    def _labels(self, value: object, path: str) -> tuple[tuple[str, Glob], ...]:
        read = self._read
        found: list[tuple[str, Glob]] = []
        needed = "a mapping of label to text or pattern is needed, such as {team: risk-*}"
        for key, pattern in read.entries(value, path, _MAX_LABELS, needed).items():
            at = join(path, key[:64])
            text = read.text(pattern, at, 256)
            if text.count("*") > _MAX_STARS:
                read.fault(at, f"has {text.count('*')} stars; at most {_MAX_STARS}")
            else:
                found.append((read.text(key, path, 64), Glob(text)))
        return tuple(found)

    def _languages(self, value: object, path: str) -> frozenset[str]:
        languages = self._read.names(value, path, len(LANGUAGES))
        for name in sorted(languages - {*LANGUAGES, ""}):
            self._read.fault(path, f"{name!r} is no language that is recognised; use {', '.join(LANGUAGES)}")
        return languages

    def _never_below(self, value: object, path: str) -> frozenset[Task]:
        read = self._read
        if value == []:
            return frozenset()
        if isinstance(value, list):
            read.fault(path, "is a list; write {add: [...], remove: [...]}, or [] for no class at all")
            return NEVER_BELOW_FP8
        entries = read.mapping(value, path, ("add", "remove"))
        add = read.members(Task, entries["add"], f"{path}.add") if "add" in entries else frozenset[Task]()
        remove = read.members(Task, entries["remove"], f"{path}.remove") if "remove" in entries else frozenset[Task]()
        for task in sorted(remove - NEVER_BELOW_FP8):
            defaults = ", ".join(task.name.lower() for task in sorted(NEVER_BELOW_FP8))
            read.fault(f"{path}.remove", f"{task.name.lower()} is not among the defaults, which are {defaults}")
        return (NEVER_BELOW_FP8 | add) - remove

    def _spill(self, value: object, path: str) -> Spill | None:
        read = self._read
        usual = Spill()
        if isinstance(value, bool):
            return usual if value else None
        entries = read.mapping(value, path, ("pressure", "min_workers", "tasks"))
        return Spill(
            pressure=read.number(entries.get("pressure", usual.pressure), f"{path}.pressure", 0.01, _MOST_PRESSURE, 4),
            min_workers=read.whole(entries.get("min_workers", usual.min_workers), f"{path}.min_workers", 1, 1000, 1),
            tasks=read.members(Task, entries["tasks"], f"{path}.tasks") if "tasks" in entries else None,
        )

    def _brownout(self, value: object, path: str) -> Brownout | None:
        read = self._read
        if value is False:
            return None
        if value is True:
            read.fault(path, "needs to name what may be lowered: {tasks: [...]}")
            return None
        entries = read.mapping(value, path, ("tasks", "pressure", "fp4_pressure", "min_fp4_workers"))
        if isinstance(value, dict) and "tasks" not in entries:
            read.fault(f"{path}.tasks", "is missing; name the task classes that may be lowered")
        usual = Brownout(frozenset())
        tasks = read.members(Task, entries["tasks"], f"{path}.tasks") if "tasks" in entries else frozenset[Task]()
        for task in sorted(tasks):
            if task.sensitivity is Sensitivity.CRITICAL:
                read.fault(f"{path}.tasks", f"{task.name.lower()} is critical, and is never lowered")
        at = f"{path}.min_fp4_workers"
        return Brownout(
            tasks=tasks,
            pressure=read.number(entries.get("pressure", usual.pressure), f"{path}.pressure", 0.01, _MOST_PRESSURE, 8),
            fp4_pressure=read.number(
                entries.get("fp4_pressure", usual.fp4_pressure), f"{path}.fp4_pressure", 0.01, _MOST_PRESSURE, 1
            ),
            min_fp4_workers=read.whole(entries.get("min_fp4_workers", usual.min_fp4_workers), at, 1, 1000, 1),
        )

    def _client(self, value: object, path: str) -> ClientRights:
        read = self._read
        usual = ClientRights()
        entries = read.mapping(value, path, ("floor", "pins", "on_excess"))
        pins = entries.get("pins", ["FP4", "FP8", "BF16"])
        return ClientRights(
            floor=read.flag(entries.get("floor", True), f"{path}.floor", True),
            pins=frozenset() if pins == [] else read.members(Precision, pins, f"{path}.pins"),
            on_excess=read.member(Excess, entries.get("on_excess", "refuse"), f"{path}.on_excess") or usual.on_excess,
        )

    def _contradictions(self, policy: Policy, path: str) -> None:
        """What each part allows and the whole does not."""
        for task in sorted(policy.never_below_fp8):
            name = task.name.lower()
            hint = "take it out, or out of never_below"
            if policy.default_map.get(task) is Precision.FP4:
                self._read.fault(join(path, f"map.{name}"), f"is FP4, and {name} may never go below FP8; {hint}")
            if (
                policy.brownout is not None
                and task in policy.brownout.tasks
                and task.sensitivity < Sensitivity.CRITICAL
            ):
                self._read.fault(join(path, "brownout.tasks"), f"{name} may never go below FP8; {hint}")
