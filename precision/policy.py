"""The precision policy: `decide` is pure, so that a table can test it and `Explain` can show it.

The order: what the client demands (if the tenant lets it), the default map with its gate, the client's floor, what the
model offers, capacity. Each step may only raise what the one before chose, but for a pin, which is kept to the letter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from precision.decision import Decision, Features, GateState, PoolView, Reason, Refusal, RefusalReason, Step
from precision.profile import Precision
from precision.tasks import Sensitivity, Task


@dataclass(frozen=True, slots=True)
class Policy:
    """A tenant's rules about precision. The defaults are the product's."""

    version: str = "default-1"
    confidence_threshold: float = 0.7  # below it a task class counts as not known, and FP8 serves
    long_context_tokens: int = 8192  # prompts above it go to FP8
    allow_uncalibrated_fp4: bool = False  # serve from FP4 checkpoints that were quantized without calibration data
    spill: bool = True  # FP4 -> FP8 when the FP4 pool cannot take the request
    spill_pressure: float = 4.0  # waiting requests per slot from which FP4 counts as full
    client_floor: bool = True  # clients may ask for a floor
    client_pins: frozenset[Precision] = frozenset(Precision)  # clients may pin these


Gates = Mapping[Task, GateState]
Pools = Mapping[Precision, PoolView]
_Note = Callable[[str, bool, str], None]


def decide(features: Features, policy: Policy, gates: Gates, pools: Pools) -> Decision | Refusal:
    """Chooses the precision and pool for one request.

    Args:
        gates: state of FP4 by task, of the model's FP4 checkpoint; a task that is missing is unvalidated.
        pools: the model's pools by precision.
    """
    return _decide(features, policy, gates, pools, lambda name, applied, detail: None)


def explain(
    features: Features, policy: Policy, gates: Gates, pools: Pools
) -> tuple[Decision | Refusal, tuple[Step, ...]]:
    """The same as `decide`, with every step that led to it."""
    steps: list[Step] = []

    def note(name: str, applied: bool, detail: str) -> None:
        steps.append(Step(name, applied, detail))

    outcome = _decide(features, policy, gates, pools, note)
    return outcome, tuple(steps)


def _decide(features: Features, policy: Policy, gates: Gates, pools: Pools, note: _Note) -> Decision | Refusal:
    gate = gates.get(features.task, GateState.UNVALIDATED)

    def decision(precision: Precision, reason: Reason) -> Decision:
        return Decision(
            precision=precision,
            pool=pools[precision].name,
            reason=reason,
            rule="",
            policy_version=policy.version,
            task=features.task,
            task_source=features.task_source,
            task_confidence=features.task_confidence,
            gate=gate,
        )

    if features.pin is not None:
        refusal = _pin_refusal(features.pin, policy, pools)
        note("client pin", True, refusal.message if refusal else f"the client pinned {features.pin.name}")
        return refusal or decision(features.pin, Reason.PINNED)
    note("client pin", False, "none")

    precision, reason = _default(features, policy, gate, pools, note)

    if features.at_least is not None:
        if not policy.client_floor:
            return Refusal(
                RefusalReason.PRECISION_NOT_ALLOWED,
                "this tenant's clients may not ask for a floor; leave precision.at_least out",
                "precision.at_least",
            )
        raised = features.at_least > precision
        note("client floor", raised, f"at least {features.at_least.name}")
        if raised:
            precision, reason = features.at_least, Reason.CLIENT_FLOOR
    else:
        note("client floor", False, "none")

    offered = min((p for p in pools if p >= precision), default=None)
    if offered is None:
        note("offer", True, f"no pool at {precision.name} or above")
        return Refusal(
            RefusalReason.PRECISION_UNAVAILABLE,
            f"the policy needs {precision.name} or higher ({reason.name.lower()}), and the model has no such pool",
        )
    note("offer", offered != precision, f"{pools[offered].name} is the least exact pool at {precision.name} or above")
    if precision is Precision.FP4 and offered is not Precision.FP4:
        reason = Reason.NO_FP4_POOL
    return _capacity(offered, reason, policy, pools, note, decision)


def _pin_refusal(pin: Precision, policy: Policy, pools: Pools) -> Refusal | None:
    if pin not in policy.client_pins:
        return Refusal(
            RefusalReason.PRECISION_NOT_ALLOWED,
            f"this tenant's clients may not pin {pin.name}; leave precision.pin out or ask the tenant's operator",
            "precision.pin",
        )
    if pin not in pools:
        return Refusal(
            RefusalReason.PRECISION_UNAVAILABLE, f"the model has no {pin.name} pool, to which the request is pinned"
        )
    if not pools[pin].workers:
        return Refusal(RefusalReason.POOL_UNAVAILABLE, f"no worker of pool {pools[pin].name} is alive")
    return None


def _default(
    features: Features, policy: Policy, gate: GateState, pools: Pools, note: _Note
) -> tuple[Precision, Reason]:
    """The default map. The first condition that wants FP8 names the reason."""
    task = features.task
    sensitivity = task.sensitivity
    calibrated = Precision.FP4 not in pools or pools[Precision.FP4].calibrated or policy.allow_uncalibrated_fp4
    checks: tuple[tuple[str, bool, Reason, str], ...] = (
        (
            "long context",
            features.prompt_tokens > policy.long_context_tokens,
            Reason.LONG_CONTEXT,
            f"about {features.prompt_tokens} prompt tokens; the limit is {policy.long_context_tokens}",
        ),
        (
            "confidence",
            features.task_confidence < policy.confidence_threshold,
            Reason.LOW_CONFIDENCE,
            f"{task.name.lower()} with {features.task_confidence:.2f}; threshold {policy.confidence_threshold:.2f}",
        ),
        (
            "critical task",
            sensitivity is Sensitivity.CRITICAL,
            Reason.CRITICAL_SENSITIVITY,
            f"{task.name.lower()} is {sensitivity.name.lower()}",
        ),
        (
            "sensitive task",
            sensitivity is Sensitivity.HIGH,
            Reason.HIGH_SENSITIVITY,
            f"{task.name.lower()} is {sensitivity.name.lower()}",
        ),
        (
            "quarantine",
            gate is GateState.QUARANTINED,
            Reason.GATE_QUARANTINED,
            f"FP4 for {task.name.lower()} is {gate.name.lower()}",
        ),
        (
            "gate",
            gate is GateState.FAILED or (sensitivity is Sensitivity.MODERATE and gate is not GateState.PASSED),
            Reason.GATE_NOT_PASSED,
            f"FP4 for {task.name.lower()} is {gate.name.lower()}",
        ),
        (
            "calibration",
            not calibrated,
            Reason.UNCALIBRATED,
            "the FP4 checkpoint is calibrated, or the policy does without"
            if calibrated
            else "the FP4 checkpoint was quantized without calibration data",
        ),
    )
    for name, wants_fp8, reason, detail in checks:
        note(name, wants_fp8, detail)
        if wants_fp8:
            return Precision.FP8, reason
    reason = Reason.LOW_SENSITIVITY if sensitivity is Sensitivity.LOW else Reason.GATE_PASSED
    note("default map", True, f"{task.name.lower()} is {sensitivity.name.lower()}: FP4 is good enough")
    return Precision.FP4, reason


def _capacity(
    precision: Precision,
    reason: Reason,
    policy: Policy,
    pools: Pools,
    note: _Note,
    decision: Callable[[Precision, Reason], Decision],
) -> Decision | Refusal:
    """Capacity may raise FP4 to FP8, and never lowers anything."""
    pool = pools[precision]
    fp8 = pools.get(Precision.FP8)
    if precision is Precision.FP4 and policy.spill and fp8 is not None and fp8.workers:
        full = not pool.workers or (pool.pressure >= policy.spill_pressure > fp8.pressure)
        note("spill", full, f"{pool.name}: {pool.workers} workers, {pool.waiting} waiting for {pool.slots} slots")
        if full:
            return decision(Precision.FP8, Reason.SPILL)
    if not pool.workers:
        note("capacity", True, f"no worker of {pool.name} is alive")
        return Refusal(RefusalReason.POOL_UNAVAILABLE, f"no worker of pool {pool.name} is alive")
    note("capacity", False, f"{pool.name}: {pool.workers} workers, {pool.waiting} waiting for {pool.slots} slots")
    return decision(precision, reason)
