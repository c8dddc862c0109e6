"""`bitlane top` on the screen. The one module that needs rich, which the extra `bitlane[top]` installs."""

import io
import os
import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bitlane.admin_types import UsageRow, WorkerState, WorkerStatus
from bitlane.cli.admin_report import excerpt, state_of
from bitlane.cli.frame import Frame, PoolFrame, Spending
from bitlane.cli.report import words
from bitlane.cli.times import short
from bitlane.cli.usage_report import decimals_for
from bitlane.request_types import RequestState, RequestStatus

__all__ = ["Screen", "picture", "show_once"]

_WIDE = 100  # columns from which on everything is shown
_LATEST_MIN, _LATEST_MAX = 3, 30
_WORKERS_MAX = 12
_PICTURE_LINES = 34
_COLOURS = {"fp4": "green", "fp8": "cyan", "bf16": "magenta", "waiting": "yellow", "running": "green", "dead": "red"}
_FAILED = frozenset({"deadline", "rejected", "not_migratable", "attempts_exhausted"})


class Screen:
    """The live view: the whole terminal until it is left."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._frame: Frame | None = None

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, frame: Frame | None, problem: str) -> None:
        """The newest frame; the last one again, and what is wrong, while there is no newer."""
        self._frame = frame or self._frame
        size = self._console.size
        self._live.update(_page(self._frame, self._target, size.width, size.height, problem, "q leaves"), refresh=True)


def show_once(frame: Frame, target: str) -> None:
    """One frame to stdout, as wide as the terminal is; in a pipe as COLUMNS says, or 100 columns."""
    in_terminal = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if in_terminal else _WIDE)
    console.print(_page(frame, target, console.width, 200, "", ""))


def picture(frame: Frame, target: str, width: int = _WIDE) -> str:
    """One frame as SVG, without fonts from elsewhere."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(_page(frame, target, width, _PICTURE_LINES, "", ""))
    svg = console.export_svg(title="bitlane top", clear=False)
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def _page(frame: Frame | None, target: str, width: int, height: int, problem: str, hint: str) -> Group:
    parts: list[Text | Table] = []
    if problem:
        parts.append(Text(f"{problem}; trying again", style="bold red", no_wrap=True, overflow="ellipsis"))
    if frame is None:
        return Group(*parts, Text(f"bitlane top: asking {target} ..."))
    whose = "operator" if frame.operator else f"tenant {_tenant(frame)}"
    clock = frame.time.astimezone().strftime("%H:%M:%S")
    head = Text("  ".join(filter(None, (target, whose, clock, hint))), style="dim", no_wrap=True, overflow="ellipsis")
    parts += [Text.assemble(("bitlane top  ", "bold"), head), *_summary(frame), Text()]
    parts.append(_pools(frame.pools, wide=width >= _WIDE))
    if frame.workers:
        parts += [Text(), _workers(frame.workers, wide=width >= _WIDE)]
    used = len(parts) + len(frame.pools) + min(len(frame.workers), _WORKERS_MAX) + 3
    count = min(_LATEST_MAX, max(_LATEST_MIN, height - used))
    latest = _latest(frame.recent[:count], wide=width >= _WIDE) if frame.recent else Text("no request lately", "dim")
    parts += [Text(), latest]
    return Group(*parts)


def _tenant(frame: Frame) -> str:
    return frame.recent[0].tenant if frame.recent else "of the key"


def _summary(frame: Frame) -> list[Text]:
    running, waiting = (sum(getattr(pool, name) for pool in frame.pools) for name in ("running", "waiting"))
    oldest = max((each.oldest_wait or 0.0 for pool in frame.pools for each in pool.queues), default=0.0)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{running:,} running", style="bold")
    line.append(f" · {waiting:,} waiting", style="bold yellow" if waiting else "")
    if oldest:
        line.append(f", the oldest for {short(oldest)}")
    line.append(f" · {'at least ' if frame.partial else ''}{frame.tokens_per_second:,.0f} tokens/s")
    decimals = decimals_for(max(frame.today.total.cost, frame.today.total.fp8_cost))
    return [line, _spending("this hour", frame.hour, decimals), _spending("today", frame.today, decimals)]


def _spending(name: str, spending: Spending, decimals: int) -> Text:
    total: UsageRow = spending.total
    line = Text(f"{name:<9} ", no_wrap=True, overflow="ellipsis")
    if spending.fp4_share is None:
        line.append("nothing ended yet", style="dim")
        return line
    saved = total.savings

    def money(amount: Decimal) -> str:
        return f"{amount:,.{decimals}f} {total.currency}"

    line.append(f"{total.requests:,} requests · FP4 ")
    line.append(f"{spending.fp4_share:.0%}", style=_COLOURS["fp4"])
    line.append(f" · cost {money(total.cost)} · {'saved' if saved >= 0 else 'lost'} {money(abs(saved))} ")
    line.append(f"({total.savings_share:.0%})", style="green" if saved > 0 else "red" if saved < 0 else "")
    return line


