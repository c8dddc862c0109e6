"""Who is ejected, by comparison with the other workers of a pool: decided at the registry, with each heartbeat."""

from broker import Broker
from broker.types import Directive, Fitness, Orders, Sickness, WorkerInfo
from tests.contract.broker.conftest import Still
from tests.contract.broker.requests import POOL

FINE = Fitness(attempts=20, failed=0, tokens_per_s=100.0)
FAILS = Fitness(attempts=20, failed=20)
SLOW = Fitness(attempts=20, failed=0, tokens_per_s=10.0)


async def beat(broker: Broker, name: str, fitness: Fitness = FINE, pool: str = POOL) -> Sickness | None:
    return (await broker.register(WorkerInfo(name, pool, b"", 1, 0), fitness)).ejected


async def beat_all(broker: Broker, **fitness: Fitness) -> dict[str, Sickness]:
    """Twice each, so that all have heard of all. Those that are out then."""
    answers = [{name: await beat(broker, name, figures) for name, figures in fitness.items()} for _ in range(2)]
    return {name: answer for name, answer in answers[1].items() if answer}


async def test_one_that_fails_and_one_that_is_slow_are_out(broker: Broker) -> None:
    assert await beat_all(broker, a=FINE, b=FINE, c=FAILS, d=SLOW) == {"c": Sickness.FAILING, "d": Sickness.SLOW}


async def test_half_of_the_attempts_of_five_are_enough(broker: Broker) -> None:
    assert await beat_all(broker, a=FINE, b=Fitness(4, 4), c=Fitness(9, 4), d=Fitness(6, 3)) == {"d": Sickness.FAILING}


async def test_a_quarter_of_the_median_is_not_slow_and_less_is(broker: Broker) -> None:
    quarter, less = Fitness(20, 0, 25.0), Fitness(20, 0, 24.9)
    assert await beat_all(broker, a=FINE, b=FINE, c=quarter) == {}
    assert await beat_all(broker, a=FINE, b=FINE, c=less) == {"c": Sickness.SLOW}


async def test_milliseconds_between_tokens_are_noise(broker: Broker) -> None:
    """A tenth of the rate, and 9 ms more a token."""
    assert await beat_all(broker, a=Fitness(20, 0, 1_000.0), b=Fitness(20, 0, 100.0)) == {}


async def test_where_all_fail_nobody_is_sick(broker: Broker) -> None:
    names = "abcd"
    assert await beat_all(broker, **dict.fromkeys(names, FAILS)) == {}
    for name in names:
        await broker.unregister(POOL, name)
    # The first ones failed while the others had not run yet: they are back when these have.
    assert await beat_all(broker, a=FAILS, b=Fitness(), c=Fitness(), d=Fitness()) == {"a": Sickness.FAILING}
    assert await beat_all(broker, a=FAILS, b=FAILS, c=FAILS, d=FAILS) == {}


async def test_at_least_half_stay_in(broker: Broker) -> None:
    for count in (1, 2, 3, 5):
        figures = {f"{count}-{n}": FAILS for n in range(count - 1)}
        pool, out = f"m{count}/fp8", list[str]()
        for _ in range(3):
            await beat(broker, "fine", FINE, pool)
            out = [name for name, each in figures.items() if await beat(broker, name, each, pool)]
        assert len(out) == min(count - 1, count // 2)


async def test_who_is_out_comes_back_when_its_peers_are_gone(still: Still) -> None:
    broker = still.broker
    assert await beat_all(broker, a=FINE, b=FAILS) == {"b": Sickness.FAILING}
    await still.clock.go_on(broker.options.worker_ttl_ms)
    assert await beat(broker, "b", Fitness()) is None


async def test_two_good_attempts_bring_one_back_that_failed(broker: Broker) -> None:
    assert await beat_all(broker, a=FINE, b=FAILS) == {"b": Sickness.FAILING}
    assert await beat(broker, "b", Fitness()) is Sickness.FAILING
    assert await beat(broker, "b", Fitness(1, 0)) is Sickness.FAILING
    assert await beat(broker, "b", Fitness(2, 1)) is Sickness.FAILING
    assert await beat(broker, "b", Fitness(2, 0)) is None
    assert await beat(broker, "b", Fitness(2, 0)) is None


async def test_half_the_rate_of_the_others_brings_one_back_that_was_slow(broker: Broker) -> None:
    assert await beat_all(broker, a=FINE, b=SLOW) == {"b": Sickness.SLOW}
    assert await beat(broker, "b", Fitness()) is Sickness.SLOW
    assert await beat(broker, "b", Fitness(1, 0, 49.0)) is Sickness.SLOW
    assert await beat(broker, "b", Fitness(1, 0, 50.0)) is None


async def test_what_operators_want_stands_above_it(broker: Broker) -> None:
    assert await beat_all(broker, a=FINE, b=FAILS) == {"b": Sickness.FAILING}
    await broker.direct(POOL, "b", Directive.DRAIN)
    info = WorkerInfo("b", POOL, b"", 1, 0)
    assert await broker.register(info, Fitness()) == Orders(Directive.DRAIN, Sickness.FAILING, others=1)
    # It drains now: it is no longer ejected, and does not count among those that serve.
    drained = WorkerInfo("b", POOL, b"", 1, 0, draining=True)
    assert await broker.register(drained, Fitness()) == Orders(Directive.DRAIN, None, others=1)
    assert await beat_all(broker, a=FAILS) == {}


async def test_each_is_told_how_many_others_work(broker: Broker) -> None:
    async def others(name: str, fitness: Fitness = FINE) -> int:
        return (await broker.register(WorkerInfo(name, POOL, b"", 1, 0), fitness)).others

    assert await others("a") == 0
    assert await others("b") == 1
    assert await others("c", FAILS) == 2
    assert await others("a") == 1  # c is out
    await broker.register(WorkerInfo("b", POOL, b"", 1, 0, draining=True))
    assert await others("a") == 0
    assert await others("c", FAILS) == 1


async def test_the_registry_shows_who_says_that_it_is_ejected(broker: Broker) -> None:
    info = WorkerInfo("w1", POOL, b"p", 1, 0, ejected=Sickness.SLOW)
    await broker.register(info)
    assert (await broker.pools([POOL]))[0].workers == (info,)
