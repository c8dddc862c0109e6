"""Several router processes behind one port, a core for each: the kernel spreads new connections over them.

The parent forks them before anything else has started, holds the port, starts anew what dies, and passes SIGTERM and
SIGINT on. It serves nothing itself. Processes that lose their parent drain and end.
"""

import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import structlog

from telemetry.logging import flush_logs

_log = structlog.get_logger("bitlane.router")
# One that ends sooner than this after the first start is not started anew: its settings or its surroundings are wrong.
_WELL_AFTER_S = 10.0
_LONGEST_PAUSE_S = 30.0

Child = Callable[[int, int], int]
"""Runs one process to its end, in that process: takes its number from 0 and a file descriptor that is at its end as
soon as the parent is gone; returns the exit status."""


@contextmanager
def held_port(listen: str) -> Generator[str]:
    """Binds host:port, for processes that listen there with SO_REUSEPORT; yields it, with the port found for 0.

    Raises:
        OSError: somebody else listens there, or it is no address of this machine.
    """
    host, _, port = listen.rpartition(":")
    with ExitStack() as sockets:
        bound = int(port)
        refused: OSError | None = None
        held = 0
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host.strip("[]") or None, bound, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            try:
                for shared in (False, True):  # alone first: with SO_REUSEPORT alone, two services would share it unseen
                    one = socket.socket(family, kind, protocol)
                    sockets.callback(one.close)
                    if family == socket.AF_INET6:
                        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
                    one.bind((address[0], bound, *address[2:]))
                    bound = one.getsockname()[1]
                    if not shared:
                        one.close()
                held += 1
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise OSError(f"cannot listen on {listen}: the address is taken") from error
                refused = error  # localhost may have an address of a family that this machine does not speak
        if refused is not None and not held:
            raise OSError(f"cannot listen on {listen}: {refused.strerror}") from refused
        yield f"{host}:{bound}"


class Supervisor:
    """See the module. Make it in a process that has no other thread yet."""

    def __init__(self, count: int, child: Child) -> None:
        self._count = count
        self._child = child
        self._numbers: dict[int, int] = {}  # of the running processes, by pid
        self._began: dict[int, float] = {}
        self._stopping = False
        self._alive, self._parent = os.pipe()  # nobody writes: it only ends

    def run(self) -> int:
        """Until told to stop; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: self._stop())
        for number in range(self._count):
            self._fork(number)
        pause = 1.0
        status = 0
        while self._numbers:
            pid, code = os.wait()
            if pid not in self._numbers:
                continue  # not ours: where the supervisor is a container's first process, orphans come to it
            number = self._numbers.pop(pid)
            lived = time.monotonic() - self._began.pop(pid)
            exit_code = os.waitstatus_to_exitcode(code)
            if self._stopping:
                status = status or max(0, exit_code)
                continue
            if exit_code > 0 and lived < _WELL_AFTER_S and not self._well():
                status = exit_code
                self._stop()
                continue
            _log.error("router.died", number=number, exit_code=exit_code, hint="it is started anew")
            pause = 1.0 if lived > _WELL_AFTER_S else min(_LONGEST_PAUSE_S, pause * 2)
            self._rest(pause if lived < _WELL_AFTER_S else 0.0)
            if not self._stopping:
                self._fork(number)
        return status

    def _well(self) -> bool:
        """Whether another one has been up for a while: then it is not the settings."""
        return any(time.monotonic() - began > _WELL_AFTER_S for began in self._began.values())

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.05)

    def _stop(self) -> None:
        self._stopping = True
        for pid in self._numbers:
            os.kill(pid, signal.SIGTERM)

    def _fork(self, number: int) -> None:
        # A signal between the fork and its being written down would pass the new process by.
        signals = (signal.SIGTERM, signal.SIGINT)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        pid = os.fork()
        if pid == 0:
            os.close(self._parent)
            for each in signals:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            code = 70
            try:
                code = self._child(number, self._alive)
            except BaseException as error:  # nothing of it may run on in what is a copy of the parent
                _log.critical("router.failed", error=repr(error))
            flush_logs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        self._numbers[pid] = number
        self._began[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
