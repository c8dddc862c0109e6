"""The grammar of `bitlane policy` and `bitlane gates`."""

import argparse
from typing import get_args

from bitlane.cli.grammar import Command, commands
from bitlane.types import GateState, TaskName

_STATES = [state.value for state in GateState if state is not GateState.UNSPECIFIED]


def add_policy_commands(command: Command, connection: argparse.ArgumentParser, output: argparse.ArgumentParser) -> None:
    """Adds both. The parsers are the options that their actions share."""
    tenant = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    tenant.add_argument("--tenant", metavar="ID", help="whose policy; needed with an operator's key only")
    _policy(command, [connection, output, tenant])
    _gates(command, [connection, output])


def _policy(command: Command, parents: list[argparse.ArgumentParser]) -> None:
    parser = command(
        "policy",
        " ACTION ...",
        "see, check and change the rules that choose a precision",
        "bitlane policy lint policy.yaml\n  bitlane policy replay --new policy.yaml requests.jsonl",
    )
    action = commands(parser, "action", "ACTION", parents)

    lint = action(
        "lint",
        " FILE",
        "check a document against the server's models and gates; exits with 1 when it has faults",
        "bitlane policy lint policy.yaml",
    )
    lint.add_argument("file", metavar="FILE", help="YAML or JSON; - reads stdin")

    diff = action("diff", " OLD NEW", "show what differs between two documents", "bitlane policy diff live new.yaml")
    diff.add_argument("old", metavar="OLD", help="a file, or `live` for the policy that acts now")
    diff.add_argument("new", metavar="NEW", help="a file, or `live`")

    replay = action(
        "replay",
        " REQUESTS",
        "decide recorded requests under an old and a new policy, and show what would change",
        "bitlane policy replay --new new.yaml requests.jsonl",
    )
    replay.add_argument("--old", metavar="FILE", default="live", help="default: the policy that acts now")
    replay.add_argument("--new", metavar="FILE", default="live", help="default: the policy that acts now")
    replay.add_argument("--examples", metavar="N", type=int, default=5, help="moved requests to show; default 5")
    replay.add_argument(
        "requests",
        metavar="REQUESTS",
        help="JSON lines: {text or messages, model, task?, labels?, priority?, prompt_tokens?, at_least?, pin?}",
    )

    get = action("get", "", "print the policy that acts now", "bitlane policy get > policy.yaml")
    get.add_argument("--version", dest="number", metavar="N", type=int, default=None, help="a kept version instead")

    put = action(
        "put",
        " FILE",
        "make a document the policy; it acts on every router within a second",
        "bitlane policy put policy.yaml --note 'code to FP4'",
    )
    put.add_argument("file", metavar="FILE", help="YAML or JSON; - reads stdin")
    put.add_argument(
        "--etag", default=None, help="of the version it was made from; default: what `get` wrote into FILE"
    )
    put.add_argument("--force", action="store_true", help="replace whichever version is current")
    put.add_argument("--note", default="", help="why, for those who read the versions")

    action("versions", "", "list the kept versions", "bitlane policy versions")

    rollback = action("rollback", " N", "make a kept version the policy again", "bitlane policy rollback 3")
    rollback.add_argument("number", metavar="N", type=int)

    shadow = action(
        "shadow",
        " [FILE]",
        "attach a policy that decides as well and acts on nothing; without FILE: what was counted",
        "bitlane policy shadow new.yaml",
    )
    shadow.add_argument("file", metavar="FILE", nargs="?", default=None, help="YAML or JSON; - reads stdin")
    shadow.add_argument("--clear", action="store_true", help="detach it")


def _gates(command: Command, shared: list[argparse.ArgumentParser]) -> None:
    parser = command(
        "gates",
        " [list | set ... | import ...]",
        "see for which tasks FP4 was shown good enough, and say so",
        "bitlane gates\n  bitlane gates set smollm2 code quarantined --evidence 'pass@1 fell by 9 points'",
        shared[1],
    )
    action = commands(parser, "action", "ACTION", shared, required=False)
    listed = action("list", " [MODEL]", "list the gates", "bitlane gates list smollm2")
    listed.add_argument("model_name", metavar="MODEL", nargs="?", default="")
    gate = action(
        "set",
        " MODEL TASK STATE",
        "set a gate for all tenants; needs an operator's key",
        "bitlane gates set smollm2 code passed --evidence 'pass@1 0.41 against 0.42'",
    )
    gate.add_argument("model_name", metavar="MODEL")
    gate.add_argument("task_name", metavar="TASK", choices=get_args(TaskName))
    gate.add_argument("state", metavar="STATE", choices=_STATES, help=", ".join(_STATES))
    gate.add_argument("--evidence", default="", help="what it rests on")
    gate.add_argument("--checkpoint", metavar="DIGEST", default=None, help="default: what the FP4 pool serves now")
    taken = action(
        "import",
        " MODEL REPORT",
        "set the gates of a checkpoint to what `python -m checkpoints verify` measured; needs an operator's key",
        "bitlane gates import smollm2 report.json",
    )
    taken.add_argument("model_name", metavar="MODEL")
    taken.add_argument("report", metavar="REPORT", help="the JSON that verify's --report wrote; - reads stdin")
