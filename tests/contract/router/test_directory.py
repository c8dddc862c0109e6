"""The directory over a real store: many tenants, unreadable documents, and seeds of routers that start together."""

import asyncio
import hashlib
import json

import pytest

from broker import Broker
from broker.documents import ANY
from broker.types import Change, Limits
from router.directory.directory import Directory
from router.directory.keys import key_document
from router.directory.seeding import Seeding
from router.directory.tenants import tenant_document
from router.documents import DocumentWatch
from router.seeds import TenantConfig

TENANTS, KEYS = 300, 5


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def followed(broker: Broker, seeds: list[TenantConfig] | None = None) -> tuple[Directory, DocumentWatch]:
    directory = Directory([], Limits())
    seeding = Seeding(directory, broker.documents, seeds or [])
    return directory, DocumentWatch(broker.documents, directory.followers, seeding)


async def put(broker: Broker, name: str, **fields: object) -> None:
    text = json.dumps(fields) if fields else ""
    await broker.documents.put(name, text, author="test", etag=ANY, audit=Change("Test", ""))


async def put_key(broker: Broker, secret: str, name: str = "ci", tenant: str = "acme", **fields: object) -> None:
    key = {"tenant_uid": "u", "scopes": ["infer"], "secrets": [{"sha256": sha256(secret)}]}
    await put(broker, key_document(tenant, name), **key, **fields)


def opens(directory: Directory, secret: str) -> bool:
    return directory.key_of(secret) is not None


async def test_a_router_that_starts_finds_every_tenant_and_key(broker: Broker) -> None:
    names = [(f"t{t}", f"k{k}") for t in range(TENANTS) for k in range(KEYS)]
    # Keys first: their tenants come later, and nobody can use them before.
    await asyncio.gather(*(put_key(broker, f"{tenant}.{name}", name, tenant) for tenant, name in names))
    await asyncio.gather(*(put(broker, tenant_document(f"t{t}"), uid="u", created_ms=1) for t in range(TENANTS)))
    directory, watch = followed(broker)
    assert not directory.ready
    await watch.refresh()
    assert directory.ready
    assert all(opens(directory, f"{tenant}.{name}") for tenant, name in names)
    await put(broker, key_document("t7", "k3"))
    await watch.refresh()
    assert [name for name in names if not opens(directory, ".".join(name))] == [("t7", "k3")]


async def test_an_unreadable_tenant_stays_as_it_was_and_an_unreadable_key_counts_for_nothing(broker: Broker) -> None:
    await put(broker, tenant_document("acme"), uid="u", created_ms=1, weight=2)
    await put_key(broker, "bl_a")
    await put_key(broker, "bl_b", "other")
    running, watch = followed(broker)
    await watch.refresh()
    await put(broker, tenant_document("acme"), uid="u", created_ms=1, weight="heavy")
    await put_key(broker, "bl_a", revoked_ms="long ago")
    await watch.refresh()
    started, late = followed(broker)
    await late.refresh()
    for directory in (running, started):
        tenant = directory.tenant("acme")
        assert tenant is not None
        assert tenant.weight == 2
        assert (opens(directory, "bl_a"), opens(directory, "bl_b")) == (False, True)


async def test_routers_that_start_together_seed_once(broker: Broker) -> None:
    seed = TenantConfig.model_validate(
        {"id": "acme", "keys": [{"name": "ci", "sha256": sha256("bl_a")}], "policy": {"spill": False}}
    )
    routers = [followed(broker, [seed]) for _ in range(5)]
    await asyncio.gather(*(watch.refresh() for _, watch in routers))
    for directory, _ in routers:
        assert directory.ready
        assert opens(directory, "bl_a")
    page = await broker.audit.list(100)
    assert sorted((event.actor, event.action, event.resource) for event in page.items) == [
        ("config", "CreateApiKey", "key/acme/ci"),
        ("config", "CreateTenant", "tenant/acme"),
        ("config", "PutPolicy", "policy/acme"),
    ]
    assert sha256("bl_a") not in str(page)


@pytest.mark.parametrize("broken", ["", "{}", '{"uid": "u", "created_ms": 1, "weight": 0}'])
async def test_a_seed_never_replaces_what_was_there(broker: Broker, broken: str) -> None:
    """Not a deleted tenant, nor one that this router cannot read; and it does not wait for either for ever."""
    change = Change("Test", "acme")
    await broker.documents.put(tenant_document("acme"), broken, author="x", etag="", audit=change)
    directory, watch = followed(broker, [TenantConfig(id="acme")])
    await asyncio.wait_for(watch.refresh(), 10)
    assert (directory.ready, directory.tenant("acme")) == (True, None)
    stored = await broker.documents.get(tenant_document("acme"))
    assert stored is not None
    assert (stored.version, stored.text) == (1, broken)
