"""What the commands print, and how: colours and notes only where someone reads them."""

import os
import sys
import unicodedata
from collections.abc import Collection, Sequence

_DIM, _RED, _BOLD, _OFF = "\033[2m", "\033[31m", "\033[1m", "\033[0m"


class Terminal:
    """Text goes to stdout, facts and errors to stderr, so that a pipe gets the text alone."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                # A terminal that cannot show a character must not end the reply.
                reconfigure(errors="replace")
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._colour_out = colours and sys.stdout.isatty()
        self._colour_err = colours and sys.stderr.isatty()
        self._raw = not sys.stdout.isatty()
        self._line_open = False

    def text(self, text: str) -> None:
        """A piece of a reply, as it comes."""
        if text:
            sys.stdout.write(text if self._raw else harmless(text))
            sys.stdout.flush()
            self._line_open = not text.endswith("\n")

    def line(self, text: str = "") -> None:
        print(text)

    def end_line(self) -> None:
        """Ends the reply's last line, where it has not ended itself."""
        if self._line_open:
            print(flush=True)
            self._line_open = False

    def note(self, text: str) -> None:
        """A fact beside the reply."""
        print(f"{_DIM}{text}{_OFF}" if self._colour_err else text, file=sys.stderr, flush=True)

    def error(self, lines: Sequence[str]) -> None:
        self.end_line()
        first, *rest = lines
        label = f"{_RED}bitlane:{_OFF}" if self._colour_err else "bitlane:"
        print(label, first, file=sys.stderr)
        for line in rest:
            print(f"  {line}", file=sys.stderr)

    def strong(self, text: str) -> str:
        return f"{_BOLD}{text}{_OFF}" if self._colour_out else text

    def dim(self, text: str) -> str:
        return f"{_DIM}{text}{_OFF}" if self._colour_out else text

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "", numbers: Collection[str] = ()
    ) -> None:
        """Columns as wide as their widest cell; those whose heads are named in `numbers` end on one line."""
        widths = [max(map(_width, column)) for column in zip(head, *rows, strict=True)]
        for number, row in enumerate((head, *rows)):
            cells = "  ".join(
                (" " * (width - _width(cell)) + cell) if name in numbers else cell + " " * (width - _width(cell))
                for name, cell, width in zip(head, row, widths, strict=True)
            ).rstrip()
            self.line(indent + (self.dim(cells) if number == 0 else cells))

    def confirm(self, question: str) -> bool | None:
        """Asks; None when there is nobody to ask."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        answer = ""
        try:
            answer = sys.stdin.readline()
        finally:
            # Ctrl-C and Ctrl-D leave the line open.
            if not answer.endswith("\n"):
                print(file=sys.stderr)
        return answer.strip().lower() in ("y", "yes")


def _width(text: str) -> int:
    """How many columns a terminal gives to a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def harmless(text: str) -> str:
    """Without control characters, by which a reply could drive the reader's terminal."""
    return "".join(each for each in text if each in "\n\t" or unicodedata.category(each) != "Cc")
