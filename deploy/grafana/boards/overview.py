"""Is the service well, and if not, where to look."""

from deploy.grafana.panels import Board, Panel, Query
from deploy.grafana.queries import FIRST_TOKEN, PER_TOKEN, heatmap, line, quantiles, rate, stat

_CALLS = 'rpc_server_call_duration_seconds_count{rpc_method=~"bitlane.v1.InferenceService/.*"}'

OVERVIEW = Board(
    "overview",
    "bitlane: overview",
    "Is the service well, and if not, where to look.",
    (
        (
            "Now",
            (
                stat("Calls", "bitlane:calls:rate5m", "reqps"),
                stat(
                    "Failures",
                    "bitlane:errors:ratio_5m",
                    "percentunit",
                    about="By the service's fault. Objective: 0.1 %.",
                ),
                stat(
                    "First tokens after 2.5 s",
                    "bitlane:first_tokens:slow_ratio_5m",
                    "percentunit",
                    about="Objective: 1 %.",
                ),
                stat("Waiting", "sum(pool_priority:bitlane_queue_depth:max)"),
                stat("Slots used", "sum(pool:bitlane_slots_used:sum) / sum(pool:bitlane_slots:sum)", "percentunit"),
                stat("FP4", "bitlane:fp4:ratio_5m", "percentunit", about="Share of the decisions."),
            ),
        ),
        (
            "Budget of 30 days",
            (
                Panel(
                    "Errors: how fast the budget burns",
                    (
                        Query("bitlane:errors:ratio_1h / 0.001", "over 1 h"),
                        Query("bitlane:errors:ratio_6h / 0.001", "over 6 h"),
                        Query("bitlane:errors:ratio_3d / 0.001", "over 3 d"),
                    ),
                    about="1 spends it in 30 days. Pages at 14.4 over 1 h and at 6 over 6 h.",
                ),
                Panel(
                    "First token: how fast the budget burns",
                    (
                        Query("bitlane:first_tokens:slow_ratio_1h / 0.01", "over 1 h"),
                        Query("bitlane:first_tokens:slow_ratio_6h / 0.01", "over 6 h"),
                        Query("bitlane:first_tokens:slow_ratio_3d / 0.01", "over 3 d"),
                    ),
                    about="1 spends it in 30 days. Pages at 14.4 over 1 h and at 6 over 6 h.",
                ),
            ),
        ),
        (
            "Traffic",
            (
                line("Calls by method", rate(_CALLS, "rpc_method"), "{{rpc_method}}", "reqps"),
                line(
                    "Failures by reason",
                    rate(
                        'rpc_server_call_duration_seconds_count{error_type!=""}',
                        "error_type",
                        "rpc_response_status_code",
                    ),
                    "{{rpc_response_status_code}} {{error_type}}",
                    "reqps",
                ),
                line(
                    "Requests by outcome",
                    rate("bitlane_requests_total", "bitlane_outcome"),
                    "{{bitlane_outcome}}",
                    "reqps",
                ),
                line("Tokens", rate("bitlane_tokens_total", "gen_ai_token_type"), "{{gen_ai_token_type}}"),
            ),
        ),
        (
            "Latency",
            (
                heatmap("Time to first token", FIRST_TOKEN),
                Panel("Time to first token", quantiles(FIRST_TOKEN), "s", about="Points are traces: click one."),
                Panel("Time per token", quantiles(PER_TOKEN), "s"),
                Panel("Time in queue", quantiles("bitlane_queue_time_seconds"), "s"),
            ),
        ),
    ),
)
