"""The embedded server starts, survives a crash with its data, and never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker import Broker, BrokerOptions
from deploy.local.server import LocalServer, ServerBinaryMissing, ServerFailed, find_binary
from tests.contract.broker.requests import POOL, make_submission


async def test_data_survive_a_crash_on_disk_and_the_folder_goes_with_stop(server_binary: Path) -> None:
    server = LocalServer(binary=server_binary, port=0, durable=True, settings={"appendfsync": "always"})
    server.start()
    try:
        async with Broker(BrokerOptions(url=server.url)) as broker:
            await broker.submit(make_submission())
        server.restart()
        async with Broker(BrokerOptions(url=server.tcp_url)) as broker:
            assert len(await broker.claim(POOL, "w1", b"", 1)) == 1
    finally:
        server.stop()
    server.stop()
    assert not server.socket.parent.exists()


def test_the_server_dies_with_its_parent(server_binary: Path, tmp_path: Path) -> None:
    """Even with a parent that was killed, and so could not clean up."""
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from deploy.local.server import LocalServer\n"
        "print(LocalServer(binary=sys.argv[1], folder=Path(sys.argv[2])).start().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(server_binary), str(tmp_path)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # An orphan that nobody has reaped yet is dead as well.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_paused_server_can_be_stopped(server_binary: Path) -> None:
    server = LocalServer(binary=server_binary).start()
    pid = server.pid
    server.pause()
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_what_is_wrong_is_said(tmp_path: Path, server_binary: Path) -> None:
    with pytest.raises(ServerBinaryMissing, match="no server binary at"):
        find_binary(tmp_path / "missing")
    with pytest.raises(ServerFailed, match="not-a-setting"):
        LocalServer(binary=server_binary, folder=tmp_path, settings={"not-a-setting": "1"}).start()
