"""A report of `python -m checkpoints verify` as gates: for which task classes FP4 of a checkpoint is good enough."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast, get_args

from bitlane.cli.recording import read_text
from bitlane.errors import ConfigError
from bitlane.types import GateState, TaskName

_FORM = 1
LEAST_TOKENS = 256
"""Compared tokens of a task class from which on a gate is set: 99 % of a handful says nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured for one task class. `state` None: on too few tokens to say."""

    task: str
    tokens: int
    state: GateState | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Verification:
    """A report. `digest` is the checkpoint's, as workers attest it."""

    digest: str
    findings: tuple[Finding, ...]


def read_verification(path: str) -> Verification:
    """Raises ConfigError, which names the file and the field."""
    report = _object(_json(path), path, "the report")
    if report.get("version") != _FORM:
        raise ConfigError(f"{path}: version is {report.get('version')!r}; this bitlane reads {_FORM}")
    if report.get("profile") != "nvfp4":
        raise ConfigError(f"{path}: profile is {report.get('profile')!r}; gates are about FP4, so it must be 'nvfp4'")
    digest = report.get("checkpoint_digest")
    if not isinstance(digest, str) or not digest.startswith("sha256:"):
        raise ConfigError(f"{path}: checkpoint_digest: want sha256:..., got {digest!r}")
    findings = tuple(_findings(path, report))
    if not findings:
        raise ConfigError(f"{path}: tasks: names no task class; give the samples of `verify` a task each")
    return Verification(digest, findings)


def _findings(path: str, report: Mapping[str, object]) -> Iterator[Finding]:
    target = _number(report, path, "target_agreement")
    ratio = _number(_object(report.get("perplexity"), path, "perplexity"), path, "ratio")
    for task, found in _object(report.get("tasks"), path, "tasks").items():
        if task == "unclassified":
            continue
        if task not in get_args(TaskName):
            raise ConfigError(f"{path}: tasks: {task[:64]!r} is no task class")
        one = _object(found, path, f"tasks.{task}")
        agreement, tokens = _number(one, path, "agreement"), int(_number(one, path, "tokens"))
        evidence = (
            f"{agreement:.4f} of {tokens} next tokens as the source's, target {target:g}; perplexity x{ratio:.3f}"
        )
        reached = GateState.PASSED if agreement >= target else GateState.FAILED
        yield Finding(task, tokens, reached if tokens >= LEAST_TOKENS else None, evidence)


def _json(path: str) -> object:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no JSON: {error}") from None


def _object(value: object, path: str, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {name} is no JSON object; write it with python -m checkpoints verify --report")
    return cast("Mapping[str, object]", value)


def _number(values: Mapping[str, object], path: str, name: str) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{path}: {name}: want a number, got {value!r}")
    return value
