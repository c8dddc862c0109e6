"""Tenants, keys, quotas, workers and dead letters in words."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from bitlane.admin_types import (
    UNLIMITED,
    ApiKey,
    DeadLetter,
    Limits,
    PoolStatus,
    Quota,
    QuotaState,
    Tenant,
    WorkerState,
    WorkerStatus,
)
from bitlane.cli.admin_values import LIMITS
from bitlane.cli.report import moment
from bitlane.cli.terminal import Terminal, harmless
from bitlane.cli.usage_report import decimals_for
from bitlane.money import to_text

_EXCERPT = 60  # characters


def money(amount: Decimal | int) -> str:
    """Exact, with two decimals at least."""
    whole, _, rest = to_text(Decimal(amount)).partition(".")
    return f"{whole}.{rest.ljust(2, '0')}"


def _bound(bound: Decimal | int) -> str:
    if bound == UNLIMITED:
        return "unlimited"
    return money(bound) if isinstance(bound, Decimal) else str(bound)


def flags(limits: Limits) -> list[str]:
    """As the command line takes them."""
    bounds = [(name, getattr(limits, field)) for name, (field, _, _) in LIMITS.items()]
    return [f"{name}={_bound(bound)}" for name, bound in bounds if bound is not None]


def _quota(quota: Quota, unset: str) -> str:
    models = [f"{model}:{','.join(flags(limits))}" for model, limits in quota.model_limits.items()]
    return " ".join([*flags(quota.limits), *models]) or unset


def excerpt(text: str, most: int = _EXCERPT) -> str:
    """The beginning of a text in one line, without what could drive the terminal."""
    flat = harmless(" ".join(text.split()))
    return flat if len(flat) <= most else flat[: most - 3] + "..."


def _details(title: str, rows: Sequence[tuple[str, str]], terminal: Terminal) -> None:
    terminal.line(title)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        terminal.line(f"  {terminal.dim(name.ljust(width))}  {value}")


def show_tenants(tenants: Sequence[Tenant], terminal: Terminal) -> None:
    if not tenants:
        terminal.note("no tenant yet")
        return
    rows = [
        (
            tenant.id,
            excerpt(tenant.display_name, 30),
            str(tenant.state),
            f"{tenant.weight:g}",
            str(tenant.priority_ceiling),
            ",".join(tenant.models) or "all",
            _quota(tenant.quota, "default"),
        )
        for tenant in tenants
    ]
    head = ("tenant", "name", "state", "weight", "ceiling", "models", "limits")
    terminal.table(head, rows, numbers=("weight",))


def show_tenant(tenant: Tenant, terminal: Terminal) -> None:
    rows = [
        ("name", excerpt(tenant.display_name, 200) or "-"),
        ("state", str(tenant.state)),
        ("weight", f"{tenant.weight:g}"),
        ("ceiling", str(tenant.priority_ceiling)),
        ("models", ", ".join(tenant.models) or "all"),
        ("limits", " ".join(flags(tenant.quota.limits)) or "default"),
        *((f"  {model}", " ".join(flags(limits))) for model, limits in tenant.quota.model_limits.items()),
        ("created", moment(tenant.created_at)),
        ("updated", moment(tenant.updated_at)),
        ("etag", tenant.etag or "-"),
    ]
    _details(terminal.strong(tenant.id), rows, terminal)


def show_keys(keys: Sequence[ApiKey], terminal: Terminal) -> None:
    if not keys:
        terminal.note("no key yet")
        return
    rows = [
        (
            key.name,
            ",".join(key.scopes),
            str(key.state),
            moment(key.expires_at) if key.expires_at else "never",
            moment(key.created_at),
            key.created_by or "-",
            moment(key.rotated_at) if key.rotated_at else "never",
            _quota(key.quota, "none"),
        )
        for key in keys
    ]
    head = ("key", "scopes", "state", "expires", "created", "by", "rotated", "limits")
    terminal.table(head, rows)


def show_key(key: ApiKey, terminal: Terminal) -> None:
    rows = [
        ("of", key.tenant or "operators"),
        ("scopes", ", ".join(key.scopes)),
        ("state", str(key.state)),
        ("expires", moment(key.expires_at) if key.expires_at else "never"),
        ("limits", " ".join(flags(key.quota.limits)) or "none"),
        *((f"  {model}", " ".join(flags(limits))) for model, limits in key.quota.model_limits.items()),
        ("created", f"{moment(key.created_at)} by {key.created_by}" if key.created_by else moment(key.created_at)),
        ("rotated", moment(key.rotated_at) if key.rotated_at else "never"),
        ("old secret", f"until {moment(key.old_secret_expires_at)}" if key.old_secret_expires_at else "-"),
        ("etag", key.etag or "-"),
    ]
    _details(terminal.strong(key.name), rows, terminal)


def show_quota(states: Sequence[QuotaState], terminal: Terminal) -> None:
    """What counts against each limit; of a budget that is what was spent and what running requests may yet cost."""
    decimals = decimals_for(max((state.month_spent + state.reserved_cost for state in states), default=Decimal(1)))
    rows = [row for state in states for row in _counted(state, decimals)]
    head = ("model", "limit", "used", "of", "share", "reserved")
    terminal.table(head, rows, numbers=head[2:])


def _counted(state: QuotaState, decimals: int) -> Iterator[tuple[str, ...]]:
    def amount(value: Decimal | float) -> str:
        return f"{value:,.{decimals}f}" if isinstance(value, Decimal) else f"{value:,.0f}"

    reserved = state.reserved_cost
    used: Mapping[str, tuple[Decimal | float, Decimal | int | None]] = {
        "rpm": (state.requests_used, None),
        "tpm": (state.tokens_used, state.reserved_tokens),
        "concurrent": (state.concurrent_requests, None),
        "queued": (state.queued_requests, None),
        "day-budget": (state.day_spent + reserved, reserved),
        "month-budget": (state.month_spent + reserved, reserved),
    }
    for name, (taken, held) in used.items():
        bound: Decimal | int | None = getattr(state.limits, LIMITS[name][0])
        if bound is None or bound == UNLIMITED:
            of, share = "unlimited", ""
        else:
            of = money(bound) if isinstance(bound, Decimal) else f"{bound:,}"
            share = f"{float(taken) / float(bound):.0%}" if bound else "100%"
        # A model has the limits of its own only; of all together what is not bounded is worth knowing too.
        if share or not state.model:
            yield state.model or "all", name, amount(taken), of, share, "" if held is None else amount(held)


def show_pools(pools: Sequence[PoolStatus], terminal: Terminal) -> None:
    if not pools:
        terminal.note("no pool is configured")
        return
    rows = [
        (
            pool.name,
            str(pool.workers),
            f"{pool.running} of {pool.slots}",
            str(pool.waiting),
            f"{pool.waiting_tokens:,}",
            f"{pool.tokens_per_second:,.0f}" if pool.tokens_per_second is not None else "-",
        )
        for pool in pools
    ]
    head = ("pool", "workers", "running", "waiting", "waiting tokens", "tokens/s")
    terminal.table(head, rows, numbers=head[1:])


def show_workers(workers: Sequence[WorkerStatus], terminal: Terminal) -> None:
    if not workers:
        terminal.note("no worker is alive")
        return
    rows = [
        (
            worker.name,
            worker.pool,
            state_of(worker),
            f"{worker.running} of {worker.slots}",
            str(worker.context_tokens),
            f"{made.engine} {made.engine_version}".strip() if (made := worker.profile) else "-",
            (made.gpu or "cpu") if made else "-",
        )
        for worker in workers
    ]
    head = ("worker", "pool", "state", "running", "context", "engine", "gpu")
    terminal.table(head, rows, numbers=("running", "context"))


def state_of(worker: WorkerStatus) -> str:
    """What a worker does, why if it is ejected, and what it was told if that is something else."""
    if worker.state is WorkerState.EJECTED and worker.wanted_state is WorkerState.SERVING:
        return f"{worker.state}: {worker.state_reason}"
    if worker.wanted_state in (worker.state, WorkerState.UNSPECIFIED):
        return str(worker.state)
    return f"{worker.state}, told: {worker.wanted_state}"


def show_letters(letters: Sequence[DeadLetter], terminal: Terminal) -> None:
    if not letters:
        terminal.note("no dead letter")
        return
    rows = [
        (
            moment(letter.died_at),
            letter.tenant,
            letter.request_id,
            letter.pool,
            str(letter.attempts),
            letter.worker,
            excerpt(letter.detail),
        )
        for letter in letters
    ]
    head = ("died", "tenant", "request", "pool", "attempts", "worker", "detail")
    terminal.table(head, rows, numbers=("attempts",))
