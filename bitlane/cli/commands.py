"""The commands, one function each, on the blocking client."""

import os
import sys
from argparse import Namespace
from pathlib import Path

from bitlane import defaults
from bitlane.arguments import Options
from bitlane.cli.report import as_json, facts, show_explanation, show_models, words
from bitlane.cli.terminal import Terminal
from bitlane.errors import ConfigError
from bitlane.sync import Client, Stream
from bitlane.tls import Tls
from bitlane.types import Message

_OPTIONS = (
    "task",
    "pin",
    "at_least",
    "priority",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "json_schema",
    "regex",
    "request_id",
)


def connect(arguments: Namespace) -> Client:
    return Client(
        getattr(arguments, "target", None),
        api_key=getattr(arguments, "api_key", None),
        tls=_tls(arguments),
        insecure=getattr(arguments, "insecure", False),
        timeout=getattr(arguments, "timeout", defaults.TIMEOUT),
    )


def _tls(arguments: Namespace) -> bool | Tls | None:
    ca, certificate, key = (_read(arguments, name) for name in ("ca", "cert", "cert_key"))
    if (certificate is None) != (key is None):
        raise ConfigError("--cert and --cert-key go together")
    if ca is None and certificate is None:
        return getattr(arguments, "tls", None)
    return Tls(root_certificates=ca, certificate_chain=certificate, private_key=key)


def _read(arguments: Namespace, name: str) -> bytes | None:
    path: str | None = getattr(arguments, name, None)
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def options(arguments: Namespace) -> Options:
    """The request's options out of those that were given."""
    given = vars(arguments)
    chosen: Options = {name: given[name] for name in _OPTIONS if name in given}  # pyright: ignore[reportAssignmentType]  # the names are those of Options
    if "label" in given:
        chosen["labels"] = dict(given["label"])
    return chosen


def choose_model(arguments: Namespace, client: Client) -> str:
    """The model that was named, or the only one."""
    named = getattr(arguments, "model", None) or os.environ.get("BITLANE_MODEL")
    if named:
        return named
    names = [model.name for model in client.list_models()]
    if len(names) == 1:
        return names[0]
    raise ConfigError(f"choose a model with --model: {', '.join(names) or 'there is none for this key'}")


def conversation(arguments: Namespace) -> list[Message]:
    """The turns that stand before the user's first."""
    system = getattr(arguments, "system", None)
    return [Message("system", system)] if system else []


def _prompt(arguments: Namespace) -> str:
    # The newline that ends piped text is seldom meant.
    return sys.stdin.read().rstrip("\n") if arguments.prompt == "-" else arguments.prompt


def run(arguments: Namespace, terminal: Terminal) -> bool:
    """Runs the command that was chosen; false when it found something wrong that is no error."""
    with connect(arguments) as client:
        match arguments.command:
            case "generate":
                generate(client, arguments, terminal)
            case "chat":
                from bitlane.cli.chat import chat  # noqa: PLC0415  # it needs this module

                chat(client, arguments, terminal)
            case "explain":
                explain(client, arguments, terminal)
            case "models":
                models(client, arguments, terminal)
            case "cancel":
                cancel(client, arguments, terminal)
            case "resume":
                stream = client.resume(arguments.request_id, arguments.next_index)
                show(stream, terminal, json=hasattr(arguments, "json"))
            case "policy":
                from bitlane.cli.policy import policy  # noqa: PLC0415  # few need it

                return policy(client, arguments, terminal)
            case "gates":
                from bitlane.cli.policy import gates  # noqa: PLC0415

                gates(client, arguments, terminal)
            case "admin":
                from bitlane.cli.admin import admin  # noqa: PLC0415  # few need it

                return admin(client, arguments, terminal)
            case unknown:
                raise AssertionError(f"the parser let {unknown!r} through")
    return True


def show(stream: Stream, terminal: Terminal, *, json: bool) -> None:
    """A reply as it comes and its facts, or all of it as JSON."""
    with stream:
        if json:
            terminal.line(as_json(stream.result()))
            return
        for delta in stream:
            terminal.text(delta.text)
        terminal.end_line()
        terminal.note(facts(stream))


def generate(client: Client, arguments: Namespace, terminal: Terminal) -> None:
    prompt, chosen = _prompt(arguments), options(arguments)
    model = choose_model(arguments, client)
    if arguments.raw:
        stream = client.stream(prompt, model=model, **chosen)
    else:
        turns = [*conversation(arguments), Message("user", prompt)]
        stream = client.stream(messages=turns, model=model, **chosen)
    show(stream, terminal, json=hasattr(arguments, "json"))


def explain(client: Client, arguments: Namespace, terminal: Terminal) -> None:
    prompt, chosen = _prompt(arguments), options(arguments)
    model = choose_model(arguments, client)
    if arguments.raw:
        found = client.explain(prompt, model=model, **chosen)
    else:
        turns = [*conversation(arguments), Message("user", prompt)]
        found = client.explain(messages=turns, model=model, **chosen)
    if hasattr(arguments, "json"):
        terminal.line(as_json(found))
    else:
        show_explanation(found, terminal)


def models(client: Client, arguments: Namespace, terminal: Terminal) -> None:
    found = client.list_models()
    if hasattr(arguments, "json"):
        terminal.line(as_json(found))
    else:
        show_models(found, terminal)


def cancel(client: Client, arguments: Namespace, terminal: Terminal) -> None:
    outcome = client.cancel(arguments.request_id)
    if hasattr(arguments, "json"):
        terminal.line(as_json(outcome))
        return
    tokens = f"{outcome.usage.output_tokens} tokens were generated"
    if outcome.cancelled:
        terminal.line(f"cancelled {arguments.request_id}; {tokens}")
    else:
        how = words(outcome.reason) if outcome.reason else "an error"
        terminal.line(f"{arguments.request_id} had already ended ({how}); {tokens}")
