"""Redis, the queues, the leases and the processes."""

from deploy.grafana.panels import Board, Panel
from deploy.grafana.queries import POOL, line, quantiles, rate

BROKER = Board(
    "broker",
    "bitlane: broker",
    "Redis as the processes see it, the queues, and what goes wrong between workers.",
    (
        (
            "Redis",
            (
                Panel(
                    "Round trip",
                    quantiles(
                        "db_client_operation_duration_seconds",
                        '{db_system_name="redis"}',
                        by="instance",
                        quantiles=(0.5, 0.99),
                    ),
                    "s",
                ),
                line(
                    "Round trips",
                    rate('db_client_operation_duration_seconds_count{db_system_name="redis"}', "instance"),
                    "{{instance}}",
                    "reqps",
                    about="Each carries a batch of commands.",
                ),
                line(
                    "Failures",
                    rate(
                        'db_client_operation_duration_seconds_count{db_system_name="redis",error_type!=""}',
                        "error_type",
                    ),
                    "{{error_type}}",
                    "reqps",
                ),
            ),
        ),
        (
            "Queues",
            (
                line(
                    "Waiting",
                    'pool_priority:bitlane_queue_depth:max{bitlane_pool=~"$pool"}',
                    "{{bitlane_pool}} {{bitlane_priority}}",
                ),
                line(
                    "Age of the oldest",
                    'pool_priority:bitlane_queue_age_seconds:max{bitlane_pool=~"$pool"}',
                    "{{bitlane_pool}} {{bitlane_priority}}",
                    "s",
                ),
                Panel(
                    "Time in queue",
                    quantiles(
                        "bitlane_queue_time_seconds",
                        '{bitlane_pool=~"$pool"}',
                        by="bitlane_pool",
                        quantiles=(0.5, 0.99),
                    ),
                    "s",
                ),
            ),
        ),
        (
            "Leases",
            (
                line(
                    "Leases lost",
                    rate('bitlane_leases_lost_total{bitlane_pool=~"$pool"}', "bitlane_pool", "bitlane_outcome"),
                    "{{bitlane_pool}} {{bitlane_outcome}}",
                    about="A worker died or hung.",
                ),
                line(
                    "Migrations",
                    rate('bitlane_migrations_total{bitlane_pool=~"$pool"}', "bitlane_pool"),
                    "{{bitlane_pool}}",
                    about="A request went on at another worker.",
                ),
                line(
                    "Fenced writes",
                    rate('bitlane_fences_total{bitlane_pool=~"$pool"}', "bitlane_pool"),
                    "{{bitlane_pool}}",
                    about="Refused: the writer had lost its lease.",
                ),
            ),
        ),
        (
            "Processes",
            (
                Panel(
                    "Event loop's lag",
                    quantiles("bitlane_event_loop_lag_seconds", by="instance", quantiles=(0.5, 0.99)),
                    "s",
                ),
                line("Open streams", "sum by (instance) (bitlane_streams)", "{{instance}}"),
                line(
                    "Spans",
                    rate("bitlane_telemetry_spans_total", "bitlane_telemetry_result"),
                    "{{bitlane_telemetry_result}}",
                    about="dropped: the queue was full. failed: the collector did not take them.",
                ),
                line(
                    "Exports that failed",
                    rate(
                        'bitlane_telemetry_exports_total{bitlane_telemetry_result="failed"}',
                        "instance",
                        "bitlane_telemetry_signal",
                    ),
                    "{{instance}} {{bitlane_telemetry_signal}}",
                ),
            ),
        ),
    ),
    (POOL,),
)
