"""Every attribute that a span, a metric or a process may carry: a closed list. Never prompts, completions or keys.

The names follow the OpenTelemetry conventions for GenAI, RPC, messaging and databases; what they have no name for is
`bitlane.*`. A type checker refuses any other key, and `telemetry.spans` drops it at run time.
"""

from typing import Literal, TypedDict

SpanAttributes = TypedDict(
    "SpanAttributes",
    {
        "error.type": str,  # the reason of the error's ErrorInfo, an outcome, or the name of an exception's class
        "server.address": str,
        "server.port": int,
        # The RPC.
        "rpc.system.name": str,
        "rpc.method": str,  # bitlane.v1.InferenceService/Generate
        "rpc.response.status_code": str,
        # The generation: on the router's span once for a request, on the engine's span once for an attempt (no usage).
        "gen_ai.operation.name": str,  # chat, text_completion
        "gen_ai.provider.name": str,
        "gen_ai.request.model": str,
        "gen_ai.request.max_tokens": int,
        "gen_ai.request.temperature": float,
        "gen_ai.request.top_p": float,
        "gen_ai.request.top_k": int,
        "gen_ai.request.seed": int,
        "gen_ai.request.stream": bool,
        "gen_ai.conversation.id": str,
        "gen_ai.response.id": str,  # the request id
        "gen_ai.response.model": str,
        "gen_ai.response.finish_reasons": tuple[str, ...],
        "gen_ai.response.time_to_first_chunk": float,  # seconds
        "gen_ai.usage.input_tokens": int,
        "gen_ai.usage.output_tokens": int,
        "gen_ai.usage.cache_read.input_tokens": int,
        # The way through Redis. No gen_ai.* here: backends would count these spans as generations.
        "messaging.system": str,
        "messaging.operation.name": str,
        "messaging.operation.type": str,
        "messaging.destination.name": str,  # the pool
        "messaging.message.id": str,  # the request id
        # Our own.
        "bitlane.tenant": str,
        "bitlane.request.id": str,
        "bitlane.priority": str,
        "bitlane.pool": str,
        "bitlane.precision": str,
        "bitlane.decision.reason": str,
        "bitlane.decision.rule": str,
        "bitlane.policy.version": str,
        "bitlane.task.class": str,
        "bitlane.task.source": str,
        "bitlane.task.confidence": float,
        "bitlane.gate.state": str,  # of FP4 for the task
        "bitlane.outcome": str,  # of the request, or of one attempt
        "bitlane.attempts": int,  # that the request took
        "bitlane.attempt": int,  # 1 for the first; attempts that were handed back gracefully do not count
        "bitlane.epoch": int,  # of the lease; 1 for the first
        "bitlane.worker": str,
        "bitlane.queue.time": float,  # seconds
        "bitlane.tokens.inherited": int,  # output tokens that earlier attempts had logged
        "bitlane.tokens.generated": int,  # output tokens of this attempt
        "bitlane.tokens.prompt": int,
        "bitlane.tokens.cached": int,  # of the prompt
    },
    total=False,
)

ResourceAttributes = TypedDict(
    "ResourceAttributes",
    {
        "bitlane.pool": str,
        "bitlane.precision": str,
        "bitlane.profile.weight_format": str,
        "bitlane.profile.activation_format": str,
        "bitlane.profile.kv_cache_format": str,
        "bitlane.profile.compute_path": str,
        "bitlane.profile.checkpoint_digest": str,
        "bitlane.profile.engine": str,
        "bitlane.profile.engine_version": str,
        "bitlane.gpu.name": str,  # empty on a CPU
        "bitlane.gpu.sm": str,  # compute capability such as "10.0"
    },
    total=False,
)

# Each has a bounded set of values, which telemetry.catalogue names.
MetricAttribute = Literal[
    "rpc.system.name",
    "rpc.method",
    "rpc.response.status_code",
    "error.type",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.token.type",
    "db.system.name",
    "bitlane.tenant",
    "bitlane.pool",
    "bitlane.precision",
    "bitlane.priority",
    "bitlane.outcome",
    "bitlane.decision.reason",
    "bitlane.task.class",
    "bitlane.task.source",
    "bitlane.gate.state",
    "bitlane.worker.state",
    "bitlane.telemetry.signal",
    "bitlane.telemetry.result",
]

ALLOWED_ON_SPANS = frozenset(SpanAttributes.__annotations__)
# Longer texts are cut; no identifier that the project accepts is longer.
MAX_TEXT = 256
