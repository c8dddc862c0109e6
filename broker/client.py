"""The broker, as all processes use it."""

from broker.operator_calls import OperatorCalls
from broker.router_calls import RouterCalls
from broker.worker_calls import WorkerCalls


class Broker(RouterCalls, WorkerCalls, OperatorCalls):
    """All transitions of a request, the registry of workers, and what operators do: the one way in.

    Every method raises BrokerUnavailable when the server is away, hangs or refuses for now, within
    `BrokerOptions.timeout_s`; the next call tries again, so an object lives as long as its process. A call that failed
    so may have taken effect. All are safe to repeat: a repeated submit joins, a repeated append, finish or release is
    answered as the first, and what a lost claim gave out returns when the lease runs out.

    Calls made at the same time share a round trip. `scripts` replaces the transitions, for instance with another clock.
    `on_round_trip` is called with the seconds of each round trip, blocking commands apart, and the kind of what went
    wrong: empty, `unavailable`, `closed`, or the code of an error reply.
    """
