"""The policy of each tenant as it acts now: its live document, or else the configuration's; and its shadow."""

from collections.abc import Mapping
from dataclasses import dataclass

from broker.documents import Document
from precision.policy import Policy
from precision.policy.document import PolicyInvalid, read_policy
from router.config import Config

POLICY, SHADOW = "policy", "shadow"


@dataclass(frozen=True, slots=True)
class Live:
    """A document and what was read from it."""

    document: Document
    policy: Policy


class PolicyBook:
    """The acting policies, as this router knows them. Follows the documents of kind `policy` (router.documents)."""

    def __init__(self, config: Config) -> None:
        self._seeds = {tenant.id: tenant.seed for tenant in config.tenants}
        self._live: dict[str, Live] = {}

    def acting(self, tenant: str) -> Policy:
        live = self._live.get(tenant)
        return live.policy if live else self._seeds[tenant].policy

    def load(self, key: str, document: Document) -> None:
        self._live[key] = Live(document, _read(document, f"{key}-{document.version}"))

    def reset(self) -> None:
        self._live.clear()


class ShadowBook:
    """The shadow policies. Follows the documents of kind `shadow`; an empty one detaches."""

    def __init__(self) -> None:
        self._live: dict[str, Live] = {}

    @property
    def all(self) -> Mapping[str, Live]:
        """By tenant."""
        return self._live

    def load(self, key: str, document: Document) -> None:
        if not document.text:
            self._live.pop(key, None)
            return
        self._live[key] = Live(document, _read(document, f"{key}-shadow-{document.version}"))

    def reset(self) -> None:
        self._live.clear()


def _read(document: Document, version: str) -> Policy:
    try:
        return read_policy(document.text, version)
    except PolicyInvalid as error:
        raise ValueError(str(error)) from None
