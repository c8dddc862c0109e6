"""The step loop: one thread that owns the model and turns sequences into deltas."""

import logging
import threading
from collections.abc import Callable

from workers.engine import Delta
from workers.engines.reference.model import Model, Segment
from workers.engines.reference.sampling import choose, logprobs
from workers.engines.reference.scheduler import Scheduler, Share
from workers.engines.reference.sequence import Sequence

logger = logging.getLogger("bitlane.worker")

Outcome = tuple[Sequence, Delta]


class StepLoop:
    """Runs steps while there are sequences, and sleeps while there are none.

    Both callbacks are called in the thread: `deliver` once a step, with what it brought; `ended` once, when the loop
    has been closed (with None) or has failed (with the error).
    """

    def __init__(
        self,
        model: Model,
        scheduler: Scheduler,
        deliver: Callable[[list[Outcome]], None],
        ended: Callable[[Exception | None], None],
    ) -> None:
        self._model = model
        self._scheduler = scheduler
        self._deliver = deliver
        self._ended = ended
        self._changed = threading.Condition()
        self._added: list[Sequence] = []
        self._removed: list[Sequence] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="reference-engine", daemon=True)
        self._thread.start()

    def add(self, sequence: Sequence) -> None:
        """Takes a sequence from the next step on."""
        with self._changed:
            self._added.append(sequence)
            self._changed.notify()

    def remove(self, sequence: Sequence) -> None:
        """Drops a sequence before the next step; nothing happens when it has ended."""
        with self._changed:
            self._removed.append(sequence)
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread after the step that is running, and waits for that."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            while self._take_changes():
                if shares := self._scheduler.plan():
                    self._deliver(self._run_step(shares))
        except Exception as error:
            logger.exception("the engine's step loop failed")
            failure = error
        self._ended(failure)

    def _take_changes(self) -> bool:
        """Waits until there is work; False when the loop is to end."""
        with self._changed:
            while not (self._closing or self._added or self._removed) and self._scheduler.idle:
                self._changed.wait()
            # In this order: a sequence that was closed before it was taken is taken and dropped.
            for sequence in self._added:
                self._scheduler.add(sequence)
            for sequence in self._removed:
                self._scheduler.remove(sequence)
            self._added.clear()
            self._removed.clear()
            return not self._closing

    def _run_step(self, shares: list[Share]) -> list[Outcome]:
        """Runs one step, chooses tokens for the sequences whose known tokens are all computed now, frees the ended."""
        chosen_for = [share.sequence for share in shares if share.completes]
        segments: list[Segment] = []
        for share in shares:
            sequence = share.sequence
            assert sequence.kv is not None  # the scheduler plans only what it has admitted
            end = sequence.computed + share.tokens
            tokens = sequence.tokens[sequence.computed : end]
            segments.append(Segment(sequence.kv, tokens, sequence.computed, logits=int(share.completes)))
        logits = self._model.forward(segments)
        for share in shares:
            share.sequence.computed += share.tokens
        outcomes: list[Outcome] = []
        for row, sequence in zip(logits, chosen_for, strict=True):
            sampling = sequence.job.sampling
            token = choose(row, sampling, sequence.place)
            wanted = sampling.logprobs
            delta = sequence.accept(token, None if wanted is None else logprobs(row, token, wanted))
            outcomes.append((sequence, delta))
            if delta.finish_reason is not None:
                self._scheduler.remove(sequence)
        return outcomes
