"""Tenants and keys as documents: what is read, what is refused, which credential opens what and how long."""

import hashlib
import json
import time
from collections.abc import Mapping

import pytest

from broker.documents import Document
from broker.types import Account, Limits
from precision.decision import PriorityClass
from router.directory.directory import Directory
from router.directory.keys import ApiKey, KeyState, Secret, key_document
from router.directory.quota import LimitSettings, Quota
from router.directory.tenants import Tenant, TenantState, tenant_document
from router.scopes import OPERATOR_SCOPES, Scope
from router.seeds import OperatorConfig

DEFAULTS = Limits(queued_requests=256, requests_per_minute=60)
HOUR_MS = 3_600_000


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def now_ms() -> int:
    return round(time.time() * 1000)


def document(name: str, text: str, version: int = 1) -> Document:
    return Document(name, version, f"{version}-x", "operator/op", "", 1000 * version, text)


def key_text(secret: str, **fields: object) -> str:
    return json.dumps({"scopes": ["infer"], "secrets": [{"sha256": sha256(secret)}], "tenant_uid": "u1"} | fields)


@pytest.fixture
def directory() -> Directory:
    directory = Directory([OperatorConfig(name="op", sha256=sha256("bl_operator"))], DEFAULTS)
    put_tenant(directory, "acme")
    return directory


def put_tenant(directory: Directory, tenant: str, **fields: object) -> None:
    text = json.dumps({"uid": "u1", "created_ms": 5} | fields)
    directory.tenants.load(tenant, document(tenant_document(tenant), text))


def put_key(directory: Directory, text: str, name: str = "ci", tenant: str = "acme", version: int = 1) -> None:
    found = document(key_document(tenant, name), text, version)
    directory.keys.load(found.name.partition("/")[2], found)


def opened(directory: Directory, secret: str) -> str:
    key = directory.key_of(secret)
    return f"{key.tenant}/{key.name}" if key else ""


def test_a_tenant_is_what_its_document_says(directory: Directory) -> None:
    put_tenant(directory, "globex", weight=2, models=["m"], state="suspended", priority_ceiling="batch")
    tenant = directory.tenant("globex")
    assert tenant is not None
    assert (tenant.id, tenant.etag, tenant.updated_ms, tenant.created_ms) == ("globex", "1-x", 1000, 5)
    assert (tenant.weight, tenant.suspended, tenant.priority_ceiling) == (2.0, True, PriorityClass.BATCH)
    assert (tenant.may_use("m"), tenant.may_use("n")) == (True, False)
    acme = directory.tenant("acme")
    assert acme is not None
    assert acme.may_use("anything")


def test_documents_are_read_as_they_were_written() -> None:
    quota = Quota(limits=LimitSettings(day_budget_nanos=-1), model_limits={"m": LimitSettings(queued_requests=0)})
    tenant = Tenant(uid="u", created_ms=1, display_name="Ä", state=TenantState.SUSPENDED, quota=quota)
    assert Tenant.model_validate_json(tenant.text) == tenant
    secrets = (Secret(sha256="a" * 64), Secret(sha256="b" * 64, expires_ms=5))
    key = ApiKey(scopes=frozenset(Scope), secrets=secrets, expires_ms=9, quota=quota)
    assert ApiKey.model_validate_json(key.text) == key


def test_fields_of_a_newer_release_survive_a_change_by_this_one(directory: Directory) -> None:
    put_tenant(directory, "acme", region="eu", quota={"limits": {"images_per_minute": 3}})
    tenant = directory.tenant("acme")
    assert tenant is not None
    changed = json.loads(tenant.model_copy(update={"weight": 3.0}).text)
    assert (changed["region"], changed["weight"]) == ("eu", 3.0)
    assert changed["quota"]["limits"] == {"images_per_minute": 3}
    # What is not stored in the document is not written into it.
    assert not {"id", "etag", "updated_ms"} & set(changed)


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": 0},
        {"weight": "NaN"},
        {"state": "asleep"},
        {"priority_ceiling": "urgent"},
        {"quota": {"limits": {"queued_requests": -2}}},
        {"quota": {"limits": {"queued_requests": 1 << 53}}},
        {"uid": None},
    ],
)
def test_bad_values_are_refused_and_the_old_ones_stay(directory: Directory, fields: Mapping[str, object]) -> None:
    before = directory.tenant("acme")
    with pytest.raises(ValueError, match=next(iter(fields))):
        put_tenant(directory, "acme", **fields)
    assert directory.tenant("acme") == before


@pytest.mark.parametrize("text", ["[]", "{", "null", '"x"'])
def test_what_is_no_document_is_refused(directory: Directory, text: str) -> None:
    with pytest.raises(ValueError, match=r"document|JSON"):
        directory.tenants.load("acme", document("tenant/acme", text))


def test_a_key_is_found_by_its_secret(directory: Directory) -> None:
    put_key(directory, key_text("bl_a"))
    assert opened(directory, "bl_a") == "acme/ci"
    assert opened(directory, "bl_A") == ""
    assert opened(directory, sha256("bl_a")) == ""
    assert opened(directory, "") == ""
    assert opened(directory, "\udcff") == ""


def test_operators_of_the_configuration_stay_whatever_is_stored(directory: Directory) -> None:
    put_key(directory, key_text("bl_operator"))  # nobody takes their secret
    put_key(directory, key_text("bl_b", scopes=["read"]), "second", tenant="")
    assert opened(directory, "bl_operator") == "/op"
    assert opened(directory, "bl_b") == "/second"
    directory.keys.reset()
    key = directory.key_of("bl_operator")
    assert key is not None
    assert key.scopes == OPERATOR_SCOPES
    assert opened(directory, "bl_b") == ""


