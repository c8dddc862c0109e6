"""A worker that is killed cannot stop its engine, whose processes would keep the GPU: this ends them.

`python -m workers.engines.orphans` gets processes by a pipe. When the other end is closed, because the worker ended in
whatever way, it kills what is left of them and of their children. Linux only; elsewhere nothing is guarded. (The kernel
could do it, if engines asked for it: SGLang does, and vLLM 0.26 does not for its engine core.)
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from workers.processes import below


class Guard:
    """Kills processes when it is closed, or when this process is gone."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._process = subprocess.Popen(  # noqa: S603, nothing in it comes from outside
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not meant for it
            text=True,
        )
        assert self._process.stdin is not None
        for pid in pids:
            print(pid, _started(pid), file=self._process.stdin)
        self._process.stdin.flush()

    def close(self) -> None:
        """Returns when all have been killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def children() -> frozenset[int]:
    """All processes below this one now."""
    return frozenset(below(os.getpid()))


def guard_since(before: frozenset[int]) -> Guard | None:
    """Guards the processes that this one has started since `children` gave `before`; None where there are none."""
    pids = children() - before
    return Guard(pids) if pids else None


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot: with it, an id names one process for good. Empty: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    guarded = [line.split() for line in sys.stdin]  # until the worker is gone
    for pid, *started in guarded:
        if started and _started(int(pid)) == started[0]:
            for each in [int(pid), *below(int(pid))]:
                with suppress(OSError):
                    os.kill(each, signal.SIGKILL)


if __name__ == "__main__":
    main()
