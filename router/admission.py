"""From a request to a queued one: validate, find the model, decide, submit."""

import secrets
from dataclasses import dataclass

import grpc

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from broker.types import Account, OverLimit, Priority, RequestRef, Submission, SubmitResult, SubmitStatus
from classifier import Classifier
from precision.decision import Decision, Features, Refusal, RefusalReason
from precision.policy import decide, explain
from precision.profile import Precision
from router.config import Config, ModelConfig
from router.convert import decision_message, step_messages
from router.directory.directory import Directory
from router.directory.tenants import Tenant
from router.faults import Fault, Violation, invalid, request_id_taken, unknown_model
from router.features import estimate_prompt_tokens, extract_features, wanted_priority
from router.identity.caller import Caller
from router.job import digest_of, make_job, output_tokens
from router.limit_faults import deadline_unreachable, over_limit, pool_full, what_to_lower
from router.observation import tell_decision, tell_request
from router.rulebook import Rulebook
from router.shadow import Shadows
from router.throttle import Throttle
from router.validation import Bounds, check_request
from telemetry.calls import ServedCall
from telemetry.spans import Span

_REFUSAL_CODES = {
    RefusalReason.PRECISION_NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
    RefusalReason.PRECISION_UNAVAILABLE: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalReason.POOL_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Checked:
    """A valid request, before anybody looked at what it asks."""

    request: pb.GenerateRequest
    path: str  # prefix of field paths in errors
    caller: Caller
    tenant: Tenant
    model: ModelConfig
    prompt_tokens: int  # estimate
    accounts: tuple[Account, ...]  # that it counts for


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may be submitted."""

    checked: Checked
    submission: Submission
    admission: job_pb2.Admission
    submitting: Span  # from the making of the job until the broker has it


class Admission:
    """Decides whether and where a request may run. Reads snapshots only: no I/O."""

    def __init__(
        self,
        config: Config,
        directory: Directory,
        rulebook: Rulebook,
        shadows: Shadows,
        classify: Classifier,
        router: str,
        max_request_s: float,
    ) -> None:
        self._config = config
        self._directory = directory
        self._rulebook = rulebook
        self._shadows = shadows
        self._classify = classify
        self._router = router
        self._max_request_s = max_request_s
        self._throttle = Throttle()

    def check(
        self, request: pb.GenerateRequest, caller: Caller, tenant: Tenant, path: str, watch: ServedCall
    ) -> Checked:
        """Finds all that is wrong with the request itself.

        Args:
            path: prefix of field paths in errors.
            watch: told of it.

        Raises:
            Fault: INVALID_ARGUMENT, or NOT_FOUND for the model.
        """
        with watch.stage("validate"):
            model = self._config.models_by_name.get(request.model)
            if model is not None and not tenant.may_use(model.name):
                model = None
            violations = check_request(request, Bounds(model.context_tokens) if model else None, path)
            if violations:
                raise invalid(violations)
            if model is None:
                raise unknown_model(request.model)
        accounts = self._directory.accounts(tenant, caller.key, caller.quota, model.name)
        return Checked(request, path, caller, tenant, model, estimate_prompt_tokens(request), accounts)

    def throttled(self, checked: Checked) -> Fault | None:
        """The refusal of a request that is certain to be refused if it is new; None when it is not certain."""
        tokens = checked.prompt_tokens + output_tokens(checked.request, checked.model, checked.prompt_tokens)
        over = self._throttle.refusal(checked.tenant.id, checked.accounts, tokens)
        return over_limit(checked.tenant.id, over, self._config.currency) if over else None

    def admit(self, checked: Checked, *, timeout_s: float | None, watch: ServedCall) -> Admitted:
        """Makes the submission of a request.

        Args:
            timeout_s: until the client's deadline; None when it has none.
            watch: told of it.

        Raises:
            Fault: why no pool serves it.
        """
        request, tenant, model = checked.request, checked.tenant, checked.model
        with watch.stage("classify"):
            features = self._features(checked)
        with watch.stage("decide"):
            policy, gates, pools = self._rulebook.for_decision(tenant, model)
            outcome = decide(features, policy, gates, pools)
            self._shadows.observe(tenant.id, features, gates, pools, outcome)
            decision = _accept(outcome, checked.path)
        ref = RequestRef(tenant.id, request.request_id or f"req-{secrets.token_hex(12)}")
        tell_decision(watch, request, decision)
        tell_request(watch, request, ref, features.priority)
        submitting = watch.submit(decision.pool, ref.request_id)
        job = make_job(request, ref.request_id, tenant, model, features, submitting.context)
        admission = job_pb2.Admission(
            decision=decision_message(decision),
            disconnect_grace_ms=request.disconnect_grace.ToMilliseconds(),
        )
        timeout_s = min(timeout_s, self._max_request_s) if timeout_s is not None else self._max_request_s
        price = model.prices[decision.precision]
        submission = Submission(
            ref=ref,
            pool=decision.pool,
            digest=digest_of(request),
            job=job.SerializeToString(),
            decision=admission.SerializeToString(),
            router=self._router,
            timeout_ms=max(1, round(timeout_s * 1000)),
            prompt_tokens=features.prompt_tokens,
            output_tokens=job.sampling.max_tokens,
            priority=Priority(job.priority),
            weight=tenant.weight,
            migratable=not request.HasField("guided"),
            key=checked.caller.key,
            task=features.task.name.lower(),
            price=price,
            fp8_price=model.prices.get(Precision.FP8, price),
            accounts=checked.accounts,
            pool_max_waiting=model.by_precision[decision.precision].max_waiting,
        )
        return Admitted(checked, submission, admission, submitting)

    def refusal(self, admitted: Admitted, result: SubmitResult, asked_at: float) -> Fault:
        """What the client is told when the broker did not take a request.

        Args:
            asked_at: when the broker was asked, by time.monotonic.
        """
        checked, submission = admitted.checked, admitted.submission
        match result.status:
            case SubmitStatus.CONFLICT:
                return request_id_taken(submission.ref.request_id)
            case SubmitStatus.POOL_FULL:
                return pool_full(submission.pool, submission.pool_max_waiting or 0)
            case SubmitStatus.TOO_LATE:
                return deadline_unreachable(result.wait_ms or 0, result.run_ms or 0, submission.timeout_ms or 0)
            case _:
                over: OverLimit | None = result.over
                assert over is not None
                self._throttle.remember(checked.tenant.id, over, asked_at)
                prompt = "messages" if checked.request.messages else "prompt"
                lower = what_to_lower(submission, over, checked.path, prompt)
                return over_limit(checked.tenant.id, over, self._config.currency, lower)

    def explain(self, checked: Checked, watch: ServedCall) -> pb.ExplainResponse:
        """The decision with its steps, nothing submitted; `watch` is told of it.

        Raises:
            Fault: why no pool serves it.
        """
        with watch.stage("classify"):
            features = self._features(checked)
        with watch.stage("decide"):
            outcome, steps = explain(features, *self._rulebook.for_decision(checked.tenant, checked.model))
        messages = step_messages(steps)
        wanted = wanted_priority(checked.request)
        if features.priority is not wanted:
            told = f"{wanted.name.lower()} is lowered to {features.priority.name.lower()}, the tenant's ceiling"
            messages.insert(0, pb.DecisionStep(name="priority", applied=True, detail=told))
        return pb.ExplainResponse(
            decision=decision_message(_accept(outcome, checked.path)),
            steps=messages,
            pools=self._rulebook.pools.messages(checked.model),
            estimated_prompt_tokens=features.prompt_tokens,
            language=features.language,
        )

    def models(self, tenant: Tenant) -> list[ModelConfig]:
        """Those that the tenant may use."""
        return [m for m in self._config.models if tenant.may_use(m.name)]

    def _features(self, checked: Checked) -> Features:
        ceiling = checked.tenant.priority_ceiling
        return extract_features(checked.request, self._classify, ceiling, checked.prompt_tokens)


def _accept(outcome: Decision | Refusal, path: str) -> Decision:
    if isinstance(outcome, Decision):
        return outcome
    raise Fault(
        _REFUSAL_CODES[outcome.reason],
        outcome.reason.value,
        outcome.message,
        {"field": path + outcome.field} if outcome.field else {},
        violations=(Violation(path + outcome.field, outcome.message),) if outcome.field else (),
        retry_after_s=_RETRY_AFTER_S if outcome.reason is RefusalReason.POOL_UNAVAILABLE else None,
    )
