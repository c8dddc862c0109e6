"""The inside of a fake engine: a step loop over requests in slots, and a model whose next token is a function of all
tokens before it. It computes nothing; what it keeps to is when tokens come, and what stops them."""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from deploy.local.child import bound

SCRIPT = (
    " The keeper 😀 of the light saw 日本語 on the wall, wrote naïve café 🎉 in her book, and counted: one, two, three,"
    " four, five, six, seven ships 👩‍🚀 under a low moon; then she slept."
)


class Script:
    """A model that recites SCRIPT again and again, from wherever the tokens so far leave it."""

    def __init__(self, folder: str, end: int) -> None:
        tokens = Tokenizer.from_file(str(Path(folder) / "tokenizer.json")).encode(SCRIPT, add_special_tokens=False).ids
        self.end = end
        self._tokens = tokens
        self._after: dict[tuple[int, ...], int] = {}
        for size in (4, 3, 2, 1):
            for at in range(len(tokens)):
                key = tuple(tokens[(at + i) % len(tokens)] for i in range(size))
                self._after.setdefault(key, tokens[(at + size) % len(tokens)])

    def next(self, tokens: Sequence[int], number: float | None, ignore_end: bool) -> int:
        """`number` from 0 to 1 draws; None is greedy."""
        if tokens and tokens[-1] == self._tokens[-1] and not ignore_end:
            return self.end
        if number is not None and number < 0.3:
            return self._tokens[int(number / 0.3 * len(self._tokens))]
        for size in (4, 3, 2, 1):
            if (token := self._after.get(tuple(tokens[-size:]))) is not None:
                return token
        return self._tokens[zlib.crc32(repr(list(tokens)).encode()) % len(self._tokens)]


@dataclass
class Request:
    """One of the core's requests. `out` is told each token: (token, reason or None)."""

    id: str
    tokens: list[int]
    max_tokens: int
    out: Callable[[int, str | None], None]
    seed: int | None = None
    positional: bool = False  # random numbers are a function of seed and position
    ends: frozenset[int] = frozenset()
    ignore_end: bool = False
    prompt: int = 0
    draw: random.Random = field(default_factory=random.Random)


class Core:
    """Runs as many requests as it has slots; the others wait. Dies with its child process."""

    def __init__(self, folder: str, slots: int, end: int, on_death: Callable[[], None]) -> None:
        self.script = Script(folder, end)
        self.slots = slots
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.dead = False
        self.steps = 0
        self._on_death = on_death
        self._step_s = float(os.environ.get("FAKE_ENGINE_STEP_MS", "1")) / 1000
        # Dies with this process; its command line holds the name that real engine cores have.
        self._child = subprocess.Popen(bound([sys.executable, "-c", "import time; time.sleep(86400)  # EngineCore"]))
        self._loop: asyncio.Task[None] | None = None

    @property
    def lives(self) -> bool:
        return self._child.poll() is None

    @property
    def pid(self) -> int:
        return self._child.pid

    def add(self, request: Request) -> None:
        request.prompt = len(request.tokens)
        request.draw = random.Random(request.seed)
        self.waiting.append(request)
        if self._loop is None:
            self._loop = asyncio.get_running_loop().create_task(self._run())

    def abort(self, id_: str) -> bool:
        """Whether there was such a request."""
        known = [r for r in (*self.waiting, *self.running) if r.id == id_]
        self.waiting = [r for r in self.waiting if r.id != id_]
        self.running = [r for r in self.running if r.id != id_]
        return bool(known)

    def kill(self) -> None:
        """What a crash does."""
        self._child.kill()

    def close(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
        self._child.kill()
        self._child.wait()

    async def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(self._step_s)
                if self._child.poll() is not None:
                    self.dead = True
                    self._on_death()
                    return
                self._step()

    def _step(self) -> None:
        while self.waiting and len(self.running) < self.slots:
            self.running.append(self.waiting.pop(0))
        self.steps += bool(self.running)
        for request in list(self.running):
            number = None
            if request.seed is not None:
                place = f"{request.seed}:{len(request.tokens)}"
                number = random.Random(place).random() if request.positional else request.draw.random()
            token = self.script.next(request.tokens, number, request.ignore_end)
            request.tokens.append(token)
            reason = None
            if token in request.ends and not request.ignore_end:
                reason = "stop"
            elif len(request.tokens) - request.prompt >= request.max_tokens:
                reason = "length"
            if reason is not None:
                self.running.remove(request)
            request.out(token, reason)
