"""Gates over the API: listed for anyone who may read, set by operators."""

from bitlane.v1 import policy_pb2 as ppb
from broker.documents import ANY, Documents
from broker.types import Change
from precision.decision import GateState
from precision.tasks import Task
from router.config import Config, ModelConfig
from router.documents import DocumentWatch
from router.faults import checkpoint_unknown, invalid, unknown_model
from router.gates import Gate, GateKey, gate_text
from router.policy_convert import gate_message
from router.policy_validation import check_gate
from router.rulebook import Rulebook


class GateDesk:
    """Reads and writes gates."""

    def __init__(self, config: Config, rulebook: Rulebook, documents: Documents, watch: DocumentWatch) -> None:
        self._config = config
        self._rulebook = rulebook
        self._documents = documents
        self._watch = watch

    def list(self, request: ppb.ListGatesRequest, models: list[ModelConfig]) -> ppb.ListGatesResponse:
        """Raises Fault NOT_FOUND for a model that is not among those given."""
        wanted = [model for model in models if request.model in ("", model.name)]
        if not wanted:
            raise unknown_model(request.model[:64])
        checkpoints = self._rulebook.pools.fp4_checkpoints
        gates = [gate for model in wanted for gate in self._rulebook.gates.gates(model, checkpoints(model))]
        return ppb.ListGatesResponse(gates=[gate_message(gate) for gate in gates])

    async def set(self, request: ppb.SetGateRequest, author: str) -> ppb.SetGateResponse:
        """Writes a gate of one checkpoint, or of all that are served; this router acts on it before it answers.

        Raises:
            Fault: a bad field, an unknown model, or no checkpoint to set it for.
        """
        violations = check_gate(request)
        if violations:
            raise invalid(violations)
        model = self._config.models_by_name.get(request.model)
        if model is None:
            raise unknown_model(request.model)
        if request.HasField("checkpoint_digest"):
            digests = frozenset((request.checkpoint_digest,))
        else:
            digests = self._rulebook.pools.fp4_checkpoints(model)
        if not digests:
            raise checkpoint_unknown(model.name)
        text = gate_text(GateState(request.state), request.evidence)
        task = Task(request.task)
        gates: list[Gate] = []
        for digest in sorted(digests):
            key = GateKey(model.name, digest, task)
            document = await self._documents.put(
                key.document, text, author=author, etag=ANY, audit=Change("SetGate", "")
            )
            gates.append(Gate(key, GateState(request.state), author, document.time_ms, request.evidence))
        await self._watch.catch_up()
        return ppb.SetGateResponse(gates=[gate_message(gate) for gate in gates])
