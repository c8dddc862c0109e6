"""The pools, their engines and their attempts."""

from deploy.grafana.panels import Board, Panel, Query
from deploy.grafana.queries import PER_TOKEN, POOL, line, quantiles, rate

_BAD = rate('bitlane_attempts_total{bitlane_outcome=~"failed|lost"}', "instance")

WORKERS = Board(
    "workers",
    "bitlane: workers",
    "The pools: who works, how much, and how fast.",
    (
        (
            "Pools",
            (
                line(
                    "Workers by state",
                    'max by (bitlane_pool, bitlane_worker_state) (bitlane_pool_workers{bitlane_pool=~"$pool"})',
                    "{{bitlane_pool}} {{bitlane_worker_state}}",
                ),
                Panel(
                    "Slots",
                    (
                        Query('pool:bitlane_slots_used:sum{bitlane_pool=~"$pool"}', "{{bitlane_pool}} used"),
                        Query('pool:bitlane_slots:sum{bitlane_pool=~"$pool"}', "{{bitlane_pool}} all"),
                    ),
                ),
                line(
                    "Slots used",
                    'pool:bitlane_slots_used:sum{bitlane_pool=~"$pool"} / pool:bitlane_slots:sum',
                    "{{bitlane_pool}}",
                    "percentunit",
                ),
            ),
        ),
        (
            "Engines",
            (
                line(
                    "Tokens by pool",
                    rate('bitlane_engine_tokens_total{bitlane_pool=~"$pool"}', "bitlane_pool", "gen_ai_token_type"),
                    "{{bitlane_pool}} {{gen_ai_token_type}}",
                    about="Those of attempts that were lost are in it.",
                ),
                line(
                    "Output tokens by worker",
                    rate('bitlane_engine_tokens_total{bitlane_pool=~"$pool",gen_ai_token_type="output"}', "instance"),
                    "{{instance}}",
                ),
                Panel(
                    "Requests in engines",
                    (
                        Query(
                            'sum by (bitlane_pool) (bitlane_engine_running{bitlane_pool=~"$pool"})', "{{bitlane_pool}}"
                        ),
                        Query(
                            'sum by (bitlane_pool) (bitlane_engine_waiting{bitlane_pool=~"$pool"})',
                            "{{bitlane_pool}} not begun",
                        ),
                    ),
                    about="By their own count. What is not begun has a slot, and no place in the engine's batch.",
                ),
                line(
                    "Key/value cache used",
                    'max by (bitlane_pool, instance) (bitlane_engine_cache_used_ratio{bitlane_pool=~"$pool"})',
                    "{{bitlane_pool}} {{instance}}",
                    "percentunit",
                ),
                Panel(
                    "Prefill",
                    quantiles(
                        "bitlane_prefill_duration_seconds",
                        '{bitlane_pool=~"$pool"}',
                        by="bitlane_pool",
                        quantiles=(0.5, 0.99),
                    ),
                    "s",
                    about="From the claim to the first token.",
                ),
                Panel(
                    "Time per token",
                    quantiles(PER_TOKEN, '{bitlane_pool=~"$pool"}', by="bitlane_pool", quantiles=(0.5, 0.99)),
                    "s",
                ),
            ),
        ),
        (
            "Attempts",
            (
                line(
                    "By outcome",
                    rate('bitlane_attempts_total{bitlane_pool=~"$pool"}', "bitlane_pool", "bitlane_outcome"),
                    "{{bitlane_pool}} {{bitlane_outcome}}",
                    "reqps",
                ),
                line(
                    "Share that failed or was lost, by worker",
                    f"{_BAD} / ({rate('bitlane_attempts_total', 'instance')} > 0)",
                    "{{instance}}",
                    "percentunit",
                ),
                Panel(
                    "Time in queue",
                    quantiles(
                        "bitlane_queue_time_seconds",
                        '{bitlane_pool=~"$pool"}',
                        by="bitlane_priority",
                        quantiles=(0.5, 0.99),
                    ),
                    "s",
                ),
            ),
        ),
    ),
    (POOL,),
)
