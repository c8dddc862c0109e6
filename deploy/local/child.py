"""`python -m deploy.local.child MODULE ...`: runs a module that dies with the process that started it.

A parent that crashes, or is killed, cannot stop its children; the kernel can. (Asking for that between fork and exec
would be shorter, and is not safe in a parent that has threads, gRPC's for instance.)
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, module = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was quicker
            sys.exit(1)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