def _table(*columns: tuple[str, str] | tuple[str, str, int]) -> Table:
    """Columns by their head and side, `<` or `>`, and how wide they are at most."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    for name, side, *most in columns:
        table.add_column(
            name,
            justify="right" if side == ">" else "left",
            no_wrap=True,
            overflow="ellipsis",
            max_width=most[0] if most else None,
        )
    return table


def _pools(pools: Sequence[PoolFrame], *, wide: bool) -> Table:
    queued = any(pool.queues for pool in pools)
    waits = [("interactive", ">"), ("standard", ">"), ("batch", ">"), ("oldest", ">")] if queued else [("waiting", ">")]
    if not wide:
        waits = [
            ("inter" if name == "interactive" else "std" if name == "standard" else name, side) for name, side in waits
        ]
    table = _table(("pool", "<"), ("workers", ">"), ("slots", ">"), *waits, ("tokens/s", ">"), ("", "<"))
    for pool in pools:
        waiting = [_count(each.waiting) for each in pool.queues] if queued else [_count(pool.waiting)]
        if queued:
            oldest = max((each.oldest_wait or 0.0 for each in pool.queues), default=0.0)
            waiting.append(Text(short(oldest) if oldest else "-"))
        note = Text()
        if not pool.workers:
            note = Text("no worker", style="bold red")
        elif pool.draining or pool.ejected:
            counts = ((pool.draining, "draining"), (pool.ejected, "ejected"))
            note = Text(", ".join(f"{count} {what}" for count, what in counts if count), style="yellow")
        table.add_row(
            Text(pool.name, style=_COLOURS.get(pool.precision, "")),
            str(pool.workers),
            _slots(pool.running, pool.slots, bar=wide),
            *waiting,
            f"{pool.tokens_per_second:,.0f}",
            note,
        )
    return table


def _count(number: int) -> Text:
    return Text(f"{number:,}", style="yellow" if number else "dim")


def _slots(used: int, slots: int, *, bar: bool) -> Text:
    text = Text()
    if bar and slots:
        full = round(min(used, slots) / slots * 10)
        text.append("━" * full, style="green")
        text.append("━" * (10 - full) + " ", style="bright_black")
    return text.append(f"{used}/{slots}")


def _workers(workers: Sequence[WorkerStatus], *, wide: bool) -> Table:
    more = [("engine", "<", 20), ("gpu", "<", 20)] if wide else []
    table = _table(("worker", "<", 30), ("pool", "<"), ("state", "<"), ("slots", ">"), *more)
    for worker in workers[:_WORKERS_MAX]:
        made, state = worker.profile, state_of(worker)
        engine = [f"{made.engine} {made.engine_version}".strip(), made.gpu or "cpu"] if made else ["-", "-"]
        table.add_row(
            worker.name,
            worker.pool,
            Text(state, style="" if worker.state is WorkerState.SERVING else "yellow"),
            _slots(worker.running, worker.slots, bar=wide),
            *(engine if wide else []),
        )
    if len(workers) > _WORKERS_MAX:
        table.add_row(Text(f"and {len(workers) - _WORKERS_MAX} more", style="dim"))
    return table


def _latest(recent: Sequence[RequestStatus], *, wide: bool) -> Table:
    more = [("tokens", ">"), ("request", "<", 20)] if wide else []
    task, reason = (18, 20) if wide else (14, 18)
    table = _table(
        ("age", ">"),
        ("tenant", "<", 12),
        ("in", "<"),
        ("task", "<", task),
        ("reason", "<", reason),
        ("state", "<", 14),
        *more,
    )
    for request in recent:
        decision = request.decision
        since = request.submitted_at
        age = request.read_at - since if request.read_at and since else timedelta()
        row: list[Text | str] = [
            short(age.total_seconds()),
            excerpt(request.tenant),
            Text(decision.precision.value, style=_COLOURS.get(decision.precision, "")),
            words(decision.task),
            words(decision.reason),
            _state(request),
        ]
        if wide:
            row += [f"{request.usage.output_tokens:,}", Text(excerpt(request.request_id), style="dim")]
        table.add_row(*row)
    return table


def _state(request: RequestStatus) -> Text:
    if request.outcome is None or request.state is RequestState.DEAD:
        return Text(request.state.value, style=_COLOURS.get(request.state, ""))
    return Text(words(request.outcome), style="red" if request.outcome in _FAILED else "dim")
