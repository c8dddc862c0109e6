"""openai_http against a real server on loopback, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.local.child import bound
from precision.profile import Precision
from tests.engine.conformance.subjects import FAKES, SLOTS, Subject, fakes_on_path
from workers.engine import Engine
from workers.engines.registry import make_engine

CONTEXT = 400


class LocalServer:
    """The server of `fakes/openai_server.py`; it dies with this process."""

    def __init__(self, checkpoint: Path) -> None:
        root = Path(__file__).parents[3]
        self._process = subprocess.Popen(
            bound([sys.executable, str(FAKES / "openai_server.py"), str(checkpoint), str(SLOTS), str(CONTEXT)]),
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": f"{FAKES}{os.pathsep}{root}"},
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def over_http(start: Callable[[], LocalServer], checkpoint: Path, *, text: bool) -> Subject:
    """By token ids, or by `text`. Each engine has a server of its own, which may crash."""
    fakes_on_path()
    servers: dict[int, LocalServer] = {}

    def make() -> Engine:
        server = start()
        options = {"url": server.url, "slots": SLOTS, "checkpoint": str(checkpoint), "token_ids": not text}
        engine = make_engine("openai_http", Precision.FP4, options)
        servers[id(engine)] = server
        return engine

    async def crash(engine: Engine) -> None:
        servers[id(engine)].kill()

    name = "openai_http_text" if text else "openai_http"
    return Subject(name, make, crash, moves_sampled=False, names_tokens=not text)
