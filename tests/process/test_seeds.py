"""The configuration's tenants: put into the store once, whoever is first, and never again over what was changed."""

import hashlib
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import yaml

from bitlane.v1 import admin_pb2 as apb
from bitlane.v1 import policy_pb2 as ppb
from deploy.local.processes import Process
from deploy.local.stack import Stack
from deploy.local.tenants import make_tenants
from tests.process.admin_calls import Api, code_of, refused

pytestmark = pytest.mark.timeout(90)

SECRET = "bl_test_seeded"
POLICY = "rules: []\nspill: false\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    text = yaml.safe_load(Path("config/local.yaml").read_text(encoding="utf-8"))
    sha256 = hashlib.sha256(SECRET.encode()).hexdigest()
    text["tenants"] = [
        {
            "id": "initech",
            "display_name": "Initech",
            "weight": 2.5,
            "priority_ceiling": "standard",
            "quota": {"limits": {"requests_per_minute": 600, "day_budget": 1.5}},
            "policy_file": "policy.yaml",
            "keys": [
                {"name": "ci", "sha256": sha256, "quota": {"limits": {"concurrent_requests": 3}}},
                {"name": "admin", "sha256": "a" * 64, "scopes": ["admin"], "expires": "2031-01-01T00:00:00Z"},
            ],
        },
        {"id": "hooli"},
    ]
    path = tmp_path / "seeded.yaml"
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    return path


@pytest.fixture
def stack(config: Path) -> Iterator[Stack]:
    """A server alone; the tests start the routers."""
    with Stack(engine="scripted", config=config) as stack:
        stack.server.start()
        yield stack


@contextmanager
def operator_at(router: Process) -> Generator[Api]:
    with grpc.insecure_channel(Stack.target_of(router)) as channel:
        yield Api(channel)


def stop(stack: Stack, *routers: Process) -> None:
    for router in routers:
        router.terminate()
        assert router.wait(20) == 0
        stack.routers.remove(router)


def events_of(api: Api, tenant: str) -> list[tuple[str, str]]:
    """What was done to a tenant, oldest first."""
    return [(event.action, event.resource) for event in reversed(api.events(tenant))]


SEEDED = [
    ("CreateApiKey", "key/initech/ci"),
    ("CreateApiKey", "key/initech/admin"),
    ("PutPolicy", "policy/initech"),
    ("CreateTenant", "tenant/initech"),
]


def test_seeds_are_put_once_by_whichever_router_is_first(stack: Stack) -> None:
    routers = [stack.add_router() for _ in range(3)]
    for router in routers:
        with operator_at(router) as api:
            own = api.with_key(SECRET)
            tenant = own.ask(own.admin.GetTenant, apb.GetTenantRequest()).tenant
            assert (tenant.id, tenant.display_name, tenant.weight) == ("initech", "Initech", 2.5)
            assert tenant.quota.limits.day_budget_nanos == 1_500_000_000
            keys = api.ask(api.admin.ListApiKeys, apb.ListApiKeysRequest(tenant="initech")).keys
            assert [(key.name, key.created_by, key.scopes) for key in keys] == [
                ("admin", "config", [apb.SCOPE_ADMIN]),
                ("ci", "config", [apb.SCOPE_INFER, apb.SCOPE_READ]),
            ]
            assert keys[0].expires_at.seconds == 1_924_992_000
            assert keys[1].quota.limits.concurrent_requests == 3
            policy = api.ask(api.policies.GetPolicy, ppb.GetPolicyRequest(tenant="initech")).policy
            assert (policy.version, policy.author, policy.document) == (1, "config", POLICY)
            # hooli says nothing of a policy: the product's default, and no document.
            default = api.ask(api.policies.GetPolicy, ppb.GetPolicyRequest(tenant="hooli")).policy
            assert (default.version, default.etag, default.document) == (0, "", "{}\n")
            assert events_of(api, "initech") == SEEDED
            assert events_of(api, "hooli") == [("CreateTenant", "tenant/hooli")]
            assert {event.actor for event in api.events()} == {"config"}


