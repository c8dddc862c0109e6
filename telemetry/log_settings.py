"""Level and sampling of the logs of a running process, from a file that is read again when it changes.

A file and no RPC: it works for every process alike, while the broker is away, too, and whoever may change it may
restart the process anyway. It says what shall be, so it outlives a restart, which a signal does not.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import orjson
import structlog

from telemetry.logging import Level, set_level, set_request_sampling

_log = structlog.get_logger("bitlane.telemetry")
_PERIOD_S = 1.0
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is written."""

    level: Level
    request_share: float = 1.0  # of the INFO lines about single requests that went well, 0 to 1


def read_log_settings(text: bytes, default: LogSettings) -> LogSettings:
    """From JSON such as `{"level": "DEBUG", "request_share": 0.1}`; what is left out is as in `default`.

    Raises:
        ValueError: says what cannot be used.
    """
    try:
        said: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise ValueError('is no JSON object such as {"level": "DEBUG", "request_share": 0.1}')  # a value
    settings = cast("dict[str, object]", said)
    unknown = settings.keys() - {"level", "request_share"}
    if unknown:
        raise ValueError(f"{min(unknown)}: is not known; use level and request_share")
    level = settings.get("level", default.level)
    if level not in get_args(Level):
        raise ValueError(f"level: is none of {', '.join(get_args(Level))}")
    share = settings.get("request_share", default.request_share)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError("request_share: is no number from 0 to 1")
    return LogSettings(cast("Level", level), float(share))


async def follow_log_settings(path: Path, default: LogSettings) -> None:
    """Applies what the file says, within about a second of each change, until cancelled.

    Without the file `default` applies. What cannot be used changes nothing and is told in one line.
    """
    acting, seen = default, b""
    while True:
        text = await asyncio.to_thread(_read, path)
        if text != seen:
            seen = text
            try:
                wanted = read_log_settings(text, default) if text else default
            except ValueError as error:
                _log.warning("logging.refused", file=str(path), error=str(error))
                wanted = acting
            if wanted != acting:
                acting = wanted
                set_level(wanted.level)
                set_request_sampling(wanted.request_share)
                _log.warning("logging.changed", wanted=wanted.level, request_share=wanted.request_share)
        await asyncio.sleep(_PERIOD_S)


def _read(path: Path) -> bytes:
    """Empty when there is no such file, or it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""
