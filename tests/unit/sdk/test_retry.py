"""Retry decisions: pure numbers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitlane import Aborted, BitlaneError, ConnectionFailed, InternalError, QuotaExceeded, RetryPolicy, Unavailable
from bitlane.retry import RetryBudget

POLICY = RetryPolicy()


def test_ceilings_double_up_to_the_limit():
    assert [round(POLICY.ceiling(n), 3) for n in (1, 2, 3, 4, 5, 6, 7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert POLICY.ceiling(100_000) == 2.0


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_are_jittered_over_the_whole_range(failures: int, dice: float):
    delay = POLICY.delay(Unavailable(), failures, dice)
    assert delay == dice * POLICY.ceiling(failures)


@pytest.mark.parametrize("error", [BitlaneError(), InternalError(), Aborted(), QuotaExceeded()])
def test_what_is_not_retried(error: BitlaneError):
    assert POLICY.delay(error, 1, 0.5) is None


def test_the_server_s_wait_is_kept_and_spread():
    error = ConnectionFailed(retry_after=3.0)
    assert POLICY.delay(error, 1, 0.0) == 3.0
    assert POLICY.delay(error, 1, 1.0) == 3.1


def test_quota_is_retried_within_the_policy_s_wait():
    assert POLICY.delay(QuotaExceeded(retry_after=30.0), 1, 0.0) == 30.0
    assert POLICY.delay(QuotaExceeded(retry_after=30.1), 1, 0.0) is None
    assert RetryPolicy(max_quota_wait=0).delay(QuotaExceeded(retry_after=0.1), 1, 0.0) is None


def test_a_server_that_forbids_it_is_obeyed():
    assert POLICY.delay(Unavailable(final=True), 1, 0.5) is None


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"backoff_multiplier": 0.5}, {"budget": -1}, {"max_backoff": float("nan")}]
)
def test_a_wrong_policy_names_its_field(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)  # pyright: ignore[reportArgumentType]  # wrong on purpose


@given(st.lists(st.booleans(), max_size=2000))
def test_retries_never_exceed_the_budget(successes: list[bool]):
    budget = RetryBudget(10, 0.2)
    retries = 0
    for success in successes:
        if success:
            budget.earn()
        else:
            retries += budget.spend()
    assert retries <= 10 + 0.2 * sum(successes) + 1e-6


def test_under_total_failure_retries_end():
    budget = RetryBudget(10, 0.2)
    assert sum(budget.spend() for _ in range(10_000)) == 10


def test_five_successes_buy_one_retry():
    budget = RetryBudget(10, 0.2)
    while budget.spend():
        pass
    for _ in range(5):
        assert not budget.spend()
        budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_one_break_costs_one_retry():
    budget = RetryBudget(1, 0.2)
    assert all(budget.spend_on_break(began, now=10.0) for began in (7.0, 8.0, 9.0))
    assert not budget.spend_on_break(10.0, now=11.0), "an attempt that was made after the break is another failure"
    assert budget.spend_on_break(9.5, now=11.0)
    assert not budget.spend()


def test_an_empty_budget_pays_for_no_break():
    budget = RetryBudget(0, 0.2)
    assert not any(budget.spend_on_break(began, now=10.0) for began in (7.0, 8.0))


def test_policy_none_neither_retries_nor_waits_nor_resumes():
    none = RetryPolicy.none()
    assert (none.max_attempts, none.connect_window, none.resume_window) == (1, 0, 0)


def test_ceilings_never_fall():
    ceilings = [POLICY.ceiling(n) for n in range(1, 200)]
    assert all(a <= b for a, b in pairwise(ceilings))
