"""The queries that recur, and panels of one query."""

from deploy.grafana.panels import Panel, Query

POOL = ("pool", "Pool", "label_values(bitlane_queue_depth, bitlane_pool)")
TENANT = ("tenant", "Tenant", "label_values(bitlane_tokens_total, bitlane_tenant)")
FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"  # noqa: S105  # a metric
PER_TOKEN = "gen_ai_server_time_per_output_token_seconds"  # noqa: S105  # a metric


def rate(series: str, *by: str) -> str:
    grouped = f" by ({', '.join(by)}) " if by else ""
    return f"sum{grouped}(rate({series}[$__rate_interval]))"


def quantiles(
    histogram: str, selector: str = "", *, by: str = "", quantiles: tuple[float, ...] = (0.5, 0.9, 0.99)
) -> tuple[Query, ...]:
    grouped = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by ({grouped}) (rate({histogram}_bucket{selector}[$__rate_interval])))",
            f"p{q * 100:g}{legend}",
            exemplars=not by,
        )
        for q in quantiles
    )


def heatmap(title: str, histogram: str, selector: str = "", *, unit: str = "s") -> Panel:
    query = Query(f"sum by (le) (increase({histogram}_bucket{selector}[$__rate_interval]))", "{{le}}", exemplars=True)
    return Panel(title, (query,), unit, "heatmap")


def line(
    title: str, expr: str, legend: str = "", unit: str = "short", *, about: str = "", stacked: bool = False
) -> Panel:
    return Panel(title, (Query(expr, legend),), unit, about=about, stacked=stacked)


def stat(title: str, expr: str, unit: str = "short", *, about: str = "") -> Panel:
    return Panel(title, (Query(expr),), unit, "stat", about)


def table(title: str, expr: str, *, about: str = "") -> Panel:
    return Panel(title, (Query(expr),), look="table", about=about)
