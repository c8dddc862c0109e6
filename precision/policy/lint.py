"""What a good document may say and probably does not mean, judged with the models and gates as they are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from precision.decision import GateState, PoolView
from precision.policy.model import NEVER_BELOW_FP8, Match, Policy, Rule
from precision.policy.reading import Fault
from precision.profile import Precision
from precision.tasks import SENSITIVITY, Sensitivity, Task


@dataclass(frozen=True, slots=True)
class Setting:
    """One model that the tenant may use."""

    model: str
    pools: Mapping[Precision, PoolView]
    gates: Mapping[Task, GateState]


def lint(policy: Policy, settings: Sequence[Setting]) -> list[Fault]:
    """Findings with their paths; none of them makes the document a bad one."""
    return [*_map(policy, settings), *_rules(policy, settings), *_whole(policy, settings)]


def _map(policy: Policy, settings: Sequence[Setting]) -> Iterator[Fault]:
    for task, precision in policy.default_map.items():
        if precision is not Precision.FP4 or SENSITIVITY[task] is Sensitivity.LOW:
            continue
        for setting in settings:
            gate = setting.gates.get(task, GateState.UNVALIDATED)
            if gate is not GateState.PASSED:
                name = task.name.lower()
                yield Fault(
                    f"map.{name}",
                    f"has no effect for {setting.model} until FP4 passes its gate; it is {gate.name.lower()}",
                )


def _rules(policy: Policy, settings: Sequence[Setting]) -> Iterator[Fault]:
    catch_all: Rule | None = None
    for number, rule in enumerate(policy.rules):
        path = f"rules[{number}]"
        if rule.use is not None and catch_all is not None:
            yield Fault(path, f"is never reached: rule {catch_all.name} decides every request before")
        if rule.use is not None and rule.match == Match():
            catch_all = catch_all or rule
        tasks = rule.match.tasks
        if rule.use is Precision.FP4 and tasks is not None and tasks <= policy.never_below_fp8:
            yield Fault(f"{path}.use", "has no effect: these classes may never go below FP8")
        yield from _offered(rule, path, settings)


def _offered(rule: Rule, path: str, settings: Sequence[Setting]) -> Iterator[Fault]:
    """Whether the models that a rule is about exist and can keep it."""
    known = {setting.model for setting in settings}
    for model in sorted((rule.match.models or frozenset[str]()) - known):
        yield Fault(f"{path}.match.model", f"there is no model {model!r} that this tenant may use")
    for setting in settings:
        if rule.match.models is not None and setting.model not in rule.match.models:
            continue
        least = rule.use or rule.at_least or Precision.FP4
        if not any(precision >= least and precision not in rule.forbid for precision in setting.pools):
            yield Fault(path, f"refuses every request that it matches for {setting.model}, which has no such pool")


def _whole(policy: Policy, settings: Sequence[Setting]) -> Iterator[Fault]:
    for task in sorted(NEVER_BELOW_FP8 - policy.never_below_fp8):
        yield Fault("never_below", f"lets {task.name.lower()}, a critical class, go below FP8")
    for setting in settings:
        fp4 = setting.pools.get(Precision.FP4)
        if fp4 is not None and fp4.workers and not fp4.calibrated and not policy.allow_uncalibrated_fp4:
            yield Fault(
                "allow_uncalibrated_fp4",
                f"is false, and the FP4 checkpoint of {setting.model} is uncalibrated: FP8 serves",
            )
