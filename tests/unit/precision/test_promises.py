"""What no decision may ever do, whatever the policy, the gates and the state of the pools."""

from hypothesis import given, settings

from precision.decision import Decision, Features, GateState, PoolView, Reason, Refusal, RefusalReason
from precision.policy import Excess, Policy, Rule, decide, explain
from precision.policy.rules import apply_rules, rule_steps
from precision.profile import Precision
from precision.tasks import SENSITIVITY, Sensitivity, Task
from tests.unit.precision import strategies as any_
from tests.unit.precision.requests import FP4, FP8

Gates = dict[Task, GateState]
Pools = dict[Precision, PoolView]


def matching(policy: Policy, features: Features) -> list[Rule]:
    """Judged by each rule on its own, without what the others do."""
    return [rule for rule in policy.rules if _applies(Rule(rule.name, rule.match, at_least=FP8), features)]


def _applies(rule: Rule, features: Features) -> bool:
    return apply_rules(features, Policy(rules=(rule,))).floor is not None


@settings(max_examples=400, deadline=None)
@given(any_.features, any_.policies, any_.gates, any_.pools)
def test_no_decision_breaks_a_promise(features: Features, policy: Policy, gates: Gates, pools: Pools) -> None:
    outcome = decide(features, policy, gates, pools)
    assert explain(features, policy, gates, pools)[0] == outcome
    rules = matching(policy, features)
    if isinstance(outcome, Refusal):
        _check_refusal(outcome, features, policy, pools)
        return
    chosen, gate = outcome.precision, gates.get(features.task, GateState.UNVALIDATED)
    assert pools[chosen].workers, "nobody serves the chosen pool"
    assert outcome.pool == pools[chosen].name
    assert all(chosen not in rule.forbid for rule in rules), "a ban was broken"
    assert all(rule.at_least is None or chosen >= rule.at_least for rule in rules), "a rule's floor was broken"
    if features.task in policy.never_below_fp8:
        assert chosen >= FP8, "a never-below class went below"
    if outcome.ignored:
        assert policy.client.on_excess is Excess.IGNORE
    elif features.pin is not None:
        assert (chosen, outcome.reason) == (features.pin, Reason.PINNED)
        assert features.pin in policy.client.pins
        return
    elif features.at_least is not None:
        assert policy.client.floor
        assert chosen >= features.at_least
    if chosen is FP4:
        _check_fp4(outcome, features, policy, gate, pools)


def _check_fp4(outcome: Decision, features: Features, policy: Policy, gate: GateState, pools: Pools) -> None:
    """What FP4 needs unless it was pinned."""
    assert gate not in (GateState.FAILED, GateState.QUARANTINED)
    assert pools[FP4].calibrated or policy.allow_uncalibrated_fp4
    sensitivity = SENSITIVITY[features.task]
    if outcome.reason is Reason.BROWNOUT:
        assert policy.brownout is not None
        assert features.task in policy.brownout.tasks
        assert sensitivity is not Sensitivity.CRITICAL
        assert pools[FP8].pressure >= policy.brownout.pressure
    else:
        assert sensitivity is Sensitivity.LOW or gate is GateState.PASSED
    if outcome.reason is not Reason.RULE:
        assert features.prompt_tokens <= policy.long_context_tokens
        assert features.task_confidence >= policy.confidence_threshold
        assert features.risk is None or features.risk < policy.risk_threshold


def _check_refusal(refusal: Refusal, features: Features, policy: Policy, pools: Pools) -> None:
    if refusal.reason is RefusalReason.PRECISION_NOT_ALLOWED:
        assert policy.client.on_excess is Excess.REFUSE
        assert features.pin is not None or features.at_least is not None
    if refusal.reason is RefusalReason.POOL_UNAVAILABLE:
        assert any(not pool.workers for pool in pools.values())


@settings(max_examples=100, deadline=None)
@given(any_.features, any_.policies)
def test_rules_are_explained_as_they_are_applied(features: Features, policy: Policy) -> None:
    applied = apply_rules(features, policy)
    steps = list(rule_steps(features, policy, applied))
    assert [step.name for step in steps] == [f"rule {rule.name}" for rule in policy.rules]
    in_words = [rule.name for rule, step in zip(policy.rules, steps, strict=True) if step.detail.startswith("matches")]
    assert in_words == [rule.name for rule in matching(policy, features)]
