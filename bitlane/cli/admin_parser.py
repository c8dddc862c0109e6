"""The grammar of `bitlane admin`."""

import argparse
from collections.abc import Sequence
from typing import TypeAlias, get_args

from bitlane.admin_enums import TenantStateName, UsageDimensionName, UsageIntervalName
from bitlane.cli import admin_values as values
from bitlane.cli.grammar import Command, commands
from bitlane.cli.policy_parser import add_policy_commands
from bitlane.types import PriorityName

_Shared: TypeAlias = Sequence[argparse.ArgumentParser]


def add_admin_commands(
    parser: argparse.ArgumentParser, connection: argparse.ArgumentParser, output: argparse.ArgumentParser
) -> None:
    """Fills `bitlane admin`. The parsers are the options that its commands share."""
    command = commands(parser, "room", "COMMAND", [connection])
    shared = [connection, output]
    _tenants(command, shared)
    _keys(command, shared)
    _money(command, output)
    _workers(command, shared)
    _dead_letters(command, shared)
    audit = command(
        "audit",
        "",
        "show who changed what, newest first; --json prints JSON lines",
        "bitlane admin audit --tenant acme --limit 20",
        output,
        _tenant_option("whose changes; default: the key's own, all with an operator's key"),
    )
    audit.add_argument("--limit", metavar="N", type=int, default=50, help="how many; default 50, 0: all that are kept")
    add_policy_commands(command, connection, output)


def _options() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)


def _tenant_option(words: str = "whose; needed with an operator's key only") -> argparse.ArgumentParser:
    options = _options()
    options.add_argument("--tenant", metavar="ID", help=words)
    return options


def _yes() -> argparse.ArgumentParser:
    options = _options()
    options.add_argument("--yes", action="store_true", default=False, help="do not ask")
    return options


def _limits(unset: str) -> argparse.ArgumentParser:
    options = _options()
    group = options.add_argument_group("limits", f"A bound, `unlimited`, or `default`: {unset}.")
    for name, (field, read, words) in values.LIMITS.items():
        group.add_argument(f"--{name}", dest=field, metavar="N", type=read, help=words)
    group.add_argument(
        "--model-limit",
        metavar="MODEL:LIMIT=N,...",
        type=values.model_limits,
        action="append",
        help=f"the same for one model, beside the others, such as smollm2:tpm=5000,rpm=60; repeatable. "
        f"LIMIT is one of {', '.join(values.LIMITS)}; MODEL:default takes them off",
    )
    return options


def _tenants(command: Command, shared: _Shared) -> None:
    parser = command("tenants", " ACTION ...", "manage who may use the service", "bitlane admin tenants list")
    action = commands(parser, "action", "ACTION", shared)
    settings = _options()
    settings.add_argument("--display-name", metavar="TEXT", help="for people")
    settings.add_argument("--state", choices=get_args(TenantStateName), help="a suspended one's calls are refused")
    settings.add_argument("--weight", metavar="W", type=float, help="share against other tenants; a new one's is 1")
    settings.add_argument(
        "--models", metavar="A,B", type=values.models, help="that it may use; `all`, as a new one may"
    )
    settings.add_argument(
        "--ceiling", choices=get_args(PriorityName), help="the most urgent class it gets; a new one's is interactive"
    )
    limits = _limits("the service's default")

    action("list", "", "list the tenants that the key may manage", "bitlane admin tenants list")
    get = action("get", " [TENANT]", "show one tenant", "bitlane admin tenants get acme")
    get.add_argument("tenant", metavar="TENANT", nargs="?", default="", help="default: the key's own")
    create = action(
        "create",
        " TENANT",
        "make a tenant",
        "bitlane admin tenants create acme --display-name 'Acme Ltd' --rpm 600 --day-budget 5.00",
        settings,
        limits,
    )
    create.add_argument("tenant", metavar="TENANT", help="1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit")
    update = action(
        "update",
        " TENANT",
        "change what is named, and nothing else",
        "bitlane admin tenants update acme --weight 2 --tpm unlimited --model-limit smollm2:tpm=5000,rpm=60",
        settings,
        limits,
    )
    update.add_argument("tenant", metavar="TENANT")
    delete = action(
        "delete",
        " TENANT",
        "remove a tenant and its keys; what it has running goes on to its end",
        "bitlane admin tenants delete acme --yes",
        _yes(),
    )
    delete.add_argument("tenant", metavar="TENANT")


