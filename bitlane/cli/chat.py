"""The chat: turns in, replies out, and one dim line about each."""

import sys
from argparse import Namespace
from contextlib import suppress

from bitlane.arguments import Options, new_request_id
from bitlane.cli.commands import choose_model, conversation, options
from bitlane.cli.report import facts, lines
from bitlane.cli.terminal import Terminal
from bitlane.errors import AccessError, BitlaneError
from bitlane.sync import Client
from bitlane.types import Message


def chat(client: Client, arguments: Namespace, terminal: Terminal) -> None:
    """Runs until Ctrl-D, or to the end of stdin, each line of which is a turn when it is a pipe."""
    model = choose_model(arguments, client)
    chosen = options(arguments)
    chosen["conversation_id"] = new_request_id()
    turns = conversation(arguments)
    if terminal.interactive:
        # Gives input() its history and line editing where the platform has it.
        with suppress(ImportError):
            import readline  # noqa: F401, PLC0415  # pyright: ignore[reportUnusedImport]
        terminal.note(f"{model} at {', '.join(client.targets)}. Ctrl-C stops a reply, Ctrl-D leaves.")
    while (text := _read(terminal)) is not None:
        if not text.strip():
            continue
        turns.append(Message("user", text))
        try:
            reply = _answer(client, model, turns, chosen, terminal)
        except BitlaneError as error:
            # A script must learn of it; a person can try again, unless the key will never do.
            if not terminal.interactive or isinstance(error, AccessError):
                raise
            terminal.error(lines(error, ",".join(client.targets)))
            reply = ""
        if reply:
            turns.append(Message("assistant", reply))
        else:
            # An unanswered turn would be answered together with the next.
            turns.pop()


def _read(terminal: Terminal) -> str | None:
    """The next turn; None at the end."""
    if not terminal.interactive:
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    try:
        return input("> ")
    except EOFError:
        terminal.line()
        return None
    except KeyboardInterrupt:
        # Throws the typed line away, as a shell does.
        terminal.line()
        return ""


def _answer(client: Client, model: str, turns: list[Message], chosen: Options, terminal: Terminal) -> str:
    """Streams one reply. What Ctrl-C left of it counts as the reply."""
    stream = client.stream(messages=turns, model=model, **chosen)
    try:
        with stream:
            for delta in stream:
                terminal.text(delta.text)
    except KeyboardInterrupt:
        if not terminal.interactive:
            raise
    terminal.end_line()
    terminal.note(facts(stream))
    return stream.text
