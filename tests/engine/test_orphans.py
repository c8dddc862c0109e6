"""What an engine has started does not outlive its worker, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# An engine's process that has one of its own.
_ENGINE = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
_WORKER = f"""
import subprocess, sys
from workers.engines.orphans import children, guard_since
other = subprocess.Popen(["sleep", "60"])
before = children()
engine = subprocess.Popen([sys.executable, "-c", {_ENGINE!r}], stdout=subprocess.PIPE, text=True)
below = engine.stdout.readline().strip()
guard = guard_since(before)
print(other.pid, engine.pid, below, flush=True)
sys.stdin.readline()
guard.close()
print("closed", other.poll(), flush=True)
"""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _gone(pids: list[int]) -> bool:
    until = time.monotonic() + 10
    while any(map(_runs, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(_runs, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="guards on Linux only")
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, None])
def test_an_engine_ends_with_its_worker(death: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdin is not None
        other, *pids = map(int, worker.stdout.readline().split())
        assert len(pids) == 2
        time.sleep(0.3)
        assert all(map(_runs, pids))
        if death is None:
            worker.stdin.write("\n")
            worker.stdin.flush()
            assert worker.stdout.readline() == "closed None\n"  # what it had started before is left alone
        else:
            worker.send_signal(death)
        assert _gone(pids)
        os.kill(other, signal.SIGKILL)
