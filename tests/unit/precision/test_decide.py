"""`decide` as a table over every reason code and refusal."""

from dataclasses import replace
from typing import NamedTuple

import pytest

from precision.decision import Decision, Features, GateState, PoolView, PriorityClass, Reason, Refusal, RefusalReason
from precision.policy import Brownout, ClientRights, Excess, Match, Policy, Rule, Spill, decide, explain
from precision.policy.glob import Glob
from precision.profile import Precision
from precision.tasks import Sensitivity, Task
from tests.unit.precision.requests import BF16, EVERY, FP4, FP8, POOLS, features, pool, ruled

PASSED, FAILED, QUARANTINED = GateState.PASSED, GateState.FAILED, GateState.QUARANTINED


class Case(NamedTuple):
    name: str
    expected: tuple[Precision, Reason]
    features: Features = features()
    policy: Policy = Policy()
    gates: dict[Task, GateState] = {}  # noqa: RUF012  # never changed
    pools: dict[Precision, PoolView] = POOLS
    rule: str = ""


FULL_FP4 = POOLS | {FP4: pool(FP4, waiting=64)}
FULL_FP8 = POOLS | {FP8: pool(FP8, waiting=160)}
BOTH_FULL = {FP4: pool(FP4, waiting=64), FP8: pool(FP8, waiting=64)}
RAW_FP4 = POOLS | {FP4: pool(FP4, calibrated=False)}
BROWNOUT = Policy(brownout=Brownout(frozenset({Task.MATH, Task.CODE, Task.CHAT})))
FP4_FOR_ALL = Rule("cheap", EVERY, use=FP4)
MAPPED = Policy(default_map={Task.MATH: FP4, Task.CHAT: FP8, Task.CODE: FP4})
NEVER = Policy(never_below_fp8=frozenset({Task.CHAT, Task.LEGAL}))
NO_LEGAL = Policy(never_below_fp8=frozenset(), default_map={Task.LEGAL: FP4})
LENIENT = Policy(client=ClientRights(floor=False, pins=frozenset({FP8}), on_excess=Excess.IGNORE))


def team(pattern: str, **effect: object) -> Policy:
    rule = Rule("team", Match(labels=(("team", Glob(pattern)),)))
    return ruled(replace(rule, **effect))


