"""`decide` as a table, and the one thing it must never do, as a property."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precision.decision import Decision, Features, GateState, PoolView, Reason, Refusal, RefusalReason, TaskSource
from precision.policy import Policy, decide, explain
from precision.profile import Precision
from precision.tasks import SENSITIVITY, Sensitivity, Task

FP4, FP8, BF16 = Precision.FP4, Precision.FP8, Precision.BF16


def pool(precision: Precision, *, workers: int = 1, waiting: int = 0, calibrated: bool = True) -> PoolView:
    return PoolView(f"m/{precision.name.lower()}", precision, workers, 16 * workers, waiting, calibrated)


POOLS = {FP4: pool(FP4), FP8: pool(FP8)}
POLICY = Policy()


def features(task: Task = Task.CHAT, **changes: object) -> Features:
    return replace(Features(task, TaskSource.HINT, 1.0, 100), **changes)


PASSED_CODE = {Task.CODE: GateState.PASSED}

CASES: list[tuple[str, Features, Policy, dict[Task, GateState], dict[Precision, PoolView], Precision, Reason]] = [
    ("low", features(), POLICY, {}, POOLS, FP4, Reason.LOW_SENSITIVITY),
    ("moderate, gate passed", features(Task.CODE), POLICY, PASSED_CODE, POOLS, FP4, Reason.GATE_PASSED),
    ("moderate, unvalidated", features(Task.CODE), POLICY, {}, POOLS, FP8, Reason.GATE_NOT_PASSED),
    ("low, gate failed", features(), POLICY, {Task.CHAT: GateState.FAILED}, POOLS, FP8, Reason.GATE_NOT_PASSED),
    ("quarantined", features(), POLICY, {Task.CHAT: GateState.QUARANTINED}, POOLS, FP8, Reason.GATE_QUARANTINED),
    ("high", features(Task.MATH), POLICY, {Task.MATH: GateState.PASSED}, POOLS, FP8, Reason.HIGH_SENSITIVITY),
    ("critical", features(Task.LEGAL), POLICY, {}, POOLS, FP8, Reason.CRITICAL_SENSITIVITY),
    ("at the limit", features(prompt_tokens=8192), POLICY, {}, POOLS, FP4, Reason.LOW_SENSITIVITY),
    ("long context", features(prompt_tokens=8193), POLICY, {}, POOLS, FP8, Reason.LONG_CONTEXT),
    ("at the threshold", features(task_confidence=0.7), POLICY, {}, POOLS, FP4, Reason.LOW_SENSITIVITY),
    ("not confident", features(task_confidence=0.69), POLICY, {}, POOLS, FP8, Reason.LOW_CONFIDENCE),
    ("uncalibrated", features(), POLICY, {}, POOLS | {FP4: pool(FP4, calibrated=False)}, FP8, Reason.UNCALIBRATED),
    (
        "uncalibrated allowed",
        features(),
        Policy(allow_uncalibrated_fp4=True),
        {},
        POOLS | {FP4: pool(FP4, calibrated=False)},
        FP4,
        Reason.LOW_SENSITIVITY,
    ),
    ("floor raises", features(at_least=FP8), POLICY, {}, POOLS, FP8, Reason.CLIENT_FLOOR),
    ("floor below", features(Task.LEGAL, at_least=FP4), POLICY, {}, POOLS, FP8, Reason.CRITICAL_SENSITIVITY),
    ("floor above FP8", features(at_least=BF16), POLICY, {}, POOLS | {BF16: pool(BF16)}, BF16, Reason.CLIENT_FLOOR),
    ("pin down", features(Task.MATH, pin=FP4), POLICY, {}, POOLS, FP4, Reason.PINNED),
    ("pin up", features(pin=FP8), POLICY, {}, POOLS, FP8, Reason.PINNED),
    ("no FP4 pool", features(), POLICY, {}, {FP8: pool(FP8)}, FP8, Reason.NO_FP4_POOL),
    ("no FP8 pool, higher one", features(Task.MATH), POLICY, {}, {BF16: pool(BF16)}, BF16, Reason.HIGH_SENSITIVITY),
    ("FP4 dead", features(), POLICY, {}, POOLS | {FP4: pool(FP4, workers=0)}, FP8, Reason.SPILL),
    ("FP4 full", features(), POLICY, {}, POOLS | {FP4: pool(FP4, waiting=64)}, FP8, Reason.SPILL),
    (
        "both full",
        features(),
        POLICY,
        {},
        {FP4: pool(FP4, waiting=64), FP8: pool(FP8, waiting=64)},
        FP4,
        Reason.LOW_SENSITIVITY,
    ),
    (
        "full, spill off",
        features(),
        Policy(spill=False),
        {},
        POOLS | {FP4: pool(FP4, waiting=64)},
        FP4,
        Reason.LOW_SENSITIVITY,
    ),
]


@pytest.mark.parametrize(
    ("features", "policy", "gates", "pools", "precision", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_decides_by_the_table(
    features: Features,
    policy: Policy,
    gates: dict[Task, GateState],
    pools: dict[Precision, PoolView],
    precision: Precision,
    reason: Reason,
) -> None:
    outcome = decide(features, policy, gates, pools)
    assert isinstance(outcome, Decision), outcome
    assert (outcome.precision, outcome.reason, outcome.pool) == (precision, reason, pools[precision].name)
    assert explain(features, policy, gates, pools)[0] == outcome


REFUSALS: list[tuple[str, Features, Policy, dict[Precision, PoolView], RefusalReason, str]] = [
    (
        "pin not allowed",
        features(pin=FP4),
        Policy(client_pins=frozenset({FP8})),
        POOLS,
        RefusalReason.PRECISION_NOT_ALLOWED,
        "precision.pin",
    ),
    (
        "floor not allowed",
        features(at_least=FP8),
        Policy(client_floor=False),
        POOLS,
        RefusalReason.PRECISION_NOT_ALLOWED,
        "precision.at_least",
    ),
    ("pinned pool missing", features(pin=BF16), POLICY, POOLS, RefusalReason.PRECISION_UNAVAILABLE, ""),
    (
        "pinned pool dead",
        features(pin=FP8),
        POLICY,
        POOLS | {FP8: pool(FP8, workers=0)},
        RefusalReason.POOL_UNAVAILABLE,
        "",
    ),
    ("needs FP8, only FP4", features(Task.MATH), POLICY, {FP4: pool(FP4)}, RefusalReason.PRECISION_UNAVAILABLE, ""),
    ("FP8 dead", features(Task.MATH), POLICY, POOLS | {FP8: pool(FP8, workers=0)}, RefusalReason.POOL_UNAVAILABLE, ""),
    (
        "FP4 dead, spill off",
        features(),
        Policy(spill=False),
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


any_pool = st.builds(
    pool, st.sampled_from(Precision), workers=st.integers(0, 2), waiting=st.integers(0, 100), calibrated=st.booleans()
)


@given(
    st.builds(
        Features,
        st.sampled_from(Task),
        st.sampled_from(TaskSource),
        st.floats(0, 1),
        st.integers(0, 20_000),
        st.none() | st.sampled_from(Precision),
        st.none() | st.sampled_from(Precision),
    ),
    st.builds(Policy, spill=st.booleans(), allow_uncalibrated_fp4=st.booleans(), client_floor=st.booleans()),
    st.dictionaries(st.sampled_from(Task), st.sampled_from(GateState)),
    st.lists(any_pool, unique_by=lambda p: p.precision),
)
def test_never_below_what_is_owed(
    features: Features, policy: Policy, gates: dict[Task, GateState], pools: list[PoolView]
) -> None:
    offered = {p.precision: p for p in pools}
    outcome = decide(features, policy, gates, offered)
    if isinstance(outcome, Refusal):
        return
    assert offered[outcome.precision].workers, "chosen pool has nobody to serve it"
    if features.pin is not None:
        assert outcome.precision is features.pin
        return
    if features.at_least is not None:
        assert outcome.precision >= features.at_least
    if SENSITIVITY[features.task] >= Sensitivity.HIGH or gates.get(features.task) is GateState.QUARANTINED:
        assert outcome.precision >= FP8
