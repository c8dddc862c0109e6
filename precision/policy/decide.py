"""`decide`: from what is known about a request to the precision that serves it. Pure: no I/O, no clock.

The order: what the client demands (if the tenant lets it), the tenant's rules, the default map, the gate, capacity. A
step may only raise what the one before chose, but for two: a pin is kept to the letter, and a brownout, to which the
tenant opted in, lowers. `docs/policy.md` tells the same in words.
"""

from collections.abc import Callable, Mapping

from precision.decision import Decision, Features, GateState, PoolView, Reason, Refusal, RefusalReason, Step
from precision.policy.capacity import browns_out, load, may_be_lowered, spills
from precision.policy.model import Excess, Policy
from precision.policy.rules import Applied, apply_rules, rule_steps
from precision.profile import Precision
from precision.tasks import SENSITIVITY, Sensitivity, Task

Gates = Mapping[Task, GateState]
Pools = Mapping[Precision, PoolView]
# Details are made only when somebody reads them.
_Note = Callable[[str, bool, Callable[[], str]], None]

_DEFAULTS = {
    Sensitivity.LOW: (Precision.FP4, Reason.LOW_SENSITIVITY),
    Sensitivity.MODERATE: (Precision.FP4, Reason.GATE_PASSED),  # which the gate has still to confirm
    Sensitivity.HIGH: (Precision.FP8, Reason.HIGH_SENSITIVITY),
    Sensitivity.CRITICAL: (Precision.FP8, Reason.CRITICAL_SENSITIVITY),
}


def decide(features: Features, policy: Policy, gates: Gates, pools: Pools) -> Decision | Refusal:
    """Chooses the precision and pool for one request.

    Args:
        gates: state of FP4 by task, of the model's FP4 checkpoint; a task that is missing is unvalidated.
        pools: the model's pools by precision.
    """
    return _Run(features, policy, gates, pools, _no_note).outcome(apply_rules(features, policy))


def explain(
    features: Features, policy: Policy, gates: Gates, pools: Pools
) -> tuple[Decision | Refusal, tuple[Step, ...]]:
    """The same as `decide`, with every step that led to it."""
    applied = apply_rules(features, policy)
    # First, because they also say what the client may pin.
    steps = list(rule_steps(features, policy, applied))

    def note(name: str, had_a_say: bool, detail: Callable[[], str]) -> None:
        steps.append(Step(name, had_a_say, detail()))

    outcome = _Run(features, policy, gates, pools, note).outcome(applied)
    return outcome, tuple(steps)


def _no_note(name: str, had_a_say: bool, detail: Callable[[], str]) -> None:
    return


