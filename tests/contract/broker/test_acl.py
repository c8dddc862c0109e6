"""deploy/redis/users.acl.example: each role can do what it must, with a real server, and nothing else."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType
from typing import Any, cast

import pytest

from broker import Broker, BrokerOptions
from broker.blocking import BlockingCalls
from broker.connection import Argument
from broker.login import Login
from broker.pipeline import Pipeline
from broker.scripts import load_scripts
from broker.types import BrokerError, BrokerUnavailable, Change, Directive, Interval, Limits
from deploy.local.server import LocalServer
from tests.contract.broker.requests import POOL, make_submission
from tests.contract.broker.test_cluster import SHARDS, run_all

EXAMPLE = Path(__file__).parents[3] / "deploy/redis/users.acl.example"
PASSWORD = "of-the-test"

# Who calls what. A method of the broker that is in no role fails a test below: think about who needs it, add it here,
# and grant what the test says that it needs.
ROLES: dict[str, set[str]] = {
    "router": {
        *("submit", "attach", "read_log", "cancel", "abandon", "inbox", "pools", "dead_letters", "replay", "purge"),
        *("usage", "account", "direct", "directives", "story", "recent"),
        *("documents.put", "documents.get", "documents.versions", "documents.changes"),
        *("documents.count", "documents.counts", "audit.record", "audit.list"),
    },
    "worker": {
        *("claim", "claim_next", "append", "renew", "finish", "release", "reclaim"),
        *("wait_for_work", "endings", "register", "unregister"),
    },
    # A person at the server while the API is away. Documents are changed by the API alone, which checks them.
    "operator": {
        *("pools", "dead_letters", "replay", "purge", "audit.record", "audit.list"),
        *("usage", "account", "direct", "directives", "story", "recent"),
        *("documents.get", "documents.versions", "documents.counts"),
    },
}
# What makes a connection.
LOG_IN = {"auth", "ping", "select", "script|load", "evalsha"}
# What tells a person how the server does. Names of keys at most: SLOWLOG GET would show the beginnings of prompts.
DIAGNOSIS = {
    *("acl|log", "acl|whoami", "client|list", "dbsize", "info", "latency|doctor", "latency|history", "latency|latest"),
    *("memory|doctor", "memory|stats", "memory|usage", "pttl", "scan", "slowlog|len", "type"),
}
NOT_OF_THE_API = {"close", "shard_of", "options"}


def methods_of(broker: Broker) -> set[str]:
    """Every public method of the broker and of its parts."""
    found = set[str]()
    for name in dir(broker):
        if name.startswith("_") or name in NOT_OF_THE_API:
            continue
        value = getattr(broker, name)
        if isinstance(value, MethodType):
            found.add(name)
        else:
            found |= {f"{name}.{part}" for part in dir(value) if not part.startswith("_")}
    return found


async def test_every_method_belongs_to_a_role() -> None:
    async with Broker(BrokerOptions()) as broker:
        assert methods_of(broker) == set[str]().union(*ROLES.values())


@pytest.mark.parametrize(("role", "package"), [("router", "router"), ("worker", "workers")])
async def test_the_processes_call_what_their_role_may(role: str, package: str) -> None:
    async with Broker(BrokerOptions()) as broker:
        methods = methods_of(broker)
    text = "".join(path.read_text(encoding="utf-8") for path in Path(package).rglob("*.py"))  # noqa: ASYNC240
    called = set(re.findall(r"broker\.((?:\w+\.)?\w+)\(", text)) & methods
    assert called
    assert called <= ROLES[role]


@dataclass
class Used:
    """What a role's connections sent."""

    login: Login
    methods: set[str] = field(default_factory=set[str])
    scripts: set[str] = field(default_factory=set[str])
    commands: set[str] = field(default_factory=set[str])


class Stage:
    """Calls what a role may by its user, everything else by one that may all, and remembers what the role called."""

    def __init__(self, role: object, others: object, may: set[str], called: set[str], prefix: str = "") -> None:
        self._role, self._others, self._may, self._called, self._prefix = role, others, may, called, prefix

    def __getattr__(self, name: str) -> Any:
        path = self._prefix + name
        by_role = getattr(self._role, name)
        if not isinstance(by_role, MethodType):
            if name in NOT_OF_THE_API:
                return by_role
            return Stage(by_role, getattr(self._others, name), self._may, self._called, f"{path}.")
        if path not in self._may:
            return getattr(self._others, name)
        self._called.add(path)
        return by_role


