"""`bitlane admin` at work: what its flags ask for, what it asks a person, what it says when something is wrong."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import cast

import pytest

from bitlane import Client, Limits, Quota, Scope, Tenant
from bitlane.cli import main
from bitlane.cli.parser import build
from bitlane.testing import FakeServer, Fault
from bitlane.v1 import admin_pb2 as pb
from tests.contract.sdk import admin_data as data
from tests.contract.sdk.keyboard import Keyboard
from tests.contract.sdk.scripted_admin import scripted_in_thread

BITLANE = [sys.executable, "-m", "bitlane"]


class Shell:
    """Runs `bitlane admin` in this process. Nobody is at a terminal."""

    def __init__(self, target: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._target = target
        self._capsys = capsys

    def __call__(self, line: str, *more: str) -> tuple[int, str, str]:
        try:
            code = main(["--target", self._target, "admin", *line.split(), *more])
        except SystemExit as end:
            code = int(end.code or 0)
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err


@pytest.fixture
def shell(threaded_server: FakeServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(threaded_server.target, capsys)


def test_a_tenant_with_every_flag(shell: Shell, sync_client: Client):
    code, out, err = shell(
        "tenants create acme --weight 2.5 --models smollm2,llama3:8b --ceiling batch --state suspended --rpm 600 "
        "--tpm 100000 --concurrent 20 --queued 100 --day-budget 5.00 --month-budget unlimited "
        "--model-limit smollm2:tpm=5000,rpm=60 --model-limit llama3:8b:day-budget=0.10",
        "--display-name",
        "Acme Ltd",
    )
    assert (code, out.splitlines()[0], err) == (0, "acme", "")
    tenant = sync_client.admin.tenants.get("acme")
    assert (tenant.display_name, tenant.weight, tenant.state) == ("Acme Ltd", 2.5, "suspended")
    assert (tenant.models, tenant.priority_ceiling) == (("smollm2", "llama3:8b"), "batch")
    assert tenant.quota == Quota(
        Limits(
            requests_per_minute=600,
            tokens_per_minute=100_000,
            concurrent_requests=20,
            queued_requests=100,
            day_budget=Decimal(5),
            month_budget=-1,
        ),
        {
            "llama3:8b": Limits(day_budget=Decimal("0.1")),
            "smollm2": Limits(requests_per_minute=60, tokens_per_minute=5000),
        },
    )


def test_an_update_changes_what_is_named_and_nothing_else(
    shell: Shell, sync_client: Client, threaded_server: FakeServer
):
    quota = Quota(
        Limits(requests_per_minute=60, day_budget=Decimal(5)),
        {"a": Limits(requests_per_minute=1, tokens_per_minute=2), "b": Limits(queued_requests=3)},
    )
    before = sync_client.admin.tenants.create(
        Tenant("acme", display_name="Acme", weight=3.0, models=["a", "b"], quota=quota)
    )
    assert (
        shell("tenants update acme --rpm default --day-budget 7.5 --model-limit a:tpm=9 --model-limit b:default")[0]
        == 0
    )
    after = sync_client.admin.tenants.get("acme")
    assert after.quota == Quota(
        Limits(day_budget=Decimal("7.5")), {"a": Limits(requests_per_minute=1, tokens_per_minute=9)}
    )
    assert (after.display_name, after.weight, after.models) == ("Acme", 3.0, ("a", "b"))
    [sent] = [call.request for call in threaded_server.calls_of("UpdateTenant")]
    assert isinstance(sent, pb.UpdateTenantRequest)
    assert sent.tenant.etag == before.etag, "of what was read"
    assert json.loads(shell("tenants update acme --state suspended --models all --json")[1])["models"] == []
    assert sync_client.admin.tenants.get("acme").quota == after.quota


def test_a_conflict_is_explained(shell: Shell, sync_client: Client, threaded_server: FakeServer):
    sync_client.admin.tenants.create(Tenant("acme"))
    threaded_server.inject(Fault("ABORTED", "it has changed", reason="ETAG_MISMATCH", method="UpdateTenant"))
    said = "somebody else changed tenant acme at the same moment, and nothing was written: run it again"
    assert shell("tenants update acme --weight 2") == (1, "", f"bitlane: {said} (ETAG_MISMATCH)\n")


def test_a_key_s_secret_is_alone_on_stdout(shell: Shell, sync_client: Client):
    sync_client.admin.tenants.create(Tenant("acme"))
    code, out, err = shell("keys create ci --tenant acme --scopes infer,admin --expires 30d --rpm 6")
    assert (code, out.count("\n"), out[:3], len(out)) == (0, 1, "bl_", 47)
    assert err == "the secret of key ci of acme is shown this once: store it now\n"
    [key] = sync_client.admin.keys.list(tenant="acme")
    assert (key.scopes, key.quota.limits) == ((Scope.INFER, Scope.ADMIN), Limits(requests_per_minute=6))
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - datetime.now(UTC) <= timedelta(days=30)
    code, rotated, err = shell("keys rotate ci --tenant acme")
    assert (code, rotated[:3], rotated != out) == (0, "bl_", True)
    assert "\nthe old one is valid until 20" in err
    assert "old one" not in shell("keys rotate ci --tenant acme --overlap 0")[2]
    issued = json.loads(shell("keys create operator --json")[1])
    assert issued["secret"].startswith("bl_")
    assert (issued["key"]["tenant"], issued["key"]["scopes"]) == ("", ["infer", "read"])


def test_a_key_of_a_hash_shows_no_secret(shell: Shell):
    code, out, err = shell(f"keys create me --secret-sha256 {'ab' * 32}")
    assert (code, out.splitlines()[:2], err) == (0, ["me", "  of          operators"], "")


def test_updating_and_revoking_a_key(shell: Shell, sync_client: Client):
    sync_client.admin.tenants.create(Tenant("acme"))
    keys = sync_client.admin.keys
    keys.create("ci", tenant="acme", quota=Quota(Limits(requests_per_minute=6)), expires_at=data.at(30).ToDatetime(UTC))
    assert shell("keys update ci --tenant acme --expires never --concurrent 2")[0] == 0
    [key] = keys.list(tenant="acme")
    assert key.expires_at is None
    assert key.quota.limits == Limits(requests_per_minute=6, concurrent_requests=2)
    assert shell("keys update nope --tenant acme --rpm 1") == (1, "", "bitlane: there is no key nope of acme\n")
    code, out, _ = shell("keys revoke ci --tenant acme --yes")
    assert (code, out.splitlines()[3]) == (0, "  state       revoked")


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("tenants delete acme", "Delete tenant acme and all its keys?"),
        ("keys revoke ci --tenant acme", "Revoke key ci of acme for good?"),
        ("keys revoke me", "Revoke key me for good?"),
        ("dead-letters purge r1", "Forget dead letter r1 and its prompt?"),
        ("workers quarantine m/fp4 w1", "Take worker w1 of m/fp4 out of service now?"),
    ],
)
def test_nothing_is_destroyed_where_nobody_can_be_asked(line: str, question: str, capsys: pytest.CaptureFixture[str]):
    with scripted_in_thread() as service:
        shell = Shell(service.target, capsys)
        assert shell(line) == (2, "", f"bitlane: {question} Say so with --yes: there is no terminal to ask\n")
        assert service.asked == []
        assert shell(f"{line} --yes")[0] == 0
        assert len(service.asked) == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("YES", 0), ("n", 1), ("", 1), ("\x04", 1)])
def test_a_person_is_asked(answer: str, code: int):
    with scripted_in_thread() as service:
        keyboard = Keyboard(*BITLANE, "--target", service.target, "admin", "tenants", "delete", "acme", NO_COLOR="1")
        keyboard.see("Delete tenant acme and all its keys? [y/N] ")
        keyboard.type(answer if answer == "\x04" else answer + "\n")
        keyboard.see("nothing was done" if code else "tenant acme is deleted")
        assert keyboard.exit_code() == code
        assert service.asked == ([] if code else [pb.DeleteTenantRequest(tenant="acme")])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_ctrl_c_at_the_question_destroys_nothing():
    with scripted_in_thread() as service:
        keyboard = Keyboard(*BITLANE, "--target", service.target, "admin", "tenants", "delete", "acme", NO_COLOR="1")
        keyboard.see("[y/N] ")
        keyboard.type("\x03")
        assert keyboard.exit_code() == 130
        assert service.asked == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "required: COMMAND"),
        ("tenants", "required: ACTION"),
        ("tenants create", "required: TENANT"),
        ("tenants update acme", "name what to change, such as --rpm 600; --help shows all"),
        ("keys update ci", "name what to change"),
        ("tenants update acme --rpm many", "argument --rpm: 'many' is neither a bound such as 600 nor unlimited nor"),
        ("tenants update acme --day-budget 0.0000000001", "argument --day-budget: '0.0000000001' is neither"),
        ("tenants create acme --model-limit smollm2:tps=1", "'tps' is no limit; there are rpm, tpm, concurrent"),
        ("tenants create acme --state gone", "invalid choice: 'gone'"),
        ("keys create ci --scopes write", "'write' is none of infer, read, admin, operate"),
        ("keys create ci --expires 30", "neither a duration such as 7d nor a date"),
        ("keys rotate ci --overlap soon", "'soon' is no duration such as 90s, 15m, 24h, 30d or 2w"),
        ("usage --by colour", "'colour' is none of tenant, key, model, pool, precision, task, time"),
        ("usage --interval week", "invalid choice: 'week'"),
        ("usage --since 1d --until 2d", "--since is not before --until"),
        ("usage --csv --json", "--csv and --json exclude each other"),
        ("audit --limit -1", "--limit must be at least 0, got -1"),
        ("workers drain smollm2/fp4", "required: WORKER"),
    ],
)
def test_wrong_usage(shell: Shell, threaded_server: FakeServer, line: str, said: str):
    code, out, err = shell(line)
    assert (code, out) == (2, "")
    assert said in err
    assert threaded_server.calls == []


def test_what_the_server_refuses_is_said_in_one_line(shell: Shell):
    assert shell("tenants get acme") == (1, "", "bitlane: there is no tenant 'acme' (TENANT_NOT_FOUND)\n")
    assert shell("tenants create acme")[0] == 0
    assert shell("tenants create acme") == (1, "", "bitlane: there is a tenant acme already (TENANT_EXISTS)\n")


def test_a_wait_of_days_is_told_in_days(shell: Shell, threaded_server: FakeServer):
    threaded_server.inject(Fault("RESOURCE_EXHAUSTED", "spent", "QUOTA_BUDGET", retry_after=9 * 86_400.0 + 1))
    assert shell("tenants list")[2] == "bitlane: spent (QUOTA_BUDGET)\n  try again in 10 d\n"


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("quota acme --key ci", pb.GetQuotaStateRequest(tenant="acme", key="ci")),
        ("quota", pb.GetQuotaStateRequest()),
        ("workers list smollm2/fp4", pb.ListWorkersRequest(pool="smollm2/fp4")),
        (
            "workers undrain smollm2/fp4 w1",
            pb.SetWorkerStateRequest(pool="smollm2/fp4", worker="w1", state=pb.WORKER_STATE_SERVING),
        ),
        ("dead-letters replay r1 --tenant acme", pb.ReplayDeadLetterRequest(tenant="acme", request_id="r1")),
        ("audit --tenant acme", pb.ListAuditEventsRequest(tenant="acme")),
        (
            "usage acme --since 2026-11-01 --until 2026-11-08T12:00 --by tenant,task",
            pb.GetUsageRequest(
                tenant="acme",
                start_time=data.at(1),
                end_time=data.at(8, 12),
                interval=pb.USAGE_INTERVAL_DAY,
                group_by=[pb.USAGE_DIMENSION_TENANT, pb.USAGE_DIMENSION_TASK],
            ),
        ),
        (
            "usage --since 2026-11-01 --until 2026-11-04",
            pb.GetUsageRequest(
                start_time=data.at(1),
                end_time=data.at(4),
                interval=pb.USAGE_INTERVAL_HOUR,
                group_by=[pb.USAGE_DIMENSION_MODEL, pb.USAGE_DIMENSION_PRECISION],
            ),
        ),
    ],
)
def test_what_is_asked_for(line: str, sent: object, capsys: pytest.CaptureFixture[str]):
    with scripted_in_thread() as service:
        assert Shell(service.target, capsys)(line)[0] == 0
        assert service.asked == [sent]


def test_usage_of_seven_days_is_told_by_days_until_now(capsys: pytest.CaptureFixture[str]):
    with scripted_in_thread() as service:
        began = datetime.now(UTC)
        Shell(service.target, capsys)("usage --since 7d")
        [asked] = service.asked
        assert isinstance(asked, pb.GetUsageRequest)
        assert asked.interval == pb.USAGE_INTERVAL_DAY
        assert not asked.HasField("end_time")
        week = timedelta(days=7)
        assert began - week <= asked.start_time.ToDatetime(UTC) <= datetime.now(UTC) - week


def test_the_audit_log_is_read_as_far_as_it_is_shown(capsys: pytest.CaptureFixture[str]):
    with scripted_in_thread() as service:
        service.answer(pb.ListAuditEventsResponse(events=[data.EVENTS[0]] * 40, next_page_token="more"))
        shell = Shell(service.target, capsys)
        assert len(shell("audit --json --limit 30")[1].splitlines()) == 30
        assert len(service.asked) == 1
        assert len(shell("audit --json")[1].splitlines()) == 50
        assert len(service.asked) == 3


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    # argparse has no public way to a parser's commands.
    for action in parser._actions:
        choices: object = action.choices
        if isinstance(choices, dict):
            yield from cast("dict[str, argparse.ArgumentParser]", choices).values()


def test_every_command_has_a_help_and_an_example_that_parses():
    [admin] = [each for each in _commands(build(["admin"])) if each.prog == "bitlane admin"]
    rooms = list(_commands(admin))
    parsers = [admin, *rooms, *(action for room in rooms for action in _commands(room))]
    names = {each.prog.removeprefix("bitlane admin").strip() for each in parsers}
    assert {"tenants update", "keys rotate", "usage", "workers quarantine", "dead-letters purge"} <= names
    assert {"policy lint", "policy rollback", "gates set"} <= names
    for parser in parsers:
        example = parser.format_help().partition("example:\n")[2]
        assert example, parser.prog
        for line in example.strip().splitlines():
            program, *words = shlex.split(line.partition(" > ")[0])
            assert program == "bitlane"
            build(words).parse_args(words)


def test_policies_and_gates_are_the_same_commands():
    parser = build(["admin"])
    for line in ("policy put f --note n --tenant acme", "gates set m code passed", "gates", "policy shadow --clear"):
        short = vars(parser.parse_args(line.split()))
        long = vars(parser.parse_args(["admin", *line.split()]))
        assert long.pop("room") == short.pop("command")
        assert long.pop("command") == "admin"
        assert long == short
