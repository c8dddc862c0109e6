"""Child processes of the local stack: started, watched for their ready line, stopped by pid, never left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from deploy.local.child import bound

_REPOSITORY = Path(__file__).resolve().parents[2]


class ProcessFailed(Exception):
    """A process of the stack ended or did not get ready; the message holds the end of its log."""


class Process:
    """A Python module run as a child, its JSON log going to a file and its events kept for whoever waits for one."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        self._events: list[dict[str, object]] = []
        self._news = threading.Condition()
        self._popen = subprocess.Popen(
            bound([sys.executable, "-m", module, *arguments]),
            cwd=_REPOSITORY,
            env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C in the terminal goes to the stack alone, which stops its children in order
        )
        assert self._popen.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._popen.stderr,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def wait_for(self, event: str, timeout_s: float) -> dict[str, object]:
        """The first log line with this event.

        Raises:
            ProcessFailed: the process ended before, or the time ran out.
        """
        found = self.next_event({event}, timeout_s)
        if found is None:
            what = (
                f"ended with {self.returncode}" if self.returncode is not None else f"was not ready in {timeout_s:g} s"
            )
            raise ProcessFailed(f"{self.name} {what}; the end of {self._log}:\n{self.tail()}")
        return found

    def next_event(self, events: set[str], timeout_s: float, after: int = 0) -> dict[str, object] | None:
        """The first of these events from log line `after` on; None when the process ended or the time ran out."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for line in self._events[after:]:
                    if line.get("event") in events:
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    return None
                self._news.wait(min(left, 0.1))

    def latest(self) -> str:
        """The newest event of the log; empty when there is none."""
        with self._news:
            return str(self._events[-1].get("event", "")) if self._events else ""

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def terminate(self) -> None:
        """SIGTERM: it drains."""
        if self.returncode is None:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: what a crash does."""
        if self.returncode is None:
            self._popen.kill()
        self._popen.wait()
        self._reader.join()

    def wait(self, timeout_s: float) -> int:
        """Waits for its end; kills it when that takes too long. Returns its exit status."""
        try:
            self._popen.wait(timeout_s)
            self._reader.join()
        except subprocess.TimeoutExpired:
            self.kill()
        return self._popen.wait()

    def _read(self, stream: IO[bytes]) -> None:
        with stream, self._log.open("ab") as log:
            for line in stream:
                log.write(line)
                log.flush()
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                with self._news:
                    self._events.append(event)
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()
