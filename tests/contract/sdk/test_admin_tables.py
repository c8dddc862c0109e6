"""What `bitlane admin` prints: tables that were read with eyes first, and the same as JSON."""

import json
import time
from collections.abc import Iterator

import pytest

from bitlane.cli import main
from bitlane.v1 import admin_pb2 as pb
from tests.contract.sdk import admin_data as data
from tests.contract.sdk.scripted_admin import ScriptedAdmin, scripted_in_thread


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAdmin]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with scripted_in_thread() as service:
        service.answer(
            pb.ListTenantsResponse(tenants=[data.ACME, data.GLOBEX]),
            pb.GetTenantResponse(tenant=data.ACME),
            pb.ListApiKeysResponse(keys=[data.CI, data.WEB]),
            pb.RevokeApiKeyResponse(key=data.CI),
            data.STATES,
            data.USAGE,
            data.POOLS,
            data.WORKERS,
            pb.ListDeadLettersResponse(letters=[data.LETTER]),
            pb.ListAuditEventsResponse(events=data.EVENTS),
        )
        yield service
    monkeypatch.undo()
    time.tzset()


TABLES = {
    "tenants list": """\
tenant  name                    state      weight  ceiling      models                limits
acme    Acme Ltd                active        2.5  standard     smollm2,llama-3.1-8b  rpm=600 tpm=unlimited \
concurrent=20 day-budget=5.00 month-budget=100.000000001 smollm2:rpm=60,tpm=5000
globex  株式会社グローベックス  suspended       1  interactive  all                   default
""",
    "tenants get acme": """\
acme
  name       Acme Ltd
  state      active
  weight     2.5
  ceiling    standard
  models     smollm2, llama-3.1-8b
  limits     rpm=600 tpm=unlimited concurrent=20 day-budget=5.00 month-budget=100.000000001
    smollm2  rpm=60 tpm=5000
  created    2026-11-01 09:30:00
  updated    2026-11-20 17:00:00
  etag       5f3a
""",
    "keys list --tenant acme": """\
key           scopes            state    expires              created              by              \
rotated              limits
ci            infer             active   2026-11-30 00:00:00  2026-11-03 08:00:00  operator/local  \
2026-11-18 12:00:00  rpm=60
web-frontend  infer,read,admin  revoked  never                2026-11-03 08:00:00  config          \
never                none
""",
    "keys revoke ci --yes": """\
ci
  of          acme
  scopes      infer
  state       active
  expires     2026-11-30 00:00:00
  limits      rpm=60
  created     2026-11-03 08:00:00 by operator/local
  rotated     2026-11-18 12:00:00
  old secret  until 2026-11-19 12:00:00
  etag        k1
""",
    "quota acme": """\
model    limit            used         of  share  reserved
all      rpm                12        600     2%
all      tpm            15,321    200,000     8%     2,304
all      concurrent          3         20    15%
all      queued              1        256     0%
all      day-budget     3.1125       5.00    62%    0.0125
all      month-budget  41.2425  unlimited           0.0125
smollm2  tpm             4,750      5,000    95%         0
""",
    "usage acme --since 7d --by time,model,precision": """\
time        model         precision  requests  failed     prompt   cached     output      cost  fp8 only      saved  \
     %
2026-11-01  llama-3.1-8b  fp8           3,708       1  1,630,836  180,900    665,199  0.361111  0.361111   0.000000  \
  0.0%
2026-11-01  smollm2       fp4          12,772       4  5,617,324  623,100  2,291,241  0.325500  0.567300   0.241800  \
 42.6%
2026-11-02  smollm2       bf16            412       0    181,204   20,100     73,911  0.031000  0.018300  -0.012700  \
-69.4%
total                                  16,892       5  7,429,364  824,100  3,030,351  0.717611  0.946711   0.229100  \
 24.2%

saved 0.229100 USD of the 0.946711 USD that FP8 alone would have cost: 24.2%
""",
    "pools": """\
pool         workers   running  waiting  waiting tokens  tokens/s
smollm2/fp4        2  32 of 32       14          18,230     1,413
smollm2/fp8        1   0 of 16        0               0         -
""",
    "workers list": """\
worker    pool         state                     running  context  engine    gpu
node-a-1  smollm2/fp4  serving                  16 of 16     8192  vllm 0.9  NVIDIA B200
node-a-2  smollm2/fp4  serving, told: draining   3 of 16     8192  -         -
""",
    "workers drain smollm2/fp4 w1": "worker w1 of smollm2/fp4 was told to be draining\n",
    "dead-letters list": """\
died                 tenant  request                           pool         attempts  worker    detail
2026-11-20 03:04:00  acme    0f1e2d3c4b5a69788796a5b4c3d2e1f0  smollm2/fp4         3  node-a-2  \
engine failed: CUDA error 700 while reading kv block 17 o...
""",
    "dead-letters replay r1": "r1 waits again\n",
    "dead-letters purge r1 --yes": "r1 is forgotten\n",
    "audit": """\
time                 by              action          what                         change
2026-11-20 17:00:00  operator/local  UpdateTenant    tenant/acme                  \
weight: 1.0 -> 2.5; quota.limits.requests_per_minute: 600 -> 60
2026-11-18 12:00:00  acme/admin      CreateApiKey    key/acme/ci                  \
new: scopes: ["infer"]; created: "2026-11-03T08:00:00Z"
2026-11-17 00:00:00  operator/local  SetWorkerState  worker/smollm2/fp4/node-a-2  serve -> drain
""",
}


def run(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str, str]:
    code = main(["--target", service.target, "admin", *line.split()])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize("line", TABLES)
def test_tables(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], line: str):
    code, out, _ = run(service, capsys, line)
    assert out == TABLES[line]
    assert code == 0


