"""One request inside the engine: its tokens so far, how far they are computed, and its text."""

from workers.engine import Delta, FinishReason, Job, TokenLogprobs
from workers.engines.reference.kv import KvCache
from workers.engines.reference.tokenizer import Tokenizer
from workers.text import TextStream


class Sequence:
    """Tokens of a prompt and of its reply. What an earlier attempt generated is taken over, tokens and text.

    `computed` counts the tokens whose keys and values are in `kv`; the next step runs those after them. One such token
    is a step of decoding, more are (a part of) the prompt.
    """

    def __init__(self, job: Job, prompt: list[int], tokenizer: Tokenizer, context_tokens: int) -> None:
        self.job = job
        self.prompt_tokens = len(prompt)
        self.tokens = prompt + list(job.generated.token_ids)
        self.computed = 0
        self.kv: KvCache | None = None
        self.last_served = 0  # number of the step that last ran a part of the prompt
        self.finish_reason: FinishReason | None = None
        self._tokenizer = tokenizer
        self._most_tokens = min(context_tokens, len(prompt) + job.sampling.max_tokens)
        self._text = TextStream(job.sampling.stop)
        for count, token in enumerate(job.generated.token_ids, 1):
            self._text.push(tokenizer.token_bytes(token))
            self._end_after(token, len(prompt) + count)

    @property
    def place(self) -> int:
        """Which token of the reply comes next, from 0."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def to_compute(self) -> int:
        """Tokens to be run before the next one can be chosen; at least 1."""
        return len(self.tokens) - self.computed

    @property
    def most_tokens(self) -> int:
        """Tokens of prompt and reply at most: what the cache must hold."""
        return self._most_tokens

    def nothing_left(self) -> Delta | None:
        """The last delta of a reply that an earlier attempt brought to its end, without having said so."""
        return None if self.finish_reason is None else self._delta(self._text.flush(), (), ())

    def accept(self, token: int, logprobs: TokenLogprobs | None) -> Delta:
        """Adds the next token of the reply."""
        self.tokens.append(token)
        text = self._text.push(self._tokenizer.token_bytes(token))
        self._end_after(token, len(self.tokens))
        if self.finish_reason is not None:
            text += self._text.flush()
        return self._delta(text, (token,), () if logprobs is None else (logprobs,))

    def _end_after(self, token: int, total: int) -> None:
        if self._text.stopped or token in self._tokenizer.ends:
            self.finish_reason = FinishReason.STOP
        elif total >= self._most_tokens:
            self.finish_reason = FinishReason.LENGTH

    def _delta(self, text: str, token_ids: tuple[int, ...], logprobs: tuple[TokenLogprobs, ...]) -> Delta:
        return Delta(text, token_ids, logprobs, self.finish_reason, prompt_tokens=self.prompt_tokens)
