"""Tenants, models and pools, from a YAML file. A bad file stops the start and names the path and the reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from precision.decision import GateState
from precision.policy import Policy
from precision.policy.document import PolicyInvalid, read_policy
from precision.profile import Precision
from precision.tasks import Task

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Scope(StrEnum):
    """What a key may be used for."""

    INFER = "infer"  # generate, resume, cancel
    READ = "read"  # models, explanations, policies, gates
    ADMIN = "admin"  # change the tenant's policy
    OPERATE = "operate"  # change what concerns all tenants: gates


@dataclass(frozen=True, slots=True)
class Seed:
    """A tenant's policy as the configuration has it."""

    text: str
    policy: Policy


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


class KeyConfig(_Part):
    """An API key. Only its hash is kept: `printf %s "$KEY" | sha256sum`."""

    name: Name
    sha256: Sha256
    scopes: frozenset[Scope] = frozenset((Scope.INFER, Scope.READ))

    @field_validator("scopes")
    @classmethod
    def _no_operator(cls, scopes: frozenset[Scope]) -> frozenset[Scope]:
        if Scope.OPERATE in scopes:
            raise ValueError("a tenant's key cannot have the scope operate; list the key under operators")
        return scopes


class OperatorConfig(_Part):
    """A key of those who run the service: it belongs to no tenant, may manage all of them, and generates nothing."""

    name: Name
    sha256: Sha256


class TenantConfig(_Part):
    """Who may call, what for, and how its work is weighed.

    The policy stands here or in a file of its own. It applies until a live one is put.
    """

    id: Name
    keys: tuple[KeyConfig, ...] = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0, le=1000)  # share of a pool's tokens against other tenants' weights
    models: tuple[Name, ...] | None = None  # None: all
    max_waiting: int = Field(default=256, ge=1)  # requests that may wait in one pool
    policy: Mapping[str, object] | None = None
    policy_file: Path | None = None  # from the folder of this file

    _seed: Seed = PrivateAttr()

    def may_use(self, model: ModelConfig) -> bool:
        return self.models is None or model.name in self.models

    @property
    def seed(self) -> Seed:
        return self._seed

    @model_validator(mode="after")
    def _read_policy(self, info: ValidationInfo) -> "TenantConfig":
        folder: Path = info.context["folder"] if info.context else Path()
        if self.policy is not None and self.policy_file is not None:
            raise ValueError("policy and policy_file exclude each other")
        text = yaml.safe_dump(dict(self.policy), sort_keys=False) if self.policy else "{}\n"
        if self.policy_file is not None:
            path = folder / self.policy_file
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"policy_file: {path} cannot be read: {error}") from None
        try:
            self._seed = Seed(text, read_policy(text, f"{self.id}-file"))
        except PolicyInvalid as error:
            where = "policy_file" if self.policy_file else "policy"
            raise ValueError("; ".join(f"{where}: {fault}" for fault in error.faults)) from None
        return self


class Config(_Part):
    """The whole file."""

    models: tuple[ModelConfig, ...] = Field(min_length=1)
    tenants: tuple[TenantConfig, ...] = Field(min_length=1)
    operators: tuple[OperatorConfig, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        names = [model.name for model in self.models]
        _unique("models", names)
        _unique("tenants", [tenant.id for tenant in self.tenants])
        keys = [key.sha256 for tenant in self.tenants for key in tenant.keys]
        _unique("keys", keys + [operator.sha256 for operator in self.operators])
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
    def tenants_by_id(self) -> Mapping[str, TenantConfig]:
        return {tenant.id: tenant for tenant in self.tenants}


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


def _names(enum: type[Task] | type[GateState]) -> str:
    return ", ".join(member.name.lower() for member in enum)
