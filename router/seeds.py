"""What the configuration says about tenants and operators."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from precision.decision import PriorityClass
from precision.policy.document import PolicyInvalid, read_policy
from router.directory.keys import Secret, Sha256
from router.directory.quota import MOST, UNBOUNDED, Bound, LimitSettings, Quota
from router.directory.tenants import MAX_DISPLAY_NAME, PriorityName
from router.scopes import DEFAULT_SCOPES, Scope

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
_NANOS = 10**9
Amount = Annotated[float, Field(le=MOST / _NANOS, allow_inf_nan=False)]


class Part(BaseModel):
    """A part of the file. What is not known is refused: it could be a typing error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitsConfig(Part):
    """Bounds. Not set: the default; -1: unbounded. Budgets are in the currency, for a day or month of UTC."""

    requests_per_minute: Bound | None = None
    tokens_per_minute: Bound | None = None
    concurrent_requests: Bound | None = None
    queued_requests: Bound | None = None
    day_budget: Amount | None = None
    month_budget: Amount | None = None

    @field_validator("day_budget", "month_budget")
    @classmethod
    def _no_debt(cls, amount: float | None) -> float | None:
        if amount is not None and amount < 0 and amount != UNBOUNDED:
            raise ValueError("use an amount of at least 0, or -1 for no bound")
        return amount

    @property
    def settings(self) -> LimitSettings:
        return LimitSettings(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent_requests=self.concurrent_requests,
            queued_requests=self.queued_requests,
            day_budget_nanos=_nanos(self.day_budget),
            month_budget_nanos=_nanos(self.month_budget),
        )


class QuotaConfig(Part):
    """Bounds for all models together, and for single models beside them."""

    limits: LimitsConfig = LimitsConfig()
    model_limits: Mapping[Name, LimitsConfig] = Field(default_factory=dict)

    @property
    def quota(self) -> Quota:
        return Quota(
            limits=self.limits.settings,
            model_limits={model: limits.settings for model, limits in self.model_limits.items()},
        )


class KeyConfig(Part):
    """An API key. Only its hash is kept: `printf %s "$KEY" | sha256sum`."""

    name: Name
    sha256: Sha256
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    expires: AwareDatetime | None = None
    quota: QuotaConfig = QuotaConfig()

    @field_validator("scopes")
    @classmethod
    def _no_operator(cls, scopes: frozenset[Scope]) -> frozenset[Scope]:
        if Scope.OPERATE in scopes:
            raise ValueError("a tenant's key cannot have the scope operate; list the key under operators")
        return scopes


class OperatorConfig(Part):
    """A key of those who run the service: it belongs to no tenant, may manage all of them, and generates nothing."""

    name: Name
    sha256: Sha256

    @property
    def secret(self) -> Secret:
        return Secret(sha256=self.sha256)


class TenantConfig(Part):
    """A tenant that the service starts with. What stands here applies once, when the store has never had the tenant.

    The policy stands here or in a file of its own.
    """

    id: Name
    display_name: str = Field(default="", max_length=MAX_DISPLAY_NAME)
    keys: tuple[KeyConfig, ...] = ()
    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)  # share of a pool's tokens
    models: tuple[Name, ...] = ()  # empty: all
    priority_ceiling: PriorityName = PriorityClass.INTERACTIVE
    quota: QuotaConfig = QuotaConfig()
    policy: Mapping[str, object] | None = None
    policy_file: Path | None = None  # from the folder of this file

    _policy_text: str = PrivateAttr(default="")

    @property
    def policy_text(self) -> str:
        """The policy as a document; empty when there is none."""
        return self._policy_text

    @model_validator(mode="after")
    def _read_policy(self, info: ValidationInfo) -> "TenantConfig":
        folder: Path = info.context["folder"] if info.context else Path()
        if self.policy is not None and self.policy_file is not None:
            raise ValueError("policy and policy_file exclude each other")
        if self.policy is None and self.policy_file is None:
            return self
        text = yaml.safe_dump(dict(self.policy or {}), sort_keys=False)
        if self.policy_file is not None:
            path = folder / self.policy_file
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"policy_file: {path} cannot be read: {error}") from None
        try:
            read_policy(text, self.id)
        except PolicyInvalid as error:
            where = "policy_file" if self.policy_file else "policy"
            raise ValueError("; ".join(f"{where}: {fault}" for fault in error.faults)) from None
        if not text.strip():
            raise ValueError("policy_file: is empty; write {} for the product's defaults")
        self._policy_text = text
        return self


def _nanos(amount: float | None) -> int | None:
    if amount is None or amount == UNBOUNDED:
        return amount if amount is None else UNBOUNDED
    return round(amount * _NANOS)
