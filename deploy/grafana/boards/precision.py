"""Which precision requests get, why, and what allows it."""

from deploy.grafana.panels import Board, Panel, Query
from deploy.grafana.queries import heatmap, line, quantiles, rate, table

_GATES = "max by (gen_ai_request_model, bitlane_task_class, bitlane_gate_state) (bitlane_gate_state) == 1"

PRECISION = Board(
    "precision",
    "bitlane: precision and quality",
    "Which precision requests get, why, and what allows it.",
    (
        (
            "Decisions",
            (
                line(
                    "By precision", "precision:bitlane_decisions:rate5m", "{{bitlane_precision}}", "reqps", stacked=True
                ),
                line(
                    "By reason",
                    rate("bitlane_decisions_total", "bitlane_precision", "bitlane_decision_reason"),
                    "{{bitlane_precision}} {{bitlane_decision_reason}}",
                    "reqps",
                    about="docs/policy.md explains every reason.",
                ),
                line("FP4 share", "bitlane:fp4:ratio_5m", "FP4", "percentunit"),
            ),
        ),
        (
            "Tasks",
            (
                Panel(
                    "By task and precision, last hour",
                    (
                        Query(
                            "sum by (bitlane_task_class, bitlane_precision) (increase(bitlane_decisions_total[1h]))",
                            "{{bitlane_task_class}} {{bitlane_precision}}",
                        ),
                    ),
                    look="bargauge",
                ),
                heatmap("Classifier's confidence", "bitlane_classifier_confidence", unit="percentunit"),
                Panel(
                    "Classifier's confidence",
                    quantiles("bitlane_classifier_confidence", quantiles=(0.1, 0.5, 0.9)),
                    "percentunit",
                    about="Unsure means FP8.",
                ),
            ),
        ),
        (
            "What allows FP4",
            (
                table(
                    "Gates",
                    _GATES,
                    about="The state of each, as the router sees it.",
                ),
                line(
                    "Gates by state",
                    f"count by (gen_ai_request_model, bitlane_gate_state) ({_GATES})",
                    "{{gen_ai_request_model}} {{bitlane_gate_state}}",
                ),
                table(
                    "Policies",
                    "max by (bitlane_tenant) (bitlane_policy_version)",
                    about="Version of the acting policy; 0 is the configuration's.",
                ),
            ),
        ),
    ),
)
