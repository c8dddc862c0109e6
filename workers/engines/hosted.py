"""The part that engines on GPUs have in common: jobs to tokens and back, resuming, stop texts, refusals, death."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from precision.profile import Profile
from workers.engine import Delta, EngineDead, Job, JobRejected, Load
from workers.engines.chat_template import TemplateRefused
from workers.engines.driver import Driver, DriverOptions, Order, OrderRefused
from workers.engines.failures import facts
from workers.engines.lifeline import Lifeline
from workers.engines.orphans import Guard, children, guard_since
from workers.engines.token_reply import TokenReply
from workers.engines.vocabulary import Vocabulary, VocabularyError

_log = structlog.get_logger("bitlane.worker")
_LONG_TEXT = 4096
"""Characters from which on a prompt is tokenized in a thread, so that running streams do not wait for it."""


class EngineFailed(Exception):
    """The engine failed at one job; the log has the details, which may not leave this process."""


class HostedEngine:
    """An engine that a driver speaks to. See `workers.engine.Engine` for the contract.

    `prepare` refuses what cannot be served, before the engine loads, and gives the tokenizer; `attested` gives the
    profile of an engine of a version. With `until_limit`, replies end only at max_tokens: for measuring speed.
    `guided`: whether the engine was started with guided decoding.
    """

    def __init__(
        self,
        driver: Driver,
        options: DriverOptions,
        prepare: Callable[[], Vocabulary],
        attested: Callable[[str], Profile],
        *,
        guided: bool = True,
        until_limit: bool = False,
    ) -> None:
        self._driver = driver
        self._options = options
        self._prepare = prepare
        self._attested = attested
        self._guided = guided
        self._until_limit = until_limit
        self._vocabulary: Vocabulary | None = None
        self._profile: Profile | None = None
        self._context_tokens = 0
        self._life = Lifeline()
        self._guard: Guard | None = None
        self._taken = 0

    @property
    def profile(self) -> Profile:
        assert self._profile is not None, "valid after start"
        return self._profile

    @property
    def slots(self) -> int:
        return self._options.slots

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    async def start(self) -> None:
        self._vocabulary = await asyncio.to_thread(self._prepare)
        before = children()
        started = await self._driver.start(self._life.lose)
        self._guard = guard_since(before)
        known = (self._options.context_tokens, started.context_tokens, self._vocabulary.context_tokens)
        self._context_tokens = min((tokens for tokens in known if tokens), default=0)
        if not self._context_tokens:
            raise VocabularyError(f"{self._options.model}: nothing says how long the context is; set context_tokens")
        self._profile = await asyncio.to_thread(self._attested, started.version)
        self._life.begin()

    async def generate(self, job: Job) -> AsyncGenerator[Delta]:
        self._life.require()
        if self._taken >= self.slots:
            raise RuntimeError(f"job {job.id} came with all {self.slots} slots taken")
        self._taken += 1
        try:
            reply = await self._reply(job)
            if (last := reply.nothing_left()) is not None:
                yield last
                return
            async with aclosing(self._driver.generate(self._order(job, reply))) as steps:
                while True:
                    step = await self._life.next(steps)
                    delta = reply.accept(step.token_ids, step.logprobs, step.ended, step.cached)
                    if delta.token_ids or delta.finish_reason is not None:
                        yield delta
                    if delta.finish_reason is not None:
                        return
        except (EngineDead, JobRejected):
            raise
        except OrderRefused as refused:
            _log.info("engine.refused", job=job.id, **facts(refused.__cause__ or refused, job))
            raise JobRejected(refused.field, refused.description) from None
        except StopAsyncIteration:
            raise EngineFailed("the engine's stream ended without a finish reason") from None
        except Exception as error:
            if self._life.death:
                raise EngineDead(self._life.death) from None
            _log.warning("engine.failed", job=job.id, **facts(error, job))
            raise EngineFailed(f"the engine failed with {type(error).__name__}") from None
        finally:
            self._taken -= 1

    async def _reply(self, job: Job) -> TokenReply:
        prompt = await self._prompt(job)
        field = "messages" if job.prompt is None else "prompt"
        if not prompt:
            raise JobRejected(field, "is empty: there is nothing to go on from")
        if len(prompt) >= self._context_tokens:
            raise JobRejected(
                field,
                f"is {len(prompt):,} tokens long, the chat template's included; the context holds "
                f"{self._context_tokens:,} for prompt and reply, so a prompt has at most {self._context_tokens - 1:,}",
            )
        if job.guided is not None and not self._guided:
            raise JobRejected("guided", "this pool's engine was started without guided decoding")
        assert self._vocabulary is not None
        return TokenReply(job, prompt, self._vocabulary, self._context_tokens, until_limit=self._until_limit)

    async def _prompt(self, job: Job) -> list[int]:
        vocabulary = self._vocabulary
        assert vocabulary is not None
        size = len(job.prompt or "") + sum(len(message.content) for message in job.messages)

        def tokens() -> list[int]:
            return vocabulary.encode(job.prompt) if job.prompt is not None else vocabulary.chat(job.messages)

        try:
            return await asyncio.to_thread(tokens) if size > _LONG_TEXT else tokens()
        except (TemplateRefused, VocabularyError) as error:
            _log.info("engine.refused", job=job.id, **facts(error, job))
            raise JobRejected("messages", "the model's chat template does not take these turns") from None

    def _order(self, job: Job, reply: TokenReply) -> Order:
        assert self._vocabulary is not None
        return Order(
            id=job.id,
            prompt=reply.prompt + job.generated.token_ids,
            max_tokens=reply.left,
            place=reply.place,
            ends=frozenset() if self._until_limit else self._vocabulary.ends,
            sampling=job.sampling,
            guided=job.guided,
            priority=job.priority,
            trace=job.trace_headers,
        )

    async def health(self) -> None:
        self._life.require()
        try:
            await self._driver.health()
        except EngineDead as dead:
            self._life.lose(str(dead))
            raise

    def load(self) -> Load:
        return self._driver.load() or Load(self._taken)

    async def close(self) -> None:
        self._life.lose("the engine was closed")
        await self._driver.close()
        if self._guard is not None:
            await asyncio.to_thread(self._guard.close)
