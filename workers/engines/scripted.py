"""The `scripted` engine: token i is a function of the prompt and i. For tests, load generation and trying things out.

It computes nothing, so its profile says so: the engine is named "scripted" and the compute path is emulated. What a
client should have received can be recomputed anywhere with `scripted_token`, which is what the tests do.
"""

import asyncio
import os
import signal
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from precision.profile import ComputePath, Precision, Profile
from workers.engine import Delta, EngineDead, FinishReason, Job, JobRejected, Load, TokenLogprobs
from workers.text import TextStream

_FORMATS = {Precision.FP4: ("NVFP4", 16), Precision.FP8: ("FP8_E4M3", 0), Precision.BF16: ("BF16", 0)}


@dataclass(frozen=True, slots=True)
class ScriptedOptions:
    """Delays, lengths and faults. A fault's text, when set, strikes every job whose prompt contains it."""

    precision: Precision = Precision.FP8
    slots: int = 16
    context_tokens: int = 100_000
    first_token_ms: float = 0.0  # before the first token of a job
    token_ms: float = 0.0  # between tokens
    tokens: int | None = None  # the model ends its turn after so many; None: it goes on to max_tokens
    start_ms: float = 0.0  # loading time
    fail_on: str = ""  # the job fails at its third token, as an engine's error
    kill_on: str = ""  # the whole process dies by SIGKILL at the third token
    hang_on: str = ""  # nothing comes after the third token


def scripted_token(prompt: str, i: int) -> int:
    """Token i (from 0) of the reply to a prompt: 0 to 49,151."""
    return zlib.crc32(f"{i}:{prompt}".encode()) % 49_152


def scripted_text(prompt: str, i: int) -> str:
    """Text of token i: a word of its own, so that a lost or doubled token shows."""
    return f"{' ' if i else ''}{i}-{scripted_token(prompt, i):x}"


def flat_prompt(job: Job) -> str:
    """What `scripted_token` is a function of: the prompt, or the chat's turns, a line each."""
    if job.prompt is not None:
        return job.prompt
    return "\n".join(f"{m.role}: {m.content}" for m in job.messages)


class ScriptedEngine:
    """See `workers.engine.Engine`."""

    def __init__(self, options: ScriptedOptions | None = None) -> None:
        self._options = options or ScriptedOptions()
        self._running = 0
        self._death = "the engine has not been started"  # why it cannot work; empty while it can

    @property
    def profile(self) -> Profile:
        weights, group = _FORMATS[self._options.precision]
        return Profile(
            precision=self._options.precision,
            weight_format=weights,
            activation_format=weights,
            kv_cache_format="none",
            group_size=group,
            compute_path=ComputePath.EMULATED,
            checkpoint_digest="",  # there is no checkpoint
            calibrated=True,
            engine="scripted",
            engine_version="1",
        )

    @property
    def slots(self) -> int:
        return self._options.slots

    @property
    def context_tokens(self) -> int:
        return self._options.context_tokens

    async def start(self) -> None:
        await asyncio.sleep(self._options.start_ms / 1000)
        self._death = ""

    def crash(self) -> None:
        """Dies as an engine does: everything that runs ends with EngineDead."""
        self._death = "the engine crashed"

    def _require_alive(self) -> None:
        if self._death:
            raise EngineDead(self._death)

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        self._require_alive()
        if self._running >= self.slots:
            raise RuntimeError(f"job {job.id} came with all {self.slots} slots taken")
        self._running += 1
        try:
            async for delta in self._tokens(job):
                yield delta
        finally:
            self._running -= 1

    async def _tokens(self, job: Job) -> AsyncGenerator[Delta]:
        options = self._options
        prompt = flat_prompt(job)
        prompt_tokens = max(1, len(prompt.split()))
        if prompt_tokens >= options.context_tokens:
            raise JobRejected("prompt", f"has {prompt_tokens} tokens; the context holds {options.context_tokens}")
        text = TextStream(job.sampling.stop)
        for i in range(len(job.generated.token_ids)):
            text.push(scripted_text(prompt, i))
        await asyncio.sleep(options.first_token_ms / 1000)
        limit = job.sampling.max_tokens
        for i in range(len(job.generated.token_ids), limit):
            if i == 3:
                await self._strike(prompt)
            last_of_turn = options.tokens is not None and i + 1 >= options.tokens
            piece = text.push(scripted_text(prompt, i))
            reason = None
            if text.stopped or last_of_turn:
                reason = FinishReason.STOP
            elif i + 1 == limit:
                reason = FinishReason.LENGTH
            if reason is not None:
                piece += text.flush()
            logprobs = () if job.sampling.logprobs is None else (TokenLogprobs(-0.5),)
            yield Delta(piece, (scripted_token(prompt, i),), logprobs, reason, prompt_tokens)
            if reason is not None:
                return
            # Even with no delay the loop must get its turn, or one job would starve all others.
            await asyncio.sleep(options.token_ms / 1000)
            self._require_alive()
        yield Delta(text.flush(), finish_reason=FinishReason.LENGTH, prompt_tokens=prompt_tokens)

    async def _strike(self, prompt: str) -> None:
        options = self._options
        if options.fail_on and options.fail_on in prompt:
            raise RuntimeError("scripted failure")
        if options.kill_on and options.kill_on in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.hang_on and options.hang_on in prompt:
            await asyncio.Event().wait()

    async def health(self) -> None:
        self._require_alive()

    def load(self) -> Load:
        return Load(self._running, kv_cache_used=self._running / self.slots)  # as if each slot had its part

    async def close(self) -> None:
        self._death = self._death or "the engine was closed"