def _keys(command: Command, shared: _Shared) -> None:
    parser = command("keys", " ACTION ...", "manage API keys", "bitlane admin keys list --tenant acme")
    whose = _tenant_option("whose; default: the key's own, the operators' own with an operator's key")
    action = commands(parser, "action", "ACTION", [*shared, whose])
    settings = _options()
    settings.add_argument(
        "--scopes",
        metavar="A,B",
        type=values.scopes,
        help="of infer, read, admin, operate; a new key's are infer,read; an operator's: read",
    )
    settings.add_argument(
        "--expires", metavar="WHEN", type=values.end, help="30d, 2027-01-01 or `never`, as a new key does; UTC"
    )
    limits = _limits("no bound for the key alone")

    action("list", "", "list the keys, without their secrets", "bitlane admin keys list --tenant acme")
    create = action(
        "create",
        " NAME",
        "make a key and print its secret, this once",
        "bitlane admin keys create ci --tenant acme --scopes infer --expires 90d --rpm 60 > ci.key",
        settings,
        limits,
    )
    create.add_argument(
        "--secret-sha256", metavar="HEX", default="", help="of a secret that exists already, instead of a new one"
    )
    update = action(
        "update",
        " NAME",
        "change what is named, and nothing else",
        "bitlane admin keys update ci --tenant acme --expires never",
        settings,
        limits,
    )
    rotate = action(
        "rotate",
        " NAME",
        "give a key a new secret and print it, this once; the old one stays valid for a while",
        "bitlane admin keys rotate ci --tenant acme --overlap 24h > ci.key",
    )
    rotate.add_argument(
        "--overlap", metavar="T", type=values.duration, default=None, help="default 24h, at most 30d; 0: at once"
    )
    revoke = action(
        "revoke", " NAME", "end a key at once and for good", "bitlane admin keys revoke ci --tenant acme", _yes()
    )
    for each in (create, update, rotate, revoke):
        each.add_argument("key_name", metavar="NAME")


def _money(command: Command, output: argparse.ArgumentParser) -> None:
    quota = command(
        "quota",
        " [TENANT]",
        "show how much of each limit is used now",
        "bitlane admin quota acme --key ci",
        output,
    )
    quota.add_argument("tenant", metavar="TENANT", nargs="?", default="", help="default: the key's own")
    quota.add_argument("--key", metavar="NAME", default="", help="a key's own limits; default: the tenant's")
    usage = command(
        "usage",
        " [TENANT]",
        "show tokens, cost, and savings against FP8 alone; --json prints JSON lines",
        "bitlane admin usage acme --since 7d --by time,precision\n"
        "  bitlane admin usage --since 2026-11-01 --until 2026-12-01 --interval day --by tenant,model --csv",
        output,
    )
    usage.add_argument(
        "tenant", metavar="TENANT", nargs="?", default="", help="default: the key's own, all with an operator's key"
    )
    usage.add_argument(
        "--since", metavar="WHEN", type=values.past, default=None, help="7d, 2026-11-01 or a time of UTC; default 24h"
    )
    usage.add_argument("--until", metavar="WHEN", type=values.past, default=None, help="the same; default: now")
    usage.add_argument(
        "--interval",
        choices=get_args(UsageIntervalName),
        default=None,
        help="what times are rounded to; default: hour up to 3 days, else day",
    )
    usage.add_argument(
        "--by",
        metavar="A,B",
        type=values.dimensions,
        default=["model", "precision"],
        help=f"of {', '.join(get_args(UsageDimensionName))}; default model,precision; '': one row",
    )
    usage.add_argument("--csv", action="store_true", help="print every column as CSV, times in UTC")


def _workers(command: Command, shared: _Shared) -> None:
    command("pools", "", "show what waits and runs in each pool", "bitlane admin pools", *shared[1:])
    parser = command("workers", " ACTION ...", "see and steer the workers", "bitlane admin workers list smollm2/fp4")
    action = commands(parser, "action", "ACTION", shared)
    listed = action("list", " [POOL]", "list the live workers", "bitlane admin workers list smollm2/fp4")
    listed.add_argument("pool", metavar="POOL", nargs="?", default="", help="default: all")
    for name, summary, *parents in (
        ("drain", "have a worker claim nothing more; what runs goes on"),
        ("undrain", "have a worker serve again, after a drain or a quarantine"),
        ("quarantine", "have a worker claim nothing more and hand back what runs", _yes()),
    ):
        steered = action(name, " POOL WORKER", summary, f"bitlane admin workers {name} smollm2/fp4 w1", *parents)
        steered.add_argument("pool", metavar="POOL", help="model/precision")
        steered.add_argument("worker", metavar="WORKER")


def _dead_letters(command: Command, shared: _Shared) -> None:
    parser = command(
        "dead-letters",
        " ACTION ...",
        "see, replay and forget requests that failed on every attempt",
        "bitlane admin dead-letters list",
    )
    action = commands(parser, "action", "ACTION", [*shared, _tenant_option()])
    action("list", "", "list them, newest first", "bitlane admin dead-letters list --tenant acme")
    replay = action("replay", " ID", "queue one again", "bitlane admin dead-letters replay 0f1e2d3c --tenant acme")
    purge = action(
        "purge",
        " ID",
        "forget one and its prompt",
        "bitlane admin dead-letters purge 0f1e2d3c --tenant acme --yes",
        _yes(),
    )
    for each in (replay, purge):
        each.add_argument("request_id", metavar="ID")
