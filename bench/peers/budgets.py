"""What bitlane wants to be beside the peers, and what was measured."""

from collections.abc import Mapping

from bench.peers.cases import FIRST, FULL
from bench.peers.catalogue import LITELLM, SMG
from bench.service.budgets import Budget
from bench.service.report import PER_CORE, STREAMS_A_SECOND, Rounds, added_ms, ratio
from bench.service.variants import BITLANE

_LIMITS = {
    LITELLM: ("streams/s against LiteLLM", 20.0, "added time to the first token, p50, against LiteLLM", 1 / 8),
    SMG: ("streams/s against smg", 1.0, "added time to the first token, p50, against smg", 1.0),
}


def budgets(cases: Mapping[str, Rounds], own: str = BITLANE) -> list[Budget]:
    """As far as the cases and the installed peers go, for bitlane as the variant `own`."""
    found: list[Budget] = []
    for peer, (streams, at_least, first, at_most) in _LIMITS.items():
        if (rounds := cases.get(FULL)) and peer in rounds:
            times, core = (ratio(rounds, column, own, peer) for column in (STREAMS_A_SECOND, PER_CORE))
            measured = f"{times.text()} x; for each core that the router uses {core.text()} x"
            found.append(Budget(f"{streams} ({own})", f">= {at_least:g} x", measured, times.median >= at_least))
        if (rounds := cases.get(FIRST)) and peer in rounds:
            mine, theirs = added_ms(rounds, 0.5, own), added_ms(rounds, 0.5, peer)
            share = mine.median / theirs.median
            measured = f"{mine.text()} ms against {theirs.text()} ms: {share:.2f} x"
            found.append(Budget(f"{first} ({own})", f"<= {at_most:g} x", measured, share <= at_most))
    return found
