"""`bitlane admin`: which function runs what, and those for quotas, usage, workers, dead letters and the audit log."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice

from bitlane.admin_enums import UsageIntervalName
from bitlane.cli.admin_report import show_letters, show_pools, show_quota, show_workers
from bitlane.cli.admin_tenants import done, keys, sure, tenants
from bitlane.cli.audit_report import show_audit
from bitlane.cli.policy import gates, policy
from bitlane.cli.report import as_json, present
from bitlane.cli.terminal import Terminal
from bitlane.cli.usage_report import show_usage
from bitlane.errors import ConfigError
from bitlane.sync import Client
from bitlane.usage import usage_to_csv, usage_to_json_lines

# Beyond it, hours are too many to look at, and the older ones are not kept.
_HOURLY = timedelta(days=3)


def admin(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    """Runs one command; false when it found something wrong that is no error, or was told not to go on."""
    return _ROOMS[arguments.room](client, arguments, terminal)


def _quota(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    return present(client.admin.quota(arguments.tenant, key=arguments.key), show_quota, arguments, terminal)


def _usage(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    if arguments.csv and hasattr(arguments, "json"):
        raise ConfigError("--csv and --json exclude each other")
    until: datetime = arguments.until or datetime.now(UTC)
    since: datetime = arguments.since or until - timedelta(days=1)
    if since >= until:
        raise ConfigError("--since is not before --until")
    interval: UsageIntervalName = arguments.interval or ("hour" if until - since <= _HOURLY else "day")
    rows = client.admin.usage(
        arguments.tenant, start=since, end=arguments.until, interval=interval, group_by=arguments.by
    )
    if arguments.csv:
        terminal.text(usage_to_csv(rows))
    elif hasattr(arguments, "json"):
        terminal.text(usage_to_json_lines(rows))
    else:
        show_usage(rows, arguments.by, interval, terminal)
        terminal.note(f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}, in whole {interval}s of UTC")
    return True


def _pools(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    return present(client.admin.pools(), show_pools, arguments, terminal)


def _workers(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    pool: str = arguments.pool
    if arguments.action == "list":
        return present(list(client.admin.workers.list(pool)), show_workers, arguments, terminal)
    worker: str = arguments.worker
    match arguments.action:
        case "drain":
            client.admin.workers.drain(pool, worker)
            state = "draining"
        case "undrain":
            client.admin.workers.undrain(pool, worker)
            state = "serving"
        case _:
            if not sure(f"Take worker {worker} of {pool} out of service now?", arguments, terminal):
                return False
            client.admin.workers.quarantine(pool, worker)
            state = "quarantined"
    words = f"worker {worker} of {pool} was told to be {state}"
    return done(words, arguments, terminal, pool=pool, worker=worker, wanted_state=state)


def _dead_letters(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    tenant: str = getattr(arguments, "tenant", "")
    if arguments.action == "list":
        return present(list(client.admin.dead_letters.list(tenant=tenant)), show_letters, arguments, terminal)
    request_id: str = arguments.request_id
    if arguments.action == "replay":
        client.admin.dead_letters.replay(request_id, tenant=tenant)
        return done(f"{request_id} waits again", arguments, terminal, request_id=request_id, state="waiting")
    if not sure(f"Forget dead letter {request_id} and its prompt?", arguments, terminal):
        return False
    client.admin.dead_letters.purge(request_id, tenant=tenant)
    return done(f"{request_id} is forgotten", arguments, terminal, request_id=request_id, state="purged")


def _audit(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    if arguments.limit < 0:
        raise ConfigError(f"--limit must be at least 0, got {arguments.limit}")
    events = islice(client.admin.audit(tenant=getattr(arguments, "tenant", "")), arguments.limit or None)
    if hasattr(arguments, "json"):
        for event in events:
            terminal.line(as_json(event, indent=None))
    else:
        show_audit(list(events), terminal)
    return True


def _gates(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    gates(client, arguments, terminal)
    return True


_ROOMS: Mapping[str, Callable[[Client, Namespace, Terminal], bool]] = {
    "tenants": tenants,
    "keys": keys,
    "quota": _quota,
    "usage": _usage,
    "pools": _pools,
    "workers": _workers,
    "dead-letters": _dead_letters,
    "audit": _audit,
    "policy": policy,
    "gates": _gates,
}
