"""What the router tells of its own things, put into the terms of `telemetry`: requests, decisions, endings, gauges."""

from collections.abc import Iterator, Mapping

from bitlane.v1 import inference_pb2 as pb
from broker.types import Ending, Outcome, Price, RequestRef
from precision.decision import Decision, GateState, PriorityClass
from router.config import Config
from router.policies import PolicyBook
from router.pools import PoolWatch
from router.relay import Relay
from router.rulebook import Rulebook
from telemetry.attributes import SpanAttributes
from telemetry.calls import RouterTelemetry, ServedCall
from telemetry.instruments import Labels

# Prices of a pool's tokens, and of the same tokens in FP8, by the pool's name.
Prices = Mapping[str, tuple[Price, Price]]

# What the service did not bring to an end costs nothing.
_FREE = (Outcome.NOT_MIGRATABLE, Outcome.ATTEMPTS_EXHAUSTED)
# A greater seed is no number for OpenTelemetry.
_MOST_SEED = (1 << 63) - 1


def tell_decision(watch: ServedCall, request: pb.GenerateRequest, decision: Decision) -> None:
    """Tells where a request goes, and why."""
    watch.decided(
        operation="chat" if request.messages else "text_completion",
        model=request.model,
        pool=decision.pool,
        precision=decision.precision.name,
        reason=decision.reason.name.lower(),
        rule=decision.rule,
        policy_version=decision.policy_version,
        task=decision.task.name.lower(),
        source=decision.task_source.name.lower(),
        confidence=decision.task_confidence,
        gate=decision.gate.name.lower(),
    )


def tell_request(watch: ServedCall, request: pb.GenerateRequest, ref: RequestRef, priority: PriorityClass) -> None:
    """Puts what a valid request asks for on the call's span; nothing of its content."""
    if not watch.span.recording:
        return
    attributes: SpanAttributes = {
        "gen_ai.request.stream": watch.streams,
        "gen_ai.conversation.id": request.conversation_id,
        "gen_ai.response.id": ref.request_id,
        "bitlane.request.id": ref.request_id,
        "bitlane.priority": priority.name.lower(),
    }
    sampling = request.sampling
    if sampling.HasField("max_tokens"):
        attributes["gen_ai.request.max_tokens"] = sampling.max_tokens
    if sampling.HasField("temperature"):
        attributes["gen_ai.request.temperature"] = sampling.temperature
    if sampling.HasField("top_p"):
        attributes["gen_ai.request.top_p"] = sampling.top_p
    if sampling.HasField("top_k"):
        attributes["gen_ai.request.top_k"] = sampling.top_k
    if sampling.HasField("seed") and sampling.seed <= _MOST_SEED:
        attributes["gen_ai.request.seed"] = sampling.seed
    watch.span.set(attributes)


def tell_ending(watch: ServedCall, ending: Ending, prices: Prices) -> None:
    """Tells how the request of a call ended, and what it cost."""
    usage, pool = ending.usage, watch.pool
    cost = fp8_cost = 0
    if pool in prices and ending.outcome not in _FREE:
        used = (usage.prompt_tokens, usage.cached_prompt_tokens, usage.output_tokens)
        cost, fp8_cost = (_cost(price, *used) for price in prices[pool])
    watch.ended(
        ending.outcome.value,
        attempts=ending.attempts,
        prompt_tokens=usage.prompt_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
        output_tokens=usage.output_tokens,
        cost_nanos=cost,
        fp8_cost_nanos=fp8_cost,
    )


def observe(telemetry: RouterTelemetry, config: Config, relay: Relay, rulebook: Rulebook) -> None:
    """Has the gauges read what this router knows. They are read on another thread: snapshots only."""
    pools, policies = rulebook.pools, rulebook.policies
    telemetry.streams.observe(lambda: [(len(relay.readers), ())])
    telemetry.queue_depth.observe(lambda: _depths(pools))
    telemetry.queue_age.observe(lambda: _ages(pools))
    telemetry.pool_workers.observe(lambda: _workers(pools))
    telemetry.gate_state.observe(lambda: _gates(config, rulebook))
    telemetry.policy_version.observe(lambda: _policies(policies, telemetry.tenants.named))


def _depths(pools: PoolWatch) -> Iterator[tuple[float, Labels]]:
    for state in pools.states:
        for priority, waiting in state.waiting_by_priority.items():
            yield waiting, (state.pool, priority.name.lower())


def _ages(pools: PoolWatch) -> Iterator[tuple[float, Labels]]:
    for state in pools.states:
        for priority, oldest_ms in state.oldest_ms_by_priority.items():
            yield oldest_ms / 1000, (state.pool, priority.name.lower())


def _workers(pools: PoolWatch) -> Iterator[tuple[float, Labels]]:
    for state in pools.states:
        draining = sum(worker.draining and not worker.quarantined for worker in state.workers)
        quarantined = sum(worker.quarantined for worker in state.workers)
        ejected = sum(worker.ejected is not None and not worker.draining for worker in state.workers)
        yield len(state.workers) - draining - quarantined - ejected, (state.pool, "serving")
        yield draining, (state.pool, "draining")
        yield quarantined, (state.pool, "quarantined")
        yield ejected, (state.pool, "ejected")


def _gates(config: Config, rulebook: Rulebook) -> Iterator[tuple[float, Labels]]:
    for model in config.models:
        states = rulebook.gates.current_states(model, rulebook.pools.fp4_checkpoints(model))
        for task, current in states.items():
            for state in GateState:
                yield int(state is current), (model.name, task.name.lower(), state.name.lower())


def _policies(policies: PolicyBook, tenants: frozenset[str]) -> Iterator[tuple[float, Labels]]:
    for tenant in tenants:
        yield policies.version(tenant), (tenant,)


def _cost(price: Price, prompt: int, cached: int, output: int) -> int:
    """As the broker counts it (`cost_of` in its scripts), in nanos."""
    return max(0, prompt - cached) * price.prompt + min(prompt, cached) * price.cached_prompt + output * price.output
