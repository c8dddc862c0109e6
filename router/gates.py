"""The gates of FP4 as they are now: what was written about a checkpoint, else the configuration's word on its model.

A gate is a document `gate/<model>/<checkpoint>/<task>` with JSON text. An operator writes it, by hand or from a
measurement (`bitlane gates import`), with the figures as evidence: author and time are the document's own.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from broker.documents import Document
from precision.decision import GateState
from precision.tasks import Task
from router.config import Config, ModelConfig

GATE = "gate"
_NO_CHECKPOINT = "none"  # a part of a name cannot be empty
# The most careful first: workers of one pool may serve several checkpoints while they are replaced.
_CAREFUL = (GateState.QUARANTINED, GateState.FAILED, GateState.UNVALIDATED, GateState.PASSED)


@dataclass(frozen=True, slots=True)
class GateKey:
    """What a gate is about."""

    model: str
    digest: str  # of the FP4 checkpoint, as in a profile; empty for engines without one
    task: Task

    @property
    def document(self) -> str:
        return f"{GATE}/{self.model}/{self.digest.replace(':', '-') or _NO_CHECKPOINT}/{self.task.name.lower()}"

    @classmethod
    def of(cls, key: str) -> "GateKey":
        """From a document's name behind the kind. Raises ValueError."""
        model, digest, task = key.split("/")
        if task.upper() not in Task.__members__:
            raise ValueError(f"{task!r} is no task class")
        return cls(model, "" if digest == _NO_CHECKPOINT else digest.replace("-", ":", 1), Task[task.upper()])


@dataclass(frozen=True, slots=True)
class Gate:
    """The state of a gate, and who says so."""

    key: GateKey
    state: GateState
    author: str  # empty: nobody has said anything
    time_ms: int | None  # None: not of a live document
    evidence: str


def gate_text(state: GateState, evidence: str) -> str:
    """What a gate's document says."""
    return json.dumps({"state": state.name.lower(), "evidence": evidence})


class GateBook:
    """Every gate that was written. Follows the documents of kind `gate` (router.documents)."""

    old_is_good = True

    def __init__(self, config: Config) -> None:
        self._models = config.models_by_name
        self._written: dict[GateKey, Gate] = {}
        self._views: dict[tuple[str, frozenset[str]], Mapping[Task, GateState]] = {}

    def states(self, model: ModelConfig, digests: frozenset[str]) -> Mapping[Task, GateState]:
        """State by task, over all checkpoints that the model's FP4 pool serves now; the most careful one counts."""
        view = self._views.get((model.name, digests))
        if view is None:
            view = self.current_states(model, digests)
            if len(self._views) > 256:  # checkpoints come and go
                self._views.clear()
            self._views[model.name, digests] = view
        return view

    def current_states(self, model: ModelConfig, digests: frozenset[str]) -> Mapping[Task, GateState]:
        """The same, found anew: changes nothing, so that any thread may ask."""
        return {task: self._state(model, digests, task) for task in Task}

    def gates(self, model: ModelConfig, digests: frozenset[str]) -> list[Gate]:
        """Every gate of these checkpoints, and of those that were ever written about."""
        known = {key.digest for key in self._written if key.model == model.name}
        wanted: Iterable[str] = sorted(known | digests)
        return [self._gate(GateKey(model.name, digest, task)) for digest in wanted for task in Task]

    def load(self, key: str, document: Document) -> None:
        gate_key = GateKey.of(key)
        said = json.loads(document.text)
        if not isinstance(said, dict) or str(said.get("state")).upper() not in GateState.__members__:  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # any JSON
            raise ValueError("is no gate")
        state = GateState[str(said["state"]).upper()]  # pyright: ignore[reportUnknownArgumentType]
        evidence = str(said.get("evidence", ""))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        self._written[gate_key] = Gate(gate_key, state, document.author, document.time_ms, evidence)
        self._views.clear()

    def reset(self) -> None:
        self._written.clear()
        self._views.clear()

    def _state(self, model: ModelConfig, digests: frozenset[str], task: Task) -> GateState:
        # Without a live worker the configuration's word is all there is.
        states = {self._gate(GateKey(model.name, digest, task)).state for digest in digests}
        states = states or {model.gate_states.get(task, GateState.UNVALIDATED)}
        return next(state for state in _CAREFUL if state in states)

    def _gate(self, key: GateKey) -> Gate:
        written = self._written.get(key)
        if written is not None:
            return written
        model = self._models.get(key.model)
        seeded = model.gate_states.get(key.task) if model else None
        if seeded is not None:
            return Gate(key, seeded, "config", None, "")
        return Gate(key, GateState.UNVALIDATED, "", None, "")