CASES = [
    # The product's default map and its guards.
    Case("low", (FP4, Reason.LOW_SENSITIVITY)),
    Case("moderate, gate passed", (FP4, Reason.GATE_PASSED), features(Task.CODE), gates={Task.CODE: PASSED}),
    Case("moderate, unvalidated", (FP8, Reason.GATE_NOT_PASSED), features(Task.CODE)),
    Case("low, gate failed", (FP8, Reason.GATE_NOT_PASSED), gates={Task.CHAT: FAILED}),
    Case("quarantined", (FP8, Reason.GATE_QUARANTINED), gates={Task.CHAT: QUARANTINED}),
    Case("high", (FP8, Reason.HIGH_SENSITIVITY), features(Task.MATH), gates={Task.MATH: PASSED}),
    Case("critical", (FP8, Reason.CRITICAL_SENSITIVITY), features(Task.LEGAL)),
    Case("at the limit", (FP4, Reason.LOW_SENSITIVITY), features(prompt_tokens=8192)),
    Case("long context", (FP8, Reason.LONG_CONTEXT), features(prompt_tokens=8193)),
    Case("at the threshold", (FP4, Reason.LOW_SENSITIVITY), features(task_confidence=0.7)),
    Case("not confident", (FP8, Reason.LOW_CONFIDENCE), features(task_confidence=0.69)),
    Case("below the risk", (FP4, Reason.LOW_SENSITIVITY), features(risk=0.49)),
    Case("at the risk", (FP8, Reason.HIGH_RISK), features(risk=0.5)),
    Case("uncalibrated", (FP8, Reason.UNCALIBRATED), pools=RAW_FP4),
    Case(
        "uncalibrated allowed", (FP4, Reason.LOW_SENSITIVITY), policy=Policy(allow_uncalibrated_fp4=True), pools=RAW_FP4
    ),
    # The tenant's map.
    Case("mapped up", (FP8, Reason.TENANT_MAP), policy=MAPPED),
    Case("mapped down, proved", (FP4, Reason.TENANT_MAP), features(Task.MATH), MAPPED, {Task.MATH: PASSED}),
    Case("mapped down, unproved", (FP8, Reason.GATE_NOT_PASSED), features(Task.MATH), MAPPED),
    Case("mapped down, risky", (FP8, Reason.HIGH_RISK), features(Task.MATH, risk=0.9), MAPPED, {Task.MATH: PASSED}),
    Case("never below", (FP8, Reason.NEVER_BELOW), policy=NEVER),
    Case(
        "never below is stronger than a rule",
        (FP8, Reason.NEVER_BELOW),
        features(Task.LEGAL),
        ruled(FP4_FOR_ALL),
        {Task.LEGAL: PASSED},
    ),
    Case("taken out of never below", (FP4, Reason.TENANT_MAP), features(Task.LEGAL), NO_LEGAL, {Task.LEGAL: PASSED}),
    # Rules.
    Case("rule", (FP8, Reason.RULE), policy=ruled(Rule("all", EVERY, use=FP8)), rule="all"),
    Case(
        "the first rule with use decides",
        (FP8, Reason.RULE),
        policy=ruled(Rule("a", EVERY, use=FP8), FP4_FOR_ALL),
        rule="a",
    ),
    Case("label", (FP8, Reason.RULE), features(labels={"team": "risk-eu"}), team("risk-*", use=FP8), rule="team"),
    Case("other label", (FP4, Reason.LOW_SENSITIVITY), features(labels={"team": "risk"}), team("risk-*", use=FP8)),
    Case("no label", (FP4, Reason.LOW_SENSITIVITY), policy=team("*", use=FP8)),
    Case("rule down", (FP4, Reason.RULE), features(task_confidence=0.1, risk=0.9), ruled(FP4_FOR_ALL), rule="cheap"),
    Case("rule down meets the gate", (FP8, Reason.GATE_NOT_PASSED), features(Task.MATH), ruled(FP4_FOR_ALL)),
    Case(
        "rule down meets quarantine",
        (FP8, Reason.GATE_QUARANTINED),
        policy=ruled(FP4_FOR_ALL),
        gates={Task.CHAT: QUARANTINED},
    ),
    Case(
        "a doubtful class lowers nothing",
        (FP8, Reason.LOW_CONFIDENCE),
        features(task_confidence=0.5),
        ruled(Rule("chat", Match(tasks=frozenset({Task.CHAT})), use=FP4)),
    ),
    Case(
        "a doubtful class raises",
        (FP8, Reason.RULE),
        features(task_confidence=0.5),
        ruled(Rule("chat", Match(tasks=frozenset({Task.CHAT})), use=FP8)),
        rule="chat",
    ),
    Case("rule floor", (FP8, Reason.RULE_FLOOR), policy=ruled(Rule("f", EVERY, at_least=FP8)), rule="f"),
    Case(
        "a floor holds behind a use",
        (FP8, Reason.RULE_FLOOR),
        policy=ruled(FP4_FOR_ALL, Rule("f", EVERY, at_least=FP8)),
        rule="f",
    ),
    Case(
        "rule forbid", (FP8, Reason.RULE_FORBID), policy=ruled(Rule("ban", EVERY, forbid=frozenset({FP4}))), rule="ban"
    ),
    Case(
        "a ban holds behind a use",
        (FP8, Reason.RULE_FORBID),
        policy=ruled(FP4_FOR_ALL, Rule("ban", EVERY, forbid=frozenset({FP4}))),
        rule="ban",
    ),
    Case(
        "a ban on FP8 goes up",
        (BF16, Reason.RULE_FORBID),
        features(Task.MATH),
        ruled(Rule("ban", EVERY, forbid=frozenset({FP8}))),
        pools=POOLS | {BF16: pool(BF16)},
        rule="ban",
    ),
    *(
        Case(f"rule by {name}", (FP8, Reason.RULE), wish, ruled(Rule("r", match, use=FP8)), rule="r")
        for name, match, wish in [
            ("sensitivity", Match(sensitivities=frozenset({Sensitivity.LOW})), features()),
            ("model", Match(models=frozenset({"m"})), features()),
            ("tokens", Match(min_tokens=100, max_tokens=100), features()),
            ("priority", Match(priorities=frozenset({PriorityClass.BATCH})), features(priority=PriorityClass.BATCH)),
            ("language", Match(languages=frozenset({"zh"})), features(language="zh")),
        ]
    ),
    # The client's wishes.
    Case("floor raises", (FP8, Reason.CLIENT_FLOOR), features(at_least=FP8)),
    Case("floor below", (FP8, Reason.CRITICAL_SENSITIVITY), features(Task.LEGAL, at_least=FP4)),
    Case("floor above FP8", (BF16, Reason.CLIENT_FLOOR), features(at_least=BF16), pools=POOLS | {BF16: pool(BF16)}),
    Case("pin down", (FP4, Reason.PINNED), features(Task.MATH, pin=FP4)),
    Case("pin up", (FP8, Reason.PINNED), features(pin=FP8)),
    Case("a pin passes the gate", (FP4, Reason.PINNED), features(pin=FP4), gates={Task.CHAT: QUARANTINED}),
    Case("a pin is not spilled", (FP4, Reason.PINNED), features(pin=FP4), pools=FULL_FP4),
    Case("pin ignored", (FP8, Reason.HIGH_SENSITIVITY), features(Task.MATH, pin=FP4), LENIENT),
    Case("floor ignored", (FP4, Reason.LOW_SENSITIVITY), features(at_least=FP8), LENIENT),
    # What the model offers.
    Case("no FP4 pool", (FP8, Reason.NO_FP4_POOL), pools={FP8: pool(FP8)}),
    Case("no FP8 pool", (BF16, Reason.HIGH_SENSITIVITY), features(Task.MATH), pools={BF16: pool(BF16)}),
    # Capacity.
    Case("FP4 dead", (FP8, Reason.SPILL), pools=POOLS | {FP4: pool(FP4, workers=0)}),
    Case("FP4 full", (FP8, Reason.SPILL), pools=FULL_FP4),
    Case("both full", (FP4, Reason.LOW_SENSITIVITY), pools=BOTH_FULL),
    Case("full, spill off", (FP4, Reason.LOW_SENSITIVITY), policy=Policy(spill=None), pools=FULL_FP4),
    Case("few workers", (FP8, Reason.SPILL), policy=Policy(spill=Spill(min_workers=2))),
    Case(
        "full, not this class",
        (FP4, Reason.LOW_SENSITIVITY),
        policy=Policy(spill=Spill(tasks=frozenset({Task.CODE}))),
        pools=FULL_FP4,
    ),
    Case(
        "full, FP8 forbidden",
        (FP4, Reason.LOW_SENSITIVITY),
        policy=ruled(Rule("ban", EVERY, forbid=frozenset({FP8}))),
        pools=FULL_FP4,
    ),
    Case("brownout", (FP4, Reason.BROWNOUT), features(Task.MATH), BROWNOUT, pools=FULL_FP8),
    Case("brownout, unvalidated", (FP4, Reason.BROWNOUT), features(Task.CODE), BROWNOUT, pools=FULL_FP8),
    Case(
        "brownout, FP8 dead",
        (FP4, Reason.BROWNOUT),
        features(Task.MATH),
        BROWNOUT,
        pools=POOLS | {FP8: pool(FP8, workers=0)},
    ),
    Case("no brownout without load", (FP8, Reason.HIGH_SENSITIVITY), features(Task.MATH), BROWNOUT),
    Case("no brownout by default", (FP8, Reason.HIGH_SENSITIVITY), features(Task.MATH), pools=FULL_FP8),
    Case(
        "no brownout of another class", (FP8, Reason.HIGH_SENSITIVITY), features(Task.SCIENCE), BROWNOUT, pools=FULL_FP8
    ),
    Case(
        "no brownout of a floor",
        (FP8, Reason.HIGH_SENSITIVITY),
        features(Task.MATH, at_least=FP8),
        BROWNOUT,
        pools=FULL_FP8,
    ),
    Case("no brownout of a pin", (FP8, Reason.PINNED), features(Task.MATH, pin=FP8), BROWNOUT, pools=FULL_FP8),
    Case("no brownout in doubt", (FP8, Reason.LOW_CONFIDENCE), features(task_confidence=0.1), BROWNOUT, pools=FULL_FP8),
    Case(
        "no brownout of risk", (FP8, Reason.HIGH_SENSITIVITY), features(Task.MATH, risk=0.9), BROWNOUT, pools=FULL_FP8
    ),
    Case(
        "no brownout in quarantine",
        (FP8, Reason.HIGH_SENSITIVITY),
        features(Task.MATH),
        BROWNOUT,
        {Task.MATH: QUARANTINED},
        FULL_FP8,
    ),
    Case(
        "no brownout of a rule",
        (FP8, Reason.RULE),
        features(Task.MATH),
        replace(BROWNOUT, rules=(Rule("r", EVERY, use=FP8),)),
        pools=FULL_FP8,
        rule="r",
    ),
    Case(
        "no brownout into a full FP4",
        (FP8, Reason.HIGH_SENSITIVITY),
        features(Task.MATH),
        BROWNOUT,
        pools=FULL_FP8 | {FP4: pool(FP4, waiting=16)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_decides_by_the_table(case: Case) -> None:
    outcome = decide(case.features, case.policy, case.gates, case.pools)
    assert isinstance(outcome, Decision), outcome
    precision = case.expected[0]
    assert ((outcome.precision, outcome.reason), outcome.rule) == (case.expected, case.rule)
    assert outcome.pool == case.pools[precision].name
    assert outcome.ignored == (
        "" if "ignored" not in case.name else f"precision.{'pin' if case.features.pin else 'at_least'}"
    )
    explained, steps = explain(case.features, case.policy, case.gates, case.pools)
    assert explained == outcome
    assert [step.name for step in steps[: len(case.policy.rules)]] == [
        f"rule {rule.name}" for rule in case.policy.rules
    ]
    assert all(step.detail for step in steps)


def test_the_table_has_every_reason() -> None:
    assert {case.expected[1] for case in CASES} == set(Reason)


NOT_ALLOWED = RefusalReason.PRECISION_NOT_ALLOWED
STRICT = Policy(client=ClientRights(floor=False, pins=frozenset({FP8})))
REFUSALS: list[tuple[str, Features, Policy, dict[Precision, PoolView], RefusalReason, str]] = [
    ("pin not allowed", features(pin=FP4), STRICT, POOLS, NOT_ALLOWED, "precision.pin"),
    ("floor not allowed", features(at_least=FP8), STRICT, POOLS, NOT_ALLOWED, "precision.at_least"),
    ("pin of a never-below class", features(Task.LEGAL, pin=FP4), Policy(), POOLS, NOT_ALLOWED, "precision.pin"),
    (
        "forbidden pin",
        features(pin=FP4),
        ruled(Rule("ban", EVERY, forbid=frozenset({FP4}))),
        POOLS,
        NOT_ALLOWED,
        "precision.pin",
    ),
    (
        "pin below a rule's floor",
        features(pin=FP4),
        ruled(Rule("f", EVERY, at_least=FP8)),
        POOLS,
        NOT_ALLOWED,
        "precision.pin",
    ),
    ("pinned pool missing", features(pin=BF16), Policy(), POOLS, RefusalReason.PRECISION_UNAVAILABLE, ""),
    (
        "pinned pool dead",
        features(pin=FP8),
        BROWNOUT,
        POOLS | {FP8: pool(FP8, workers=0)},
        RefusalReason.POOL_UNAVAILABLE,
        "",
    ),
    ("only FP4", features(Task.MATH), Policy(), {FP4: pool(FP4)}, RefusalReason.PRECISION_UNAVAILABLE, ""),
    (
        "all that is offered is forbidden",
        features(),
        ruled(Rule("ban", EVERY, forbid=frozenset({FP4, FP8}))),
        POOLS,
        RefusalReason.PRECISION_UNAVAILABLE,
        "",
    ),
    (
        "FP8 dead",
        features(Task.MATH),
        Policy(),
        POOLS | {FP8: pool(FP8, workers=0)},
        RefusalReason.POOL_UNAVAILABLE,
        "",
    ),
    (
        "FP4 dead, spill off",
        features(),
        Policy(spill=None),
        POOLS | {FP4: pool(FP4, workers=0)},
        RefusalReason.POOL_UNAVAILABLE,
        "",
    ),
]


@pytest.mark.parametrize(
    ("features", "policy", "pools", "reason", "field"), [c[1:] for c in REFUSALS], ids=[c[0] for c in REFUSALS]
)
def test_refuses_by_the_table(
    features: Features, policy: Policy, pools: dict[Precision, PoolView], reason: RefusalReason, field: str
) -> None:
    outcome = decide(features, policy, {}, pools)
    assert isinstance(outcome, Refusal), outcome
    assert (outcome.reason, outcome.field) == (reason, field)
    assert explain(features, policy, {}, pools)[0] == outcome


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("team", "team", True),
        ("team", "teams", False),
        ("*", "", True),
        ("a*", "a", True),
        ("*a", "ba", True),
        ("a*a", "a", False),
        ("a*b*c", "a--b--c", True),
        ("a*b*c", "acb", False),
        ("*ab*ab*", "aab", False),
        ("a.c", "abc", False),
        ("[a]", "a", False),
    ],
)
def test_globs(pattern: str, text: str, matches: bool) -> None:
    assert Glob(pattern).matches(text) is matches


def test_a_glob_that_would_blow_up_a_regular_expression() -> None:
    assert not Glob("*a" * 4 + "*b").matches("a" * 100_000)
