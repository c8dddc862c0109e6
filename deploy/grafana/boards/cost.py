"""What requests cost, and what they save."""

from deploy.grafana.panels import Board
from deploy.grafana.queries import line, rate, stat, table

_COST, _FP8_COST = rate("bitlane_cost_total", "bitlane_pool"), rate("bitlane_cost_fp8_total", "bitlane_pool")
_COUNTED = rate('bitlane_tokens_total{gen_ai_token_type!="cached_input"}', "bitlane_pool")

COST = Board(
    "cost",
    "bitlane: cost",
    "What requests cost at the pools' prices, and would have cost in FP8, in the currency of the price sheet.",
    (
        (
            "Now",
            (
                stat("Cost an hour", "sum(rate(bitlane_cost_total[5m])) * 3600"),
                stat(
                    "Savings an hour",
                    "bitlane:savings:rate5m * 3600",
                    about="Negative where FP4 is slower than FP8, as on Hopper.",
                ),
                stat("Saved", "bitlane:savings:rate5m / (sum(rate(bitlane_cost_fp8_total[5m])) > 0)", "percentunit"),
                stat(
                    "Cost of a million tokens",
                    "sum(rate(bitlane_cost_total[5m])) * 1e6"
                    ' / (sum(rate(bitlane_tokens_total{gen_ai_token_type!="cached_input"}[5m])) > 0)',
                ),
            ),
        ),
        (
            "Over time",
            (
                line(
                    "Cost an hour by pool",
                    rate("bitlane_cost_total", "bitlane_pool") + " * 3600",
                    "{{bitlane_pool}}",
                    stacked=True,
                ),
                line(
                    "Savings an hour by pool",
                    f"({_FP8_COST} - {_COST}) * 3600",
                    "{{bitlane_pool}}",
                ),
                line(
                    "Cost an hour by tenant",
                    rate("bitlane_cost_total", "bitlane_tenant") + " * 3600",
                    "{{bitlane_tenant}}",
                    stacked=True,
                ),
            ),
        ),
        (
            "What it buys",
            (
                line(
                    "Tokens by pool",
                    rate('bitlane_tokens_total{gen_ai_token_type="output"}', "bitlane_pool"),
                    "{{bitlane_pool}}",
                    stacked=True,
                ),
                line(
                    "Cost of a million tokens by pool",
                    f"{_COST} / ({_COUNTED} > 0) * 1e6",
                    "{{bitlane_pool}}",
                ),
                table(
                    "Last day",
                    "sum by (bitlane_tenant, bitlane_pool) (increase(bitlane_cost_total[1d]))",
                    about="For a bill, use GetUsage: it is exact.",
                ),
            ),
        ),
    ),
)
