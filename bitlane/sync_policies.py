"""`client.policies` for blocking code: each call of `AsyncPolicies`, run by the client's thread, and nothing more."""

from collections.abc import Callable, Sequence

from bitlane.background import BackgroundLoop
from bitlane.policies import AsyncPolicies
from bitlane.policy_types import (
    Gate,
    PolicyChange,
    PolicyCheck,
    PolicyPut,
    PolicyVersion,
    ReplayResult,
    ReplayRow,
    Shadow,
)
from bitlane.types import GateState, Task, TaskName


class Policies:
    """The calls of the policy API; see `AsyncPolicies` for what each takes and raises."""

    def __init__(self, policies: AsyncPolicies, running: Callable[[], BackgroundLoop]) -> None:
        self._policies = policies
        self._running = running

    def validate(self, document: str, *, tenant: str = "") -> PolicyCheck:
        """What is wrong with a document, and what is noteworthy."""
        return self._running().run(self._policies.validate(document, tenant=tenant))

    def diff(self, old: str | None = None, new: str | None = None, *, tenant: str = "") -> list[PolicyChange]:
        """What differs between two documents. None: the policy that acts now."""
        return self._running().run(self._policies.diff(old, new, tenant=tenant))

    def replay(
        self, rows: Sequence[ReplayRow], *, old: str | None = None, new: str | None = None, tenant: str = ""
    ) -> list[ReplayResult]:
        """Decides recorded requests under two policies, and runs none."""
        return self._running().run(self._policies.replay(rows, old=old, new=new, tenant=tenant))

    def get(self, version: int | None = None, *, tenant: str = "") -> PolicyVersion:
        """The policy that acts now, or a kept version."""
        return self._running().run(self._policies.get(version, tenant=tenant))

    def put(self, document: str, *, etag: str, note: str = "", tenant: str = "") -> PolicyPut:
        """Makes a document the tenant's policy."""
        return self._running().run(self._policies.put(document, etag=etag, note=note, tenant=tenant))

    def versions(self, *, tenant: str = "") -> list[PolicyVersion]:
        """The kept versions, newest first, without their documents."""
        return self._running().run(self._policies.versions(tenant=tenant))

    def rollback(self, version: int, *, etag: str = "", tenant: str = "") -> PolicyVersion:
        """Makes a kept version the policy again, as a new version."""
        return self._running().run(self._policies.rollback(version, etag=etag, tenant=tenant))

    def shadow(self, *, tenant: str = "") -> Shadow | None:
        """The shadow policy and what was counted; None when there is none."""
        return self._running().run(self._policies.shadow(tenant=tenant))

    def set_shadow(self, document: str, *, tenant: str = "") -> PolicyPut:
        """Attaches a policy that decides every request as well, and acts on none."""
        return self._running().run(self._policies.set_shadow(document, tenant=tenant))

    def clear_shadow(self, *, tenant: str = "") -> None:
        """Detaches the shadow policy."""
        self._running().run(self._policies.clear_shadow(tenant=tenant))

    def gates(self, model: str = "") -> list[Gate]:
        """Every gate of the checkpoints that are served, or were ever written about."""
        return self._running().run(self._policies.gates(model))

    def set_gate(
        self,
        model: str,
        task: Task | TaskName,
        state: GateState | str,
        *,
        evidence: str = "",
        checkpoint_digest: str | None = None,
    ) -> list[Gate]:
        """Sets a gate for all tenants. Needs an operator's key."""
        return self._running().run(
            self._policies.set_gate(model, task, state, evidence=evidence, checkpoint_digest=checkpoint_digest)
        )
