"""What the next step runs: pure bookkeeping over the sequences of the engine.

Every step decodes one token for each sequence that is past its prompt, and beside them runs a bounded number of prompt
tokens: a long prompt delays running replies by a fixed small amount a step instead of stopping them.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from workers.engines.reference import kv
from workers.engines.reference.kv import KvCache
from workers.engines.reference.sequence import Sequence

PROMPT_TOKENS_ALONE = 64
"""Prompt tokens in a step that decodes nothing."""

PROMPT_TOKENS_BESIDE = 16
"""Prompt tokens in a step that decodes as well."""


@dataclass(frozen=True, slots=True)
class Share:
    """A sequence's part of a step: its next `tokens` tokens."""

    sequence: Sequence
    tokens: int

    @property
    def completes(self) -> bool:
        """Whether the next token can be chosen after it."""
        return self.tokens == self.sequence.to_compute


class Scheduler:
    """Owns the waiting and the running sequences.

    A sequence runs when one of `slots` is free and the cache has room for all the tokens it can have; until then it
    waits, first come, first served. `kv_tokens` bounds the cache of all together.
    """

    def __init__(self, slots: int, kv_tokens: int, new_cache: Callable[[int], KvCache]) -> None:
        self._slots = slots
        self._kv_free = kv_tokens
        self._new_cache = new_cache
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._step = 0

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    @property
    def running(self) -> int:
        return len(self._running)

    def add(self, sequence: Sequence) -> None:
        """Takes a sequence that is to run when there is room."""
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Frees what a sequence has; nothing happens when it is not here any more."""
        if sequence in self._running:
            self._running.remove(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        if sequence.kv is not None:
            self._kv_free += sequence.kv.capacity
            sequence.kv = None

    def plan(self) -> list[Share]:
        """Admits what fits, and says what the next step runs. Empty only when there is nothing to do."""
        self._admit()
        self._step += 1
        decoding = [Share(s, 1) for s in self._running if s.to_compute == 1]
        budget = PROMPT_TOKENS_BESIDE if decoding else PROMPT_TOKENS_ALONE
        shares = decoding
        # Prompts take turns, so that a short one does not wait for the end of a long one.
        for sequence in sorted((s for s in self._running if s.to_compute > 1), key=lambda s: s.last_served):
            if budget == 0:
                break
            share = Share(sequence, min(budget, sequence.to_compute))
            sequence.last_served = self._step
            budget -= share.tokens
            shares.append(share)
        return shares

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            needed = kv.rounded(self._waiting[0].most_tokens)
            if needed > self._kv_free:
                return
            sequence = self._waiting.popleft()
            sequence.kv = self._new_cache(needed)
            self._kv_free -= needed
            self._running.append(sequence)
