"""Starts each engine once, and prints which engine passed which test."""

import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.engine.conformance.http_subject import LocalServer, over_http
from tests.engine.conformance.subjects import Subject, chosen_by_environment, faked, reference, scripted
from workers.engine import Engine

_results: dict[str, dict[str, str]] = defaultdict(dict)
_NAMES = ("scripted", "reference", "openai_http", "openai_http_text", "sglang", "vllm", "tensorrt_llm")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" in metafunc.fixturenames:
        names = ["chosen"] if chosen_by_environment() else list(_NAMES)
        metafunc.parametrize("subject", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def start_server(checkpoint: Path) -> Iterator[Callable[[], LocalServer]]:
    """Starts one server more; all are killed at the end."""
    servers: list[LocalServer] = []

    def started() -> LocalServer:
        servers.append(LocalServer(checkpoint))
        return servers[-1]

    yield started
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    name = str(request.param)
    if name == "chosen":
        chosen = chosen_by_environment()
        assert chosen is not None
        return chosen
    if name == "scripted":
        return scripted()
    if name == "reference":
        return reference()
    checkpoint = request.getfixturevalue("checkpoint")
    if name.startswith("openai_http"):
        return over_http(request.getfixturevalue("start_server"), checkpoint, text=name.endswith("_text"))
    return faked(name, checkpoint)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(subject: Subject) -> AsyncIterator[Engine]:
    """Started once for all tests that break nothing."""
    made = subject.make()
    await made.start()
    yield made
    await made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    spec: Any = getattr(item, "callspec", None)
    if spec is not None and "subject" in spec.params and (report.when == "call" or report.skipped or report.failed):
        name = item.name.split("[")[0].removeprefix("test_")
        state = "ok" if report.passed else "-" if report.skipped else "FAILED"
        subject = os.environ.get("BITLANE_TEST_ENGINE") or str(spec.params["subject"])
        _results[name][subject] = state
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _results:
        return
    engines = list(dict.fromkeys(engine for by_engine in _results.values() for engine in by_engine))
    width = max(map(len, _results))
    terminalreporter.section("conformance: engine by test (ok, - does not apply, FAILED)")
    terminalreporter.write_line(f"{'':{width}}  " + "  ".join(engines))
    for test, by_engine in _results.items():
        cells = "  ".join(f"{by_engine.get(engine, ''):{len(engine)}}" for engine in engines)
        terminalreporter.write_line(f"{test:{width}}  {cells}")