class _Run:
    """One decision in the making: `precision`, `reason` and `rule` are what the steps so far have chosen."""

    __slots__ = (*("features", "policy", "pools", "note", "gate"), *("precision", "reason", "rule", "ignored"))

    def __init__(self, features: Features, policy: Policy, gates: Gates, pools: Pools, note: _Note) -> None:
        self.features = features
        self.policy = policy
        self.pools = pools
        self.note = note
        self.gate = gates.get(features.task, GateState.UNVALIDATED)
        self.precision, self.reason, self.rule = Precision.FP8, Reason.HIGH_SENSITIVITY, ""
        self.ignored = ""

    def outcome(self, rules: Applied) -> Decision | Refusal:
        refusal = self._check_wishes(rules)
        if refusal is not None:
            return refusal
        if self.features.pin is not None and not self.ignored:
            return self._pinned(self.features.pin)
        self._map(rules)
        if self.precision is Precision.FP4:
            self._protect()
        self._floors(rules)
        return self._offer(rules) or self._capacity(rules)

    # What the client demands.

    def _check_wishes(self, rules: Applied) -> Refusal | None:
        """Refuses, or ignores, what the client may not ask for."""
        pin, floor = self.features.pin, self.features.at_least
        if pin is not None:
            field, fault = "precision.pin", self._pin_fault(pin, rules)
            self.note("client pin", not fault, lambda: fault or f"the client pinned {pin.name}")
        elif floor is not None:
            field = "precision.at_least"
            fault = "" if self.policy.client.floor else "this tenant's clients may not ask for a floor"
            self.note("client floor", not fault, lambda: fault or f"the client asks for at least {floor.name}")
        else:
            self.note("client wishes", False, lambda: "none")
            return None
        if not fault:
            return None
        if self.policy.client.on_excess is Excess.REFUSE:
            hint = f"leave {field} out, or ask the tenant's operator"
            return Refusal(RefusalReason.PRECISION_NOT_ALLOWED, f"{fault}; {hint}", field)
        self.ignored = field
        self.note("client wish ignored", True, lambda: f"{field}: the policy ignores what clients may not ask for")
        return None

    def _pin_fault(self, pin: Precision, rules: Applied) -> str:
        """Why a pin may not be; empty when it may."""
        if pin not in self.policy.client.pins:
            return f"this tenant's clients may not pin {pin.name}"
        if pin in rules.forbidden:
            return f"the tenant's rule {rules.ban_on(pin).name} forbids {pin.name} here"
        if rules.floor is not None and rules.floor.at_least is not None and pin < rules.floor.at_least:
            return f"the tenant's rule {rules.floor.name} asks for at least {rules.floor.at_least.name} here"
        if pin is Precision.FP4 and self.features.task in self.policy.never_below_fp8:
            return f"{self.features.task.name.lower()} may never go below FP8"
        return ""

    def _pinned(self, pin: Precision) -> Decision | Refusal:
        """Kept to the letter: no gate, no spill, no brownout."""
        pool = self.pools.get(pin)
        if pool is None:
            text = f"the model has no {pin.name} pool, to which the request is pinned"
            return Refusal(RefusalReason.PRECISION_UNAVAILABLE, text)
        self._choose(pin, Reason.PINNED)
        return self._served_by(pool)

    # The rules and the default map.

    def _map(self, rules: Applied) -> None:
        task = self.features.task
        if rules.use is not None and rules.use.use is not None:
            self._choose(rules.use.use, Reason.RULE, rules.use.name)
            return
        mapped = self.policy.default_map.get(task)
        if mapped is not None:
            self._choose(mapped, Reason.TENANT_MAP)
        else:
            self._choose(*_DEFAULTS[SENSITIVITY[task]])
        self.note(
            "default map",
            True,
            lambda: (
                f"{task.name.lower()} is {SENSITIVITY[task].name.lower()}: {self.precision.name}"
                + (" by the tenant's map" if mapped is not None else "")
            ),
        )
        if self.precision is Precision.FP4:
            self._doubts()

    def _doubts(self) -> None:
        """What makes the map's FP4 doubtful. A tenant's rule is an explicit word, and is not doubted."""
        features, policy = self.features, self.policy
        self._raise_if(
            features.prompt_tokens > policy.long_context_tokens,
            Reason.LONG_CONTEXT,
            "long context",
            lambda: f"about {features.prompt_tokens} prompt tokens; the limit is {policy.long_context_tokens}",
        )
        self._raise_if(
            features.task_confidence < policy.confidence_threshold,
            Reason.LOW_CONFIDENCE,
            "confidence",
            lambda: (
                f"{features.task.name.lower()} with {features.task_confidence:.2f}; "
                f"the threshold is {policy.confidence_threshold:.2f}"
            ),
        )
        risk = features.risk
        self._raise_if(
            risk is not None and risk >= policy.risk_threshold,
            Reason.HIGH_RISK,
            "risk",
            lambda: "not scored" if risk is None else f"{risk:.2f}; the threshold is {policy.risk_threshold:.2f}",
        )

    # What no map and no rule can undo.

    def _protect(self) -> None:
        """Never-below classes, the gate, calibration: they hold for FP4 wherever it came from."""
        task = self.features.task
        name = task.name.lower()
        self._raise_if(
            task in self.policy.never_below_fp8, Reason.NEVER_BELOW, "never below FP8", lambda: f"the task is {name}"
        )
        self._raise_if(
            self.gate is GateState.QUARANTINED,
            Reason.GATE_QUARANTINED,
            "quarantine",
            lambda: f"FP4 for {name} is {self.gate.name.lower()}",
        )
        needs_proof = SENSITIVITY[task] is not Sensitivity.LOW
        self._raise_if(
            self.gate is GateState.FAILED or (needs_proof and self.gate is not GateState.PASSED),
            Reason.GATE_NOT_PASSED,
            "gate",
            lambda: f"FP4 for {name} is {self.gate.name.lower()}" + (", and must have passed" if needs_proof else ""),
        )
        fp4 = self.pools.get(Precision.FP4)
        self._raise_if(
            fp4 is not None and not fp4.calibrated and not self.policy.allow_uncalibrated_fp4,
            Reason.UNCALIBRATED,
            "calibration",
            lambda: (
                "the FP4 checkpoint was quantized with calibration data"
                if fp4 is None or fp4.calibrated
                else "the FP4 checkpoint was quantized without calibration data"
                + (", which the policy allows" if self.policy.allow_uncalibrated_fp4 else "")
            ),
        )

    def _floors(self, rules: Applied) -> None:
        rule, client = rules.floor, self.features.at_least
        if rule is not None and rule.at_least is not None and rule.at_least > self.precision:
            self._choose(rule.at_least, Reason.RULE_FLOOR, rule.name)
        if client is not None and not self.ignored and client > self.precision:
            self._choose(client, Reason.CLIENT_FLOOR)

    # What the model offers, and what its pools can take.

    def _offer(self, rules: Applied) -> Refusal | None:
        """Goes up to the least exact pool that is offered and allowed."""
        wanted = self.precision
        offered = min((p for p in self.pools if p >= wanted and p not in rules.forbidden), default=None)
        if offered is None:
            text = (
                f"the policy needs {wanted.name} or higher ({self.reason.name.lower()}), and the model has no such pool"
            )
            if rules.bans:
                text += " that the tenant's rules allow"
            self.note("offer", True, lambda: text)
            return Refusal(RefusalReason.PRECISION_UNAVAILABLE, text)
        if wanted in rules.forbidden:
            self._choose(offered, Reason.RULE_FORBID, rules.ban_on(wanted).name)
        elif offered is not wanted:
            is_fp4 = wanted is Precision.FP4
            self._choose(offered, Reason.NO_FP4_POOL if is_fp4 else self.reason, "" if is_fp4 else self.rule)
        self.note(
            "offer",
            offered is not wanted,
            lambda: f"{self.pools[offered].name} is the least exact pool that may serve {wanted.name} or above",
        )
        return None

    def _capacity(self, rules: Applied) -> Decision | Refusal:
        pool, policy, features = self.pools[self.precision], self.policy, self.features
        if self.precision is Precision.FP4:
            fp8 = self.pools.get(Precision.FP8)
            if fp8 is not None and policy.spill is not None and Precision.FP8 not in rules.forbidden:
                full = spills(features.task, policy, pool, fp8)
                self.note("spill", full, lambda: f"{load(self.pools[Precision.FP4])}; {load(fp8)}")
                if full:
                    self._choose(Precision.FP8, Reason.SPILL)
                    pool = fp8
        elif self.precision is Precision.FP8 and policy.brownout is not None:
            fp4 = self.pools.get(Precision.FP4)
            if fp4 is not None and may_be_lowered(features, policy, rules, self.reason, self.gate, fp4):
                lowered = browns_out(policy, pool, fp4)
                self.note("brownout", lowered, lambda: f"{load(self.pools[Precision.FP8])}; {load(fp4)}")
                if lowered:
                    self._choose(Precision.FP4, Reason.BROWNOUT)
                    pool = fp4
            else:
                self.note("brownout", False, lambda: "not for this request")
        return self._served_by(pool)

    def _served_by(self, pool: PoolView) -> Decision | Refusal:
        if not pool.workers:
            text = f"no worker of pool {pool.name} is alive"
            self.note("capacity", True, lambda: text)
            return Refusal(RefusalReason.POOL_UNAVAILABLE, text)
        self.note("capacity", False, lambda: load(pool))
        features = self.features
        return Decision(
            precision=self.precision,
            pool=pool.name,
            reason=self.reason,
            rule=self.rule,
            policy_version=self.policy.version,
            task=features.task,
            task_source=features.task_source,
            task_confidence=features.task_confidence,
            gate=self.gate,
            risk=features.risk,
            ignored=self.ignored,
        )

    def _choose(self, precision: Precision, reason: Reason, rule: str = "") -> None:
        self.precision, self.reason, self.rule = precision, reason, rule

    def _raise_if(self, condition: bool, reason: Reason, name: str, detail: Callable[[], str]) -> None:
        """Raises FP4 to FP8; the first condition that does names the reason."""
        applies = condition and self.precision is Precision.FP4
        if applies:
            self._choose(Precision.FP8, reason)
        self.note(name, applies, detail)
