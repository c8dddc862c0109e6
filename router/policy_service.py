"""The policy service: each RPC, thin over the documents and the pure parts of `precision.policy`."""

import asyncio
from itertools import takewhile

from bitlane.v1 import policy_pb2 as ppb
from broker.documents import ANY, Document, Documents, EtagMismatch
from broker.types import Change
from classifier import Classifier
from precision.policy import Policy
from precision.policy.diff import diff
from precision.policy.document import PolicyInvalid, read_policy
from precision.policy.lint import Setting, lint
from precision.policy.reading import Fault as Finding
from router.config import Config, ModelConfig
from router.directory.directory import Directory
from router.directory.tenants import Tenant
from router.documents import DocumentWatch
from router.faults import Violation, etag_mismatch, invalid, unknown_version
from router.gate_desk import GateDesk
from router.managed import managed_tenant
from router.policies import DEFAULT_TEXT, POLICY, SHADOW
from router.policy_convert import change_messages, count_message, finding_messages, version_message
from router.policy_validation import check_note, check_rows
from router.replay import replay
from router.rpc import Call
from router.rulebook import Rulebook
from router.shadow import Shadows

_UNTITLED = "unsaved"


class PolicyService:
    """See `bitlane.v1.PolicyService`; one method for each RPC, called by `router.rpc`."""

    def __init__(
        self,
        config: Config,
        directory: Directory,
        rulebook: Rulebook,
        documents: Documents,
        watch: DocumentWatch,
        shadows: Shadows,
        gates: GateDesk,
        classify: Classifier,
    ) -> None:
        self._config = config
        self._directory = directory
        self._rulebook = rulebook
        self._documents = documents
        self._watch = watch
        self._shadows = shadows
        self._gates = gates
        self._classify = classify
        self._replaying = asyncio.Lock()  # one at a time: it takes this router's core from its streams

    # What changes nothing.

    async def validate_policy(self, request: ppb.ValidatePolicyRequest, call: Call) -> ppb.ValidatePolicyResponse:
        tenant = self._tenant(request.tenant, call)
        try:
            policy = read_policy(request.document, _UNTITLED)
        except PolicyInvalid as error:
            return ppb.ValidatePolicyResponse(faults=finding_messages(error.faults))
        return ppb.ValidatePolicyResponse(warnings=finding_messages(self._warnings(policy, tenant)))

    async def diff_policies(self, request: ppb.DiffPoliciesRequest, call: Call) -> ppb.DiffPoliciesResponse:
        tenant = self._tenant(request.tenant, call)
        old = self._read_or_acting(request.old_document, "old_document", tenant)
        new = self._read_or_acting(request.new_document, "new_document", tenant)
        return ppb.DiffPoliciesResponse(changes=change_messages(diff(old, new)))

    async def replay_policy(self, request: ppb.ReplayPolicyRequest, call: Call) -> ppb.ReplayPolicyResponse:
        tenant = self._tenant(request.tenant, call)
        old = self._read_or_acting(request.old_document, "old_document", tenant)
        new = self._read_or_acting(request.new_document, "new_document", tenant)
        models = {model.name: model for model in self._models(tenant)}
        violations = check_rows(request.rows, set(models))
        if violations:
            raise invalid(violations)
        async with self._replaying:
            results = await replay(request.rows, old, new, tenant, models, self._rulebook, self._classify)
        return ppb.ReplayPolicyResponse(results=results)

    # The tenant's policy.

    async def get_policy(self, request: ppb.GetPolicyRequest, call: Call) -> ppb.GetPolicyResponse:
        tenant = self._tenant(request.tenant, call)
        if request.version:
            document = await self._version(tenant, request.version)
        else:
            document = await self._documents.get(_policy(tenant))
        if document is None or not document.text:
            # An earlier tenant of this id may have had one: the next put is then made from its end.
            etag = document.etag if document else ""
            default = ppb.PolicyVersion(tenant=tenant.id, etag=etag, document=DEFAULT_TEXT)
            return ppb.GetPolicyResponse(policy=default)
        return ppb.GetPolicyResponse(policy=version_message(tenant.id, document, text=True))

    async def put_policy(self, request: ppb.PutPolicyRequest, call: Call) -> ppb.PutPolicyResponse:
        tenant = self._tenant(request.tenant, call)
        policy = self._read(request.document, "document")
        _check_note(request.note)
        document = await self._put(
            _policy(tenant), request.document, call, request.etag, Change("PutPolicy", tenant.id), request.note
        )
        return ppb.PutPolicyResponse(
            policy=version_message(tenant.id, document, text=False),
            warnings=finding_messages(self._warnings(policy, tenant)),
        )

    async def list_policy_versions(
        self, request: ppb.ListPolicyVersionsRequest, call: Call
    ) -> ppb.ListPolicyVersionsResponse:
        tenant = self._tenant(request.tenant, call)
        versions = await self._versions(tenant)
        return ppb.ListPolicyVersionsResponse(
            versions=[version_message(tenant.id, document, text=False) for document in versions]
        )

    async def rollback_policy(self, request: ppb.RollbackPolicyRequest, call: Call) -> ppb.RollbackPolicyResponse:
        tenant = self._tenant(request.tenant, call)
        old = await self._version(tenant, request.version)
        self._read(old.text, "version")  # what was good under an older release may not be under this one
        note = f"rollback to {old.version}"
        document = await self._put(
            _policy(tenant), old.text, call, request.etag or ANY, Change("RollbackPolicy", tenant.id), note
        )
        return ppb.RollbackPolicyResponse(policy=version_message(tenant.id, document, text=False))

    # Its shadow.

    async def get_shadow_policy(self, request: ppb.GetShadowPolicyRequest, call: Call) -> ppb.GetShadowPolicyResponse:
        tenant = self._tenant(request.tenant, call)
        document = await self._documents.get(_shadow(tenant))
        if document is None or not document.text:
            return ppb.GetShadowPolicyResponse()
        counts = await self._shadows.counts(tenant.id, document.version)
        return ppb.GetShadowPolicyResponse(
            shadow=version_message(tenant.id, document, text=True),
            requests=sum(count.requests for count in counts),
            differing=sum(count.requests for count in counts if count.differs),
            counts=[count_message(count) for count in counts],
        )

    async def set_shadow_policy(self, request: ppb.SetShadowPolicyRequest, call: Call) -> ppb.SetShadowPolicyResponse:
        tenant = self._tenant(request.tenant, call)
        policy = self._read(request.document, "document")
        document = await self._put(_shadow(tenant), request.document, call, ANY, Change("SetShadowPolicy", tenant.id))
        return ppb.SetShadowPolicyResponse(
            shadow=version_message(tenant.id, document, text=False),
            warnings=finding_messages(self._warnings(policy, tenant)),
        )

    async def clear_shadow_policy(
        self, request: ppb.ClearShadowPolicyRequest, call: Call
    ) -> ppb.ClearShadowPolicyResponse:
        tenant = self._tenant(request.tenant, call)
        document = await self._documents.get(_shadow(tenant))
        if document is not None and document.text:
            await self._put(_shadow(tenant), "", call, ANY, Change("ClearShadowPolicy", tenant.id))
        return ppb.ClearShadowPolicyResponse()

    # Gates concern all tenants.

    async def list_gates(self, request: ppb.ListGatesRequest, call: Call) -> ppb.ListGatesResponse:
        return self._gates.list(request, self._models(call.caller.tenant))

    async def set_gate(self, request: ppb.SetGateRequest, call: Call) -> ppb.SetGateResponse:
        return await self._gates.set(request, call.caller.name)

    def _tenant(self, named: str, call: Call) -> Tenant:
        return managed_tenant(self._directory, call.caller, named)

    def _models(self, tenant: Tenant | None) -> list[ModelConfig]:
        every = self._config.models
        return [m for m in every if tenant is None or tenant.may_use(m.name)]

    def _warnings(self, policy: Policy, tenant: Tenant) -> list[Finding]:
        settings = [
            Setting(model.name, self._rulebook.pools.views(model), self._rulebook.gate_states(model))
            for model in self._models(tenant)
        ]
        return lint(policy, settings)

    def _read(self, text: str, field: str) -> Policy:
        """The policy of a document in a request. Raises Fault, each path behind the field's name."""
        if not text.strip():
            # An empty file is more often a mistake than a wish; and an empty text stands for a detached shadow.
            raise invalid([Violation(field, "is empty; write {} for the product's defaults")])
        try:
            return read_policy(text, _UNTITLED)
        except PolicyInvalid as error:
            raise invalid([Violation(_path(field, fault.path), fault.reason) for fault in error.faults]) from None

    def _read_or_acting(self, text: str, field: str, tenant: Tenant) -> Policy:
        return self._read(text, field) if text else self._rulebook.policies.acting(tenant.id)

    async def _version(self, tenant: Tenant, version: int) -> Document:
        for document in await self._versions(tenant):
            if document.version == version:
                return document
        raise unknown_version(version)

    async def _versions(self, tenant: Tenant) -> list[Document]:
        """Newest first, and none of an earlier tenant with the same id: an empty text marks its end."""
        versions = await self._documents.versions(_policy(tenant))
        return list(takewhile(lambda document: document.text, versions))

    async def _put(self, name: str, text: str, call: Call, etag: str, change: Change, note: str = "") -> Document:
        """Stores a document; this router acts on it before it answers, the others within a second."""
        try:
            document = await self._documents.put(
                name, text, author=call.caller.name, etag=etag, audit=change, note=note
            )
        except EtagMismatch as error:
            raise etag_mismatch(error.current.etag if error.current else "") from None
        await self._watch.catch_up()
        return document


def _policy(tenant: Tenant) -> str:
    return f"{POLICY}/{tenant.id}"


def _shadow(tenant: Tenant) -> str:
    return f"{SHADOW}/{tenant.id}"


def _path(field: str, path: str) -> str:
    return f"{field}.{path}" if path else field


def _check_note(note: str) -> None:
    violations = check_note(note)
    if violations:
        raise invalid(violations)
