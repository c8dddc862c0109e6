"""The story of one request: its client's view, its transitions in Redis, the logs, and the faults of that time.

The transitions come from the server's own MONITOR stream, which is written down unread and searched only when something
is wrong: it shows every change of a request's hash, so its states, epochs, attempts and owners in their true order.
"""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Protocol, Self, TypeAlias

_RECONNECT_S, _FIRST_S = 0.02, 30.0
_MOST_BYTES = 1 << 30
_LINES = 80  # of one kind that a story tells
_CHANGE = re.compile(rb'"HSET" "bl:[^"]*:req:([^"]*)"')
# Of a request's hash; what is opaque or large is left out.
_TELLING = re.compile(
    rb'"(state|epoch|attempts|worker|owners|outcome|detail|ended_by|logged_tokens|deadline_ms|charge)" "([^"]*)"'
)

Change: TypeAlias = tuple[float, dict[str, str]]


class Told(Protocol):
    """What a story needs to know of a record; its `repr` is what the client saw."""

    tenant: str
    request_id: str


class Story:
    """Writes down what happens at a server and in a stack's logs. `with Story(...) as story:`."""

    def __init__(self, server_socket: Path, logs: Path) -> None:
        self._socket = server_socket
        self._logs = logs
        self._file = logs / "monitor.txt"
        self._faults: list[tuple[float, str]] = []
        self._read_to = 0
        self._changes: dict[str, list[Change]] = {}
        self._stop = threading.Event()
        self._hears = threading.Event()  # what happens before is not in the story
        self._thread = threading.Thread(target=self._record, name="story", daemon=True)

    def note(self, fault: str) -> None:
        """Remembers a fault that is made now."""
        self._faults.append((time.time(), fault))

    @property
    def faults(self) -> list[str]:
        return [f"{_clock(at)} {fault}" for at, fault in self._faults]

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._hears.wait(_FIRST_S):
            self._stop.set()
            raise TimeoutError(f"{self._socket} tells nothing of what happens there")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def tell(self, record: Told) -> str:
        """All that is known of a request, in the order of time."""
        ref = f"{record.tenant}/{record.request_id}"
        parts = [
            f"--- {ref}, as its client saw it\n{record!r}"[:4000],
            _part("its transitions in Redis", self.transitions(ref)),
            _part("the logs", self._logged(record.request_id)),
            _part("the server's log", self._servers()),
            _part("the faults", self.faults),
        ]
        return "\n".join(parts)

    def transitions(self, ref: str) -> list[str]:
        """Every change of the request's hash, oldest first: time, and the fields that changed."""
        lines: list[str] = []
        appends = 0
        for at, fields in self.changes(ref):
            line = f"{_clock(at)} {' '.join(f'{k}={v}' for k, v in fields.items())}"
            appends = appends + 1 if fields.keys() == {"logged_tokens"} else 0
            if appends > 1:
                lines[-1] = f"{line} ({appends} appends)"
            else:
                lines.append(line)
        return lines

    def changes(self, ref: str) -> Sequence[Change]:
        """The same as values: the server's time, and the fields with their new values."""
        self._read_on()
        return self._changes.get(ref, ())

    def _read_on(self) -> None:
        """Reads what was written down since the last time."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # its rest is still to come
                self._read_to += len(line)
                found = _CHANGE.search(line)
                if found is None:
                    continue
                fields = {name.decode(): value.decode() for name, value in _TELLING.findall(line, found.end())}
                if fields:
                    at = float(line.lstrip(b"+").split(b" ", 1)[0])
                    self._changes.setdefault(found[1].decode(), []).append((at, fields))

    def _logged(self, request_id: str) -> list[str]:
        found: list[str] = []
        for path in sorted(self._logs.glob("*.log")):
            with path.open(encoding="utf-8", errors="replace") as file:
                found += [f"{path.stem}: {line.strip()}" for line in file if request_id in line]
        return found

    def _servers(self) -> list[str]:
        """Also tells of writes that it kept to itself while the disk was slow: a crash loses those."""
        log = self._socket.with_name("server.log")
        return log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []

    def _record(self) -> None:
        with self._file.open("ab", buffering=0) as file:
            while not self._stop.is_set():
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
                    line.settimeout(0.2)
                    line.connect(str(self._socket))
                    line.sendall(b"MONITOR\r\n")
                    self._copy(line, file)
                self._stop.wait(_RECONNECT_S)

    def _copy(self, line: socket.socket, file: FileIO) -> None:
        while not self._stop.is_set():
            try:
                data = line.recv(1 << 20)
            except TimeoutError:
                continue
            if not data:
                return
            self._hears.set()  # its first word is the answer to MONITOR
            if file.tell() < _MOST_BYTES:
                file.write(data)


def _part(title: str, lines: list[str]) -> str:
    shown = lines if len(lines) <= _LINES else [*lines[: _LINES // 2], "...", *lines[-_LINES // 2 :]]
    return "\n".join([f"--- {title}", *(f"  {line}" for line in shown)])


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]
