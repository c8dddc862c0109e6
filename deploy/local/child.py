"""`python -m deploy.local.child PARENT COMMAND ...`: becomes a command that dies with the process PARENT.

A parent that crashes, or is killed, cannot stop its children; the kernel can. (Asking for that between fork and exec
would be shorter, and is not safe in a parent that has threads, gRPC's for instance.) Linux only: elsewhere the children
outlive a parent that was killed.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def bound(command: Sequence[str]) -> list[str]:
    """The command line that runs a command for as long as this process lives, at most.

    Start it from a thread that lives as long as the process: the kernel watches the thread.
    """
    return [sys.executable, "-m", "deploy.local.child", str(os.getpid()), *command]


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before we asked
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606, no shell is wanted


if __name__ == "__main__":
    main()
