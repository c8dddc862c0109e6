"""`make compose-test`: compose.yaml as it stands, in containers, called from outside, with its processes killed."""

import asyncio
import json
import os
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import bitlane
from tests.containers.images import GPU_WORKERS, TAG, NoDocker, build_all
from tests.containers.stack import ComposeStack, Container

if not os.environ.get("BITLANE_COMPOSE_TEST"):
    pytest.skip("the stack in containers takes minutes: `make compose-test` runs this", allow_module_level=True)

pytestmark = pytest.mark.timeout(900)

PROMPT = "Once upon a time there was a small robot who lived in a lighthouse."
TOKENS = 24
LONG = 120  # so many that a router can die and be back before they are there
STREAMS = 4


@pytest.fixture(scope="module")
def stack(figures: list[str]) -> Iterator[ComposeStack]:
    def say(line: str) -> None:
        sys.stdout.write(f"  {line}\n")

    try:
        images = build_all(say)
        running = ComposeStack()
    except NoDocker as missing:
        figures.append(f"NOT RUN: {missing}")
        pytest.skip("no containers here")
    figures += [f"image {image.name}: {image.megabytes:.0f} MB" for image in images]
    with running:
        figures.append(
            f"start: tenants after {running.setup_s:.0f} s, everything healthy after {running.start_s:.0f} s"
        )
        yield running


@pytest.fixture
def services(stack: ComposeStack) -> list[Container]:
    """The containers that stay."""
    return [each for each in stack.containers() if each.service not in ("init", "setup")]


def client(stack: ComposeStack, tenant: int = 0) -> bitlane.AsyncClient:
    return bitlane.AsyncClient(stack.target, api_key=stack.keys[tenant])


@pytest.fixture(scope="module")
def undisturbed(stack: ComposeStack) -> list[tuple[int, ...]]:
    """The tokens of the stories when nothing is killed."""
    watched = Watched(stack, LONG)
    asyncio.run(watched.tell())
    return [completion.token_ids for completion in watched.completions]


class Watched:
    """Streams that are read to their end while something happens to the stack after their first tokens."""

    def __init__(self, stack: ComposeStack, tokens: int = TOKENS) -> None:
        self.stack = stack
        self.tokens = tokens
        self.seen = 0
        self.completions: list[bitlane.Completion] = []
        self.longest_pause_s = 0.0

    async def tell(self) -> None:
        async with client(self.stack) as caller, asyncio.TaskGroup() as group:
            for number in range(STREAMS):
                group.create_task(self._one(caller, number))

    async def _one(self, caller: bitlane.AsyncClient, number: int) -> None:
        async with caller.stream(
            f"{number}. {PROMPT}", model="smollm2", pin="fp8", max_tokens=self.tokens, temperature=0
        ) as stream:
            last = 0.0
            async for delta in stream:
                now = time.monotonic()
                self.longest_pause_s = max(self.longest_pause_s, now - last if last else 0.0)
                last = now
                self.seen += len(delta.token_ids)
            completion = await stream.result()
        self.completions.append(completion)

    async def until_running(self, tokens: int) -> None:
        while self.seen < tokens:
            await asyncio.sleep(0.05)

    def check(self, undisturbed: list[tuple[int, ...]]) -> None:
        assert len(self.completions) == STREAMS
        told = sorted(completion.token_ids for completion in self.completions)
        assert told == sorted(tokens[: self.tokens] for tokens in undisturbed), "the streams went on as they would have"


async def test_both_precisions_answer_from_outside(stack: ComposeStack) -> None:
    async with client(stack) as caller:
        question = [bitlane.Message("user", "What is the capital of France?")]
        for pin in ("fp4", "fp8"):
            completion = await caller.generate(
                messages=question, model="smollm2", pin=pin, max_tokens=24, temperature=0
            )
            assert "Paris" in completion.text
            assert completion.precision.value == pin
    async with client(stack, tenant=1) as careful:
        with pytest.raises(bitlane.PermissionDenied):
            await careful.generate(messages=question, model="smollm2", pin="fp4", max_tokens=4)


