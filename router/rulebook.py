"""All that a decision is made from, as it is now: the tenant's policy, the gates, the pools. Snapshots only: no I/O."""

from dataclasses import dataclass

from precision.policy import Gates, Policy, Pools
from router.config import ModelConfig
from router.directory.tenants import Tenant
from router.gates import GateBook
from router.policies import PolicyBook
from router.pools import PoolWatch


@dataclass(frozen=True, slots=True)
class Rulebook:
    """What `precision.policy.decide` needs beside the request."""

    policies: PolicyBook
    gates: GateBook
    pools: PoolWatch

    def for_decision(self, tenant: Tenant, model: ModelConfig) -> tuple[Policy, Gates, Pools]:
        return self.policies.acting(tenant.id), self.gate_states(model), self.pools.views(model)

    def gate_states(self, model: ModelConfig) -> Gates:
        return self.gates.states(model, self.pools.fp4_checkpoints(model))
