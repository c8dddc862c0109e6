"""Tenants, models and pools, from a YAML file. A bad file stops the start and names the path and the reason."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from precision.decision import GateState
from precision.policy import Policy
from precision.profile import Precision
from precision.tasks import Task

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


_DEFAULT = Policy()


class ConfigError(Exception):
    """The file cannot be used; the message names each path and reason."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolConfig(_Part):
    """The workers that serve a model in one precision."""

    precision: Annotated[str, StringConstraints(pattern=r"^(FP4|FP8|BF16)$")]


class ModelConfig(_Part):
    """A logical model and the pools that serve it."""

    name: Name
    context_tokens: int = Field(ge=16)  # prompt and output together
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


class PolicyConfig(_Part):
    """A tenant's precision policy; what is left out takes the product's default (`precision.policy.Policy`)."""

    confidence_threshold: float = Field(default=_DEFAULT.confidence_threshold, ge=0, le=1)
    long_context_tokens: int = Field(default=_DEFAULT.long_context_tokens, ge=1)
    allow_uncalibrated_fp4: bool = _DEFAULT.allow_uncalibrated_fp4
    spill: bool = _DEFAULT.spill
    spill_pressure: float = Field(default=_DEFAULT.spill_pressure, gt=0)
    client_floor: bool = _DEFAULT.client_floor
    client_pins: tuple[Annotated[str, StringConstraints(pattern=r"^(FP4|FP8|BF16)$")], ...] = ("FP4", "FP8", "BF16")


class KeyConfig(_Part):
    """An API key. Only its hash is kept: `printf %s "$KEY" | sha256sum`."""

    name: Name
    sha256: Sha256


class TenantConfig(_Part):
    """Who may call, what for, and how its work is weighed."""

    id: Name
    keys: tuple[KeyConfig, ...] = Field(min_length=1)
    weight: float = Field(1.0, gt=0, le=1000)  # share of a pool's tokens against other tenants' weights
    models: tuple[Name, ...] | None = None  # None: all
    max_waiting: int = Field(256, ge=1)  # requests that may wait in one pool
    policy: PolicyConfig = PolicyConfig()

    @cached_property
    def precision_policy(self) -> Policy:
        policy = self.policy
        return Policy(
            version=f"{self.id}-file",
            confidence_threshold=policy.confidence_threshold,
            long_context_tokens=policy.long_context_tokens,
            allow_uncalibrated_fp4=policy.allow_uncalibrated_fp4,
            spill=policy.spill,
            spill_pressure=policy.spill_pressure,
            client_floor=policy.client_floor,
            client_pins=frozenset(Precision[name] for name in policy.client_pins),
        )


class Config(_Part):
    """The whole file."""

    models: tuple[ModelConfig, ...] = Field(min_length=1)
    tenants: tuple[TenantConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        names = [model.name for model in self.models]
        _unique("models", names)
        _unique("tenants", [tenant.id for tenant in self.tenants])
        _unique("tenants.keys", [key.sha256 for tenant in self.tenants for key in tenant.keys])
        for model in self.models:
            _unique(f"models.{model.name}.pools", [pool.precision for pool in model.pools])
        for tenant in self.tenants:
            unknown = set(tenant.models or ()) - set(names)
            if unknown:
                raise ValueError(f"tenants.{tenant.id}.models: unknown: {', '.join(sorted(unknown))}")
        return self

    @cached_property
    def models_by_name(self) -> Mapping[str, ModelConfig]:
        return {model.name: model for model in self.models}

    @cached_property
    def tenants_by_key(self) -> Mapping[str, TenantConfig]:
        """By the key's hash."""
        return {key.sha256: tenant for tenant in self.tenants for key in tenant.keys}


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
        return Config.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in e['loc']) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path}:\n  " + "\n  ".join(lines)) from error


def _unique(path: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{path}: {value} is there twice")


def _names(enum: type[Task] | type[GateState]) -> str:
    return ", ".join(member.name.lower() for member in enum)
