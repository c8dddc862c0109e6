"""What each tenant gets."""

from deploy.grafana.panels import Board, Panel
from deploy.grafana.queries import FIRST_TOKEN, PER_TOKEN, TENANT, line, quantiles, rate, table

_ONE = '{bitlane_tenant=~"$tenant"}'
_ENDS = (0.5, 0.99)

TENANTS = Board(
    "tenants",
    "bitlane: per tenant",
    "What each tenant gets. Tenants without a label of their own share `other`.",
    (
        (
            "Requests",
            (
                line(
                    "Requests by outcome",
                    rate('bitlane_requests_total{bitlane_tenant=~"$tenant"}', "bitlane_tenant", "bitlane_outcome"),
                    "{{bitlane_tenant}} {{bitlane_outcome}}",
                    "reqps",
                ),
                line(
                    "Rejections by reason",
                    rate('bitlane_rejections_total{bitlane_tenant=~"$tenant"}', "bitlane_tenant", "error_type"),
                    "{{bitlane_tenant}} {{error_type}}",
                    "reqps",
                    about="QUOTA_* and QUEUE_FULL are limits of the tenant; docs/design.md has every reason.",
                ),
            ),
        ),
        (
            "Latency",
            (
                Panel(
                    "Time to first token",
                    quantiles(FIRST_TOKEN, _ONE, by="bitlane_tenant", quantiles=_ENDS),
                    "s",
                ),
                Panel(
                    "Time per token",
                    quantiles(PER_TOKEN, _ONE, by="bitlane_tenant", quantiles=_ENDS),
                    "s",
                ),
                Panel(
                    "Whole reply",
                    quantiles(
                        "gen_ai_server_request_duration_seconds",
                        _ONE,
                        by="bitlane_tenant",
                        quantiles=_ENDS,
                    ),
                    "s",
                ),
            ),
        ),
        (
            "Use",
            (
                line(
                    "Tokens",
                    rate(
                        'bitlane_tokens_total{bitlane_tenant=~"$tenant",gen_ai_token_type!="cached_input"}',
                        "bitlane_tenant",
                        "gen_ai_token_type",
                    ),
                    "{{bitlane_tenant}} {{gen_ai_token_type}}",
                    stacked=True,
                ),
                line(
                    "Cost an hour",
                    rate('bitlane_cost_total{bitlane_tenant=~"$tenant"}', "bitlane_tenant") + " * 3600",
                    "{{bitlane_tenant}}",
                ),
                line(
                    "Savings an hour",
                    'tenant:bitlane_savings:rate5m{bitlane_tenant=~"$tenant"} * 3600',
                    "{{bitlane_tenant}}",
                ),
                table(
                    "Acting policy",
                    'max by (bitlane_tenant) (bitlane_policy_version{bitlane_tenant=~"$tenant"})',
                    about="0: the configuration's.",
                ),
            ),
        ),
    ),
    (TENANT,),
)
