"""The contract between the worker loop and an engine."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from precision.profile import Profile


class FinishReason(Enum):
    """Why a generation ended by itself."""

    STOP = "stop"  # end of turn, or a stop text
    LENGTH = "length"  # max_tokens or the context was reached


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; every default is already filled in (see `bitlane.v1.SamplingParams`)."""

    max_tokens: int
    temperature: float  # 0 is greedy
    top_p: float = 1.0  # 1 is off
    top_k: int = 0  # 0 is off
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None  # None: none; n: the chosen token's and those of the n most probable


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms at one position: of the chosen token, and of the most probable ones, best first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one step added. The last delta of a generation carries `finish_reason`, and perhaps no token.

    `text` is final: what an engine holds back (an unfinished character, the possible start of a stop text) is not in
    it yet. Invariant: the texts of all deltas, joined, are a function of the tokens alone.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0  # of the whole prompt; set on the first delta at the latest
    cached_prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """What earlier attempts at a request already logged: the next attempt goes on after it."""

    token_ids: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One request, as an engine sees it. Exactly one of `prompt` and `messages` is set.

    `id` is unique among the running jobs of a worker. `guided` is a (kind, text) pair, kind json_schema or regex.
    `trace_headers` carry the trace on to an engine that takes it (W3C: traceparent, tracestate).
    """

    id: str
    sampling: Sampling
    prompt: str | None = None
    messages: Sequence[Message] = ()
    generated: Generated = field(default_factory=Generated)
    guided: tuple[str, str] | None = None
    trace_headers: Mapping[str, str] = field(default_factory=dict[str, str])


class JobRejected(Exception):
    """The engine cannot run this job, on this worker or another: the client must change it.

    `field` is the path in `bitlane.v1.GenerateRequest` that is at fault, such as "sampling.max_tokens".
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class EngineDead(Exception):
    """The engine can serve no job any more: the worker releases its requests and stops."""


class Engine(Protocol):
    """What turns jobs into tokens, for as many jobs at once as `slots` says.

    Life: `start` once, then any number of `generate` side by side, then `close` once.
    """

    @property
    def profile(self) -> Profile:
        """What the engine proved about itself; valid after `start`."""
        ...

    @property
    def slots(self) -> int:
        """Jobs that can run at once; valid after `start`."""
        ...

    @property
    def context_tokens(self) -> int:
        """Prompt and output together, in tokens; valid after `start`."""
        ...

    async def start(self) -> None:
        """Loads the model. Takes seconds to minutes; progress goes to the log."""
        ...

    def generate(self, job: Job) -> AsyncGenerator[Delta]:
        """Yields deltas as tokens come, the last one with a finish reason. Skips what `job.generated` already holds:
        the first delta continues right after it, in tokens and in text.

        Closing or cancelling the iterator stops the engine's work on the job before its next step.

        Raises:
            JobRejected: the job itself is at fault.
            EngineDead: the engine is lost.
        """
        ...

    async def health(self) -> None:
        """Returns when the engine can work.

        Raises:
            EngineDead: it cannot any more.
        """
        ...

    async def close(self) -> None:
        """Frees everything; running generations end with an error."""
        ...
