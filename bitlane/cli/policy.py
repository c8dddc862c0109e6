"""`bitlane policy` and `bitlane gates`, one function for each action, on the blocking client."""

import re
from argparse import Namespace
from collections.abc import Callable, Mapping

from bitlane.cli.policy_report import (
    NO_ETAG,
    header,
    show_changes,
    show_findings,
    show_gates,
    show_replay,
    show_shadow,
    show_versions,
)
from bitlane.cli.recording import Recording, read_text
from bitlane.cli.report import as_json
from bitlane.cli.terminal import Terminal
from bitlane.cli.verification import LEAST_TOKENS, read_verification
from bitlane.errors import InvalidRequest
from bitlane.policy_types import Gate, PolicyPut
from bitlane.sync import Client

LIVE = "live"
# What `get` writes on top of a document, and `put` takes off again.
_HEADER = re.compile(r"\A# bitlane policy of [^\n]* etag ([^\s,]+)[^\n]*\n?")


def policy(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    """Runs one action; false when it found something wrong that is no error."""
    return _ACTIONS[arguments.action](client, arguments, terminal)


def gates(client: Client, arguments: Namespace, terminal: Terminal) -> None:
    if arguments.action == "set":
        found = client.policies.set_gate(
            arguments.model_name,
            arguments.task_name,
            arguments.state,
            evidence=arguments.evidence,
            checkpoint_digest=arguments.checkpoint,
        )
    elif arguments.action == "import":
        found = _import(client, arguments, terminal)
    else:
        found = client.policies.gates(getattr(arguments, "model_name", ""))
    if hasattr(arguments, "json"):
        terminal.line(as_json(found))
    else:
        show_gates(found, terminal)


def _import(client: Client, arguments: Namespace, terminal: Terminal) -> list[Gate]:
    """Sets the gates that a report speaks of, and tells those that it says too little about."""
    report = read_verification(arguments.report)
    gates: list[Gate] = []
    for finding in report.findings:
        if finding.state is None:
            terminal.note(
                f"{finding.task}: only {finding.tokens} tokens were compared, fewer than {LEAST_TOKENS}: its gate "
                "stays as it is; verify with more samples of it"
            )
            continue
        gates += client.policies.set_gate(
            arguments.model_name,
            finding.task,  # pyright: ignore[reportArgumentType]  # one of the names, as the reader made sure
            finding.state,
            evidence=finding.evidence,
            checkpoint_digest=report.digest,
        )
    return gates


def _lint(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    check = client.policies.validate(read_text(arguments.file), tenant=_tenant(arguments))
    if hasattr(arguments, "json"):
        terminal.line(as_json(check))
    else:
        show_findings("fault", check.faults, terminal)
        show_findings("warning", check.warnings, terminal)
        if check.ok:
            terminal.line(f"{arguments.file}: good")
    return check.ok


def _diff(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    changes = client.policies.diff(_document(arguments.old), _document(arguments.new), tenant=_tenant(arguments))
    if hasattr(arguments, "json"):
        terminal.line(as_json(changes))
    else:
        show_changes(changes, terminal)
    return True


def _replay(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    recording = Recording(arguments.requests)
    old, new = _document(arguments.old), _document(arguments.new)
    try:
        results = client.policies.replay(recording.rows, old=old, new=new, tenant=_tenant(arguments))
    except InvalidRequest as error:
        raise recording.in_words_of_the_file(error) from None
    if hasattr(arguments, "json"):
        terminal.line(as_json(results))
    else:
        show_replay(recording.rows, results, arguments.examples, terminal)
    return True


def _get(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    found = client.policies.get(arguments.number, tenant=_tenant(arguments))
    if hasattr(arguments, "json"):
        terminal.line(as_json(found))
        return True
    # JSON has no comments.
    if not found.document.lstrip().startswith("{") or not found.document.strip("{} \n"):
        terminal.line(header(found))
    terminal.line(found.document.strip("\n"))
    return True


def _put(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    document, tenant = read_text(arguments.file), _tenant(arguments)
    if arguments.force:
        etag = client.policies.get(tenant=tenant).etag
    elif arguments.etag is not None:
        etag = arguments.etag
    else:
        noted = _HEADER.match(document)
        etag = noted[1] if noted and noted[1] != NO_ETAG else ""
    put = client.policies.put(_HEADER.sub("", document), etag=etag, note=arguments.note, tenant=tenant)
    _show_put("version", put, arguments, terminal)
    return True


def _versions(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    found = client.policies.versions(tenant=_tenant(arguments))
    if hasattr(arguments, "json"):
        terminal.line(as_json(found))
    else:
        show_versions(found, terminal)
    return True


def _rollback(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    found = client.policies.rollback(arguments.number, tenant=_tenant(arguments))
    if hasattr(arguments, "json"):
        terminal.line(as_json(found))
    else:
        terminal.line(f"version {found.version} acts now, the same as version {arguments.number}; etag {found.etag}")
    return True


def _shadow(client: Client, arguments: Namespace, terminal: Terminal) -> bool:
    tenant = _tenant(arguments)
    if arguments.clear:
        client.policies.clear_shadow(tenant=tenant)
        terminal.note("no shadow policy is attached")
    elif arguments.file is not None:
        _show_put("shadow", client.policies.set_shadow(read_text(arguments.file), tenant=tenant), arguments, terminal)
    else:
        found = client.policies.shadow(tenant=tenant)
        if hasattr(arguments, "json"):
            terminal.line(as_json(found) if found else "null")
        else:
            show_shadow(found, terminal)
    return True


def _show_put(what: str, put: PolicyPut, arguments: Namespace, terminal: Terminal) -> None:
    if hasattr(arguments, "json"):
        terminal.line(as_json(put))
        return
    show_findings("warning", put.warnings, terminal)
    acts = "acts now" if what == "version" else "is attached"
    terminal.line(f"{what} {put.policy.version} of {put.policy.tenant} {acts}; etag {put.policy.etag}")


def _document(name: str) -> str | None:
    """None: the policy that acts now."""
    return None if name == LIVE else read_text(name)


def _tenant(arguments: Namespace) -> str:
    return getattr(arguments, "tenant", "")


_ACTIONS: Mapping[str, Callable[[Client, Namespace, Terminal], bool]] = {
    "lint": _lint,
    "diff": _diff,
    "replay": _replay,
    "get": _get,
    "put": _put,
    "versions": _versions,
    "rollback": _rollback,
    "shadow": _shadow,
}
