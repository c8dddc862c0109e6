"""Writes log lines from a thread of its own, those of a moment together: a slow disk or pipe stops no event loop."""

import atexit
import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import BinaryIO

# Lines gather so long before they are written; a process that is killed takes those with it.
_GATHER_S = 0.02
# Of lines that wait for a file which takes none; then the oldest are dropped, and counted.
_MOST_BYTES = 8 << 20


class LineWriter:
    """A structlog logger: takes each line as bytes without its end.

    Lines of level error and above are written before the call returns, after all that came before them.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting: deque[bytes] = deque()
        self._size = 0  # of what waits, in bytes
        self._dropped = 0
        self._changing = threading.Lock()  # the three above
        self._writing = threading.Lock()  # keeps the order of lines; taken before `_changing`
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._begin_in_fork)
        atexit.register(self.flush)

    def info(self, line: bytes) -> None:
        """Has a line written soon."""
        self._add(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
            self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def error(self, line: bytes) -> None:
        """Writes a line, and all that wait before it."""
        self._add(line)
        self.flush()

    msg = log = debug = warn = warning = info
    critical = exception = fatal = failure = err = error

    def flush(self) -> None:
        """Writes all that waits."""
        with self._writing:
            with self._changing:
                lines, dropped = list(self._waiting), self._dropped
                self._waiting.clear()
                self._size = self._dropped = 0
            if dropped:
                lines.insert(0, b'{"event":"log.dropped","level":"warning","lines":%d}' % dropped)
            if lines:
                # A file that is closed, or whose reader is gone, leaves nobody to be told.
                with suppress(OSError, ValueError):
                    self._file.write(b"\n".join(lines) + b"\n")
                    self._file.flush()

    def _add(self, line: bytes) -> None:
        with self._changing:
            self._waiting.append(line)
            self._size += len(line)
            while self._size > _MOST_BYTES:
                self._size -= len(self._waiting.popleft())
                self._dropped += 1

    def _begin_in_fork(self) -> None:
        """What waits is the parent's, its thread is not here, and that may have held any of the locks."""
        self._waiting.clear()
        self._size = self._dropped = 0
        self._changing, self._writing, self._wake = threading.Lock(), threading.Lock(), threading.Event()
        self._thread = None

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(_GATHER_S)
            self._wake.clear()
            self.flush()
