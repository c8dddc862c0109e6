"""The policy of each tenant as it acts now: its live document, or else the product's default; and its shadow."""

from collections.abc import Mapping
from dataclasses import dataclass

from broker.documents import Document
from precision.policy import Policy
from precision.policy.document import PolicyInvalid, read_policy

POLICY, SHADOW = "policy", "shadow"
# What acts while a tenant has put nothing.
DEFAULT_TEXT = "{}\n"
_DEFAULT = read_policy(DEFAULT_TEXT, "default")


@dataclass(frozen=True, slots=True)
class Live:
    """A document and what was read from it."""

    document: Document
    policy: Policy


class PolicyBook:
    """The acting policies, as this router knows them. Follows the documents of kind `policy` (router.documents)."""

    old_is_good = True

    def __init__(self) -> None:
        self._live: dict[str, Live] = {}

    def acting(self, tenant: str) -> Policy:
        live = self._live.get(tenant)
        return live.policy if live else _DEFAULT

    def version(self, tenant: str) -> int:
        """0: the product's default acts."""
        live = self._live.get(tenant)
        return live.document.version if live else 0

    def load(self, key: str, document: Document) -> None:
        if not document.text:  # its tenant was deleted
            self._live.pop(key, None)
            return
        self._live[key] = Live(document, _read(document, f"{key}-{document.version}"))

    def reset(self) -> None:
        self._live.clear()


class ShadowBook:
    """The shadow policies. Follows the documents of kind `shadow`; an empty one detaches."""

    old_is_good = True

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
