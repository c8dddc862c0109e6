"""Other projects' servers as child processes: started, waited for over HTTP, stopped, never left behind."""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.child import bound
from workers.processes import below

_READY_S = 90.0  # LiteLLM imports for tens of seconds on a busy machine
_STOP_S = 10.0
_ASK_S = 2.0


class PeerFailed(Exception):
    """A peer ended or did not get ready; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is ready, and all its processes."""

    port: int
    pids: tuple[int, ...]


@contextmanager
def serving(
    name: str, command: Sequence[str], environ: Mapping[str, str], port: int, ready: str, folder: Path
) -> Generator[Served]:
    """Runs a command until the end; entered once `ready` answers on its port.

    Raises:
        PeerFailed: it ended, or was not ready in time.
    """
    path = folder / f"{name}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            bound(command), env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _wait(name, process, port, ready, path)
            yield Served(port, (process.pid, *below(process.pid)))
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """Of 127.0.0.1; nobody has it when this returns, and somebody may the moment after."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _wait(name: str, process: "subprocess.Popen[bytes]", port: int, path: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while not _answers(port, path):
        if process.poll() is not None or time.monotonic() > deadline:
            what = "was not ready in time" if process.returncode is None else f"ended with {process.returncode}"
            tail = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-15:])
            raise PeerFailed(f"{name} {what}; the end of its log:\n{tail}")
        time.sleep(0.2)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
