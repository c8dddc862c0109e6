"""From rounds to figures: medians with their spread, ratios within a round, and tables in Markdown."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.service.cases import Case
from bench.service.measure import Round
from bench.service.variants import BITLANE, DIRECT, FLOOR

Rounds = Mapping[str, Sequence[Round]]  # of one case, by variant, in their order


@dataclass(frozen=True, slots=True)
class Figure:
    """A median, and the least and the most of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 2) -> str:
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f}-{self.most:,.{digits}f})"


@dataclass(frozen=True, slots=True)
class Column:
    """A quantity of a round; None where a variant has none."""

    name: str
    of: Callable[[Round], float | None]
    digits: int = 2


def quantile(values: Sequence[float], q: float) -> float:
    """Of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(q * (len(ordered) - 1)))]


def _cpu(role: str, unit: float, per: Callable[[Round], int]) -> Callable[[Round], float | None]:
    return lambda r: r.cpu_s[role] / unit / per(r) if role in r.cpu_s and per(r) else None


def _requests(one: Round) -> int:
    return one.requests


def _tokens(one: Round) -> int:
    return one.seen.tokens


STREAMS_A_SECOND = Column("requests/s", lambda r: r.requests / r.seen.seconds, 0)
TOKENS_A_SECOND = Column("tokens/s", lambda r: r.seen.tokens / r.seen.seconds, 0)
PER_CORE = Column("requests/s a proxy core", lambda r: r.requests / r.cpu_s["proxy"] if "proxy" in r.cpu_s else None, 0)
MESSAGES = Column("messages a request", lambda r: r.seen.messages / r.requests if r.seen.messages else None, 1)
FIRST_P50 = Column("first token p50, ms", lambda r: 1e3 * quantile(r.seen.first_s, 0.5))
FIRST_P99 = Column("p99, ms", lambda r: 1e3 * quantile(r.seen.first_s, 0.99))
CPU_REQUEST = Column("proxy CPU a request, ms", _cpu("proxy", 1e-3, _requests))
CPU_TOKEN = Column("proxy CPU a token, us", _cpu("proxy", 1e-6, _tokens), 1)
REDIS_REQUEST = Column("Redis CPU a request, ms", _cpu("redis", 1e-3, _requests))
MODEL_REQUEST = Column("worker CPU a request, ms", _cpu("model", 1e-3, _requests))
CLIENT_REQUEST = Column("client CPU a request, ms", lambda r: 1e3 * r.seen.cpu_s / max(1, r.requests))
MEMORY = Column("proxy memory, MiB", lambda r: r.memory_mib.get("proxy"), 0)
COLUMNS = (
    *(STREAMS_A_SECOND, TOKENS_A_SECOND, PER_CORE, FIRST_P50, FIRST_P99),
    *(CPU_REQUEST, CPU_TOKEN, REDIS_REQUEST, MODEL_REQUEST, CLIENT_REQUEST, MESSAGES, MEMORY),
)


def figure(rounds: Sequence[Round], column: Column) -> Figure | None:
    values = [value for value in map(column.of, rounds) if value is not None]
    return Figure.of(values) if values else None


def ratio(rounds: Rounds, column: Column, above: str = BITLANE, below: str = FLOOR) -> Figure:
    """Of one variant to another, round by round: what the machine does meanwhile meets both."""
    pairs = zip(rounds[above], rounds[below], strict=True)
    return Figure.of([(column.of(one) or 0.0) / (column.of(other) or float("nan")) for one, other in pairs])


def added_ms(rounds: Rounds, q: float, variant: str) -> Figure:
    """What a variant adds to the time to the first token, against no proxy at all."""
    pairs = zip(rounds[variant], rounds[DIRECT], strict=True)
    return Figure.of([1e3 * (quantile(a.seen.first_s, q) - quantile(b.seen.first_s, q)) for a, b in pairs])


def table(name: str, says: str, rounds: Rounds) -> str:
    """One case: a line for each variant."""
    lines = [f"### {name}: {says}", "", "| | " + " | ".join(column.name for column in COLUMNS) + " |"]
    lines.append("| --- |" + " --- |" * len(COLUMNS))
    for variant, own in rounds.items():
        cells = ["-" if (one := figure(own, c)) is None else one.text(c.digits) for c in COLUMNS]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(cases: Sequence[Case], results: Mapping[str, Rounds]) -> str:
    """One after the other."""
    says = {case.name: case.says for case in cases}
    return "\n\n".join(table(name, says[name], rounds) for name, rounds in results.items())


def as_json(cases: Sequence[Case], results: Mapping[str, Rounds]) -> Mapping[str, object]:
    """The figures of each round, by case, variant and column."""
    says = {case.name: case.says for case in cases}
    return {
        name: {
            "says": says[name],
            "variants": {
                variant: {"columns": {c.name: [c.of(r) for r in own] for c in COLUMNS}, "cpu_s": [r.cpu_s for r in own]}
                for variant, own in rounds.items()
            },
        }
        for name, rounds in results.items()
    }
