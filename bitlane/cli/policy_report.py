"""Policies, replays, shadows and gates in words."""

from collections import Counter
from collections.abc import Iterable, Sequence

from bitlane.cli.report import moment, words
from bitlane.cli.terminal import Terminal, harmless
from bitlane.policy_types import (
    Finding,
    Gate,
    PolicyChange,
    PolicyVersion,
    ReplayOutcome,
    ReplayResult,
    ReplayRow,
    Shadow,
)
from bitlane.types import DecisionReason, GateState, Precision

_EXCERPT = 60  # characters
NO_ETAG = "none"


def header(found: PolicyVersion) -> str:
    """A comment that `put` reads the etag from."""
    if not found.version:
        return f"# bitlane policy of {found.tenant}, the product's default, etag {found.etag or NO_ETAG}"
    return f"# bitlane policy of {found.tenant}, version {found.version}, etag {found.etag}, by {found.author}"


def show_findings(what: str, findings: Sequence[Finding], terminal: Terminal) -> None:
    for finding in findings:
        terminal.line(f"{terminal.strong(what)}  {finding}")


def show_changes(changes: Sequence[PolicyChange], terminal: Terminal) -> None:
    if not changes:
        terminal.note("no difference")
        return
    for change in changes:
        terminal.line(change.path)
        if change.before:
            terminal.line(f"  - {change.before}")
        if change.after:
            terminal.line(f"  + {change.after}")


def show_versions(versions: Sequence[PolicyVersion], terminal: Terminal) -> None:
    if not versions:
        terminal.note("no live policy yet: the product's default acts")
        return
    rows = [(str(v.version), moment(v.created_at), v.author, v.etag, v.note) for v in versions]
    terminal.table(("version", "put", "by", "etag", "note"), rows)


def show_replay(rows: Sequence[ReplayRow], results: Sequence[ReplayResult], examples: int, terminal: Terminal) -> None:
    """Counts, the share in FP4 before and after, what moves, and some of it."""
    moved = [(row, result) for row, result in zip(rows, results, strict=True) if result.moved]
    reasons = sum(result.before != result.after for result in results) - len(moved)
    terminal.line(f"{len(results)} requests, {len(moved)} would move, {reasons} more for another reason or rule")
    terminal.line()
    terminal.table(
        ("", "before", "after"),
        [
            ("in FP4", _share(r.before for r in results), _share(r.after for r in results)),
            ("refused", _refused(r.before for r in results), _refused(r.after for r in results)),
        ],
    )
    if not moved:
        return
    counts = Counter((result.task, _short(result.before), _short(result.after)) for _, result in moved)
    terminal.line()
    terminal.table(
        ("requests", "task", "before", "after"),
        [(str(n), words(task), before, after) for (task, before, after), n in counts.most_common(20)],
    )
    terminal.line()
    for row, result in moved[:examples]:
        terminal.line(f"{_short(result.before)} -> {_short(result.after)}  {_excerpt(row)}")


def show_shadow(shadow: Shadow | None, terminal: Terminal) -> None:
    if shadow is None:
        terminal.note("no shadow policy is attached")
        return
    share = f" ({shadow.differing / shadow.requests:.1%})" if shadow.requests else ""
    policy = shadow.policy
    terminal.line(f"shadow {policy.version} of {policy.tenant}, by {policy.author} at {moment(policy.created_at)}")
    terminal.line(f"{shadow.requests} requests, {shadow.differing} of them in another precision{share}")
    if shadow.counts:
        terminal.line()
        rows = [
            (
                str(count.requests),
                _pair(count.acted_precision, count.acted_reason),
                _pair(count.shadow_precision, count.shadow_reason),
            )
            for count in shadow.counts
        ]
        terminal.table(("requests", "acted", "shadow"), rows)


def show_gates(gates: Sequence[Gate], terminal: Terminal) -> None:
    """Those that somebody has said something about; the others in one line."""
    told = [gate for gate in gates if gate.author]
    if told:
        rows = [
            (
                gate.model,
                gate.checkpoint_digest[:19] or "-",
                words(gate.task),
                gate.state.value,
                gate.author,
                moment(gate.set_at),
                harmless(gate.evidence.replace("\n", " "))[:_EXCERPT],
            )
            for gate in told
        ]
        terminal.table(("model", "checkpoint", "task", "state", "by", "set", "evidence"), rows)
    rest = [gate for gate in gates if not gate.author and gate.state is GateState.UNVALIDATED]
    if rest:
        terminal.note(f"{len(rest)} {'more' if told else 'task classes'} are unvalidated")
    if not gates:
        terminal.note("no FP4 pool serves, and nothing was written about any")


def _share(outcomes: Iterable[ReplayOutcome]) -> str:
    listed = list(outcomes)
    fp4 = sum(outcome.precision is Precision.FP4 for outcome in listed)
    return f"{fp4} ({fp4 / max(1, len(listed)):.1%})"


def _refused(outcomes: Iterable[ReplayOutcome]) -> str:
    return str(sum(bool(outcome.refusal) for outcome in outcomes))


def _short(outcome: ReplayOutcome) -> str:
    rule = f" {outcome.rule}" if outcome.rule else ""
    return _pair(outcome.precision, outcome.reason) + rule


def _pair(precision: Precision | None, reason: DecisionReason | None) -> str:
    return f"{precision.value} {words(reason)}" if precision and reason else "refused"


def _excerpt(row: ReplayRow) -> str:
    text = row.text
    if text is None and row.messages:
        last = row.messages[-1]
        text = last["content"] if isinstance(last, dict) else last.content
    flat = harmless(" ".join((text or "").split()))
    return flat if len(flat) <= _EXCERPT else flat[: _EXCERPT - 3] + "..."
