"""The stack of compose.yaml, started under a project name of its own, with the stand-ins of tests/containers."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.server import free_port
from tests.containers.images import ROOT, TAG, NoDocker, docker

PROJECT = "bitlane-test"
_FILES = ("compose.yaml", "tests/containers/compose.yaml")
_START_S = 600.0  # a worker quantizes its weights at the first start, on a machine that others may use


def compose() -> list[str]:
    """The command of Docker Compose: $COMPOSE, docker's own, or a docker-compose.

    Raises:
        NoDocker: there is none.
    """
    if chosen := os.environ.get("COMPOSE"):
        return chosen.split()
    client = docker()
    if subprocess.run([client, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [client, "compose"]
    for found in (shutil.which("docker-compose"), ROOT / ".venv-deployment" / "bin" / "docker-compose"):
        if found and Path(found).is_file():
            return [str(found)]
    raise NoDocker(
        "there is no Docker Compose (Debian: apt-get install docker-compose; or `make chart-test` brings one)"
    )


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the stack."""

    id: str
    name: str
    service: str
    facts: dict[str, Any]

    @property
    def pid(self) -> int:
        """Of its first process, as this machine sees it."""
        return int(self.facts["State"]["Pid"])


class ComposeStack:
    """`with ComposeStack() as stack:` leaves no container, network or volume, however it is left."""

    def __init__(self) -> None:
        self._client = docker()
        self._compose = compose()
        self.port, self.receiver_port, self.prometheus_port = free_port(), free_port(), free_port()
        self._env = {
            **os.environ,
            "COMPOSE_PROFILES": "cpu",
            "BITLANE_TAG": TAG,
            "BITLANE_PORT": str(self.port),
            "RECEIVER_PORT": str(self.receiver_port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
        }
        self.keys: list[str] = []  # of the tenants acme and globex
        self.setup_s = 0.0  # from `up` until the tenants were there
        self.start_s = 0.0  # from `up` until every container was healthy

    @property
    def target(self) -> str:
        return f"localhost:{self.port}"

    def up(self) -> None:
        """Starts all, and waits until the tenants are made and every container is healthy."""
        began = time.monotonic()
        self.run("up", "-d", "--no-build")
        self._wait("the tenants", lambda: "bitlane is up" in self.logs("setup"))
        self.setup_s = time.monotonic() - began
        self.keys = re.findall(r"bl_[\w-]{43}", self.logs("setup"))[-2:]
        self.wait_healthy()
        self.start_s = time.monotonic() - began

    def wait_healthy(self) -> None:
        """Waits until every container that has a health check passes it."""
        self._wait("healthy containers", lambda: not self._unwell())

    def containers(self, service: str = "") -> list[Container]:
        """All that exist, or those of a service, those that have ended too."""
        label = f"label=com.docker.compose.project={PROJECT}"
        ids = self.docker("ps", "-a", "-q", "--filter", label).split()
        facts: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids)) if ids else []
        found = [
            Container(each["Id"], each["Name"].strip("/"), each["Config"]["Labels"]["com.docker.compose.service"], each)
            for each in facts
        ]
        return sorted((each for each in found if service in ("", each.service)), key=lambda each: each.name)

    def crash(self, container: Container) -> None:
        """SIGKILL of its first process, not told to docker, whose restart policy then has to act."""
        os.kill(container.pid, signal.SIGKILL)

    def execute(self, container: Container, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in a container."""
        return self.try_docker("exec", container.id, *command)

    def docker(self, *arguments: str) -> str:
        done = self.try_docker(*arguments)
        done.check_returncode()
        return done.stdout

    def try_docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self._client, *arguments], capture_output=True, text=True, check=False, timeout=120)

    def run(self, *arguments: str) -> str:
        """Runs Docker Compose on the stack. Raises RuntimeError with its output when it fails."""
        files = [word for file in _FILES for word in ("-f", file)]
        done = subprocess.run(
            [*self._compose, "-p", PROJECT, *files, *arguments],
            cwd=ROOT,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_S,
        )
        if done.returncode:
            raise RuntimeError(f"compose {' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def logs(self, service: str) -> str:
        """What a service's containers have written."""
        return "".join(
            subprocess.run(
                [self._client, "logs", each.id], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
            ).stdout
            for each in self.containers(service)
        )

    def __enter__(self) -> "ComposeStack":
        self.down()  # what an earlier run that was killed may have left
        try:
            self.up()
        except BaseException as error:
            for each in self.containers():
                error.add_note(f"--- {each.name}: {each.facts['State']}\n{self.logs(each.service)[-2000:]}")
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def down(self) -> None:
        self.run("down", "-v", "--remove-orphans", "-t", "5")

    def _unwell(self) -> list[str]:
        """Containers that are not as they should be."""
        unwell: list[str] = []
        for each in self.containers():
            state = each.facts["State"]
            once = each.service in ("init", "setup")
            well = state["ExitCode"] == 0 if once else state.get("Health", {"Status": "healthy"})["Status"] == "healthy"
            if not well or state["Running"] is once:
                unwell.append(each.name)
        return unwell

    def _wait(self, what: str, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_S
        while not reached():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {what} within {_START_S:g} s; not well: {', '.join(self._unwell())}")
            for each in self.containers("setup") + self.containers("init"):
                if each.facts["State"]["Status"] == "exited" and each.facts["State"]["ExitCode"]:
                    raise RuntimeError(f"{each.name} failed:\n{self.logs(each.service)}")
            with contextlib.suppress(subprocess.CalledProcessError):
                time.sleep(0.5)
