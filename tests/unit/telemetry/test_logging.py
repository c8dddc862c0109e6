"""Log lines as a process writes them: one JSON object each, and never a text that came from outside."""

import json
import re
import subprocess
import sys
from textwrap import dedent

import pytest

_BEGIN = """
import asyncio, logging, structlog
from telemetry.logging import set_level, set_request_sampling, set_up_logging
set_up_logging("router", log_format="json")
log = structlog.get_logger("bitlane.router")
"""


def _run(code: str) -> str:
    script = _BEGIN + dedent(code)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    return done.stderr


def _lines(code: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in _run(code).splitlines()]


def test_a_line_has_what_was_given_and_where_and_when() -> None:
    (line,) = _lines('log.info("rpc.end", code="OK", request_id="r", trace_id="0af7", ms=1.5)')
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("timestamp")))
    assert line == {
        "event": "rpc.end",
        "level": "info",
        "service": "router",
        "code": "OK",
        "request_id": "r",
        "trace_id": "0af7",
        "ms": 1.5,
    }


def test_every_way_to_log_has_a_level() -> None:
    lines = _lines('log.info("1"); log.warn("2"); log.fatal("3"); log.exception("4"); log.msg("5"); log.log(40, "6")')
    assert [line["level"] for line in lines] == ["info", "warning", "critical", "error", "info", "error"]


def test_the_level_changes_at_run_time_for_loggers_in_use() -> None:
    lines = _lines(
        """
        log.debug("1"); log.info("2")
        set_level("WARNING")
        log.info("3"); log.warning("4"); logging.getLogger("theirs").info("5"); logging.getLogger("theirs").error("6")
        set_level("DEBUG")
        log.debug("7")
        """
    )
    assert [line["event"] for line in lines] == ["2", "4", "6", "7"]


def test_request_lines_are_sampled_by_request_and_errors_never() -> None:
    lines = _lines(
        """
        set_request_sampling(0.25)
        for number in range(2000):
            log.info("claimed", request_id=f"r-{number}")
            log.info("rpc.end", request_id=f"r-{number}", code="OK")
        for number in range(100):
            log.info("rpc.end", request_id=f"r-{number}", code="INTERNAL")
            log.warning("attempt.failed", request_id=f"r-{number}")
            log.info("router.ready")
        set_request_sampling(1)
        log.info("rpc.end", request_id="r-0", code="OK")
        """
    )
    claimed = [line["request_id"] for line in lines if line["event"] == "claimed"]
    fine = [line["request_id"] for line in lines if line.get("code") == "OK"]
    # The hash is fixed, so these are the same requests in every run.
    assert 400 < len(claimed) < 600
    assert fine[:-1] == claimed
    assert sum(line.get("code") == "INTERNAL" for line in lines) == 100
    assert sum(line["event"] == "attempt.failed" for line in lines) == 100
    assert sum(line["event"] == "router.ready" for line in lines) == 100


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    from telemetry.logging import set_request_sampling  # noqa: PLC0415

    with pytest.raises(ValueError, match="within 0 and 1"):
        set_request_sampling(share)


def test_an_exception_is_told_by_class_and_place_without_its_text() -> None:
    lines = _lines(
        """
        def fail():
            raise ValueError("canary")
        try:
            fail()
        except ValueError as error:
            log.error("failed", exc_info=True)
            log.error("failed", exc_info=error)
            logging.getLogger("theirs").exception("it failed")
        """
    )
    assert [line["error"] for line in lines] == ["ValueError"] * 3
    assert all("in fail" in str(line["trace"]) for line in lines)
    assert "canary" not in json.dumps(lines)


def test_what_other_code_logs_about_data_stays_out() -> None:
    """asyncio quotes an exception that nobody retrieved, with its text."""
    text = _run(
        """
        async def fail():
            raise ValueError("canary")
        async def main():
            asyncio.create_task(fail())
            await asyncio.sleep(0.01)
        asyncio.run(main())
        logging.getLogger("theirs").warning("x" * 5000)
        """
    )
    first, second = (json.loads(line) for line in text.splitlines())
    assert (first["event"], first["logger"]) == ("Task exception was never retrieved", "asyncio")
    assert first["error"] == "ValueError"
    assert "canary" not in text
    assert len(second["event"]) == 300


def test_the_telemetry_says_where_it_goes_without_a_password() -> None:
    (line,) = _lines(
        """
        import os
        from telemetry.setup import set_up_telemetry
        os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://name:canary@127.0.0.1:1"
        os.environ["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=canary,broken"
        set_up_telemetry("router", "r-1")
        """
    )
    assert (line["event"], line["traces"], line["metrics"]) == ("telemetry.ready", "127.0.0.1:1", "")
    assert "TraceIdRatioBased{0.01}" in str(line["sampler"])
    assert "canary" not in json.dumps(line)


def test_what_json_cannot_say_is_said_as_text() -> None:
    (line,) = _lines('log.info("odd", value=object, bytes=b"x", key={1: 2}, lone="\\ud800", huge=1 << 70)')
    assert line["event"] == "odd"


def test_the_console_form_is_readable() -> None:
    script = _BEGIN.replace("json", "console") + 'log.info("router.ready", port=50051)'
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert re.search(r"\d\d:\d\d:\d\d .*router\.ready.*port.*50051", re.sub(r"\x1b\[[0-9;]*m", "", done.stderr))


def test_an_error_is_written_before_the_process_can_die_of_it_and_after_what_came_before() -> None:
    lines = _lines('import os; log.info("1"); log.error("2"); log.info("lost"); os._exit(0)')
    assert [line["event"] for line in lines] == ["1", "2"]


def test_lines_of_a_process_that_ends_are_all_written_in_their_order() -> None:
    lines = _lines("for number in range(5000): log.info(str(number))")
    assert [line["event"] for line in lines] == [str(number) for number in range(5000)]


def test_lines_come_soon_though_the_process_goes_on() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _BEGIN + 'log.info("1"); import time; time.sleep(60)'], stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stderr is not None
            assert json.loads(process.stderr.readline())["event"] == "1"
        finally:
            process.kill()


def test_a_fork_writes_its_own_lines_and_not_its_parents_again() -> None:
    lines = _lines(
        """
        import os
        log.info("parent")
        if os.fork() == 0:
            log.info("child")
            log.error("last of the child")
            os._exit(0)
        os.wait()
        """
    )
    assert sorted(str(line["event"]) for line in lines) == ["child", "last of the child", "parent"]


def test_a_reader_that_takes_nothing_stops_nobody() -> None:
    """More than a pipe and the writer's buffer hold; what was dropped is told as soon as there is room."""
    code = _BEGIN + dedent(
        """
        import time
        text = "x" * 1000
        for number in range(20_000):
            log.info("line", number=number, text=text)
        print("went on", flush=True)
        time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"went on\n"
            events = (json.loads(line) for line in process.stderr)
            dropped = next(event for event in events if event["event"] == "log.dropped")
            assert dropped["lines"] > 0
        finally:
            process.kill()
