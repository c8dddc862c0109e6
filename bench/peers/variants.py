"""All routers before one model server, started and stopped: nothing in between, the peers, and bitlane in two ways."""

import json
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.peers.catalogue import Peer
from bench.service import parts
from bench.service.variants import BITLANE, DIRECT, Variant, of_stack
from deploy.local.processes import Process
from deploy.local.stack import Stack

BITLANE_HTTP = f"{BITLANE} over HTTP"
_CLIENT = "bench.peers.load"
_SLOTS = 1024
_FORMATS = {"FP4": ("NVFP4", 16), "FP8": ("FP8_E4M3", 0)}


class _HttpStack(Stack):
    """Its workers hand everything on to the model server that the peers have, too."""

    def __init__(self, url: str, config: Path, telemetry: Mapping[str, str]) -> None:
        super().__init__(engine="openai_http", config=config, telemetry=telemetry)
        self._url = url

    def add_worker(self, pool: str) -> Process:
        # Each pool's profile is another one.
        self._engine = ["--engine", "openai_http", "--engine-options", json.dumps(worker_options(self._url, pool))]
        return super().add_worker(pool)


def worker_options(url: str, pool: str) -> dict[str, object]:
    """Of an `openai_http` engine whose server computes nothing, so that its profile can only be declared."""
    precision = pool.rpartition("/")[2].upper()
    weights, group = _FORMATS[precision]
    profile = {
        "precision": precision,
        "weight_format": weights,
        "activation_format": weights,
        "kv_cache_format": "none",
        "group_size": group,
        "compute_path": "emulated",
        "checkpoint_digest": "",
        "calibrated": True,
    }
    return {"url": url, "slots": _SLOTS, "server": "mock", "profile": profile}


@contextmanager
def variants(token_ms: float, peers: Sequence[Peer], processes: int) -> Generator[list[Variant]]:
    """Everything, with so many milliseconds between a stream's tokens; bitlane with all features, as in bench.service.

    Raises:
        PeerFailed, ProcessFailed: something did not come up.
    """
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bitlane-bench-")))
        upstream, port = started.enter_context(
            parts.module("bench.peers.upstream", ["--token-ms", str(token_ms)], folder)
        )
        model = {"model": (upstream.pid,)}
        found = [Variant(DIRECT, f"127.0.0.1:{port}", model, _CLIENT)]
        for peer in peers:
            served = started.enter_context(peer.started(port, folder))
            roles = {"proxy": served.pids, **model}
            found.append(Variant(peer.name, f"127.0.0.1:{served.port}", roles, _CLIENT, peer.share))
        config = parts.configuration(folder)
        telemetry = started.enter_context(parts.telemetry(True))
        scripted = Stack(
            engine="scripted",
            engine_options=json.dumps({"token_ms": token_ms, "slots": _SLOTS}),
            config=config,
            telemetry=telemetry,
        )
        over_http = _HttpStack(f"http://127.0.0.1:{port}/v1", config, telemetry)
        for stack, name in ((scripted, BITLANE), (over_http, BITLANE_HTTP)):
            found += of_stack(started.enter_context(stack).start(), name, processes)
        yield found