@pytest.fixture
def guarded(server_binary: Path, tmp_path: Path) -> Iterator[LocalServer]:
    """A server with the example's users, their passwords set, and one who may do anything."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    users = [line if line.startswith("user default") else f"{line} >{PASSWORD}" for line in lines]
    (tmp_path / "users.acl").write_text("\n".join([*users, f"user test on >{PASSWORD} ~* &* +@all"]) + "\n")
    (tmp_path / "password").write_text(PASSWORD)
    with LocalServer(binary=server_binary, settings={"aclfile": str(tmp_path / "users.acl")}) as server:
        yield server


def options_for(server: LocalServer, user: str, tmp_path: Path, **more: Any) -> BrokerOptions:
    url = server.url.replace("://", f"://{user}@")
    return BrokerOptions(url=url, password_file=str(tmp_path / "password"), timeout_s=5, **more)


@pytest.fixture
async def root(guarded: LocalServer, tmp_path: Path) -> AsyncIterator[Broker]:
    async with Broker(options_for(guarded, "test", tmp_path, shards=SHARDS, lease_ms=300)) as broker:
        yield broker


def watch(monkeypatch: pytest.MonkeyPatch, used: Used) -> None:
    """Notes what is sent over connections with this login."""
    run, command, block = Pipeline.run, Pipeline.command, BlockingCalls.run

    def watched_run(self: Pipeline, name: str, *rest: Any) -> Any:
        if self.endpoint.login is used.login:
            used.scripts.add(name)
        return run(self, name, *rest)

    def watched_command(self: Pipeline, *parts: Argument) -> Any:
        if self.endpoint.login is used.login:
            used.commands.add(str(parts[0]).lower())
        return command(self, *parts)

    def watched_block(self: BlockingCalls, *parts: Argument, wait_s: float) -> Any:
        if self._pipeline.endpoint.login is used.login:  # pyright: ignore[reportPrivateUsage]
            used.commands.add(str(parts[0]).lower())
        return block(self, *parts, wait_s=wait_s)

    monkeypatch.setattr(Pipeline, "run", watched_run)
    monkeypatch.setattr(Pipeline, "command", watched_command)
    monkeypatch.setattr(BlockingCalls, "run", watched_block)


def commands_in(scripts: set[str]) -> set[str]:
    """What the scripts may run, on any path through them."""
    found = set[str]()
    texts = {name: script.text.decode() for name, script in load_scripts(BrokerOptions()).items()}
    for name in scripts:
        calls = re.findall(r"redis\.p?call\((.)(\w+)?", texts[name])
        assert all(quote in "'\"" and command for quote, command in calls), f"{name}: a command that is no literal"
        found |= {command.lower() for _, command in calls}
    return found


def granted(role: str) -> set[str]:
    """The commands that the example grants."""
    (line,) = (line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line.startswith(f"user {role} "))
    words = line.split()
    rules = words[words.index("-@all") + 1 :]
    assert all(rule.startswith("+") and "@" not in rule for rule in rules)
    return {rule[1:] for rule in rules}


async def all_methods(stage: Broker) -> None:
    """Every method of the broker, on every kind of key."""
    async with stage.inbox("router-1") as inbox, stage.endings("w1"):
        await anext(inbox)
        await run_all(stage)
        assert await stage.wait_for_work(POOL, 5)
        await stage.claim_next(POOL, "w1", b"", 100, 5, asyncio.Event())
        submission = make_submission("last")
        await stage.submit(submission)
        await stage.read_log(submission.ref, 0)
        assert (await stage.story(submission.ref)).transitions
        assert await stage.recent()
        await stage.dead_letters()
        await stage.purge(submission.ref)
        await stage.account("acme", "ci", "smollm2", Limits(tokens_per_minute=1))
        await stage.usage("acme", Interval.DAY, 0, 1)
        await stage.direct(POOL, "w1", Directive.QUARANTINE)
        assert await stage.directives(POOL) == {"w1": Directive.QUARANTINE}
        await stage.direct(POOL, "w1", Directive.SERVE)
        await stage.audit.record("a", "b", "c", "acme", "", "")
        assert (await stage.audit.list(10)).items
        assert await stage.documents.get("policy/acme")
        assert await stage.documents.versions("policy/acme")
        assert await stage.documents.counts("shadow/acme")


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_can_do_its_work_and_is_granted_nothing_more(
    guarded: LocalServer, root: Broker, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_for(guarded, role, tmp_path, shards=SHARDS, lease_ms=300)
    async with Broker(options) as broker:
        used = Used(broker._shards[0].endpoint.login)  # pyright: ignore[reportPrivateUsage]
        watch(monkeypatch, used)
        stage = Stage(broker, root, ROLES[role], used.methods)
        await all_methods(cast("Broker", stage))
    assert used.methods == ROLES[role], "all_methods does not call these"
    denied = cast("list[list[Any]]", await root._registry_pipeline.command("ACL", "LOG"))  # pyright: ignore[reportPrivateUsage]
    assert not denied
    needed = LOG_IN | used.commands | commands_in(used.scripts) | (DIAGNOSIS if role == "operator" else set[str]())
    assert granted(role) == needed


DANGEROUS = (
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET *",
    "CONFIG SET maxmemory 1",
    "CONFIG REWRITE",
    "KEYS *",
    "RANDOMKEY",
    "EVAL return~1 0",
    "EVAL_RO return~1 0",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "FUNCTION LOAD x",
    "FCALL f 0",
    "ACL SETUSER worker +@all",
    "ACL LIST",
    "SLOWLOG GET",
    "ACL GETUSER router",
    "CLIENT KILL TYPE normal",
    "CLIENT PAUSE 1000",
    "SHUTDOWN",
    "MONITOR",
    "REPLICAOF 127.0.0.1 1",
    "PSYNC ? -1",
    "SAVE",
    "BGREWRITEAOF",
    "MODULE LIST",
    "CLUSTER RESET",
    "SWAPDB 0 1",
    "DUMP bl:{0}:dead",
    "RESTORE bl:{0}:x 0 x",
    "MIGRATE 127.0.0.1 1 bl:{0}:dead 0 1",
    "RENAME bl:{0}:a bl:{0}:b",
    "COPY bl:{0}:a bl:{0}:b",
    "GET bl:{0}:a",
    "SET bl:{0}:a 1",
    "SORT bl:{0}:a",
    "PUBLISH c m",
    "SUBSCRIBE c",
)
FOREIGN = ("session:1", "bl", "blx", "bl2:{0}:x", "BL:{0}:x")
# What else a role may not touch, of the broker's own.
OTHERS: dict[str, tuple[str, ...]] = {
    "router": (),
    "worker": ("bl:{documents}:head", "bl:{documents}:doc:policy/acme", "bl:{documents}:audit"),
    "operator": (),
}


# As servers say it of a command inside of a script.
_DENIED = "NOPERM|ACL failure|can't access at least one of the keys|can't run this command"


async def refusal(broker: Broker, *command: Argument) -> str:
    with pytest.raises(BrokerError) as caught:
        await broker._registry_pipeline.command(*command)  # pyright: ignore[reportPrivateUsage]
    return str(caught.value)


@pytest.mark.parametrize("role", ROLES)
async def test_what_a_role_may_not_do(guarded: LocalServer, root: Broker, role: str, tmp_path: Path) -> None:
    await root.documents.put("policy/acme", "{}", author="a", etag="", audit=Change("PutPolicy", "acme"))
    async with Broker(options_for(guarded, role, tmp_path)) as broker:
        for text in DANGEROUS:
            said = await refusal(broker, *(word.replace("~", " ") for word in text.split()))
            assert "NOPERM" in said, text
        for name in (*FOREIGN, *OTHERS[role]):
            assert "NOPERM" in await refusal(broker, "HGET", name, "id"), name
            # A script of one's own can be loaded, but can do no more than its user.
            reads = b"return redis.call('HGET', ARGV[1], 'id')"
            sha = await broker._registry_pipeline.command("SCRIPT", "LOAD", reads)  # pyright: ignore[reportPrivateUsage]
            assert isinstance(sha, bytes)
            assert "NOPERM" in await refusal(broker, "EVALSHA", sha, 1, name, name), name
            said = await refusal(broker, "EVALSHA", sha, 0, name)
            assert re.search(_DENIED, said), name
        flushes = await broker._registry_pipeline.command("SCRIPT", "LOAD", b"return redis.call('FLUSHALL')")  # pyright: ignore[reportPrivateUsage]
        assert isinstance(flushes, bytes)
        assert re.search(_DENIED, await refusal(broker, "EVALSHA", flushes, 0))
    assert await root.documents.get("policy/acme")


async def test_an_operator_changes_no_document(guarded: LocalServer, root: Broker, tmp_path: Path) -> None:
    """They are checked by the API, and nowhere else."""
    change = Change("PutPolicy", "acme")
    await root.documents.put("policy/acme", "{}", author="a", etag="", audit=change)
    async with Broker(options_for(guarded, "operator", tmp_path)) as broker:
        assert await broker.documents.get("policy/acme")
        with pytest.raises(BrokerError, match="NOPERM"):
            await broker.documents.put("policy/acme", "bad", author="a", etag="*", audit=change)


async def test_nobody_comes_in_without_a_password_of_their_own(guarded: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    for user in ("default", "router", "worker", "operator", "nobody"):
        async with Broker(BrokerOptions(url=guarded.url.replace("://", f"://{user}:wrong@"))) as broker:
            with pytest.raises(BrokerUnavailable, match="WRONGPASS"):
                await broker.pools([POOL])
    async with Broker(BrokerOptions(url=guarded.url)) as broker:
        with pytest.raises(BrokerUnavailable, match="NOAUTH"):
            await broker.pools([POOL])


async def test_the_example_as_it_is_lets_nobody_in(server_binary: Path) -> None:
    """It holds no password, so that none can be forgotten in it."""
    with LocalServer(binary=server_binary, settings={"aclfile": str(EXAMPLE)}) as server:
        for user in ROLES:
            for password in ("", "x", user):
                url = server.url.replace("://", f"://{user}:{password or '%20'}@")
                async with Broker(BrokerOptions(url=url)) as broker:
                    with pytest.raises(BrokerUnavailable, match="WRONGPASS"):
                        await broker.pools([POOL])
