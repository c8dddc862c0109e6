"""Every metric of the project, what it means, and what bounds its attributes. Dashboards and alerts use no others.

Values of attributes: `rpc.method` is one of the API's, `rpc.response.status_code` one of gRPC's, `error.type` a reason
of docs/design.md's table of errors or an exception's class, `bitlane.tenant` as `telemetry.tenants` bounds it;
`bitlane.pool` and `gen_ai.request.model` are configured ones; all others are enumerations of the project.
"""

from telemetry.attributes import MetricAttribute
from telemetry.instruments import Instrument, Kind

# Seconds. 2.5 s, which the objective for the first token counts, is written alike by everything that prints buckets.
_LATENCY = (
    *(0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0),
)
_PER_TOKEN = (
    0.001,
    0.0025,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.5,
)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SHARE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

_GENERATION: tuple[MetricAttribute, ...] = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "bitlane.pool",
    "bitlane.tenant",
)
_SERVED: tuple[MetricAttribute, ...] = ("gen_ai.request.model", "bitlane.pool", "bitlane.tenant")


def _counter(name: str, unit: str, description: str, *attributes: MetricAttribute) -> Instrument:
    return Instrument(name, Kind.COUNTER, unit, description, attributes)


def _gauge(name: str, unit: str, description: str, *attributes: MetricAttribute) -> Instrument:
    return Instrument(name, Kind.GAUGE, unit, description, attributes)


def _histogram(
    name: str, boundaries: tuple[float, ...], description: str, *attributes: MetricAttribute, unit: str = "s"
) -> Instrument:
    return Instrument(name, Kind.HISTOGRAM, unit, description, attributes, boundaries)


# Calls and generations, by the router.
CALL_DURATION = _histogram(
    "rpc.server.call.duration",
    _LATENCY,
    "From an RPC's arrival to its status, streaming included.",
    "rpc.system.name",
    "rpc.method",
    "rpc.response.status_code",
    "error.type",
)
REQUEST_DURATION = _histogram(
    "gen_ai.server.request.duration",
    _LATENCY,
    "From a generation's arrival to its ending, for those that this router saw end.",
    *_GENERATION,
    "error.type",
)
FIRST_TOKEN = _histogram(
    "gen_ai.server.time_to_first_token",
    _LATENCY,
    "From a generation's arrival until its first token is written to the client; of Complete, until the router has it.",
    *_GENERATION,
)
PER_TOKEN = _histogram(
    "gen_ai.server.time_per_output_token",
    _PER_TOKEN,
    "Mean time between tokens after the first one, once for a generation.",
    *_GENERATION,
)
REQUESTS = _counter(
    "bitlane.requests",
    "{request}",
    "Accepted requests that ended, by how.",
    *_SERVED,
    "bitlane.outcome",
)
REJECTIONS = _counter(
    "bitlane.rejections",
    "{request}",
    "Generations that failed before they were accepted, by reason.",
    "bitlane.tenant",
    "error.type",
)
DECISIONS = _counter(
    "bitlane.decisions",
    "{decision}",
    "Decisions of the precision policy for submitted requests.",
    "gen_ai.request.model",
    "bitlane.precision",
    "bitlane.task.class",
    "bitlane.decision.reason",
)
CONFIDENCE = _histogram(
    "bitlane.classifier.confidence",
    _SHARE,
    "How sure the classifier was of a task class; hints of clients are not in it.",
    "bitlane.task.class",
    unit="1",
)
TOKENS = _counter(
    "bitlane.tokens",
    "{token}",
    "Tokens of requests that ended: input, of which cached, and output.",
    *_SERVED,
    "gen_ai.token.type",
)
COST = _counter("bitlane.cost", "{currency}", "What requests that ended cost, at the pools' prices.", *_SERVED)
FP8_COST = _counter(
    "bitlane.cost.fp8",
    "{currency}",
    "What the same tokens would have cost in FP8. Savings are this less the cost; they can be negative.",
    *_SERVED,
)
STREAMS = _gauge("bitlane.streams", "{stream}", "Open streams of this router.")

