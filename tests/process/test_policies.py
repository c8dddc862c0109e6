"""Live policies, gates and shadows, on two routers: what is put acts everywhere, and only what is good acts at all."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

import bitlane
from bitlane.policies import AsyncPolicies
from bitlane.policy_types import PolicyPut, ReplayRow
from broker import Broker, BrokerOptions
from broker.documents import ANY
from broker.types import Change
from deploy.local.stack import Stack
from tests.process.conftest import StackMaker
from tests.process.scripted import ACME, ACME_ADMIN, GLOBEX, OPERATOR

# A second is promised; the rest is this machine's noise.
SOON_S = 3.0
CHAT_IN_FP8 = "map: {chat: FP8}\n"
CHAT_IN_FP4 = "allow_uncalibrated_fp4: true\n"
BAD = "map: {chat: FP6}\n"


@pytest.fixture(scope="module")
def two_routers() -> Iterator[Stack]:
    with Stack(engine="scripted", engine_options='{"token_ms": 1, "tokens": 20}') as stack:
        stack.start()
        stack.target_of(stack.add_router())
        yield stack


@pytest.fixture
async def clients(two_routers: Stack) -> AsyncIterator[tuple[bitlane.AsyncClient, ...]]:
    """One for each router; they start from the same live policy and no shadow."""
    targets = [two_routers.target_of(router) for router in two_routers.routers]
    found = tuple(bitlane.AsyncClient(target, api_key=ACME) for target in targets)
    async with bitlane.AsyncClient(targets[0], api_key=ACME_ADMIN) as admin:
        await put(admin.policies, CHAT_IN_FP4)
        await admin.policies.clear_shadow()
    await everywhere(found, lambda client: decided(client, "chat", "fp4"))
    yield found
    for client in found:
        await client.close()


@pytest.fixture
async def admin(two_routers: Stack) -> AsyncIterator[AsyncPolicies]:
    async with bitlane.AsyncClient(two_routers.target, api_key=ACME_ADMIN) as client:
        yield client.policies


@pytest.fixture
async def operator(two_routers: Stack) -> AsyncIterator[AsyncPolicies]:
    async with bitlane.AsyncClient(two_routers.target, api_key=OPERATOR) as client:
        yield client.policies


async def put(policies: AsyncPolicies, document: str) -> PolicyPut:
    """Whatever is current."""
    return await policies.put(document, etag=(await policies.get()).etag)


async def decided(client: bitlane.AsyncClient, task: bitlane.TaskName, precision: str) -> bool:
    return (await client.explain("hi", model="smollm2", task=task)).decision.precision.value == precision


async def everywhere(
    clients: tuple[bitlane.AsyncClient, ...], condition: Callable[[bitlane.AsyncClient], Awaitable[bool]]
) -> None:
    """Waits until it holds on every router, within the promised time."""
    began = time.monotonic()
    for client in clients:
        while not await condition(client):
            assert time.monotonic() - began < SOON_S, "not in time on every router"
            await asyncio.sleep(0.02)


Clients = tuple[bitlane.AsyncClient, ...]


async def test_a_put_moves_the_traffic_of_every_router(clients: Clients, admin: AsyncPolicies) -> None:
    assert (await clients[1].generate("hi", model="smollm2", task="chat", max_tokens=3)).precision.value == "fp4"
    version = (await put(admin, CHAT_IN_FP8)).policy
    # Who put it sees it at once on the router that took it.
    assert await decided(clients[0], "chat", "fp8")
    await everywhere(clients, lambda client: decided(client, "chat", "fp8"))
    stream = clients[1].stream("hi", model="smollm2", task="chat", max_tokens=3)
    accepted = await stream.accepted()
    reply = await stream.result()
    assert accepted.decision == reply.receipt.decision
    assert (reply.decision.reason.value, reply.decision.policy_version) == ("tenant_map", f"acme-{version.version}")
    assert reply.receipt.profile is not None
    assert reply.receipt.profile.precision.value == "fp8"
    # Another tenant keeps its own.
    async with bitlane.AsyncClient(clients[1].targets, api_key=GLOBEX) as globex:
        assert (await globex.explain("hi", model="smollm2", task="chat")).decision.policy_version == "globex-1"


async def test_a_lost_update_is_refused(admin: AsyncPolicies, clients: Clients) -> None:
    base = await admin.get()
    mine = await admin.put(CHAT_IN_FP8, etag=base.etag, note="mine")
    with pytest.raises(bitlane.EditConflict) as conflict:
        await admin.put("{}", etag=base.etag)
    assert conflict.value.metadata["current_etag"] == mine.policy.etag
    assert (await admin.get()).document == CHAT_IN_FP8


async def test_rollback_is_a_new_version(admin: AsyncPolicies, clients: Clients) -> None:
    good = await admin.get()
    await put(admin, CHAT_IN_FP8)
    back = await admin.rollback(good.version)
    assert (back.version, back.note) == (good.version + 2, f"rollback to {good.version}")
    await everywhere(clients, lambda client: decided(client, "chat", "fp4"))
    versions = await admin.versions()
    assert [v.version for v in versions[:3]] == [good.version + 2, good.version + 1, good.version]
    assert {v.author for v in versions} == {"acme/admin", "operator/local"}
    assert (await admin.get(good.version)).document == good.document
    with pytest.raises(bitlane.NotFound):
        await admin.rollback(9999)


async def test_a_bad_document_never_replaces_a_good_one(
    two_routers: Stack, admin: AsyncPolicies, clients: Clients
) -> None:
    before = await admin.get()
    with pytest.raises(bitlane.InvalidRequest) as refused:
        await put(admin, BAD)
    assert refused.value.violations[0].field == "document.map.chat"
    assert await admin.get() == before
    await put(admin, CHAT_IN_FP8)
    # Past the router's check, as an older or newer release could do it.
    async with Broker(BrokerOptions(url=two_routers.server.url)) as broker:
        bad = await broker.documents.put("policy/acme", BAD, author="somebody", etag=ANY, audit=Change("test", ""))
    await asyncio.sleep(1.0)
    assert await decided(clients[0], "chat", "fp8")
    assert await decided(clients[1], "chat", "fp8")
    reported = two_routers.routers[1].next_event({"document.bad"}, SOON_S)
    assert reported is not None
    assert (reported["name"], reported["version"], reported["author"]) == ("policy/acme", bad.version, "somebody")
    # A router that starts only now finds the last good one as well.
    late = two_routers.add_router()
    async with bitlane.AsyncClient(two_routers.target_of(late), api_key=ACME) as client:
        assert await decided(client, "chat", "fp8")
    late.terminate()
    assert late.wait(20) == 0
    two_routers.routers.remove(late)


async def test_quarantine_moves_the_traffic_at_once(operator: AsyncPolicies, clients: Clients) -> None:
    await operator.set_gate("smollm2", "factual_qa", "passed")
    await everywhere(clients, lambda client: decided(client, "factual_qa", "fp4"))
    (gate,) = await operator.set_gate("smollm2", "factual_qa", "quarantined", evidence="fell by nine points")
    assert (gate.author, gate.evidence, gate.state.value) == ("operator/local", "fell by nine points", "quarantined")
    await everywhere(clients, lambda client: decided(client, "factual_qa", "fp8"))
    reply = await clients[1].generate("hi", model="smollm2", task="factual_qa", max_tokens=3)
    assert (reply.precision.value, reply.decision.reason.value) == ("fp8", "gate_quarantined")
    listed = {gate.task.value: gate for gate in await operator.gates("smollm2")}
    assert listed["factual_qa"].set_at is not None
    assert listed["code"].state.value == "unvalidated"
    await operator.set_gate("smollm2", "factual_qa", "passed")
    await everywhere(clients, lambda client: decided(client, "factual_qa", "fp4"))
    with pytest.raises(bitlane.InvalidRequest) as unknown:
        await operator.set_gate("smollm2", "factual_qa", "passed", checkpoint_digest="latest")
    assert unknown.value.violations[0].field == "checkpoint_digest"
    with pytest.raises(bitlane.NotFound):
        await operator.set_gate("no-such", "factual_qa", "passed")


async def test_a_shadow_is_counted_and_never_acts(admin: AsyncPolicies, clients: Clients) -> None:
    await admin.set_shadow(CHAT_IN_FP8)
    await asyncio.sleep(1.0)
    for client in clients:
        for _ in range(3):
            reply = await client.generate("hi", model="smollm2", task="chat", max_tokens=2)
            assert reply.precision.value == "fp4"
        await client.generate("hi", model="smollm2", task="math", max_tokens=2)
    began = time.monotonic()
    while (shadow := await admin.shadow()) is None or shadow.requests < 8:
        assert time.monotonic() - began < SOON_S
        await asyncio.sleep(0.05)
    assert (shadow.requests, shadow.differing) == (8, 6)
    assert [(c.acted_reason, c.shadow_reason, c.requests) for c in shadow.counts] == [
        ("low_sensitivity", "tenant_map", 6),
        ("high_sensitivity", "high_sensitivity", 2),
    ]
    await admin.clear_shadow()
    assert await admin.shadow() is None
    await admin.set_shadow(CHAT_IN_FP8)
    fresh = await admin.shadow()
    assert fresh is not None
    assert fresh.requests == 0


async def test_validate_diff_and_replay_change_nothing(admin: AsyncPolicies, clients: Clients) -> None:
    before = await admin.get()
    check = await admin.validate("map: {chat: FP6, maths: FP4}\nrule: []")
    assert [str(fault) for fault in check.faults] == [
        "rule: is not known; did you mean 'rules'?",
        "map.maths: is not known; did you mean 'math'?",
        "map.chat: is 'FP6', which is not known; use FP4, FP8, BF16",
    ]
    warned = await admin.validate(
        "map: {math: FP4}\nrules: [{name: a, match: {}, use: FP8}, {name: b, match: {model: gpt}, use: BF16}]"
    )
    assert warned.ok
    assert {finding.path for finding in warned.warnings} == {"map.math", "rules[1]", "rules[1].match.model"}
    changes = await admin.diff(None, CHAT_IN_FP8)
    assert [(c.path, c.before, c.after) for c in changes] == [
        ("map.chat", "", "FP8"),
        ("allow_uncalibrated_fp4", "true", "false"),
    ]
    assert await admin.diff("spill: true", "{}") == []
    rows = [ReplayRow(model="smollm2", text="hi", task="chat"), ReplayRow(model="smollm2", text="2 + 2", task="math")]
    results = await admin.replay(rows * 400, new=CHAT_IN_FP8)
    assert [result.moved for result in results] == [True, False] * 400
    assert results[0].after.reason is bitlane.DecisionReason.TENANT_MAP
    with pytest.raises(bitlane.InvalidRequest) as bad:
        await admin.replay([*rows * 300, ReplayRow(model="no-such", text="x")])
    assert bad.value.violations[0].field == "rows[600].model"
    assert await admin.get() == before


async def test_an_operator_names_the_tenant(operator: AsyncPolicies, admin: AsyncPolicies, clients: Clients) -> None:
    current = await operator.get(tenant="acme")
    assert current == await admin.get()
    done = await operator.put(CHAT_IN_FP8, etag=current.etag, note="by the operator", tenant="acme")
    assert done.policy.author == "operator/local"
    with pytest.raises(bitlane.InvalidRequest) as unnamed:
        await operator.get()
    assert unnamed.value.violations[0].field == "tenant"


async def test_the_last_good_policy_stays_while_the_server_is_away(make_stack: StackMaker) -> None:
    stack = make_stack(durable=True, engine_options='{"token_ms": 1}')
    retry = bitlane.RetryPolicy.none()
    async with (
        bitlane.AsyncClient(stack.target, api_key=ACME_ADMIN, retry=retry) as admin,
        bitlane.AsyncClient(stack.target, api_key=ACME) as client,
    ):
        put_before = await put(admin.policies, CHAT_IN_FP8)
        await asyncio.sleep(1.1)  # appendfsync everysec
        stack.server.kill()
        await asyncio.sleep(1.0)
        assert await decided(client, "chat", "fp8")
        with pytest.raises(bitlane.Unavailable):
            await admin.policies.put("{}", etag=put_before.policy.etag)
        stack.server.start()
        assert (await client.generate("hi", model="smollm2", task="chat", max_tokens=2)).precision.value == "fp8"
        assert (await admin.policies.get()).etag == put_before.policy.etag
        # A change made after the return is followed again.
        await put(admin.policies, "map: {chat: FP8, code: FP8}\n")
        await everywhere((client,), lambda each: _by_version(each, "acme-3"))


async def _by_version(client: bitlane.AsyncClient, version: str) -> bool:
    return (await client.explain("hi", model="smollm2", task="code")).decision.policy_version == version


def test_the_blocking_client_has_the_same_calls(two_routers: Stack) -> None:
    with bitlane.Client(two_routers.target, api_key=ACME_ADMIN) as client:
        policies = client.policies
        first = policies.get()
        assert policies.validate("{}").ok
        assert policies.put(CHAT_IN_FP8, etag=first.etag).policy.version == first.version + 1
        assert policies.versions()[0].version == first.version + 1
        assert policies.diff(CHAT_IN_FP8) == []
        assert policies.rollback(policies.versions()[0].version).version == first.version + 2
        assert policies.set_shadow("{}").policy.version > 0
        assert policies.shadow() is not None
        policies.clear_shadow()
        assert policies.replay([ReplayRow(model="smollm2", text="hi")])[0].moved is False
        assert len(policies.gates("smollm2")) == 14
