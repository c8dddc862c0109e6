"""How commands stand under a parser, on every level. Loads nothing slow."""

import argparse
from collections.abc import Callable, Sequence
from typing import TypeAlias

RAW = argparse.RawDescriptionHelpFormatter
Command: TypeAlias = Callable[..., argparse.ArgumentParser]
"""Adds a command: its name, its words, its summary, an example, and whose options it has besides the shared ones."""


def commands(
    parser: argparse.ArgumentParser,
    dest: str,
    metavar: str,
    shared: Sequence[argparse.ArgumentParser],
    *,
    required: bool = True,
) -> Command:
    """What adds commands to a parser; the one that is chosen is put into `dest`. All have the shared options."""
    listed = parser.add_subparsers(dest=dest, metavar=metavar, required=required, prog=parser.prog)

    def command(
        name: str, words: str, summary: str, example: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        return listed.add_parser(
            name,
            usage=f"{parser.prog} {name} [options]{words}",
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=RAW,
            parents=[*parents, *shared],
        )

    return command
