"""The other routers: how each is started before one model server, from an environment of its own."""

import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.peers.load import KEY
from bench.peers.processes import Served, free_port, serving
from bench.peers.upstream import MODEL

LITELLM, SMG, SGLANG = "LiteLLM", "smg", "sglang-router"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a peer is started on: its ports on 127.0.0.1, the model server's, and a folder for its files."""

    port: int
    metrics_port: int
    upstream_port: int
    folder: Path

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.upstream_port}"


@dataclass(frozen=True, slots=True)
class Peer:
    """`share`: of a case's requests and callers, for one that would take minutes for all of them."""

    name: str
    package: str
    command: Callable[[Ground], list[str]]  # without the environment's folder of programs
    ready: str  # the path that answers 200 when it serves
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    share: float = 1.0

    @property
    def programs(self) -> Path:
        return Path(f".venv-peers-{self.package}/bin")

    @property
    def installed(self) -> bool:
        return (self.programs.parent / ".installed").exists()

    def version(self) -> str:
        """Of the package that is installed."""
        say = f"from importlib.metadata import version; print(version({self.package!r}))"
        return subprocess.check_output([self.programs / "python", "-c", say], text=True).strip()

    @contextmanager
    def started(self, upstream_port: int, folder: Path) -> Generator[Served]:
        """Serves when this is entered. Raises PeerFailed."""
        ground = Ground(free_port(), free_port(), upstream_port, folder)
        program, *arguments = self.command(ground)
        command = [str(self.programs / program), *arguments]
        with serving(self.package, command, self.environ, ground.port, self.ready, folder) as served:
            yield served


def _litellm(ground: Ground) -> list[str]:
    """With a master key, so that it authenticates as bitlane does; without a database."""
    config = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{ground.upstream}/v1", "api_key": "none"},
            }
        ],
        "general_settings": {"master_key": KEY},
    }
    path = ground.folder / "litellm.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    listen = ["--host", "127.0.0.1", "--port", str(ground.port)]
    return ["litellm", "--config", str(path), *listen, "--telemetry", "False"]


def _rust(*program: str) -> Callable[[Ground], list[str]]:
    """smg and sglang-router, which is its ancestor, have the same flags."""

    def command(ground: Ground) -> list[str]:
        listen = ["--host", "127.0.0.1", "--port", str(ground.port), "--prometheus-port", str(ground.metrics_port)]
        return [*program, *listen, "--worker-urls", ground.upstream]

    return command


PEERS = (
    Peer(
        LITELLM,
        "litellm",
        _litellm,
        "/health/liveliness",
        # The prices that it ships, in place of those that it would fetch; its settings for production.
        {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"},
        share=0.125,
    ),
    Peer(SMG, "smg", _rust("smg", "launch"), "/readiness"),
    Peer(SGLANG, "sglang-router", _rust("python", "-m", "sglang_router.launch_router"), "/readiness"),
)


def chosen(names: list[str]) -> list[Peer]:
    """Of these names, or all, those that are installed; says which are not."""
    wanted = [peer for peer in PEERS if not names or peer.name in names]
    for peer in wanted:
        if not peer.installed:
            print(f"{peer.name} is not installed: make bench-peers installs it", file=sys.stderr)
    return [peer for peer in wanted if peer.installed]
