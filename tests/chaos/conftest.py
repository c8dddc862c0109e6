"""Markers, sizes and the scoreboard of the chaos tests.

`pytest` runs the short form of each test; BITLANE_CHAOS=full (`make chaos`) the long form, and the tests marked `long`.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.chaos.scoreboard import Scoreboard, State
from tests.chaos.stack import ChaosStack

_FULL = os.environ.get("BITLANE_CHAOS") == "full"
_board = Scoreboard()

MakeStack = Callable[..., ChaosStack]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: breaks processes and networks under load")
    config.addinivalue_line("markers", "long: runs with BITLANE_CHAOS=full only")
    config.addinivalue_line("markers", "promise(number): which promise of docs/promises.md the test proves")
    config.addinivalue_line("markers", "pending(reason): what the promise is about is not built yet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/chaos/" not in item.path.as_posix():
            continue
        item.add_marker(pytest.mark.chaos)
        if item.get_closest_marker("long") and not _FULL:
            item.add_marker(pytest.mark.skip(reason="runs with BITLANE_CHAOS=full"))
        for pending in item.iter_markers("pending"):
            item.add_marker(pytest.mark.xfail(reason=f"pending: {pending.args[0]}", run=False))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for marker in item.iter_markers("promise"):
        score = _board.scores[marker.args[0]]
        if (pending := getattr(report, "wasxfail", None)) is not None:
            score.figures.append(str(pending).removeprefix("reason: "))
            score.lower(State.PENDING)
        elif report.failed:
            score.figures.append(f"{item.name} failed")
            score.lower(State.NOT_KEPT)
        elif report.when == "call" and report.passed:
            score.lower(State.KEPT)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _board.measured:
        _board.save(_FULL)
        if _FULL and session.testscollected > len(_board.scores) and _board.kept < len(_board.scores):
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _board.measured:
        terminalreporter.section("promises")
        for line in _board.table():
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"{_board.kept} of {len(_board.scores)} kept")


@pytest.fixture(scope="session")
def board() -> Scoreboard:
    """Where figures go."""
    return _board


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether this is the long form."""
    return _FULL


@pytest.fixture
def chaos_stack() -> Iterator[MakeStack]:
    """Makes started stacks of a test's own."""
    with ExitStack() as stacks:

        def make(**options: Any) -> ChaosStack:
            return stacks.enter_context(ChaosStack(**options))

        yield make
