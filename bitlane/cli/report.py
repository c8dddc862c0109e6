"""Results and errors in words."""

import json
import math
import os
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from bitlane import defaults
from bitlane.channel import is_loopback
from bitlane.cli.terminal import Terminal
from bitlane.errors import AuthenticationError, BitlaneError, ConnectionFailed
from bitlane.sync import Stream
from bitlane.types import Explanation, FinishReason, Model, Pool


class _Record(Protocol):
    """A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


_Found = TypeVar("_Found", bound=_Record | Sequence[_Record])


def as_json(result: _Record | Sequence[_Record], indent: int | None = 2) -> str:
    """A result, or a list of them, as JSON; the fields are those of the SDK's types. Money is a text: it is exact."""
    plain = [asdict(each) for each in result] if isinstance(result, Sequence) else asdict(result)
    return json.dumps(plain, indent=indent, ensure_ascii=False, default=_plain)


def present(found: _Found, show: Callable[[_Found, Terminal], None], arguments: Namespace, terminal: Terminal) -> bool:
    """Prints a result as JSON or in words, as was asked. True: all is well."""
    if hasattr(arguments, "json"):
        terminal.line(as_json(found))
    else:
        show(found, terminal)
    return True


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    # What else JSON does not know is money, which few results hold.
    from decimal import Decimal  # noqa: PLC0415

    from bitlane.money import to_text  # noqa: PLC0415

    return to_text(value) if isinstance(value, Decimal) else str(value)


def moment(value: datetime | None) -> str:
    """In this machine's time zone."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if value else "-"


def words(name: str) -> str:
    """`low_sensitivity` as people write it."""
    return name.replace("_", " ")


def span(seconds: float) -> str:
    """`12.5 s`, `7 min`, `30 h`, `12 d`: rounded up."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{seconds:.1f} s"


def facts(stream: Stream) -> str:
    """One line about how a reply was made, e.g. "fp4 · low sensitivity · chat · 12 tokens · 0.4 s"."""
    end = stream.finished
    decision = end.receipt.decision if end else stream.decision
    parts = [decision.precision.value, words(decision.reason), words(decision.task)] if decision else []
    if end is None:
        parts.append("stopped")
    else:
        tokens = end.usage.output_tokens
        parts += [f"{tokens} token{'' if tokens == 1 else 's'}", f"{end.receipt.total_time:.1f} s"]
        if end.reason is FinishReason.LENGTH:
            parts.append("cut at max tokens")
        if end.reason is FinishReason.CANCELLED:
            parts.append("cancelled")
        if end.receipt.attempts > 1:
            parts.append(f"{end.receipt.attempts} workers")
    return " · ".join(parts)


def lines(error: BitlaneError, target: str | None) -> list[str]:
    """An error for people: what is wrong, each bad field, what to do."""
    if isinstance(error, ConnectionFailed):
        return _unreachable(error, target or os.environ.get(defaults.ENV_TARGET) or defaults.TARGET)
    first = error.message
    if error.reason and error.reason not in first:
        first += f" ({error.reason})"
    # A server that says it all in its message is not repeated.
    report = [first, *(str(each) for each in error.violations if each.description not in error.message)]
    if error.retry_after:
        report.append(f"try again in {span(error.retry_after)}")
    if isinstance(error, AuthenticationError):
        report.append(f"give a key by the environment's {defaults.ENV_API_KEY}, or by --api-key")
    return report


def _unreachable(error: ConnectionFailed, target: str) -> list[str]:
    report = [f"nothing answers at {target}", error.message]
    if all(is_loopback(each.strip()) for each in target.split(",")):
        report.append("start the local stack with `make up`, or name another server with --target")
    else:
        report.append(f"check --target and {defaults.ENV_TARGET}, the network, and TLS (--tls, --insecure)")
    return report


def show_explanation(found: Explanation, terminal: Terminal) -> None:
    decision = found.decision
    terminal.line(f"{terminal.strong(decision.precision.value)} in pool {decision.pool}")
    rows = [
        ("reason", words(decision.reason)),
        ("task", f"{words(decision.task)} ({decision.task_source.value}, {decision.task_confidence:.0%} sure)"),
        ("sensitivity", decision.sensitivity.value),
        ("fp4 gate", words(decision.gate)),
        ("risk", f"{decision.risk:.2f} that it needs FP8" if decision.risk is not None else "not scored"),
        ("rule", decision.rule or "none"),
        ("policy", decision.policy_version or "default"),
        ("prompt", f"about {found.estimated_prompt_tokens} tokens, language {found.language}"),
    ]
    if decision.ignored_field:
        rows.append(("ignored", f"{decision.ignored_field}, which this tenant's clients may not ask for"))
    for name, value in rows:
        terminal.line(f"  {terminal.dim(name.ljust(11))}  {value}")
    terminal.line()
    terminal.line("steps")
    width = max((len(step.name) for step in found.steps), default=0)
    for step in found.steps:
        line = f"  {'*' if step.applied else ' '} {step.name.ljust(width)}  {step.detail}"
        terminal.line(line if step.applied else terminal.dim(line))
    terminal.line()
    terminal.line("pools")
    terminal.table(_POOL_HEAD, [_pool_row(pool) for pool in found.pools], indent="  ")


_POOL_HEAD = ("pool", "workers", "running", "waiting", "weights", "compute", "engine", "gpu")


def _pool_row(pool: Pool) -> tuple[str, ...]:
    made = pool.profile
    return (
        pool.name,
        str(pool.workers),
        f"{pool.running} of {pool.slots}",
        str(pool.waiting),
        made.weight_format if made else "-",
        words(made.compute_path) if made else "-",
        f"{made.engine} {made.engine_version}".strip() if made else "-",
        (made.gpu or "cpu") if made else "-",
    )


def show_models(models: list[Model], terminal: Terminal) -> None:
    if not models:
        terminal.note("no model may be used with this key")
        return
    rows = [(model.name, str(model.context_tokens), *_pool_row(pool)) for model in models for pool in model.pools]
    terminal.table(("model", "context", *_POOL_HEAD), rows)
