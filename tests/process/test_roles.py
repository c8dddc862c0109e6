"""The service with users of their own at the server: router and workers, as deploy/redis/users.acl.example has them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

import bitlane
from broker import Broker, BrokerOptions
from deploy.local.processes import Process
from deploy.local.server import LocalServer
from deploy.local.tenants import make_tenants
from tests.process.scripted import ACME, ACME_ADMIN, OPERATOR, expected_text

EXAMPLE = Path("deploy/redis/users.acl.example")
PASSWORDS = {"router": "of-the-router", "worker": "of-the-worker", "test": "of-the-test"}


def environment(role: str, prefix: str, server: LocalServer, folder: Path) -> dict[str, str]:
    """Settings of a process that logs in with this role."""
    file = folder / f"{role}.password"
    file.write_text(PASSWORDS[role])
    return {
        f"BITLANE_{prefix}_BROKER_URL": server.url.replace("://", f"://{role}@"),
        f"BITLANE_{prefix}_BROKER_PASSWORD_FILE": str(file),
        f"BITLANE_{prefix}_LOG_FORMAT": "json",
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    lines = [*EXAMPLE.read_text(encoding="utf-8").splitlines(), "user test on ~* &* +@all"]
    users = [f"{line} >{PASSWORDS[name]}" if (name := line.split()[1]) in PASSWORDS else line for line in lines]
    (tmp_path / "users.acl").write_text("\n".join(users) + "\n")
    with LocalServer(settings={"aclfile": str(tmp_path / "users.acl")}) as server:
        yield server


@pytest.fixture
def target(server: LocalServer, tmp_path: Path) -> Iterator[str]:
    """Where a router listens whose two pools serve."""
    with ExitStack() as stack:

        def start(name: str, module: str, arguments: list[str], env: dict[str, str]) -> Process:
            process = Process(name, module, arguments, tmp_path / f"{name}.log", env)
            stack.callback(process.wait, 20.0)
            stack.callback(process.terminate)
            return process

        worker = environment("worker", "WORKER", server, tmp_path)
        engine = ["--engine", "scripted", "--engine-options", '{"token_ms": 5, "tokens": 2000}']
        workers = [start(p, "workers", ["--pool", f"smollm2/{p}", *engine], worker) for p in ("fp4", "fp8")]
        router = environment("router", "ROUTER", server, tmp_path)
        listening = start("router", "router", ["--config", "config/local.yaml", "--listen", "localhost:0"], router)
        for process in workers:
            process.wait_for("worker.ready", 30.0)
        target = f"localhost:{listening.wait_for('router.ready', 30.0)['port']}"
        make_tenants(target)
        yield target


async def test_all_of_it_works_and_nothing_was_denied(target: str, server: LocalServer, tmp_path: Path) -> None:
    async with bitlane.AsyncClient(target, api_key=ACME) as client:
        for pin in ("fp4", "fp8"):
            result = await client.generate("hi", model="smollm2", pin=pin, max_tokens=9)
            assert result.text == expected_text("hi", 9)
        stream = client.stream("hello", model="smollm2", max_tokens=1500)
        await anext(aiter(stream))
        await stream.cancel()
        resumed = client.resume(stream.request_id)
        assert (await resumed.result()).finish_reason is bitlane.FinishReason.CANCELLED
    async with bitlane.AsyncClient(target, api_key=ACME_ADMIN) as admin:
        await admin.policies.put("long_context_tokens: 900\n", etag="*")
        assert await admin.policies.versions()
    async with bitlane.AsyncClient(target, api_key=OPERATOR) as operator:
        await operator.policies.set_gate("smollm2", "code", "passed")
    options = BrokerOptions(url=server.url.replace("://", "://test@"), password_file=str(tmp_path / "test.password"))
    (tmp_path / "test.password").write_text(PASSWORDS["test"])
    async with Broker(options) as broker:
        denied = cast("list[object]", await broker._registry_pipeline.command("ACL", "LOG"))  # pyright: ignore[reportPrivateUsage]
    assert denied == []
    for log in ("router.log", "fp4.log", "fp8.log"):
        assert "of-the-" not in (tmp_path / log).read_text(encoding="utf-8")