def test_containers_are_locked(stack: ComposeStack, services: list[Container]) -> None:
    """By what the kernel says of their first process, not by what was asked for."""
    assert {each.service for each in services} >= {"redis", "router", "proxy", "worker-fp4", "worker-fp8", "prometheus"}
    for each in services:
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{each.pid}/status").read_text(encoding="utf-8").splitlines()
            if ":\t" in line
        )
        assert "0" not in status["Uid"].split(), f"{each.name} runs as root"
        assert "0" not in status["Gid"].split(), f"{each.name} runs in root's group"
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, f"{each.name} has capabilities"
        assert status["NoNewPrivs"] == "1"
        host = each.facts["HostConfig"]
        assert host["ReadonlyRootfs"], f"{each.name} may write to its files"
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        assert host["PidsLimit"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert not host["Privileged"]
        written = stack.execute(each, "sh", "-c", "touch /app/x /etc/x /x")
        assert written.returncode != 0
        assert "Read-only file system" in written.stderr


def test_only_loopback_is_published(services: list[Container]) -> None:
    published = {
        each.service: {
            bound["HostIp"] for ports in each.facts["NetworkSettings"]["Ports"].values() for bound in ports or ()
        }
        for each in services
    }
    assert {service for service, hosts in published.items() if hosts} == {"proxy", "prometheus", "otel-collector"}
    assert set[str]().union(*published.values()) == {"127.0.0.1"}


def test_secrets_are_where_they_are_needed(stack: ComposeStack, services: list[Container]) -> None:
    """A role sees its own password, and neither the environment nor the compose file holds any."""
    (redis,), router = stack.containers("redis"), stack.containers("router")[0]
    worker = stack.containers("worker-fp4")[0]
    passwords = [stack.execute(each, "cat", "/run/secrets/broker-password").stdout for each in (router, worker)]
    assert len(set(passwords)) == 2
    assert all(len(password) == 43 for password in passwords)
    for each in services:
        seen = json.dumps(each.facts["Config"])
        assert not any(secret in seen for secret in (*passwords, *stack.keys)), f"{each.name} shows a secret"
    acl = stack.execute(redis, "cat", "/run/secrets/users.acl").stdout
    assert not any(password in acl for password in passwords)
    assert stack.execute(redis, "valkey-cli", "DBSIZE").stdout.startswith("NOAUTH")
    for user, password, command in (
        ("worker", passwords[1], ["FLUSHALL"]),
        ("router", passwords[0], ["CONFIG", "GET", "maxmemory"]),
        ("health", "none", ["DBSIZE"]),
    ):
        login = ["valkey-cli", "--no-auth-warning", "--user", user, "--pass", password]
        assert "NOPERM" in stack.execute(redis, *login, *command).stdout
    assert stack.execute(router, "ls", "/run/secrets").stdout.split() == ["broker-password", "config.yaml"]


def test_images_say_what_they_are(stack: ComposeStack) -> None:
    for image in ("bitlane/router:test", "bitlane/worker-reference:test"):
        (facts,) = json.loads(stack.docker("image", "inspect", image))
        config = facts["Config"]
        assert config["User"] == "65532:65532"
        assert config["Entrypoint"][0] == "python3", "an exec form: SIGTERM reaches Python"
        labels = config["Labels"]
        for label in ("title", "licenses", "version", "revision"):
            assert labels[f"org.opencontainers.image.{label}"]
    for service in ("router", "worker-fp4"):
        container = stack.containers(service)[0]
        left = stack.execute(container, "sh", "-c", "ls -d /opt/venv/bin/pip /opt/installer /etc/pip.conf /run/ca.pem")
        assert not left.stdout, "what the build needed is not in the image"


@pytest.mark.parametrize("image", GPU_WORKERS)
def test_workers_start_in_the_images_of_gpu_engines(stack: ComposeStack, image: str) -> None:
    """Up to where they ask for a GPU, which comes before the engine is loaded."""
    given = {"BITLANE_WORKER_CONFIG": "config/fp4.yaml", "BITLANE_WORKER_ENGINE_OPTIONS": '{"model": "/models/fp4"}'}
    settings = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    locks = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none"]
    done = stack.try_docker("run", "--rm", *locks, *settings, f"bitlane-test/{image}:{TAG}")
    assert done.returncode == 2
    assert "no NVIDIA driver answers" in done.stderr


async def test_a_worker_container_dies(
    stack: ComposeStack, undisturbed: list[tuple[int, ...]], figures: list[str]
) -> None:
    watched = Watched(stack)
    telling = asyncio.create_task(watched.tell())
    await watched.until_running(STREAMS * 3)
    (worker,) = stack.containers("worker-fp8")
    stack.crash(worker)
    await telling
    watched.check(undisturbed)
    moved = sum(completion.receipt.attempts > 1 for completion in watched.completions)
    assert moved > 0
    figures.append(
        f"worker killed: {STREAMS} of {STREAMS} streams whole, {moved} went on with the restarted one, "
        f"longest pause {watched.longest_pause_s:.1f} s"
    )
    (again,) = stack.containers("worker-fp8")
    assert again.facts["RestartCount"] == worker.facts["RestartCount"] + 1


async def test_both_routers_die_one_after_the_other(
    stack: ComposeStack, undisturbed: list[tuple[int, ...]], figures: list[str]
) -> None:
    stack.wait_healthy()
    watched = Watched(stack, LONG)
    telling = asyncio.create_task(watched.tell())
    first, second = stack.containers("router")
    await watched.until_running(STREAMS * 2)
    stack.crash(first)
    await watched.until_running(STREAMS * 6)
    while stack.containers("router")[0].facts["State"]["Health"]["Status"] != "healthy":
        await asyncio.sleep(0.2)
    still = not telling.done()
    stack.crash(second)
    await telling
    watched.check(undisturbed)
    figures.append(
        f"{'both routers' if still else 'a router'} killed in turn: {STREAMS} of {STREAMS} streams whole, "
        f"longest pause {watched.longest_pause_s:.1f} s"
    )


async def test_the_server_dies(stack: ComposeStack, undisturbed: list[tuple[int, ...]], figures: list[str]) -> None:
    stack.wait_healthy()
    watched = Watched(stack)
    telling = asyncio.create_task(watched.tell())
    await watched.until_running(STREAMS * 3)
    stack.crash(stack.containers("redis")[0])
    await telling
    watched.check(undisturbed)
    figures.append(f"redis killed: {STREAMS} of {STREAMS} streams whole, longest pause {watched.longest_pause_s:.1f} s")


async def test_stopping_is_graceful(stack: ComposeStack, undisturbed: list[tuple[int, ...]]) -> None:
    stack.wait_healthy()
    watched = Watched(stack)
    telling = asyncio.create_task(watched.tell())
    await watched.until_running(STREAMS)
    stopped = [stack.containers("router")[0], *stack.containers("worker-fp4")]
    for each in stopped:
        await asyncio.to_thread(stack.docker, "stop", "-t", "60", each.id)
    await telling
    watched.check(undisturbed)
    for each in stopped:
        (now,) = json.loads(stack.docker("inspect", each.id))
        assert now["State"]["ExitCode"] == 0, f"{each.name} ended with {now['State']['ExitCode']}"
        stack.docker("start", each.id)
    stack.wait_healthy()


def test_starting_again_keeps_keys_and_tenants(stack: ComposeStack) -> None:
    before = stack.keys
    stack.run("down")
    stack.up()
    assert stack.keys == before

    async def ask() -> None:
        async with client(stack) as caller:
            completion = await caller.generate("The sky is", model="smollm2", max_tokens=4, temperature=0)
            assert completion.text

    asyncio.run(ask())


async def test_telemetry_arrives(stack: ComposeStack) -> None:
    async with client(stack) as caller:
        await caller.generate(messages=[bitlane.Message("user", "Hello")], model="smollm2", max_tokens=4)
    deadline = time.monotonic() + 90
    wanted = {
        'received_spans_total{name="bitlane.v1.InferenceService/Generate",service="bitlane-router"}',
        'received_spans_total{name="chat smollm2",service="bitlane-worker"}',
        'received_metrics_total{name="bitlane.slots",service="bitlane-worker"}',
        'received_metrics_total{name="bitlane.queue.depth",service="bitlane-router"}',
    }
    while missing := wanted - set(re.findall(r"^received.*}", _fetch(stack.receiver_port, "/metrics"), re.MULTILINE)):
        assert time.monotonic() < deadline, missing
        await asyncio.sleep(1)
    targets = json.loads(_fetch(stack.prometheus_port, "/api/v1/targets"))["data"]["activeTargets"]
    assert {target["health"] for target in targets} == {"up"}
    rules = json.loads(_fetch(stack.prometheus_port, "/api/v1/rules"))["data"]["groups"]
    assert rules
    assert all(rule["health"] in ("ok", "unknown") for group in rules for rule in group["rules"])


def _fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        return reply.read().decode()
