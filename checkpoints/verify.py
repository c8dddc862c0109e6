"""What quantizing cost: whether the checkpoint would have chosen the same tokens as its source, and its perplexity.

Both models run on the same tokens: a prompt, and what the source greedily answers. At each place of the answer the two
choices are compared. That is by the reference engine, so for Llama-like models of a size that NumPy can run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from checkpoints.failures import CheckpointProblem
from checkpoints.samples import Sample
from precision.formats.minifloat import Float32s
from workers.engines.reference.chat import chat_tokens
from workers.engines.reference.kv import KvCache
from workers.engines.reference.loading import Loaded, load
from workers.engines.reference.model import Model, Segment
from workers.engines.reference.sources import source_of

TARGET = 0.99
_ROWS = 64
_REPORT = 1
"""Version of the report's form."""


@dataclass(slots=True)
class Agreement:
    """At how many places the same token came, of how many."""

    same: int = 0
    places: int = 0

    @property
    def share(self) -> float:
        return self.same / self.places if self.places else 0.0


@dataclass(slots=True)
class Verification:
    """What was found. Perplexities are those of the source's own answers."""

    source_digest: str
    checkpoint_digest: str
    profile: str
    whole: Agreement = field(default_factory=Agreement)
    by_task: dict[str, Agreement] = field(default_factory=dict[str, Agreement])
    source_loss: float = 0.0
    checkpoint_loss: float = 0.0

    def report(self, target: float) -> Mapping[str, object]:
        """A JSON object that says of the whole, and of each task class, whether the target was reached."""
        places = max(1, self.whole.places)
        perplexity = {
            "source": math.exp(self.source_loss / places),
            "checkpoint": math.exp(self.checkpoint_loss / places),
        }
        return {
            "version": _REPORT,
            "source_digest": self.source_digest,
            "checkpoint_digest": self.checkpoint_digest,
            "profile": self.profile,
            "target_agreement": target,
            "agreement": self.whole.share,
            "tokens": self.whole.places,
            "passed": self.whole.share >= target,
            "perplexity": perplexity | {"ratio": perplexity["checkpoint"] / perplexity["source"]},
            "tasks": {
                task: {"agreement": found.share, "tokens": found.places, "passed": found.share >= target}
                for task, found in sorted(self.by_task.items())
            },
        }


def verify(
    source: Path,
    checkpoint: Path,
    profile: str | None,
    samples: Sequence[Sample],
    *,
    answer_tokens: int,
    most_tokens: int,
    advance: Callable[[int], None],
) -> Verification:
    """Compares a checkpoint with its source. `profile` is for a checkpoint that is not quantized itself and is to be
    run in "fp8" or "nvfp4".

    Raises:
        CheckpointProblem: one of the two cannot be run here, they do not belong together, or there is no
            room for prompts.
    """
    if not 0 < answer_tokens < most_tokens:
        raise CheckpointProblem(
            f"--answer-tokens is {answer_tokens}: want at least 1, and fewer than --most-tokens ({most_tokens})"
        )
    other = _load_checkpoint(checkpoint, profile, most_tokens)
    whole = _load(source, "none", most_tokens)
    if whole.model.architecture != other[0].model.architecture:
        raise CheckpointProblem(f"{checkpoint}: its sizes are not those of {source}: it was not made from it")
    found = Verification(whole.digest, other[0].digest, other[1])
    ends = whole.tokenizer.ends
    for sample in samples:
        prompt = chat_tokens(sample.messages, whole.tokenizer)[: most_tokens - answer_tokens]
        answer, source_logits = _answer(whole.model, prompt, answer_tokens, ends)
        logits = _forced(other[0].model, prompt, answer)
        same = int((logits.argmax(axis=-1) == np.asarray(answer)).sum())
        for agreement in (found.whole, found.by_task.setdefault(sample.task or "unclassified", Agreement())):
            agreement.same += same
            agreement.places += len(answer)
        found.source_loss += _loss(source_logits, answer)
        found.checkpoint_loss += _loss(logits, answer)
        advance(1)
    return found


def _load_checkpoint(checkpoint: Path, profile: str | None, most_tokens: int) -> tuple[Loaded, str]:
    try:
        stored = source_of(checkpoint).stored
    except (ValueError, OSError) as error:
        raise CheckpointProblem(str(error)) from error
    chosen = stored or profile
    if chosen is None:
        raise CheckpointProblem(f"{checkpoint}: is not quantized; say --profile fp8 or --profile nvfp4")
    return _load(checkpoint, chosen, most_tokens), chosen


def _load(path: Path, profile: str, most_tokens: int) -> Loaded:
    try:
        return load(profile, slots=_ROWS, context_tokens=most_tokens, checkpoint=path)
    except (ValueError, OSError, KeyError) as error:
        raise CheckpointProblem(f"{path}: {error}") from error


def _answer(model: Model, prompt: Sequence[int], most: int, ends: frozenset[int]) -> tuple[list[int], Float32s]:
    """The greedy answer, its end included, and the logits that chose each of its tokens."""
    cache = KvCache(model.architecture, len(prompt) + most)
    rows = [_prefill(model, cache, prompt, 1)[-1]]
    answer = [int(rows[-1].argmax())]
    while len(answer) < most and answer[-1] not in ends:
        rows.append(model.forward([Segment(cache, answer[-1:], len(prompt) + len(answer) - 1)])[0])
        answer.append(int(rows[-1].argmax()))
    return answer, np.stack(rows)


def _forced(model: Model, prompt: Sequence[int], answer: Sequence[int]) -> Float32s:
    """Logits at each place of an answer, given all before it: [places, vocabulary]."""
    tokens = [*prompt, *answer[:-1]]
    return _prefill(model, KvCache(model.architecture, len(tokens)), tokens, len(answer))


def _prefill(model: Model, cache: KvCache, tokens: Sequence[int], wanted: int) -> Float32s:
    """Logits of the last `wanted` tokens."""
    rows: list[Float32s] = []
    for first in range(0, len(tokens), _ROWS):
        part = list(tokens[first : first + _ROWS])
        rows.append(model.forward([Segment(cache, part, first, logits=len(part))]))
    return np.concatenate(rows)[-wanted:]


def _loss(logits: Float32s, chosen: Sequence[int]) -> float:
    """Sum of the negative log-likelihoods of the chosen tokens."""
    wide = logits.astype(np.float64)
    greatest = wide.max(axis=-1, keepdims=True)
    totals = greatest[:, 0] + np.log(np.exp(wide - greatest).sum(axis=-1))
    return float((totals - wide[np.arange(len(chosen)), list(chosen)]).sum())
