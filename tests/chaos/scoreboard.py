"""The twenty promises, the figures that a run measured for them, and the table of both.

`python -m tests.chaos.scoreboard` puts the figures of the last full run into docs/promises.md.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

RESULTS = Path(".cache/chaos/results.json")
_DOCS = Path("docs/promises.md")
_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass(frozen=True, slots=True)
class Promise:
    """What operators are promised, and when that counts as kept."""

    number: int
    text: str
    target: str


PROMISES = tuple(
    Promise(number, text, target)
    for number, (text, target) in enumerate(
        (
            ("an accepted request ends exactly once", "0 missing, 0 double"),
            (
                "a worker's death is but a pause",
                "0 tokens lost, doubled, reordered; pause p99 <= lease + 0.5 s",
            ),
            ("a zombie cannot write", "0 late tokens"),
            ("what cannot migrate is not spliced", "ABORTED with the reason"),
            ("a crash of Redis loses nothing", "0 lost; back <= 2 s; refusals <= 1 s"),
            ("poison goes to the dead letters", "3 attempts; others complete; list and replay work"),
            ("cancel frees the slot", "p99 <= 50 ms; never starts if queued; 0 leaks in 10,000"),
            ("tenants are isolated", "B's p99 <= 1.25 x alone + 20 ms, 0 errors; A pushed back"),
            ("overload degrades flatly", "goodput >= 90 % of peak; rejection p99 <= 20 ms; memory bounded"),
            ("a slow reader hurts only itself", "neighbours' p99 +10 % at most; buffer capped"),
            ("deadlines hold everywhere", "0 engine steps after expiry"),
            ("submit is idempotent", "1 execution; ALREADY_EXISTS; same stream"),
            ("drain is graceful", "0 failed; health flips first"),
            ("a router's death is survivable", "0 tokens lost or doubled; <= 2 s"),
            ("bad networks are survived", "keepalive finds half-open; 1 and 2 hold"),
            ("sick workers are ejected", "out <= 5 s, probed, never all"),
            ("no retry storm", "attempts <= 1.2 x offered"),
            ("one trace a request, across a migration", "1 trace, attempts linked, 0 prompt text"),
            ("no wrong precision, ever", "0 forbidden; the receipt always matches"),
            ("soundness over time", "slots = leases = streams when idle; memory slope about 0"),
        ),
        start=1,
    )
)


class State(StrEnum):
    KEPT = "kept"
    NOT_KEPT = "NOT KEPT"
    PENDING = "pending"  # what it promises is not built yet
    UNMEASURED = "-"  # not part of this run


@dataclass(slots=True)
class Score:
    """What a run found out about one promise."""

    figures: list[str] = field(default_factory=list[str])
    state: State = State.UNMEASURED

    def lower(self, state: State) -> None:
        """The worst that was seen counts."""
        order = (State.UNMEASURED, State.KEPT, State.PENDING, State.NOT_KEPT)
        self.state = max(self.state, state, key=order.index)


class Scoreboard:
    """Collects figures while the tests run."""

    def __init__(self) -> None:
        self.scores = {promise.number: Score() for promise in PROMISES}

    def record(self, number: int, figure: str, kept: bool) -> None:
        """One figure for a promise. A target on time is told here and not asserted: the machine may be a busy one."""
        score = self.scores[number]
        score.figures.append(figure if kept else f"{figure} (!)")
        score.lower(State.KEPT if kept else State.NOT_KEPT)

    @property
    def measured(self) -> bool:
        return any(score.state is not State.UNMEASURED for score in self.scores.values())

    @property
    def kept(self) -> int:
        return sum(score.state is State.KEPT for score in self.scores.values())

    def save(self, full: bool) -> None:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        taken = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        scores = {number: asdict(score) for number, score in self.scores.items()}
        RESULTS.write_text(json.dumps({"taken": taken, "full": full, "scores": scores}, indent=1), encoding="utf-8")

    def table(self) -> list[str]:
        """Lines of the table: promise, figure, target, kept or not."""
        rows = [
            (
                str(p.number),
                p.text,
                "; ".join(self.scores[p.number].figures) or "-",
                p.target,
                self.scores[p.number].state,
            )
            for p in PROMISES
        ]
        return _lines(("#", "promise", "measured", "target", "kept"), rows)


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def publish() -> int:
    """Puts the figures of the last full run into the documentation."""
    try:
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.stderr.write("nothing was measured yet: run `make chaos`\n")
        return 1
    if not results["full"]:
        sys.stderr.write("the last run was the short one: run `make chaos`\n")
        return 1
    board = Scoreboard()
    for number, score in results["scores"].items():
        board.scores[int(number)] = Score(score["figures"], State(score["state"]))
    page = _DOCS.read_text(encoding="utf-8")
    before, after = page.partition(_BEGIN)[0], page.partition(_END)[2]
    body = "\n".join(["", f"Measured {results['taken']}.", "", *board.table(), ""])
    _DOCS.write_text(f"{before}{_BEGIN}{body}{_END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(publish())
