"""The precision policy: a tenant's rules as data (`model`), and the one function that applies them (`decide`).

Policies as text are read by `precision.policy.document`, which is not imported here: it needs a YAML parser, and
only the router reads documents.
"""

from precision.policy.decide import Gates, Pools, decide, explain
from precision.policy.model import Brownout, ClientRights, Excess, Match, Policy, Rule, Spill

__all__ = [
    "Brownout",
    "ClientRights",
    "Excess",
    "Gates",
    "Match",
    "Policy",
    "Pools",
    "Rule",
    "Spill",
    "decide",
    "explain",
]
