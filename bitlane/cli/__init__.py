"""The command line: chat, generate, explain, models, cancel, resume, policy, gates, admin.

Exit codes: 0 done, 1 the server said no, 2 wrong usage, 130 Ctrl-C.
"""

import os
import sys
from collections.abc import Sequence

from bitlane.cli.parser import parse
from bitlane.cli.terminal import Terminal
from bitlane.errors import BitlaneError, ConfigError, InvalidRequest

OK, REFUSED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Without `argv`, sys.argv is taken."""
    arguments = parse(argv)
    terminal = Terminal()
    try:
        # gRPC is loaded only now, so that --help and wrong usage answer at once.
        from bitlane.cli.commands import run  # noqa: PLC0415

        good = run(arguments, terminal)
        sys.stdout.flush()
    except BitlaneError as error:
        from bitlane.cli.report import lines  # noqa: PLC0415

        terminal.error(lines(error, getattr(arguments, "target", None)))
        by_client = isinstance(error, InvalidRequest) and error.metadata.get("checked_by") == "client"
        return USAGE if by_client or isinstance(error, ConfigError) else REFUSED
    except KeyboardInterrupt:
        terminal.end_line()
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has had enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    return OK if good else REFUSED
