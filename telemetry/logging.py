"""Logs: one JSON object a line on stderr, or a readable line where stderr is a terminal. Never prompts, never keys.

A line about one request carries its ids as arguments (request_id, tenant, trace_id, span_id): there are no context
variables, which cost more than the line. Level and sampling can be changed at any time.
"""

import json
import logging
import sys
import time
import traceback
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from telemetry.line_writer import LineWriter

LogFormat = Literal["auto", "json", "console"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_LEVELS: dict[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_MOST_FOREIGN = 300  # characters of a message by somebody else's code


@dataclass(slots=True)
class _Wanted:
    level: int = logging.INFO
    share: int = 1 << 32  # of request lines, of 2**32
    service: str = ""
    writer: LineWriter | None = None


_wanted = _Wanted()


def set_up_logging(service: str, *, level: Level = "INFO", log_format: LogFormat = "auto") -> None:
    """Sets up structlog and the standard library's logging for this process. Call once, first.

    Args:
        service: name of the process in every line, such as "router".
        level: the least that is written.
        log_format: "auto" is "console" on a terminal and "json" elsewhere.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    _wanted.service = service
    set_level(level)
    set_request_sampling(1.0)
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False) if console else _stamp
    renderer = structlog.dev.ConsoleRenderer(pad_event_to=0) if console else _render
    _wanted.writer = None if console else LineWriter(sys.stderr.buffer)
    processors = [_choose, stamp, _name_exception, renderer]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr) if console else lambda *_: _wanted.writer,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    root.setLevel(logging.INFO)


def flush_logs() -> None:
    """Writes what waits to be written: for a process that ends without the interpreter's own end."""
    if _wanted.writer is not None:
        _wanted.writer.flush()


def set_level(level: Level) -> None:
    """Sets the least that is written, from now on."""
    _wanted.level = logging.getLevelNamesMapping()[level]


def set_request_sampling(share: float) -> None:
    """Sets which share of the INFO lines about single requests is written, from now on.

    The request id decides, so that all lines of a request are written or none, by every process. Lines about errors
    (a `code` other than OK), those of a higher level and those that name no request are always written.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of request lines must be within 0 and 1, not {share}")
    _wanted.share = round(share * (1 << 32))


def _choose(_: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Drops what is not wanted, and says the level and the service of what is."""
    level = _LEVELS.get(name, logging.INFO)
    if level < _wanted.level:
        raise structlog.DropEvent
    if level == logging.INFO and _wanted.share < 1 << 32:
        request = event.get("request_id")
        fine = event.get("code", "OK") == "OK"
        if request and fine and zlib.crc32(str(request).encode()) >= _wanted.share:
            raise structlog.DropEvent
    event["level"] = name
    event["service"] = _wanted.service
    return event


def _stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """UTC with milliseconds."""
    seconds, fraction = divmod(time.time(), 1)
    event["timestamp"] = f"{_second(int(seconds))}.{int(fraction * 1000):03}Z"
    return event


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _name_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """An exception by its class and its place: its text may hold a prompt."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = cast("tuple[object, object, object]", error)[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["trace"] = traceback.format_tb(error.__traceback__)
    return event


def _render(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # text that is no UTF-8, or a number that is too large
        return json.dumps({str(name): str(value) for name, value in event.items()}).encode()


class _Foreign(logging.Handler):
    """Lines of other people's code, in the same form: a message's first line only, for the rest may quote data."""

    def __init__(self) -> None:
        super().__init__()
        self._log = structlog.get_logger("bitlane.foreign")

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().partition("\n")[0][:_MOST_FOREIGN]
        write = getattr(self._log, record.levelname.lower(), self._log.info)
        write(text, logger=record.name, exc_info=record.exc_info)