EMPTY = {
    "tenants list": "no tenant yet\n",
    "keys list": "no key yet\n",
    "pools": "no pool is configured\n",
    "workers list": "no worker is alive\n",
    "dead-letters list": "no dead letter\n",
    "audit": "no change was recorded\n",
}


@pytest.mark.parametrize("line", EMPTY)
def test_nothing_is_a_note(capsys: pytest.CaptureFixture[str], line: str):
    with scripted_in_thread() as service:
        assert run(service, capsys, line) == (0, "", EMPTY[line])
        out = run(service, capsys, f"{line} --json")[1]
        assert out == "" if line == "audit" else json.loads(out) == []


def test_no_usage(capsys: pytest.CaptureFixture[str]):
    with scripted_in_thread() as service:
        code, out, err = run(service, capsys, "usage")
        assert (code, out) == (0, "")
        assert err.startswith("nothing ended in that time\n20")
        assert run(service, capsys, "usage --json") == (0, "", "")


JSON = {
    "tenants list": ("id", ["acme", "globex"]),
    "keys list": ("name", ["ci", "web-frontend"]),
    "quota": ("model", ["", "smollm2"]),
    "pools": ("name", ["smollm2/fp4", "smollm2/fp8"]),
    "workers list": ("wanted_state", ["serving", "draining"]),
    "dead-letters list": ("request_id", [data.LETTER.request_id]),
}


@pytest.mark.parametrize("line", JSON)
def test_lists_as_json(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str], line: str):
    code, out, err = run(service, capsys, f"{line} --json")
    field, values = JSON[line]
    assert (code, err) == (0, "")
    assert [each[field] for each in json.loads(out)] == values


def test_a_tenant_as_json(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    """Money is a text, because it is exact; what is not set is null; unlimited is -1."""
    unset = dict.fromkeys(
        ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "queued_requests", "day_budget"), None
    )
    assert json.loads(run(service, capsys, "tenants get acme --json")[1]) == {
        "id": "acme",
        "display_name": "Acme Ltd",
        "state": "active",
        "weight": 2.5,
        "models": ["smollm2", "llama-3.1-8b"],
        "priority_ceiling": "standard",
        "quota": {
            "limits": {
                "requests_per_minute": 600,
                "tokens_per_minute": -1,
                "concurrent_requests": 20,
                "queued_requests": None,
                "day_budget": "5",
                "month_budget": "100.000000001",
            },
            "model_limits": {
                "smollm2": {**unset, "requests_per_minute": 60, "tokens_per_minute": 5000, "month_budget": None}
            },
        },
        "etag": "5f3a",
        "created_at": "2026-11-01T09:30:00+00:00",
        "updated_at": "2026-11-20T17:00:00+00:00",
    }


def test_usage_and_the_audit_log_are_json_lines(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    rows = [json.loads(line) for line in run(service, capsys, "usage --json --by model")[1].splitlines()]
    assert [(row["model"], row["tenant"], row["savings"]) for row in rows] == [
        ("llama-3.1-8b", None, "0"),
        ("smollm2", None, "0.241800186"),
        ("smollm2", None, "-0.012699993"),
    ]
    events = [json.loads(line) for line in run(service, capsys, "audit --json --limit 2")[1].splitlines()]
    assert [event["action"] for event in events] == ["UpdateTenant", "CreateApiKey"]


def test_usage_as_csv(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    code, out, err = run(service, capsys, "usage --csv --by model,precision")
    head, first, *_ = out.splitlines()
    assert (code, err) == (0, "")
    assert head.startswith("start_time,tenant,key,model,")
    assert first == ",,,llama-3.1-8b,,fp8,,3708,1,1630836,180900,665199,0.361111104,0.361111104,0,USD"


def test_changes_without_a_result_as_json(service: ScriptedAdmin, capsys: pytest.CaptureFixture[str]):
    for line, told in (
        ("tenants delete acme --yes", {"tenant": "acme", "state": "deleted"}),
        (
            "workers quarantine m/fp4 w1 --yes",
            {"pool": "m/fp4", "worker": "w1", "wanted_state": "quarantined"},
        ),
        ("dead-letters replay r1", {"request_id": "r1", "state": "waiting"}),
        ("dead-letters purge r1 --yes", {"request_id": "r1", "state": "purged"}),
    ):
        assert json.loads(run(service, capsys, f"{line} --json")[1]) == told


def test_texts_of_others_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]):
    evil = "a\033]0;pwned\007\nb"
    with scripted_in_thread() as service:
        service.answer(
            pb.ListTenantsResponse(tenants=[pb.Tenant(id="acme", display_name=evil)]),
            pb.GetTenantResponse(tenant=pb.Tenant(id="acme", display_name=evil)),
            pb.ListDeadLettersResponse(letters=[pb.DeadLetter(detail=evil)]),
            pb.ListAuditEventsResponse(events=[pb.AuditEvent(before=evil, after=json.dumps({"x": evil}))]),
        )
        for line in ("tenants list", "tenants get acme", "dead-letters list", "audit"):
            code, out, _ = run(service, capsys, line)
            assert code == 0
            assert "\033" not in out
            assert "\007" not in out
            assert "pwned" in out


def test_a_loss_is_called_one(capsys: pytest.CaptureFixture[str]):
    with scripted_in_thread() as service:
        row = pb.UsageRow(requests=1, cost_nanos=150 * data.NANOS, fp8_cost_nanos=100 * data.NANOS)
        service.answer(pb.GetUsageResponse(rows=[row], currency="EUR"))
        out = run(service, capsys, "usage --by tenant")[1]
        assert out.endswith("lost 50.00 EUR of the 100.00 EUR that FP8 alone would have cost: 50.0%\n")
