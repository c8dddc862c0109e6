"""`bitlane admin` and `client.admin` against a real router: what they change acts, and what they tell is so."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from bitlane import (
    AlreadyExists,
    AuthenticationError,
    BitlaneError,
    Client,
    EditConflict,
    FailedPrecondition,
    InvalidRequest,
    Limits,
    NotFound,
    PermissionDenied,
    Quota,
    QuotaExceeded,
    RetryPolicy,
    Tenant,
    usage_total,
)
from deploy.local.stack import Stack
from tests.process.scripted import ACME, ACME_ADMIN, OPERATOR


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with Stack(engine="scripted", engine_options='{"token_ms": 1, "tokens": 200}') as stack:
        yield stack.start().target


@pytest.fixture
def operator(target: str) -> Iterator[Client]:
    with Client(target, api_key=OPERATOR) as client:
        yield client


def run(target: str, *arguments: str, key: str = OPERATOR) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "bitlane", "--target", target, "admin", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "BITLANE_API_KEY": key},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def ask(target: str, key: str, max_tokens: int = 20) -> str:
    """One request in FP4, never repeated."""
    with Client(target, api_key=key, retry=RetryPolicy.none()) as client:
        return client.generate("Hello", model="smollm2", task="chat", max_tokens=max_tokens).text


def soon(holds: Callable[[], bool]) -> None:
    """Changes are followed by all of the service within a second; a slow machine gets more."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.1)


def test_the_life_of_a_tenant(target: str) -> None:
    code, out, _ = run(
        target, "tenants", "create", "initech", "--rpm", "600", "--model-limit", "smollm2:tpm=50000", "--json"
    )
    made = json.loads(out)
    assert (code, made["quota"]["limits"]["requests_per_minute"]) == (0, 600)
    assert made["quota"]["model_limits"]["smollm2"]["tokens_per_minute"] == 50_000
    code, out, _ = run(target, "keys", "create", "ci", "--tenant", "initech", "--scopes", "infer", "--expires", "30d")
    assert code == 0
    first = out.strip()
    assert ask(target, first)
    assert run(target, "keys", "rotate", "ci", "--tenant", "initech", "--overlap", "0")[1].strip() != first
    with pytest.raises(AuthenticationError):
        ask(target, first)
    assert run(target, "tenants", "update", "initech", "--weight", "2")[0] == 0
    changed = json.loads(run(target, "tenants", "get", "initech", "--json")[1])
    assert changed["weight"] == 2.0
    assert changed["quota"] == made["quota"], "what was not named is as it was"
    assert run(target, "keys", "revoke", "ci", "--tenant", "initech", "--yes")[0] == 0
    [key] = json.loads(run(target, "keys", "list", "--tenant", "initech", "--json")[1])
    assert (key["name"], key["state"], key["created_by"]) == ("ci", "revoked", "operator/local")
    assert run(target, "tenants", "delete", "initech")[0] == 2, "nobody can be asked"
    assert run(target, "tenants", "delete", "initech", "--yes")[0] == 0
    assert run(target, "tenants", "get", "initech")[2].endswith("(TENANT_NOT_FOUND)\n")


def test_errors_of_a_real_server(operator: Client, target: str) -> None:
    tenants, keys = operator.admin.tenants, operator.admin.keys
    made = tenants.create(Tenant("umbrella"))
    calls: list[tuple[type[BitlaneError], str, Callable[[], Any]]] = [
        (AlreadyExists, "TENANT_EXISTS", lambda: tenants.create(Tenant("umbrella"))),
        (NotFound, "TENANT_NOT_FOUND", lambda: tenants.update(Tenant("nobody"))),
        (InvalidRequest, "FIELD_INVALID", lambda: tenants.create(Tenant("Not an id"))),
        (NotFound, "KEY_NOT_FOUND", lambda: keys.revoke("none", tenant="umbrella")),
        (NotFound, "DEAD_LETTER_NOT_FOUND", lambda: operator.admin.dead_letters.replay("r", tenant="umbrella")),
        (NotFound, "WORKER_NOT_FOUND", lambda: operator.admin.workers.drain("smollm2/fp4", "none")),
    ]
    for kind, reason, call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.reason == reason
    changed = tenants.update(replace(made, weight=3.0))
    with pytest.raises(EditConflict) as conflict:
        tenants.update(replace(made, weight=4.0))
    assert conflict.value.metadata["current_etag"] == changed.etag
    keys.create("ci", tenant="umbrella")
    keys.revoke("ci", tenant="umbrella")
    with pytest.raises(FailedPrecondition) as revoked:
        keys.rotate("ci", tenant="umbrella")
    assert revoked.value.reason == "KEY_REVOKED"
    with Client(target, api_key=ACME) as client, pytest.raises(PermissionDenied):
        client.admin.pools()


def test_every_kind_of_limit_comes_back_as_it_was_set(operator: Client) -> None:
    quota = Quota(
        Limits(
            requests_per_minute=0,
            tokens_per_minute=-1,
            concurrent_requests=3,
            queued_requests=2**40,
            day_budget=Decimal("0.000000001"),
            month_budget=Decimal("1234567.123456789"),
        ),
        {"smollm2": Limits(day_budget=-1)},
    )
    operator.admin.tenants.create(Tenant("hooli", quota=quota, priority_ceiling="batch", models=["smollm2"]))
    read = operator.admin.tenants.get("hooli")
    assert (read.quota, read.priority_ceiling, read.models) == (quota, "batch", ("smollm2",))
    assert operator.admin.quota("hooli")[0].limits.month_budget == quota.limits.month_budget


