"""What the load of the pools may change: FP4 up to FP8 (spill), and FP8 down to FP4 (brownout)."""

from precision.decision import Features, GateState, PoolView, Reason
from precision.policy.model import Policy
from precision.policy.rules import Applied, is_doubtful
from precision.profile import Precision
from precision.tasks import SENSITIVITY, Sensitivity, Task

# What the default map alone sent to FP8: nothing else is lowered.
_LOWERED = frozenset({Reason.HIGH_SENSITIVITY, Reason.GATE_NOT_PASSED, Reason.TENANT_MAP})


def spills(task: Task, policy: Policy, fp4: PoolView, fp8: PoolView) -> bool:
    """Whether the FP4 pool cannot take the request now, and the FP8 pool can."""
    spill = policy.spill
    if spill is None or (spill.tasks is not None and task not in spill.tasks) or not fp8.workers:
        return False
    return fp4.workers < max(1, spill.min_workers) or fp4.pressure >= spill.pressure > fp8.pressure


def may_be_lowered(
    features: Features, policy: Policy, rules: Applied, reason: Reason, gate: GateState, fp4: PoolView
) -> bool:
    """Whether a brownout may touch this request at all: not if anything but the default map asks for FP8."""
    task = features.task
    return (
        policy.brownout is not None
        and task in policy.brownout.tasks
        and reason in _LOWERED
        and SENSITIVITY[task] is not Sensitivity.CRITICAL
        and task not in policy.never_below_fp8
        and gate not in (GateState.FAILED, GateState.QUARANTINED)
        and features.at_least is None
        and rules.floor is None
        and Precision.FP4 not in rules.forbidden
        and not is_doubtful(features, policy)
        and features.prompt_tokens <= policy.long_context_tokens
        and (fp4.calibrated or policy.allow_uncalibrated_fp4)
    )


def browns_out(policy: Policy, fp8: PoolView, fp4: PoolView) -> bool:
    """Whether the FP8 pool is overloaded, and the FP4 pool is not."""
    brownout = policy.brownout
    return (
        brownout is not None
        and fp8.pressure >= brownout.pressure
        and fp4.workers >= max(1, brownout.min_fp4_workers)
        and fp4.pressure < brownout.fp4_pressure
    )


def load(pool: PoolView) -> str:
    """A pool's state for people."""
    workers = f"{pool.workers} worker{'' if pool.workers == 1 else 's'}"
    return f"{pool.name}: {workers}, {pool.waiting} waiting for {pool.slots} slots"
