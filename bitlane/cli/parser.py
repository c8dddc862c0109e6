"""The command line's grammar and help texts. Loads nothing slow."""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import get_args

from bitlane.cli.grammar import RAW, commands
from bitlane.cli.policy_parser import add_policy_commands
from bitlane.types import PrecisionName, PriorityName, TaskName
from bitlane.version import read_version


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


# Options may stand before or after the command: they have no defaults of their own, so that one place cannot undo
# what the other has set.
def _group(title: str) -> tuple[argparse.ArgumentParser, "argparse._ArgumentGroup"]:  # pyright: ignore[reportPrivateUsage]  # argparse has no public name for it
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    return parser, parser.add_argument_group(title)


def _connection() -> argparse.ArgumentParser:
    parser, group = _group("connection")
    group.add_argument(
        "--target",
        metavar="HOST:PORT",
        help="server, or several with commas; default: BITLANE_TARGET, else localhost:50051",
    )
    group.add_argument(
        "--api-key", metavar="KEY", help="better given by BITLANE_API_KEY: other users can see command lines"
    )
    group.add_argument("--timeout", metavar="S", type=_seconds, help="seconds for the whole reply; default 600")
    group.add_argument("--tls", action="store_true", help="use TLS; the default beyond this machine")
    group.add_argument("--ca", metavar="FILE", help="authorities to trust, PEM; implies --tls")
    group.add_argument("--cert", metavar="FILE", help="certificate to show, PEM; with --cert-key; implies --tls")
    group.add_argument("--cert-key", metavar="FILE", help="its private key, PEM")
    group.add_argument(
        "--insecure", action="store_true", help="plaintext to another machine: shows key and prompts to the network"
    )
    return parser


def _request() -> argparse.ArgumentParser:
    parser, group = _group("request")
    group.add_argument("--model", metavar="NAME", help="default: BITLANE_MODEL, else the only one there is")
    group.add_argument(
        "--task", metavar="TASK", choices=get_args(TaskName), help=f"hint at the task: {', '.join(get_args(TaskName))}"
    )
    group.add_argument("--pin", choices=get_args(PrecisionName), help="exactly this precision; not with --at-least")
    group.add_argument("--at-least", choices=get_args(PrecisionName), help="this precision or a higher one")
    group.add_argument("--priority", choices=get_args(PriorityName), help="default standard")
    group.add_argument(
        "--label", metavar="NAME=VALUE", type=_label, action="append", help="label for the policy; repeatable"
    )
    group.add_argument("--system", metavar="TEXT", help="the system message")

    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--max-tokens", metavar="N", type=int, help="most tokens to generate; default 256")
    sampling.add_argument("--temperature", metavar="T", type=float, help="0 is greedy; default 0.7")
    sampling.add_argument("--top-p", metavar="P", type=float, help="nucleus sampling; default 1, off")
    sampling.add_argument("--top-k", metavar="K", type=int, help="only the K most probable tokens; default 0, off")
    sampling.add_argument("--seed", metavar="N", type=int, help="makes sampling repeatable within one precision")
    sampling.add_argument("--stop", metavar="TEXT", action="append", help="ends the reply before TEXT; repeatable")
    sampling.add_argument("--json-schema", metavar="JSON", help="JSON schema that the reply must satisfy")
    sampling.add_argument("--regex", metavar="RE", help="regular expression that the reply must match")
    return parser


def _output() -> argparse.ArgumentParser:
    parser, group = _group("output")
    group.add_argument("--json", action="store_true", help="print the whole result as JSON")
    return parser


def build(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of everything that these arguments can mean."""
    connection, request, output = _connection(), _request(), _output()
    parser = argparse.ArgumentParser(
        prog="bitlane",
        usage="bitlane [options] COMMAND ...",
        description="Generate text with models that run in several numeric precisions.",
        epilog=(
            "example:\n  bitlane generate 'Write a haiku about rain.'\n\n"
            "exit codes: 0 done, 1 the server said no, 2 wrong usage, 130 Ctrl-C"
        ),
        formatter_class=RAW,
        parents=[connection, request],
    )
    parser.add_argument("--version", action="version", version=f"bitlane {read_version()}")
    command = commands(parser, "command", "COMMAND", [connection])

    command(
        "chat", "", "talk, turn by turn; Ctrl-C stops a reply, Ctrl-D leaves", "bitlane chat --at-least fp8", request
    )

    generate = command(
        "generate",
        " PROMPT",
        "answer one prompt; text to stdout, facts about it to stderr",
        "bitlane generate --task math 'What is 17 * 23?'\n"
        "  git diff | bitlane generate --system 'Summarize this change.' -",
        request,
        output,
    )
    generate.add_argument("prompt", help="the prompt; - reads it from stdin")
    generate.add_argument(
        "--raw", action="store_true", help="complete the prompt as it stands, without the chat template"
    )
    generate.add_argument(
        "--request-id", metavar="ID", default=argparse.SUPPRESS, help="name the request; the same id never runs twice"
    )

    explain = command(
        "explain",
        " PROMPT",
        "show which precision a prompt would get, and why, without running it",
        "bitlane explain 'Is this contract clause enforceable?'",
        request,
        output,
    )
    explain.add_argument("prompt", help="the prompt; - reads it from stdin")
    explain.add_argument("--raw", action="store_true", help="take the prompt as it stands, without the chat template")

    command("models", "", "list models and their pools", "bitlane models --json", output)

    cancel = command("cancel", " ID", "end a waiting or running request", "bitlane cancel 0f1e2d3c", output)
    cancel.add_argument("request_id", metavar="ID")

    resume = command(
        "resume", " ID", "stream a running or lately ended reply again", "bitlane resume 0f1e2d3c --from 12", output
    )
    resume.add_argument("request_id", metavar="ID")
    resume.add_argument("--from", dest="next_index", metavar="N", type=int, default=0, help="first chunk; default 0")
    add_policy_commands(command, connection, output)

    admin = command(
        "admin",
        " COMMAND ...",
        "manage tenants, keys, quotas, workers; see usage, dead letters, the audit log",
        "bitlane admin tenants list\n  bitlane admin usage --since 30d --by tenant,precision",
    )
    # Its many commands take as long to build as all the others.
    if "admin" in argv:
        from bitlane.cli.admin_parser import add_admin_commands  # noqa: PLC0415

        add_admin_commands(admin, connection, output)
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; ends the process with 2 and a usage line when they are wrong."""
    words = sys.argv[1:] if argv is None else argv
    return build(words).parse_args(words)
