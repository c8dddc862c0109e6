"""`bitlane trace`: what it tells of a request in each state, and whose it takes it to be."""

import json
from collections.abc import Iterator

import pytest

from bitlane import Violation, request_convert
from bitlane.cli import main
from bitlane.cli.phases import Phase, spent
from bitlane.testing import Fault
from bitlane.v1 import admin_pb2 as pb
from tests.contract.sdk import request_data as data
from tests.contract.sdk.scripted_admin import ScriptedAdmin, scripted_in_thread

NO_TENANT = Fault("INVALID_ARGUMENT", "FIELD_INVALID", "name a tenant", violations=[Violation("tenant", "is empty")])


@pytest.fixture
def service() -> Iterator[ScriptedAdmin]:
    with scripted_in_thread() as service:
        yield service


def trace(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["--target", service.target, "trace", *words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_migrated_request(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    service.answer(data.MIGRATED)
    code, out, err = trace(service, capsys, "req-1", "--tenant", "acme")
    assert (code, err) == (0, "")
    assert service.asked == [pb.GetRequestStoryRequest(tenant="acme", request_id="req-1")]
    lines = out.splitlines()
    assert lines[0] == "req-1 of acme/ci: ended, stop"
    facts = {line[2:13].strip(): line[13:] for line in lines[1:10]}
    assert facts["precision"] == "fp4 in smollm2/fp4, because of gate passed"
    assert facts["task"] == "summarization (classifier, 88% sure), moderate sensitivity, risk 0.25"
    assert facts["policy"] == "version v7, rule drafts, fp4 gate passed"
    assert facts["served by"] == "node-b, NVFP4 native, vllm 0.9, NVIDIA B200, 2 attempts"
    assert facts["time"] == (
        "queue 500 ms (4%) · prefill 250 ms (2%) · decode 10.8 s (90%) · migration 500 ms (4%) · "
        "first token after 750 ms · all 12.0 s"
    )
    assert facts["slowest"] == (
        "decode (90%): 200 tokens at 18.5 tokens/s; a worker was silent until its lease ran out"
    )
    assert facts["tokens"] == "120 in (20 cached), 200 out, 18.5 tokens/s"
    assert facts["cost"] == "0.000031 USD, 40% less than FP8 alone (0.000052)"
    assert [" ".join(line.split()) for line in lines[11:]] == [
        "after step lease by",
        "+0.000 s submitted router-1",
        "+0.500 s claimed 1 node-a attempt 1",
        "+0.750 s first token 1",
        "+8.000 s reclaimed 1 node-a the lease ran out",
        "+8.250 s claimed 2 node-b attempt 2",
        "+8.500 s first token 2 goes on at 17",
        "+9.000 s fenced 1 the worker of this lease came too late and was refused",
        "+9.500 s attached router-2",
        "+12.000 s ended 2 node-b stop",
    ]


def test_one_that_waits(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    service.answer(data.WAITING)
    code, out, _ = trace(service, capsys, "req-2")
    assert code == 0
    assert "req-2 of acme/ci: waiting" in out
    assert "no worker yet" in out
    assert "queue (100%): waits in smollm2/fp4" in out
    assert "+4.500 s  now" in out


def test_one_that_runs(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    service.answer(data.RUNNING)
    _, out, _ = trace(service, capsys, "req-3")
    assert "req-3 of acme/ci: running" in out
    assert "queue (67%): no slot was free in smollm2/fp4" in out
    assert "20 out, 38.0 tokens/s" in out
    assert "0.000001 USD so far" in out


def test_one_that_died(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    """What a worker said is in one line, and drives no terminal."""
    service.answer(data.DEAD)
    code, out, _ = trace(service, capsys, "req-4")
    assert code == 0
    assert "ended, attempts exhausted, a dead letter now (engine failed: CUDA error 700)" in out
    assert "none: the service failed" in out
    assert "40 steps are not kept" in out
    assert "failed: engine failed: CUDA error 700" in out
    assert "unknown (" in out


def test_json_holds_all(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    service.answer(data.MIGRATED)
    story = json.loads(trace(service, capsys, "req-1", "--json")[1])
    assert story["request"]["decision"]["reason"] == "gate_passed"
    assert story["request"]["cost"] == "0.000031"
    assert [step["kind"] for step in story["transitions"]][:3] == ["submitted", "claimed", "first_token"]
    assert story["transitions"][3]["detail"] == "the lease ran out"


def test_an_operator_need_not_name_the_tenant_of_what_came_lately(
    service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
):
    service.answer(NO_TENANT, method="GetRequestStory")
    service.answer(data.MIGRATED)
    service.answer(pb.ListRecentRequestsResponse(requests=[data.WAITING.request, data.MIGRATED.request]))
    code, out, _ = trace(service, capsys, "req-1")
    assert (code, out.splitlines()[0]) == (0, "req-1 of acme/ci: ended, stop")
    assert service.asked[-1] == pb.GetRequestStoryRequest(tenant="acme", request_id="req-1")


@pytest.mark.parametrize(("tenants", "said"), [((), "not among those"), (("acme", "blue"), "acme, blue")])
def test_one_whose_tenant_is_not_clear(
    service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], tenants: tuple[str, ...], said: str
):
    service.answer(NO_TENANT, method="GetRequestStory")
    named = [data.request("waiting", 1, tenant=tenant) for tenant in tenants]
    service.answer(pb.ListRecentRequestsResponse(requests=named))
    code, _, err = trace(service, capsys, "req-1")
    assert code == 2
    assert "--tenant" in err
    assert said in err


def test_one_that_is_not_known(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    service.answer(Fault("NOT_FOUND", "REQUEST_NOT_FOUND", "there is no request 'x'"), method="GetRequestStory")
    code, out, err = trace(service, capsys, "x")
    assert (code, out) == (1, "")
    assert "there is no request 'x'" in err


def test_phases_add_up():
    story = request_convert.request_story(data.DEAD)
    phases = {each.phase: each.seconds for each in spent(story)}
    # What was left out stands between the first claim and the next step that is kept.
    assert phases == {Phase.QUEUE: 0.125, Phase.UNKNOWN: 5.375, Phase.MIGRATION: 0.5}
    assert sum(each.share for each in spent(story)) == pytest.approx(1)