# Pools, gates and policies, as a router sees them; every router says the same.
QUEUE_DEPTH = _gauge("bitlane.queue.depth", "{request}", "Waiting requests.", "bitlane.pool", "bitlane.priority")
QUEUE_AGE = _gauge(
    "bitlane.queue.age",
    "s",
    "How long the oldest waiting request has waited; 0 when none does.",
    "bitlane.pool",
    "bitlane.priority",
)
POOL_WORKERS = _gauge(
    "bitlane.pool.workers",
    "{worker}",
    "Live workers by state: serving, draining, quarantined, ejected.",
    "bitlane.pool",
    "bitlane.worker.state",
)
GATE_STATE = _gauge(
    "bitlane.gate.state",
    "{state}",
    "1 for the state that the FP4 gate of a task class is in, 0 for its other states.",
    "gen_ai.request.model",
    "bitlane.task.class",
    "bitlane.gate.state",
)
POLICY_VERSION = _gauge(
    "bitlane.policy.version",
    "{version}",
    "Version of a tenant's acting policy; 0 is the configuration's. Of the tenants that have a label.",
    "bitlane.tenant",
)

# Workers.
QUEUE_TIME = _histogram(
    "bitlane.queue.time", _LATENCY, "From entering the queue to a worker's claim.", "bitlane.pool", "bitlane.priority"
)
PREFILL = _histogram("bitlane.prefill.duration", _LATENCY, "From a claim to the engine's first token.", "bitlane.pool")
ATTEMPTS = _counter(
    "bitlane.attempts", "{attempt}", "Attempts that ended in a worker, by how.", "bitlane.pool", "bitlane.outcome"
)
ENGINE_TOKENS = _counter(
    "bitlane.engine.tokens",
    "{token}",
    "Tokens that the engine worked on, those of attempts that were lost included.",
    "bitlane.pool",
    "gen_ai.token.type",
)
SLOTS_USED = _gauge("bitlane.slots.used", "{slot}", "Slots of this worker's engine that run a request.", "bitlane.pool")
SLOTS = _gauge("bitlane.slots", "{slot}", "Slots of this worker's engine.", "bitlane.pool")
ENGINE_RUNNING = _gauge(
    "bitlane.engine.running", "{request}", "Requests in the engine's batch, by its own count.", "bitlane.pool"
)
ENGINE_WAITING = _gauge(
    "bitlane.engine.waiting", "{request}", "Requests that the engine holds and has not begun.", "bitlane.pool"
)
ENGINE_CACHE = _gauge(
    "bitlane.engine.cache.used", "1", "Used part of the engine's key/value cache, 0 to 1.", "bitlane.pool"
)
LEASES_LOST = _counter(
    "bitlane.leases.lost",
    "{lease}",
    "Leases that ran out, by what became of the request; counted once, by whoever reclaimed it.",
    "bitlane.pool",
    "bitlane.outcome",
)
MIGRATIONS = _counter(
    "bitlane.migrations", "{request}", "Requests that were claimed after another worker had had them.", "bitlane.pool"
)
FENCES = _counter(
    "bitlane.fences", "{write}", "Writes refused because another worker holds the request.", "bitlane.pool"
)

# Every process.
BROKER_DURATION = _histogram(
    "db.client.operation.duration",
    _SHORT,
    "One round trip to Redis, a whole pipeline of commands.",
    "db.system.name",
    "error.type",
)
LOOP_LAG = _histogram("bitlane.event_loop.lag", _SHORT, "How much later than asked the event loop wakes a task.")
SPANS = _counter(
    "bitlane.telemetry.spans",
    "{span}",
    "Sampled spans by fate: exported, dropped (full queue), failed (the receiver did not take them).",
    "bitlane.telemetry.result",
)
EXPORTS = _counter(
    "bitlane.telemetry.exports",
    "{export}",
    "Batches sent to the OTLP receiver: ok, failed.",
    "bitlane.telemetry.signal",
    "bitlane.telemetry.result",
)

CATALOGUE: tuple[Instrument, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Instrument))
