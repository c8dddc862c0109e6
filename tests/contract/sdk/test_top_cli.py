"""`bitlane top`: one frame of a scripted server, for operators and tenants, wide and narrow, with and without rich."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitlane.cli import main
from bitlane.testing import Fault
from bitlane.v1 import admin_pb2 as pb
from bitlane.v1 import inference_pb2 as ipb
from tests.contract.sdk import admin_data
from tests.contract.sdk import request_data as data
from tests.contract.sdk.scripted_admin import ScriptedAdmin, scripted_in_thread

RECENT = pb.ListRecentRequestsResponse(
    requests=[data.WAITING.request, data.RUNNING.request, data.MIGRATED.request, data.DEAD.request], currency="USD"
)
NO_SCOPE = Fault("PERMISSION_DENIED", "SCOPE_MISSING", "this key may not do that")


@pytest.fixture
def service() -> Iterator[ScriptedAdmin]:
    with scripted_in_thread() as service:
        service.answer(RECENT, admin_data.POOLS, admin_data.WORKERS, admin_data.USAGE)
        yield service


def top(target: str, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["--target", target, "top", *words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_an_operator_sees_everything(
    service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("COLUMNS", raising=False)
    code, out, err = top(service.target, capsys, "--once")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].startswith(f"bitlane top {service.target} operator")
    assert lines[1].startswith("32 running · 14 waiting, the oldest for 2.50 s · ")
    assert lines[2].startswith("this hour")
    assert "FP4" in lines[2]
    assert "saved" in lines[2] or "lost" in lines[2]
    assert any(line.startswith("smollm2/fp4 2 ━━━━━━━━━━ 32/32 14 0 2.50 s") for line in lines)
    assert any("1 draining" in line or "serving, told: draining" in line for line in lines)
    (waiting,) = (line for line in lines if line.endswith("req-2"))
    assert waiting == "4.50 s acme fp4 summarization gate passed waiting 0 req-2"
    assert any("dead" in line and line.endswith("req-4") for line in lines)
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_a_narrow_terminal(
    service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = top(service.target, capsys, "--once")
    assert code == 0
    assert max(map(len, out.splitlines())) <= columns
    if columns >= 80:
        rows = [" ".join(line.split()) for line in out.splitlines()]
        assert any(line.startswith("4.50 s acme fp4 summarization gate passed waiting") for line in rows)


def test_a_tenant_sees_its_own_part(capsys: pytest.CaptureFixture[str], service: ScriptedAdmin):
    """Pools as `ListModels` tells of them, and no workers."""
    service.answers.pop("ListPools")
    service.answer(NO_SCOPE, method="ListPools")
    pool = ipb.Pool(name="smollm2/fp4", precision=ipb.PRECISION_FP4, workers=2, slots=32, running=5, waiting=3)
    service.models = ipb.ListModelsResponse(models=[ipb.Model(name="smollm2", pools=[pool])])
    code, out, _ = top(service.target, capsys, "--once")
    assert code == 0
    assert "tenant acme" in out
    assert "5 running · 3 waiting" in out
    assert "worker " not in out


def test_json_needs_no_rich(
    service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "bitlane.cli.top_view", None)
    code, out, _ = top(service.target, capsys, "--json")
    assert code == 0
    frame = json.loads(out)
    assert [pool["name"] for pool in frame["pools"]] == ["smollm2/fp4", "smollm2/fp8"]
    assert frame["operator"] is True
    assert frame["pools"][0]["queues"][0] == {"priority": "standard", "waiting": 14, "oldest_wait": 2.5}
    # 20 tokens in the half second since the first, over 10 s.
    assert frame["pools"][0]["tokens_per_second"] >= 2.0
    code, _, err = top(service.target, capsys, "--once")
    assert code == 2
    assert "pip install 'bitlane[top]'" in err


def test_a_picture(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "top.svg"
    assert top(service.target, capsys, "--once", "--svg", str(path))[0] == 0
    svg = path.read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "smollm2/fp4" in svg
    assert "url(" not in svg.replace("url(#", ""), "a picture fetches nothing from elsewhere"


def test_nobody_answers(capsys: pytest.CaptureFixture[str]):
    code, _, err = top("127.0.0.1:1", capsys, "--once", "--timeout", "1")
    assert code == 1
    assert "nothing answers at 127.0.0.1:1" in err


def test_a_wrong_key(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    service.answers.clear()
    service.answer(Fault("UNAUTHENTICATED", "CREDENTIAL_INVALID", "no"), method="ListRecentRequests")
    code, out, err = top(service.target, capsys, "--once")
    assert (code, out) == (1, "")
    assert "BITLANE_API_KEY" in err


class Live:
    """`bitlane top` on a terminal of its own."""

    def __init__(self, target: str) -> None:
        self._own, other = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bitlane", "--target", target, "top"],
            stdin=other,
            stdout=other,
            stderr=other,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "90", "LINES": "40"},
        )
        os.close(other)
        self.shown = ""

    def until(self, text: str) -> None:
        end = time.monotonic() + 50
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} never came:\n{self.shown[-3000:]}"
            if select.select([self._own], [], [], 0.2)[0]:
                self.shown += os.read(self._own, 65536).decode(errors="replace")

    def press(self, key: bytes) -> int:
        os.write(self._own, key)
        end = time.monotonic() + 20
        while self._process.poll() is None and time.monotonic() < end:
            if select.select([self._own], [], [], 0.1)[0]:
                try:
                    os.read(self._own, 65536)
                except OSError:  # the other side is closed
                    break
        return self._process.wait(10)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._own)


def test_live_it_outlives_the_server_and_leaves_with_q():
    with scripted_in_thread() as service:
        service.answer(RECENT, admin_data.POOLS, admin_data.WORKERS, admin_data.USAGE)
        live = Live(service.target)
        try:
            live.until("smollm2/fp4")
            asked = len(service.asked)
            end = time.monotonic() + 30
            while len(service.asked) == asked and time.monotonic() < end:
                live.until("smollm2")
                time.sleep(0.1)
            assert len(service.asked) > asked, "it asks again by itself"
            service.answers["ListRecentRequests"].clear()
            service.answer(
                Fault("UNAVAILABLE", "BROKER_UNAVAILABLE", "the broker is away"), method="ListRecentRequests"
            )
            live.until("the broker is away")
            live.until("trying again")
            service.answers["ListRecentRequests"].clear()
            service.answer(RECENT)
            live.shown = ""
            live.until("req")
            assert live.press(b"q") == 0
        finally:
            live.close()
