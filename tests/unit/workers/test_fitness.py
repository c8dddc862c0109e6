"""The figures of one worker, and when it may try itself on a request once it is ejected."""

from broker.types import Fitness, Sickness
from workers.fitness import PROBE_MAX_S, WINDOW_S, FitnessLog


def test_a_new_worker_knows_nothing() -> None:
    assert FitnessLog().figures(0.0) == Fitness(0, 0, 0.0)


def test_attempts_count_for_as_long_as_the_window() -> None:
    log = FitnessLog()
    for at in range(4):
        log.attempt(float(at), failed=at % 2 == 0)
    assert log.figures(4.0) == Fitness(attempts=4, failed=2)
    assert log.figures(WINDOW_S + 1.0) == Fitness(attempts=2, failed=1)
    assert log.figures(WINDOW_S + 3.0) == Fitness()


def test_the_rate_is_that_of_one_stream() -> None:
    """Two streams side by side, each with a token every 100 ms."""
    log = FitnessLog()
    for step in range(1, 21):
        for _ in range(2):
            log.decoded(step / 10, 1, 0.1)
    assert round(log.figures(2.0).tokens_per_s, 6) == 10.0


def test_a_few_tokens_say_nothing_about_a_rate() -> None:
    log = FitnessLog()
    log.decoded(1.0, 15, 30.0)
    assert log.figures(1.0).tokens_per_s == 0.0
    log.decoded(1.1, 1, 2.0)
    assert log.figures(1.1).tokens_per_s == 0.5


def test_only_a_new_word_of_the_registry_begins_the_figures_anew() -> None:
    log = FitnessLog()
    log.attempt(0.0, failed=True)
    assert not log.told(0.0, None)
    assert log.figures(0.0).failed == 1
    assert log.told(0.0, Sickness.FAILING)
    assert log.figures(0.0) == Fitness()
    assert not log.told(1.0, Sickness.FAILING)
    assert log.told(2.0, None)


def test_an_ejected_worker_tries_itself_ever_more_rarely_while_it_fails() -> None:
    log, now, waits = FitnessLog(), 100.0, list[float]()
    log.told(now, Sickness.FAILING)
    for _ in range(6):
        waits.append(log.probe_in(now))
        now += waits[-1]
        log.probed(now)
        log.attempt(now, failed=True)
    assert waits == [1.0, 2.0, 4.0, 8.0, PROBE_MAX_S, PROBE_MAX_S]
    assert log.figures(now) == Fitness(attempts=1, failed=1)


def test_after_a_good_try_the_next_comes_soon_and_the_figures_wait_for_it() -> None:
    log, now = FitnessLog(), 0.0
    log.told(now, Sickness.FAILING)
    for _ in range(5):
        now += log.probe_in(now)
        log.probed(now)
        log.attempt(now, failed=True)
    for good in (1, 2):
        now += log.probe_in(now) + WINDOW_S
        log.probed(now)
        log.attempt(now, failed=False)
        assert log.probe_in(now) == 1.0
        assert log.figures(now).attempts - log.figures(now).failed == good


def test_a_slow_worker_is_judged_by_its_latest_try() -> None:
    log = FitnessLog()
    log.told(0.0, Sickness.SLOW)
    log.probed(1.0)
    log.decoded(2.0, 20, 20.0)
    log.attempt(2.0, failed=False)
    assert log.figures(2.0).tokens_per_s == 1.0
    assert log.probe_in(2.0) == 2.0, "to end is no sign of being faster"
    log.probed(4.0)
    assert log.figures(4.0).tokens_per_s == 0.0
    log.decoded(5.0, 20, 2.0)
    assert log.figures(5.0).tokens_per_s == 10.0
