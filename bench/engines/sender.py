"""What a sending process is told and answers: JSON lines over its pipes. The parent's and the child's side of it."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from typing import Any

from bench.engines.load import Stamps, Stream, Work, run
from precision.untyped import mapping

# Until all processes have heard of a piece of work and wait for its beginning.
_NOTICE_S = 0.1


async def serve(stream: Stream, ready: dict[str, float]) -> None:
    """The child: says that it is ready, and does what comes until its input ends."""
    print(json.dumps({"ready": ready}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        stamps = await run(stream, Work(**json.loads(line)))
        print(json.dumps({"stamps": [astuple(each) for each in stamps]}), flush=True)


class Sender:
    """One child, `python -m MODULE ARGUMENTS`."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._module = module
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait(self) -> dict[str, float]:
        """Waits until it is ready; what else its engine prints is passed over. Raises RuntimeError when it ended."""
        return dict(self.answer("ready"))

    def ask(self, work: Work) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(asdict(work)) + "\n")
        self._child.stdin.flush()

    def answer(self, key: str) -> Any:
        """The next answer of a kind. Raises RuntimeError when the child ended."""
        assert self._child.stdout is not None
        while line := self._child.stdout.readline():
            try:
                found: object = json.loads(line)
            except ValueError:
                print(f"{self._module}: {line.rstrip()}", file=sys.stderr)
                continue
            if key in mapping(found):
                return mapping(found)[key]
        raise RuntimeError(f"{self._module} ended; its output is above")

    def close(self) -> None:
        self._child.kill()
        self._child.wait()


class Senders:
    """Work spread over some children, so that many streams are not held up by the process that reads them."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._senders = senders

    def wait(self) -> float:
        """The longest time that any took to be ready, in seconds."""
        return max(sender.wait()["seconds"] for sender in self._senders)

    def run(self, work: Work) -> list[Stamps]:
        """Replies in the order of their callers, child by child."""
        at = time.perf_counter() + _NOTICE_S
        count = len(self._senders)
        asked: list[Sender] = []
        for place, sender in enumerate(self._senders):
            streams = len(range(place, work.streams, count))
            if streams:
                begin = at + place * work.stagger_s
                sender.ask(replace(work, streams=streams, at=begin, stagger_s=work.stagger_s * count))
                asked.append(sender)
        return [Stamps(*each) for sender in asked for each in sender.answer("stamps")]

    def close(self) -> None:
        for sender in self._senders:
            sender.close()
