"""One request at an engine that gives token ids: its tokens so far, and its text."""

from collections.abc import Sequence

from workers.engine import Delta, FinishReason, Job, TokenLogprobs
from workers.engines.vocabulary import Vocabulary
from workers.text import TextStream


class TokenReply:
    """Turns the ids that an engine gives into deltas, and knows by itself when the reply is at its end.

    What an earlier attempt generated is taken over, tokens and text, so that the reply goes on as if it had not moved.
    With `until_limit`, end tokens do not end it.
    """

    def __init__(
        self, job: Job, prompt: Sequence[int], vocabulary: Vocabulary, context_tokens: int, *, until_limit: bool = False
    ) -> None:
        self.prompt = tuple(prompt)
        self._vocabulary = vocabulary
        self._ends = frozenset[int]() if until_limit else vocabulary.ends
        self._most = min(job.sampling.max_tokens, context_tokens - len(prompt))
        self._count = 0
        self._text = TextStream(job.sampling.stop)
        self._reason: FinishReason | None = None
        self._logged = job.generated.text
        self._replayed = "".join(map(self._push, job.generated.token_ids))

    @property
    def left(self) -> int:
        """Tokens that may still come."""
        return self._most - self._count

    @property
    def place(self) -> int:
        """Which token of the reply comes next, from 0."""
        return self._count

    def nothing_left(self) -> Delta | None:
        """The last delta of a reply that an earlier attempt brought to its end, without having said so."""
        if self._reason is None and self.left <= 0:
            self._reason = FinishReason.LENGTH
        if self._reason is None:
            return None
        return self._delta((self._replayed + self._text.flush())[len(self._logged) :], (), (), 0)

    def accept(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[TokenLogprobs] = (),
        ended: FinishReason | None = None,
        cached: int = 0,
    ) -> Delta:
        """Adds the next tokens. `ended`: the engine says that they are the last; it counts if nothing else does."""
        text = ""
        for place, token in enumerate(tokens, start=1):
            text += self._push(token)
            if self._reason is not None:
                tokens, logprobs = tokens[:place], logprobs[:place]
                break
        self._reason = self._reason or ended
        if self._reason is not None:
            text += self._text.flush()
        return self._delta(text, tuple(tokens), tuple(logprobs), cached)

    def _push(self, token: int) -> str:
        self._count += 1
        text = self._text.push(self._vocabulary.token_bytes(token))
        if self._text.stopped or token in self._ends:
            self._reason = FinishReason.STOP
        elif self._count >= self._most:
            self._reason = FinishReason.LENGTH
        return text

    def _delta(self, text: str, tokens: tuple[int, ...], logprobs: tuple[TokenLogprobs, ...], cached: int) -> Delta:
        return Delta(text, tokens, logprobs, self._reason, len(self.prompt), min(cached, len(self.prompt)))