def test_a_quota_error_says_whose_and_when_and_what_never_fits_is_final(operator: Client, target: str) -> None:
    operator.admin.tenants.create(Tenant("piper", quota=Quota(Limits(requests_per_minute=1, tokens_per_minute=1000))))
    key = operator.admin.keys.create("ci", tenant="piper").secret
    with pytest.raises(QuotaExceeded) as never:
        ask(target, key, max_tokens=2000)
    assert (never.value.reason, never.value.final, never.value.retry_after) == ("QUOTA_TOKENS", True, None)
    assert "tenant:piper" in {each.field for each in never.value.violations}
    assert ask(target, key)
    with pytest.raises(QuotaExceeded) as later:
        ask(target, key)
    assert (later.value.reason, later.value.final) == ("QUOTA_REQUESTS", False)
    assert [each.field for each in later.value.violations] == ["tenant:piper"]
    assert later.value.retry_after is not None
    assert 0 < later.value.retry_after <= 60


def test_usage_is_what_was_used(operator: Client, target: str) -> None:
    operator.admin.tenants.create(Tenant("pied"))
    key = operator.admin.keys.create("ci", tenant="pied").secret
    for max_tokens in (10, 20, 30):
        ask(target, key, max_tokens)
    soon(lambda: usage_total(operator.admin.usage("pied")).requests == 3)
    [row] = operator.admin.usage("pied", group_by=["key", "model", "precision", "task", "tenant", "pool"])
    assert (row.tenant, row.key, row.model, row.pool, row.task) == ("pied", "ci", "smollm2", "smollm2/fp4", "chat")
    assert (row.requests, row.output_tokens, row.currency) == (3, 60, "USD")
    # The prices of the local configuration, for a million tokens: FP4 0.05 and 0.1, FP8 the double.
    cost = row.prompt_tokens * Decimal("0.00000005") + row.output_tokens * Decimal("0.0000001")
    assert (row.cost, row.fp8_cost, row.savings_share) == (cost, 2 * cost, 0.5)
    [line] = csv.DictReader(io.StringIO(run(target, "usage", "pied", "--by", "tenant", "--csv")[1]))
    assert (line["tenant"], line["output_tokens"], Decimal(line["savings"])) == ("pied", "60", row.savings)
    assert run(target, "usage", "pied")[1].endswith("would have cost: 50.0%\n")
    [state] = operator.admin.quota("pied")
    assert (state.reserved_cost, state.concurrent_requests) == (Decimal(0), 0)
    # A new day may have begun meanwhile.
    assert state.day_spent <= cost


def test_a_tenant_s_key_sees_its_own(target: str) -> None:
    [tenant] = json.loads(run(target, "tenants", "list", "--json", key=ACME)[1])
    assert tenant["id"] == "acme"
    assert run(target, "tenants", "get", "globex", key=ACME)[0] == 1
    assert run(target, "quota", key=ACME)[0] == 0
    assert run(target, "keys", "list", key=ACME)[2].endswith("(SCOPE_MISSING)\n")
    names = [key["name"] for key in json.loads(run(target, "keys", "list", "--json", key=ACME_ADMIN)[1])]
    assert {"admin", "local"} <= set(names)
    events = [json.loads(line) for line in run(target, "audit", "--json", key=ACME_ADMIN)[1].splitlines()]
    assert {event["tenant"] for event in events} == {"acme"}


def test_lists_are_read_over_all_pages(operator: Client) -> None:
    names = [f"page-{number:03}" for number in range(120)]
    for name in names:
        operator.admin.tenants.create(Tenant(name))
    assert [tenant.id for tenant in operator.admin.tenants.list() if tenant.id in names] == names
    made = [event.resource for event in operator.admin.audit() if event.action == "CreateTenant"]
    assert [name for name in made if name.startswith("tenant/page-")] == [f"tenant/{name}" for name in reversed(names)]


def test_workers_do_what_they_are_told(target: str) -> None:
    pool, name = "smollm2/fp8", "smollm2-fp8-1"

    def state() -> str:
        [worker] = json.loads(run(target, "workers", "list", pool, "--json")[1])
        return f"{worker['state']} {worker['wanted_state']}"

    assert state() == "serving serving"
    assert run(target, "workers", "drain", pool, name)[0] == 0
    soon(lambda: state() == "draining draining")
    assert run(target, "workers", "quarantine", pool, name, "--yes")[0] == 0
    soon(lambda: state() == "quarantined quarantined")
    assert run(target, "workers", "undrain", pool, name)[0] == 0
    soon(lambda: state() == "serving serving")
    assert pool in run(target, "pools")[1]


def test_the_audit_log_knows_it_all_and_no_secret(target: str) -> None:
    secret = run(target, "keys", "create", "spare")[1].strip()
    assert run(target, "keys", "revoke", "spare", "--yes")[0] == 0
    code, out, _ = run(target, "audit", "--limit", "2")
    _, last, first = out.splitlines()
    assert (code, first.split()[2:5], last.split()[2:5]) == (
        0,
        ["operator/local", "CreateApiKey", "operator-key/spare"],
        ["operator/local", "RevokeApiKey", "operator-key/spare"],
    )
    assert secret not in run(target, "audit", "--json", "--limit", "0")[1]


def test_policies_and_gates_too(target: str) -> None:
    assert run(target, "policy", "get", "--tenant", "acme")[1].startswith("# bitlane policy of acme, version 1, etag")
    assert run(target, "gates", "list", "smollm2")[0] == 0
