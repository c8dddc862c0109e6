"""Every change is told once, with who, what, before and after; and it can be read page by page."""

import asyncio

import pytest

from broker import Broker
from broker.documents import ANY, EtagMismatch
from broker.types import AuditEvent, Change

POLICY = "policy/acme"


async def put(broker: Broker, text: str, etag: str = ANY, change: Change | None = None, name: str = POLICY) -> str:
    change = change or Change("PutPolicy", "acme")
    return (await broker.documents.put(name, text, author="acme/admin", etag=etag, audit=change)).etag


async def events(broker: Broker, tenant: str | None = None) -> tuple[AuditEvent, ...]:
    return (await broker.audit.list(tenant=tenant)).items


async def record(broker: Broker, number: int, tenant: str) -> None:
    await broker.audit.record("operator/local", "SetWorkerState", f"worker/{number}", tenant, "serve", "drain")


async def test_a_put_tells_who_what_before_and_after(broker: Broker) -> None:
    etag = await put(broker, "one", "")
    await put(broker, "two", etag)
    second, first = await events(broker)
    assert (first.actor, first.action, first.resource, first.tenant) == ("acme/admin", "PutPolicy", POLICY, "acme")
    assert [(event.before, event.after) for event in (first, second)] == [("", "one"), ("one", "two")]
    assert 1_600_000_000_000 < first.time_ms <= second.time_ms


async def test_a_repeated_put_is_told_once_and_a_refused_one_never(broker: Broker) -> None:
    etag = await put(broker, "one", "")
    for _ in range(3):
        await put(broker, "two", etag)
    with pytest.raises(EtagMismatch):
        await put(broker, "three", etag)
    assert [event.after for event in await events(broker)] == ["two", "one"]


async def test_given_texts_hide_what_is_stored(broker: Broker) -> None:
    await put(broker, "a hash", change=Change("CreateApiKey", "acme", after="{}"))
    await put(broker, "another hash", change=Change("RotateApiKey", "acme", before="{}", after=""))
    second, first = await events(broker)
    assert [(event.before, event.after) for event in (first, second)] == [("", "{}"), ("{}", "")]


@pytest.mark.parametrize("character", ["x", "ü", "€", "\U0001f600"])
async def test_long_texts_are_cut_between_characters(broker: Broker, character: str) -> None:
    for lead in ("", "x", "xx", "xxx"):
        text = lead + character * 5000
        await put(broker, text)
        await broker.audit.record("a", "b", "c", "", text, "")
        recorded, changed = (await events(broker))[:2]
        assert text.startswith(changed.after)
        assert 4096 - 4 < len(changed.after.encode()) <= 4096
        assert recorded.before == changed.after


async def test_pages_hold_every_event_once(broker: Broker) -> None:
    for number in range(25):
        await record(broker, number, "")
    seen: list[str] = []
    cursor = ""
    while True:
        page = await broker.audit.list(limit=4, before_id=cursor)
        seen += [event.resource for event in page.items]
        cursor = page.cursor
        if not cursor:
            break
        await record(broker, 99, "")  # what comes meanwhile moves no page
    assert seen == [f"worker/{number}" for number in reversed(range(25))]


async def test_a_tenant_sees_its_own_also_far_behind(broker: Broker) -> None:
    await record(broker, 1, "acme")
    await asyncio.gather(*(record(broker, number, "blue") for number in range(2_500)))
    await record(broker, 2, "acme")
    pages, cursor = 0, ""
    seen: list[str] = []
    while pages == 0 or cursor:
        page = await broker.audit.list(limit=10, before_id=cursor, tenant="acme")
        seen += [event.resource for event in page.items]
        pages, cursor = pages + 1, page.cursor
    assert seen == ["worker/2", "worker/1"]
    assert 2 <= pages <= 4  # each looks at a bounded part


async def test_the_log_is_bounded(broker: Broker) -> None:
    for _ in range(6):
        await asyncio.gather(*(record(broker, number, "") for number in range(2_000)))
    length = await broker._documents_pipeline.command("XLEN", "bl:{documents}:audit")  # pyright: ignore[reportPrivateUsage]
    assert isinstance(length, int)
    assert 10_000 <= length < 11_000


async def test_a_cursor_that_is_none_is_refused(broker: Broker) -> None:
    for bad in ("x", "1", "1-1 COUNT", "(1-1"):
        with pytest.raises(ValueError, match="before_id"):
            await broker.audit.list(before_id=bad)