@pytest.mark.parametrize("name", ["key/ci", "key/acme/x/ci", "operator-key/acme/ci", "key/acme/", "key/acme/A"])
def test_a_key_counts_only_under_a_keys_name(directory: Directory, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a key"):
        directory.keys.load(name.partition("/")[2], document(name, key_text("bl_a")))
    assert opened(directory, "bl_a") == ""


def test_an_expired_key_opens_nothing(directory: Directory) -> None:
    put_key(directory, key_text("bl_a", expires_ms=now_ms() - 1))
    put_key(directory, key_text("bl_b", expires_ms=now_ms() + HOUR_MS), "later")
    assert (opened(directory, "bl_a"), opened(directory, "bl_b")) == ("", "acme/later")
    key = directory.keys.get("acme", "ci")
    assert key is not None
    assert key.state(now_ms()) is KeyState.EXPIRED


def test_two_secrets_overlap_for_a_while(directory: Directory) -> None:
    old, new = {"sha256": sha256("bl_old"), "expires_ms": now_ms() + HOUR_MS}, {"sha256": sha256("bl_new")}
    put_key(directory, key_text("", secrets=[new, old]))
    assert opened(directory, "bl_old") == opened(directory, "bl_new") == "acme/ci"
    put_key(directory, key_text("", secrets=[new, old | {"expires_ms": now_ms() - 1}]), version=2)
    assert (opened(directory, "bl_old"), opened(directory, "bl_new")) == ("", "acme/ci")


def test_revoked_and_cleared_keys_are_forgotten(directory: Directory) -> None:
    put_key(directory, key_text("bl_a"))
    put_key(directory, key_text("bl_a", revoked_ms=7), version=2)
    assert opened(directory, "bl_a") == ""
    put_key(directory, key_text("bl_b"), "other")
    put_key(directory, "", "other", version=2)
    assert opened(directory, "bl_b") == ""
    assert not directory.keys.knows(sha256("bl_b"))


def test_a_key_that_cannot_be_read_opens_nothing(directory: Directory) -> None:
    """It could be the one that says that it is revoked."""
    put_key(directory, key_text("bl_a"))
    with pytest.raises(ValueError, match="scopes") as bad:
        put_key(directory, key_text("bl_a", scopes=["everything"]), version=2)
    assert sha256("bl_a") not in str(bad.value)
    assert opened(directory, "bl_a") == ""
    assert not directory.keys.old_is_good


def test_a_bad_hash_is_not_told(directory: Directory) -> None:
    with pytest.raises(ValueError, match="secrets") as bad:
        put_key(directory, key_text("", secrets=[{"sha256": "A" * 64}]))
    assert "AAAA" not in str(bad.value)


def test_one_secret_of_two_keys_opens_neither(directory: Directory) -> None:
    put_key(directory, key_text("bl_a"), "one")
    put_key(directory, key_text("bl_a"), "two")
    assert opened(directory, "bl_a") == ""
    put_key(directory, "", "two", version=2)
    assert opened(directory, "bl_a") == "acme/one"


def test_keys_end_with_their_tenant(directory: Directory) -> None:
    put_key(directory, key_text("bl_a"))
    directory.tenants.load("acme", document("tenant/acme", "", 2))
    assert opened(directory, "bl_a") == ""
    assert "acme" in directory.tenants.ever
    # Whoever gets the id later does not get the keys.
    put_tenant(directory, "acme", uid="u2")
    assert opened(directory, "bl_a") == ""
    acme = directory.tenant("acme")
    assert directory.keys_of(acme) == []


def test_a_directory_is_ready_once_it_was_read() -> None:
    directory = Directory([], DEFAULTS)
    assert not directory.ready
    directory.tenants.complete = True
    assert directory.ready
    directory.tenants.reset()  # the store lost its data
    assert not directory.ready


def test_hashes_are_in_no_text_that_is_shown() -> None:
    key = ApiKey(
        scopes=frozenset((Scope.INFER,)), secrets=(Secret(sha256="a" * 64), Secret(sha256="b" * 64, expires_ms=5))
    )
    for text in (repr(key), str(key), key.shown):
        assert "aaaa" not in text
        assert "bbbb" not in text
    assert json.loads(key.shown)["old_secret_expires_ms"] == 5


def test_the_tenants_own_account_comes_first_with_the_defaults(directory: Directory) -> None:
    tenant, none = directory.tenant("acme"), Quota()
    assert tenant is not None
    assert directory.accounts(tenant, "ci", none, "m") == (Account("", "", DEFAULTS),)
    put_tenant(
        directory,
        "acme",
        quota={
            "limits": {"queued_requests": -1, "concurrent_requests": 0},
            "model_limits": {"m": {"tokens_per_minute": 9}, "n": {"tokens_per_minute": 1}, "o": {}},
        },
    )
    tenant = directory.tenant("acme")
    assert tenant is not None
    key = Quota(limits=LimitSettings(month_budget_nanos=7), model_limits={"m": LimitSettings(queued_requests=-1)})
    own = Account("", "", Limits(requests_per_minute=60, concurrent_requests=0))
    # Defaults are the tenant's alone; what bounds nothing is not sent.
    assert directory.accounts(tenant, "ci", key, "m") == (
        own,
        Account("", "m", Limits(tokens_per_minute=9)),
        Account("ci", "", Limits(month_budget=7)),
    )
    assert directory.accounts(tenant, "ci", none, "o") == (own,)
