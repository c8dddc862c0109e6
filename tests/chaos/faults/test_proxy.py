"""The proxy does what it says: a fault that is none would make every promise look kept."""

import contextlib
import socket
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import FaultProxy

TEXT = b"0123456789" * 20


@contextlib.contextmanager
def echo() -> Generator[str]:
    """A server that sends back what it gets, piece by piece."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=reply, args=(connection,), daemon=True).start()

        def reply(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                while data := connection.recv(4096):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with echo() as target, FaultProxy(target) as proxy:
        yield proxy


@pytest.fixture
def line(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as line:
        yield line


def read(line: socket.socket, size: int) -> tuple[bytes, int]:
    """So many bytes, and in how many pieces they came."""
    data, pieces = b"", 0
    while len(data) < size:
        piece = line.recv(4096)
        assert piece, "the connection ended"
        data, pieces = data + piece, pieces + 1
    return data, pieces


def test_passes_on_what_it_gets(proxy: FaultProxy, line: socket.socket) -> None:
    line.sendall(TEXT)
    assert read(line, len(TEXT))[0] == TEXT
    assert (proxy.accepted, proxy.connections) == (1, 1)


def test_latency_with_jitter_keeps_the_order(proxy: FaultProxy, line: socket.socket) -> None:
    proxy.up.latency_s, proxy.up.jitter_s = 0.1, 0.05
    began = time.monotonic()
    for i in range(10):
        line.sendall(b"%d" % i)
    assert read(line, 10)[0] == b"0123456789"
    assert time.monotonic() - began >= 0.1


def test_byte_by_byte(proxy: FaultProxy, line: socket.socket) -> None:
    # Not so fast that the reader gets many of them at once.
    proxy.down.write_bytes, proxy.down.bytes_per_s = 1, 2000
    line.sendall(TEXT)
    data, pieces = read(line, len(TEXT))
    assert data == TEXT
    assert pieces > 5


def test_bandwidth(proxy: FaultProxy, line: socket.socket) -> None:
    proxy.down.bytes_per_s, proxy.down.write_bytes = 1000, 50
    began = time.monotonic()
    line.sendall(TEXT)
    assert read(line, len(TEXT))[0] == TEXT
    assert time.monotonic() - began >= len(TEXT) / 1000 - 0.05


def test_a_pause_loses_nothing(proxy: FaultProxy, line: socket.socket) -> None:
    proxy.down.paused = True
    line.sendall(TEXT)
    line.settimeout(0.2)
    with pytest.raises(TimeoutError):
        line.recv(1)
    proxy.heal()
    line.settimeout(5)
    assert read(line, len(TEXT))[0] == TEXT


def test_a_black_hole_tells_nobody_and_does_not_heal(proxy: FaultProxy, line: socket.socket) -> None:
    proxy.up.blackhole = True
    line.sendall(TEXT)
    line.settimeout(0.2)
    with pytest.raises(TimeoutError):
        line.recv(1)
    proxy.heal()
    line.sendall(TEXT)
    with pytest.raises(TimeoutError):
        line.recv(1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as fresh:
        fresh.sendall(TEXT)
        assert read(fresh, len(TEXT))[0] == TEXT


def test_reset(proxy: FaultProxy, line: socket.socket) -> None:
    line.sendall(TEXT)
    read(line, len(TEXT))
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        line.recv(1)


def test_refusing(proxy: FaultProxy) -> None:
    proxy.refusing = True
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as refused,
    ):
        refused.recv(1)


def test_no_upstream(tmp_path: Path) -> None:
    with (
        FaultProxy(tmp_path / "nobody.sock") as proxy,
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as refused,
    ):
        refused.recv(1)
