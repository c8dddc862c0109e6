"""Jobs to try, and what came of them."""

from dataclasses import dataclass, field, replace
from itertools import count

from workers.engine import Delta, Engine, FinishReason, Generated, Job, Message, Sampling


@dataclass
class Reply:
    """All that a generation gave."""

    deltas: list[Delta] = field(default_factory=list[Delta])

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(token for delta in self.deltas for token in delta.token_ids)

    @property
    def count(self) -> int:
        """Tokens, with those whose ids are not told."""
        return sum(delta.tokens for delta in self.deltas)

    @property
    def prompt_tokens(self) -> int:
        return max((delta.prompt_tokens for delta in self.deltas), default=0)

    @property
    def reason(self) -> FinishReason | None:
        return self.deltas[-1].finish_reason

    def cut(self, after: int) -> Generated:
        """What a log holds when a worker dies after so many deltas."""
        begun = Reply(self.deltas[:after])
        return Generated(begun.tokens, begun.text, begun.count - len(begun.tokens))


_ids = count()


def job(content: str | Job, max_tokens: int = 12, *, chat: bool = False, **sampling: object) -> Job:
    """A job with an id of its own: greedy, unless `sampling` says otherwise."""
    if isinstance(content, Job):
        return replace(content, id=f"job-{next(_ids)}")
    chosen = replace(Sampling(max_tokens, 0.0), **sampling)
    if chat:
        return Job(f"job-{next(_ids)}", chosen, messages=[Message("user", content)])
    return Job(f"job-{next(_ids)}", chosen, prompt=content)


async def reply(engine: Engine, request: Job) -> Reply:
    """Generates to the end."""
    return Reply([delta async for delta in engine.generate(request)])
