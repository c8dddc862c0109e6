"""`bitlane admin tenants` and `bitlane admin keys`, one function for each action, on the blocking client."""

import json
from argparse import Namespace
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bitlane.admin_types import IssuedKey, Limits, Quota, Tenant
from bitlane.cli.admin_report import show_key, show_keys, show_tenant, show_tenants
from bitlane.cli.admin_values import LIMITS
from bitlane.cli.report import as_json, moment, present
from bitlane.cli.terminal import Terminal
from bitlane.errors import ConfigError, EditConflict, NotFound
from bitlane.sync import Client

_SETTINGS = {
    "display_name": "display_name",
    "state": "state",
    "weight": "weight",
    "models": "models",
    "ceiling": "priority_ceiling",
}
_KEY_SETTINGS = {"scopes": "scopes", "expires": "expires_at"}


def tenants(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    return _TENANT_ACTIONS[arguments.action](client, arguments, terminal)


def keys(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    return _KEY_ACTIONS[arguments.action](client, arguments, terminal)


def sure(question: str, arguments: Namespace, terminal: Terminal) -> bool:
    """Whether something may be destroyed: `--yes` or a person says so. Raises ConfigError when there is neither."""
    if arguments.yes:
        return True
    answer = terminal.confirm(question)
    if answer is None:
        raise ConfigError(f"{question} Say so with --yes: there is no terminal to ask")
    if not answer:
        terminal.note("nothing was done")
    return answer


def done(words: str, arguments: Namespace, terminal: Terminal, **facts: str) -> bool:
    """Tells of a change that has no other result."""
    if hasattr(arguments, "json"):
        terminal.line(json.dumps(facts))
    else:
        terminal.line(words)
    return True


def _given(arguments: Namespace, names: Mapping[str, str]) -> dict[str, Any]:
    """What was named on the command line, by the fields of the SDK's types."""
    said = vars(arguments)
    return {field: said[name] for name, field in names.items() if name in said}


def _quota(before: Quota, arguments: Namespace) -> Quota:
    """A quota with the limits that were named."""
    models = dict(before.model_limits)
    for model, bounds in getattr(arguments, "model_limit", ()):
        changed = replace(models.pop(model, Limits()), **bounds)
        if changed != Limits():
            models[model] = changed
    fields = {field: field for field, _, _ in LIMITS.values()}
    return Quota(replace(before.limits, **_given(arguments, fields)), models)


@contextmanager
def _explained(what: str) -> Generator[None]:
    try:
        yield
    except EditConflict as error:
        message = f"somebody else changed {what} at the same moment, and nothing was written: run it again"
        raise EditConflict(message, reason=error.reason, metadata=error.metadata) from None


def _settings(arguments: Namespace, names: Mapping[str, str]) -> dict[str, Any]:
    """The settings that an update changes. Raises ConfigError when it names none, nor a limit."""
    fields = [field for field, _, _ in LIMITS.values()]
    if not any(hasattr(arguments, each) for each in (*names, *fields, "model_limit")):
        raise ConfigError("name what to change, such as --rpm 600; --help shows all")
    return _given(arguments, names)


def _list_tenants(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    return present(list(client.admin.tenants.list()), show_tenants, arguments, terminal)


def _get_tenant(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    return present(client.admin.tenants.get(arguments.tenant), show_tenant, arguments, terminal)


def _create_tenant(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    tenant = Tenant(arguments.tenant, **_given(arguments, _SETTINGS), quota=_quota(Quota(), arguments))
    return present(client.admin.tenants.create(tenant), show_tenant, arguments, terminal)


def _update_tenant(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    settings = _settings(arguments, _SETTINGS)
    before = client.admin.tenants.get(arguments.tenant)
    with _explained(f"tenant {before.id}"):
        after = client.admin.tenants.update(replace(before, **settings, quota=_quota(before.quota, arguments)))
    return present(after, show_tenant, arguments, terminal)


def _delete_tenant(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    tenant: str = arguments.tenant
    if not sure(f"Delete tenant {tenant} and all its keys?", arguments, terminal):
        return False
    client.admin.tenants.delete(tenant)
    return done(f"tenant {tenant} is deleted", arguments, terminal, tenant=tenant, state="deleted")


def _tenant(arguments: Namespace) -> str:
    return getattr(arguments, "tenant", "")


def _show_issued(issued: IssuedKey, arguments: Namespace, terminal: Terminal) -> bool:
    if not issued.secret:
        return present(issued.key, show_key, arguments, terminal)
    terminal.line(as_json(issued) if hasattr(arguments, "json") else issued.secret)
    key = issued.key
    terminal.note(f"the secret of key {key.name} of {key.tenant or 'the operators'} is shown this once: store it now")
    if key.old_secret_expires_at and key.old_secret_expires_at > datetime.now(UTC):
        terminal.note(f"the old one is valid until {moment(key.old_secret_expires_at)}")
    return True


def _list_keys(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    return present(list(client.admin.keys.list(tenant=_tenant(arguments))), show_keys, arguments, terminal)


def _create_key(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    issued = client.admin.keys.create(
        arguments.key_name,
        tenant=_tenant(arguments),
        **_given(arguments, _KEY_SETTINGS),
        quota=_quota(Quota(), arguments),
        secret_sha256=arguments.secret_sha256,
    )
    return _show_issued(issued, arguments, terminal)


def _update_key(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    settings = _settings(arguments, _KEY_SETTINGS)
    name, tenant = arguments.key_name, _tenant(arguments)
    before = next((key for key in client.admin.keys.list(tenant=tenant) if key.name == name), None)
    if before is None:
        raise NotFound(f"there is no key {name}{f' of {tenant}' if tenant else ''}")
    with _explained(f"key {name}"):
        after = client.admin.keys.update(replace(before, **settings, quota=_quota(before.quota, arguments)))
    return present(after, show_key, arguments, terminal)


def _rotate_key(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    overlap = arguments.overlap.total_seconds() if arguments.overlap is not None else None
    issued = client.admin.keys.rotate(arguments.key_name, tenant=_tenant(arguments), overlap=overlap)
    return _show_issued(issued, arguments, terminal)


def _revoke_key(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    name, tenant = arguments.key_name, _tenant(arguments)
    if not sure(f"Revoke key {name}{f' of {tenant}' if tenant else ''} for good?", arguments, terminal):
        return False
    return present(client.admin.keys.revoke(name, tenant=tenant), show_key, arguments, terminal)


_TENANT_ACTIONS: Mapping[str, Callable[[Client, Namespace, Terminal], bool]] = {
    "list": _list_tenants,
    "get": _get_tenant,
    "create": _create_tenant,
    "update": _update_tenant,
    "delete": _delete_tenant,
}
_KEY_ACTIONS: Mapping[str, Callable[[Client, Namespace, Terminal], bool]] = {
    "list": _list_keys,
    "create": _create_key,
    "update": _update_key,
    "rotate": _rotate_key,
    "revoke": _revoke_key,
}
