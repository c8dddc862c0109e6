"""Documents: no lost update, versions, what changed, and the server's coming and going."""

import asyncio

import pytest

from broker import Broker, BrokerOptions
from broker.documents import ANY, KEPT_VERSIONS, Document, EtagMismatch, Revision
from broker.types import BrokerUnavailable, Change
from deploy.local.server import LocalServer

NAME = "policy/acme"


async def put(broker: Broker, text: str, etag: str = ANY, name: str = NAME, author: str = "acme/admin") -> Document:
    change = Change("PutPolicy", "acme")
    return await broker.documents.put(name, text, author=author, etag=etag, audit=change, note="why")


async def test_a_put_is_read_back(broker: Broker) -> None:
    assert await broker.documents.get(NAME) is None
    text = "map: {}\n# ünïcode \U0001f600\n\n"
    stored = await broker.documents.put(
        NAME, text, author='a"b/\\', etag="", audit=Change("PutPolicy", "acme"), note="line\nbreak"
    )
    assert stored == await broker.documents.get(NAME)
    assert (stored.version, stored.text, stored.author, stored.note) == (1, text, 'a"b/\\', "line\nbreak")
    assert stored.time_ms > 1_600_000_000_000


async def test_a_lost_update_is_refused_and_told_the_current_etag(broker: Broker) -> None:
    first = await put(broker, "one", "")
    second = await put(broker, "two", first.etag)
    for etag in ("", first.etag, "9-nonsense"):
        with pytest.raises(EtagMismatch) as mismatch:
            await put(broker, "mine", etag)
        assert mismatch.value.current is not None
        assert (mismatch.value.current.etag, mismatch.value.current.version) == (second.etag, 2)
    assert await broker.documents.get(NAME) == second
    with pytest.raises(EtagMismatch) as nothing:
        await put(broker, "mine", first.etag, "policy/globex")
    assert nothing.value.current is None


async def test_of_many_writers_one_wins(broker: Broker) -> None:
    base = await put(broker, "base", "")
    results = await asyncio.gather(*(put(broker, f"text {n}", base.etag) for n in range(20)), return_exceptions=True)
    won = [result for result in results if isinstance(result, Document)]
    assert len(won) == 1
    assert sum(isinstance(result, EtagMismatch) for result in results) == 19
    assert await broker.documents.get(NAME) == won[0]


async def test_a_repeated_put_is_answered_as_the_first(broker: Broker) -> None:
    first = await put(broker, "one", "")
    assert await put(broker, "one", "") == first
    second = await put(broker, "two", first.etag)
    assert await put(broker, "two", first.etag) == second
    with pytest.raises(EtagMismatch):
        await put(broker, "two", first.etag, author="somebody/else")


async def test_versions_are_kept_up_to_a_bound(broker: Broker) -> None:
    for number in range(KEPT_VERSIONS + 5):
        await put(broker, f"text {number}")
    versions = await broker.documents.versions(NAME)
    assert [document.version for document in versions] == list(range(KEPT_VERSIONS + 5, 5, -1))
    assert versions[-1].text == "text 5"
    assert await broker.documents.versions("policy/globex") == []


async def test_what_changed_since(broker: Broker) -> None:
    start, names = await broker.documents.changes(Revision())
    assert names == []
    await put(broker, "one")
    await put(broker, "two")
    after, names = await broker.documents.changes(start)
    assert names == [NAME]
    await put(broker, "x", name="gate/smollm2/none/chat")
    later, names = await broker.documents.changes(after)
    assert names == ["gate/smollm2/none/chat"]
    assert (await broker.documents.changes(later))[1] == []


async def test_a_store_that_lost_its_data_is_another_one(broker: Broker) -> None:
    for number in range(3):
        await put(broker, f"text {number}")
    before, _ = await broker.documents.changes(Revision())
    await broker._registry_pipeline.command("FLUSHALL")  # pyright: ignore[reportPrivateUsage]
    empty, names = await broker.documents.changes(before)
    assert (names, empty.store == before.store) == ([], False)
    for number in range(9):
        await put(broker, f"text {number}", name="policy/globex")
    _, names = await broker.documents.changes(before)
    assert names == ["policy/globex"]


async def test_counters_add_up(broker: Broker) -> None:
    await asyncio.gather(*(broker.documents.count("shadow/acme/1", {"a": 2, "b": n}) for n in range(5)))
    assert await broker.documents.counts("shadow/acme/1") == {"a": 10, "b": 10}
    assert await broker.documents.counts("shadow/acme/2") == {}


@pytest.mark.parametrize("name", ["", "policy/", "policy/a b", "policy/{x}", "policy/*", "a\nb", "policy/" + "x" * 257])
async def test_hostile_names_are_no_keys(broker: Broker, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a key"):
        await broker.documents.get(name)


async def test_documents_survive_a_crash_of_the_server(own_server: LocalServer) -> None:
    async with Broker(BrokerOptions(url=own_server.url)) as broker:
        stored = await put(broker, "text", "")
        await asyncio.sleep(1.1)  # appendfsync everysec
        own_server.kill()
        with pytest.raises(BrokerUnavailable):
            await broker.documents.get(NAME)
        own_server.start()
        assert await broker.documents.get(NAME) == stored
