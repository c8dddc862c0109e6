"""Which of a tenant's rules apply to a request, and in words why the others do not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from precision.decision import Features, Step
from precision.policy.model import Match, Policy, Rule
from precision.profile import Precision

_NOTHING: frozenset[Precision] = frozenset()


@dataclass(frozen=True, slots=True)
class Applied:
    """What the matching rules say together."""

    use: Rule | None = None  # the first one
    floor: Rule | None = None  # the highest; the first of equal ones
    bans: tuple[Rule, ...] = ()
    forbidden: frozenset[Precision] = _NOTHING

    def ban_on(self, precision: Precision) -> Rule:
        """The first rule that forbids it."""
        return next(rule for rule in self.bans if precision in rule.forbid)


_NONE = Applied()


def apply_rules(features: Features, policy: Policy) -> Applied:
    """The rules that match, put together."""
    use: Rule | None = None
    floor: Rule | None = None
    bans: list[Rule] = []
    for rule in policy.rules:
        if not _matches(rule.match, features):
            continue
        if rule.forbid:
            bans.append(rule)
        elif rule.at_least is not None:
            if floor is None or floor.at_least is None or rule.at_least > floor.at_least:
                floor = rule
        elif use is None and not _too_doubtful(rule, features, policy):
            use = rule
    if use is None and floor is None and not bans:
        return _NONE
    forbidden = _NOTHING.union(*(rule.forbid for rule in bans)) if bans else _NOTHING
    return Applied(use, floor, tuple(bans), forbidden)


def is_doubtful(features: Features, policy: Policy) -> bool:
    """Whether the task class is not to be relied on for lowering anything."""
    if features.task_confidence < policy.confidence_threshold:
        return True
    return features.risk is not None and features.risk >= policy.risk_threshold


def rule_steps(features: Features, policy: Policy, applied: Applied) -> Iterator[Step]:
    """Every rule with its outcome, for people."""
    for rule in policy.rules:
        reason = _mismatch(rule.match, features)
        name = f"rule {rule.name}"
        if reason:
            yield Step(name, False, f"does not match: {reason}")
        elif rule.forbid:
            yield Step(name, True, f"matches: forbids {_list(p.name for p in sorted(rule.forbid))}")
        elif rule.at_least is not None:
            yield Step(name, rule is applied.floor, f"matches: at least {rule.at_least.name}")
        elif rule is applied.use:
            yield Step(name, True, f"matches: use {_name(rule.use)}")
        elif _too_doubtful(rule, features, policy):
            yield Step(name, False, "matches by task class, which is too doubtful to go below FP8")
        else:
            yield Step(
                name, False, f"matches, but an earlier rule has decided: {applied.use.name if applied.use else ''}"
            )


def _too_doubtful(rule: Rule, features: Features, policy: Policy) -> bool:
    """A class that may be wrong must not lower a request; it may raise one."""
    return rule.use is Precision.FP4 and rule.match.trusts_the_class and is_doubtful(features, policy)


def _matches(match: Match, features: Features) -> bool:
    return (
        (match.tasks is None or features.task in match.tasks)
        and (match.sensitivities is None or features.task.sensitivity in match.sensitivities)
        and (match.models is None or features.model in match.models)
        and (match.min_tokens is None or features.prompt_tokens >= match.min_tokens)
        and (match.max_tokens is None or features.prompt_tokens <= match.max_tokens)
        and (match.priorities is None or features.priority in match.priorities)
        and (match.languages is None or features.language in match.languages)
        and (not match.labels or _labels_match(match, features))
    )


def _labels_match(match: Match, features: Features) -> bool:
    for key, glob in match.labels:
        value = features.labels.get(key)
        if value is None or not glob.matches(value):
            return False
    return True


def _mismatch(match: Match, features: Features) -> str:
    """The first condition that fails, as `_matches` tries them; empty when all hold."""
    task, tokens = features.task, features.prompt_tokens
    if match.tasks is not None and task not in match.tasks:
        return f"the task is {_name(task)}"
    if match.sensitivities is not None and task.sensitivity not in match.sensitivities:
        return f"the sensitivity is {_name(task.sensitivity)}"
    if match.models is not None and features.model not in match.models:
        return f"the model is {features.model}"
    if match.min_tokens is not None and tokens < match.min_tokens:
        return f"about {tokens} prompt tokens, fewer than {match.min_tokens}"
    if match.max_tokens is not None and tokens > match.max_tokens:
        return f"about {tokens} prompt tokens, more than {match.max_tokens}"
    if match.priorities is not None and features.priority not in match.priorities:
        return f"the priority is {_name(features.priority)}"
    if match.languages is not None and features.language not in match.languages:
        return f"the language is {features.language}"
    for key, glob in match.labels:
        value = features.labels.get(key)
        if value is None:
            return f"there is no label {key!r}"
        if not glob.matches(value):
            return f"the label {key!r} is {value!r}, not {glob.text!r}"
    return ""


def _name(member: object) -> str:
    text: str = getattr(member, "name", "")
    return text if isinstance(member, Precision) else text.lower()


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
