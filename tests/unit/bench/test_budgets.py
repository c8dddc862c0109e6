"""From rounds to verdicts: medians of ratios within rounds, against each limit."""

from bench.growth.curve import Curve, table
from bench.peers.budgets import budgets as peers_budgets
from bench.peers.cases import FIRST, FULL
from bench.peers.catalogue import LITELLM, SMG
from bench.service.budgets import budgets
from bench.service.load import Seen
from bench.service.measure import Round
from bench.service.report import CPU_REQUEST, figure
from bench.service.variants import BITLANE, DIRECT, FLOOR


def one_round(
    *, requests: int = 10, seconds: float = 1.0, first_ms: float = 1.0, proxy_s: float | None = 0.01
) -> Round:
    seen = Seen([first_ms / 1e3] * requests, [1.0] * requests, tokens=64 * requests, seconds=seconds)
    return Round(seen, {} if proxy_s is None else {"proxy": proxy_s}, {})


def test_figures_leave_out_what_a_variant_does_not_have() -> None:
    assert figure([one_round(proxy_s=None)], CPU_REQUEST) is None
    found = figure([one_round(proxy_s=0.01), one_round(proxy_s=0.03), one_round(proxy_s=0.02)], CPU_REQUEST)
    assert found is not None
    assert found.text() == "2.00 (1.00-3.00)"


def test_the_floor_is_compared_round_by_round() -> None:
    # The second round was measured on a busier machine, for both alike.
    rounds = {
        DIRECT: [one_round(first_ms=1), one_round(first_ms=2)],
        FLOOR: [one_round(first_ms=3), one_round(first_ms=6)],
        BITLANE: [one_round(first_ms=2.5), one_round(first_ms=5)],
    }
    p50, p99 = budgets({"first token": rounds})
    assert "0.75 x" in p50.measured
    assert p50.met is False  # 2.25 ms are more than 2
    assert p99.met is True


def test_peers_are_judged_only_if_they_were_measured() -> None:
    first = {DIRECT: [one_round(first_ms=1)], BITLANE: [one_round(first_ms=2)], LITELLM: [one_round(first_ms=17)]}
    full = {BITLANE: [one_round(seconds=1)], LITELLM: [one_round(seconds=10)]}
    streams, ttft = peers_budgets({FIRST: first, FULL: full})
    assert (streams.met, ttft.met) == (False, True)
    assert "10.00" in streams.measured
    assert not any(SMG in budget.what for budget in (streams, ttft))


def test_growth_is_that_of_medians_from_the_least_to_the_most() -> None:
    curve = Curve("CPU, us", "tenants", BITLANE)
    for number, values in ((1, (10.0, 30.0, 20.0)), (1_000, (40.0, 10.0, 30.0))):
        for value in values:
            curve.add(number, value)
    assert curve.growth == 1.5
    assert "| bitlane: CPU, us | 20.0 (10.0-30.0) | 30.0 (10.0-40.0) | 1.50 x |" in table([curve])
