"""Models, pools and prices, and the tenants to start with, from a YAML file.

A bad file stops the start and names the path and the reason.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from broker.types import Limits, Price
from precision.decision import GateState
from precision.profile import Precision
from precision.tasks import Task
from router.identity.config import IdentityConfig
from router.seeds import LimitsConfig, Name, OperatorConfig, Part, TenantConfig
from telemetry.tenants import MOST

# Of requests that a tenant may have waiting, and a pool, unless the file says otherwise: no queue is endless.
_QUEUED_REQUESTS = 256
_POOL_MAX_WAITING = 10_000
_NANOS_A_TOKEN = 1000  # a currency unit for a million tokens is a thousand nanos for one

PerMillion = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class ConfigError(Exception):
    """The file cannot be used; the message names each path and reason."""


class PriceConfig(Part):
    """Of a million tokens, in the currency, with at most 3 decimals: one token then costs whole nanos."""

    prompt: PerMillion = 0.0
    cached_prompt: PerMillion | None = None  # None: as prompt
    output: PerMillion = 0.0

    @field_validator("prompt", "cached_prompt", "output")
    @classmethod
    def _whole_nanos(cls, price: float | None) -> float | None:
        if price is not None and abs(price * _NANOS_A_TOKEN - round(price * _NANOS_A_TOKEN)) > 1e-6:
            raise ValueError(f"{price} has more than 3 decimals")
        return price

    @property
    def price(self) -> Price:
        cached = self.prompt if self.cached_prompt is None else self.cached_prompt
        return Price(*(round(each * _NANOS_A_TOKEN) for each in (self.prompt, cached, self.output)))


class PoolConfig(Part):
    """The workers that serve a model in one precision."""

    precision: Annotated[str, StringConstraints(pattern=r"^(FP4|FP8|BF16)$")]
    price: PriceConfig = PriceConfig()
    max_waiting: int = Field(default=_POOL_MAX_WAITING, ge=1)  # requests of all tenants together


class ModelConfig(Part):
    """A logical model and the pools that serve it."""

    name: Name
    context_tokens: int = Field(ge=16)  # prompt and output together
    default_temperature: float = Field(default=0.7, ge=0, le=2)  # for requests that name none
    pools: tuple[PoolConfig, ...] = Field(min_length=1)
    # State of FP4 by task class; a class that is missing is unvalidated.
    gates: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_gates(self) -> "ModelConfig":
        for task, state in self.gates.items():
            if task.upper() not in Task.__members__:
                raise ValueError(f"gates: {task!r} is no task class; use one of {_names(Task)}")
            if state.upper() not in GateState.__members__:
                raise ValueError(f"gates.{task}: {state!r} is no gate state; use one of {_names(GateState)}")
        return self

    @cached_property
    def gate_states(self) -> Mapping[Task, GateState]:
        return {Task[task.upper()]: GateState[state.upper()] for task, state in self.gates.items()}

    @cached_property
    def pool_names(self) -> Mapping[Precision, str]:
        """`model/precision` by precision."""
        return {Precision[p.precision]: f"{self.name}/{p.precision.lower()}" for p in self.pools}

    @cached_property
    def by_precision(self) -> Mapping[Precision, PoolConfig]:
        return {Precision[pool.precision]: pool for pool in self.pools}

    @cached_property
    def prices(self) -> Mapping[Precision, Price]:
        """Of one token in each pool."""
        return {precision: pool.price.price for precision, pool in self.by_precision.items()}


class TelemetryConfig(Part):
    """What is told of requests beyond what the environment says (docs/observability.md)."""

    # Those that metrics tell apart; all others share the label `other`, for the number of series is bounded.
    tenants: tuple[Name, ...] = Field(default=(), max_length=MOST)


class Defaults(Part):
    """For tenants that set nothing else."""

    limits: LimitsConfig = LimitsConfig()


class Config(Part):
    """The whole file."""

    models: tuple[ModelConfig, ...] = Field(min_length=1)
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "USD"  # of prices and budgets
    defaults: Defaults = Defaults()
    tenants: tuple[TenantConfig, ...] = ()
    operators: tuple[OperatorConfig, ...] = ()
    identity: IdentityConfig = IdentityConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        names = [model.name for model in self.models]
        _unique("models", names)
        _unique("tenants", [tenant.id for tenant in self.tenants])
        _unique("operators", [operator.name for operator in self.operators])
        keys = [key.sha256 for tenant in self.tenants for key in tenant.keys]
        _unique("keys", keys + [operator.sha256 for operator in self.operators])
        for model in self.models:
            _unique(f"models.{model.name}.pools", [pool.precision for pool in model.pools])
        for tenant in self.tenants:
            _unique(f"tenants.{tenant.id}.keys", [key.name for key in tenant.keys])
            _known(f"tenants.{tenant.id}.models", tenant.models, names)
            _known(f"tenants.{tenant.id}.quota.model_limits", tenant.quota.model_limits, names)
            for key in tenant.keys:
                _known(f"tenants.{tenant.id}.keys.{key.name}.quota.model_limits", key.quota.model_limits, names)
        return self

    @cached_property
    def models_by_name(self) -> Mapping[str, ModelConfig]:
        return {model.name: model for model in self.models}

    @cached_property
    def pool_prices(self) -> Mapping[str, tuple[Price, Price]]:
        """Of one token in each pool, and of the same token in FP8, by the pool's name."""
        return {
            model.pool_names[precision]: (price, model.prices.get(Precision.FP8, price))
            for model in self.models
            for precision, price in model.prices.items()
        }

    @cached_property
    def default_limits(self) -> Limits:
        """Of a tenant that sets none."""
        return self.defaults.limits.settings.applied(Limits(queued_requests=_QUEUED_REQUESTS))


def load_config(path: Path) -> Config:
    """Reads and checks the file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or says something that cannot be.
    """
    try:
        data: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML: {error}") from error
    try:
        return Config.model_validate(data, context={"folder": path.parent})
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in e['loc']) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path}:\n  " + "\n  ".join(lines)) from error


def _unique(path: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{path}: {value} is there twice")


def _known(path: str, models: Iterable[str], known: list[str]) -> None:
    unknown = set(models) - set(known)
    if unknown:
        raise ValueError(f"{path}: unknown: {', '.join(sorted(unknown))}")


def _names(enum: type[Task] | type[GateState]) -> str:
    return ", ".join(member.name.lower() for member in enum)