def test_what_was_changed_or_deleted_stays_so(stack: Stack) -> None:
    router = stack.add_router()
    with operator_at(router) as api:
        changed = apb.Tenant(id="initech", weight=9)
        api.ask(api.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=changed))
        api.ask(api.admin.RevokeApiKey, apb.RevokeApiKeyRequest(tenant="initech", name="ci"))
        api.ask(api.policies.PutPolicy, ppb.PutPolicyRequest(tenant="initech", document="{}", etag="*"))
        api.ask(api.admin.DeleteTenant, apb.DeleteTenantRequest(tenant="hooli"))
    stop(stack, router)
    with operator_at(stack.add_router()) as api:
        tenant = api.ask(api.admin.GetTenant, apb.GetTenantRequest(tenant="initech")).tenant
        assert (tenant.weight, tenant.display_name) == (9, "")
        own = api.with_key(SECRET)
        assert code_of(lambda: own.ask(own.admin.GetTenant, apb.GetTenantRequest())) is (
            grpc.StatusCode.UNAUTHENTICATED
        )
        assert api.ask(api.policies.GetPolicy, ppb.GetPolicyRequest(tenant="initech")).policy.version == 2
        gone = refused(lambda: api.ask(api.admin.GetTenant, apb.GetTenantRequest(tenant="hooli")))
        assert gone.reason == "TENANT_NOT_FOUND"


def test_a_seeding_that_was_cut_short_goes_on(stack: Stack) -> None:
    """Keys and policy are there and the tenant is not, as after a router's death in between."""
    first = stack.add_router()
    with operator_at(first) as api:
        assert events_of(api, "initech") == SEEDED
    stop(stack, first)
    _forget(stack, "tenant/initech")
    with operator_at(stack.add_router()) as api:
        own = api.with_key(SECRET)
        assert own.ask(own.admin.GetTenant, apb.GetTenantRequest()).tenant.weight == 2.5
        assert events_of(api, "initech") == [*SEEDED, ("CreateTenant", "tenant/initech")]


def test_a_store_that_lost_its_data_is_seeded_again(stack: Stack) -> None:
    with operator_at(stack.add_router()) as api:
        made = api.make_key("initech", "made")
        stack.server.kill()
        stack.server.start()
        codes = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}

        def asked(secret: str) -> grpc.StatusCode:
            own = api.with_key(secret)
            return code_of(lambda: own.ask(own.admin.GetTenant, apb.GetTenantRequest()))

        # What was not seeded is lost; until the router has noticed it knows everybody, and then for a moment nobody.
        while (code := asked(made)) is not grpc.StatusCode.UNAUTHENTICATED:
            assert code in {grpc.StatusCode.OK, *codes}
        assert asked(SECRET) is grpc.StatusCode.OK
        assert events_of(api, "initech") == SEEDED


def test_nobody_is_unknown_until_the_store_was_read(stack: Stack) -> None:
    stack.server.kill()
    router = stack.add_router()
    with operator_at(router) as api:
        for key in ("bl_local_admin", SECRET, "bl_unknown"):
            caller = api.with_key(key)
            away = refused(lambda c=caller: c.ask(c.admin.ListTenants, apb.ListTenantsRequest()))
            assert (away.code, away.reason) == (grpc.StatusCode.UNAVAILABLE, "BROKER_UNAVAILABLE")
        stack.server.start()
        own = api.with_key(SECRET)
        while (code := code_of(lambda: own.ask(own.admin.GetTenant, apb.GetTenantRequest()))) is not grpc.StatusCode.OK:
            assert code is grpc.StatusCode.UNAVAILABLE
        stranger = api.with_key("bl_unknown")
        unknown = refused(lambda: stranger.ask(stranger.admin.ListTenants, apb.ListTenantsRequest()))
        assert unknown.code is grpc.StatusCode.UNAUTHENTICATED
        # What is known stays good while the server is away again.
        stack.server.kill()
        assert code_of(lambda: own.ask(own.admin.GetTenant, apb.GetTenantRequest())) is grpc.StatusCode.OK


def test_the_local_stack_leaves_its_tenants_alone_at_a_second_start(stack: Stack) -> None:
    router = stack.add_router()
    make_tenants(stack.target_of(router))
    with operator_at(router) as api:
        changed = apb.Tenant(id="acme", weight=7)
        api.ask(api.admin.UpdateTenant, apb.UpdateTenantRequest(tenant=changed))
        before = api.events()
        make_tenants(stack.target_of(router))
        assert api.events() == before
        acme = api.with_key("bl_local_acme")
        assert acme.ask(acme.admin.GetTenant, apb.GetTenantRequest()).tenant.weight == 7


def _forget(stack: Stack, name: str) -> None:
    """Removes a document past the API, as if it had never been put."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(str(stack.server.socket))
        server.sendall(f"DEL bl:{{documents}}:doc:{name}\r\nZREM bl:{{documents}}:changes {name}\r\n".encode())
        assert server.recv(64).startswith(b":1")
