"""Processes as the kernel lists them. Linux only; elsewhere there are none."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def below(pid: int) -> Iterator[int]:
    """Descendants of a process, nearest first. One that goes meanwhile has none."""
    with suppress(OSError):
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in listed.read_text("ascii").split():
                yield int(child)
                yield from below(int(child))
