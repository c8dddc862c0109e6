"""From a request to a queued one: validate, find the model, decide, submit."""

import secrets
from dataclasses import dataclass

import grpc

from bitlane.internal.v1 import job_pb2
from bitlane.v1 import inference_pb2 as pb
from broker.types import Priority, RequestRef, Submission
from classifier import Classifier
from precision.decision import Decision, Features, Refusal, RefusalReason
from precision.policy import decide, explain
from precision.profile import Precision
from router.config import Config, ModelConfig
from router.convert import decision_message, step_messages
from router.directory.directory import Directory
from router.directory.tenants import Tenant
from router.faults import Fault, Violation, invalid, unknown_model
from router.features import extract_features
from router.identity.caller import Caller
from router.job import digest_of, make_job
from router.rulebook import Rulebook
from router.shadow import Shadows
from router.validation import Bounds, check_request

_REFUSAL_CODES = {
    RefusalReason.PRECISION_NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
    RefusalReason.PRECISION_UNAVAILABLE: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalReason.POOL_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may be submitted."""

    submission: Submission
    admission: job_pb2.Admission


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

    def admit(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        tenant: Tenant,
        *,
        timeout_s: float | None,
        trace: tuple[str, str] = ("", ""),
        path: str = "",
    ) -> Admitted:
        """Makes the submission of a request.

        Args:
            timeout_s: until the client's deadline; None when it has none.
            trace: W3C traceparent and tracestate of the caller.
            path: prefix of field paths in errors.

        Raises:
            Fault: what is wrong with it, or why no pool serves it.
        """
        model, features = self._examine(request, tenant, path)
        policy, gates, pools = self._rulebook.for_decision(tenant, model)
        outcome = decide(features, policy, gates, pools)
        self._shadows.observe(tenant.id, features, gates, pools, outcome)
        decision = _accept(outcome, path)
        request_id = request.request_id or f"req-{secrets.token_hex(12)}"
        job = make_job(request, request_id, tenant, model, features, trace)
        admission = job_pb2.Admission(
            decision=decision_message(decision),
            disconnect_grace_ms=request.disconnect_grace.ToMilliseconds(),
        )
        timeout_s = min(timeout_s, self._max_request_s) if timeout_s is not None else self._max_request_s
        submission = Submission(
            ref=RequestRef(tenant.id, request_id),
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
            key=caller.key,
            task=features.task.name.lower(),
            price=model.prices[decision.precision],
            fp8_price=model.prices.get(Precision.FP8, model.prices[decision.precision]),
            accounts=self._directory.accounts(tenant, caller.key, caller.quota, model.name),
            pool_max_waiting=model.by_precision[decision.precision].max_waiting,
        )
        return Admitted(submission, admission)

    def explain(self, request: pb.GenerateRequest, tenant: Tenant, path: str) -> pb.ExplainResponse:
        """The decision with its steps, nothing submitted.

        Raises:
            Fault: what is wrong with the request, or why no pool serves it.
        """
        model, features = self._examine(request, tenant, path)
        outcome, steps = explain(features, *self._rulebook.for_decision(tenant, model))
        return pb.ExplainResponse(
            decision=decision_message(_accept(outcome, path)),
            steps=step_messages(steps),
            pools=self._rulebook.pools.messages(model),
            estimated_prompt_tokens=features.prompt_tokens,
            language=features.language,
        )

    def models(self, tenant: Tenant) -> list[ModelConfig]:
        """Those that the tenant may use."""
        return [m for m in self._config.models if tenant.may_use(m.name)]

    def _examine(self, request: pb.GenerateRequest, tenant: Tenant, path: str) -> tuple[ModelConfig, Features]:
        model = self._config.models_by_name.get(request.model)
        if model is not None and not tenant.may_use(model.name):
            model = None
        violations = check_request(request, Bounds(model.context_tokens) if model else None, path)
        if violations:
            raise invalid(violations)
        if model is None:
            raise unknown_model(request.model)
        return model, extract_features(request, self._classify, tenant.priority_ceiling)


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
