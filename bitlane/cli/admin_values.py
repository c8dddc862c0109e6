"""How the values of `bitlane admin` are written: durations, moments, limits, lists. Loads nothing slow."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TypeAlias, TypeVar, get_args

from bitlane.admin_enums import ScopeName, UsageDimensionName
from bitlane.money import to_nanos

Limit: TypeAlias = Decimal | int | None
"""A bound; -1: none; None: the service's default."""

_Name = TypeVar("_Name", bound=str)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"([0-9]+)([smhdw])")
_UNLIMITED, _DEFAULT, _NEVER = "unlimited", "default", "never"


def duration(text: str) -> timedelta:
    """`90s`, `15m`, `24h`, `30d`, `2w`; `0`."""
    match = _DURATION.fullmatch("0s" if text == "0" else text)
    try:
        if match:
            return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except (OverflowError, ValueError):
        raise ArgumentTypeError(f"{text} is too long") from None
    raise ArgumentTypeError(f"{text!r} is no duration such as 90s, 15m, 24h, 30d or 2w")


def past(text: str) -> datetime:
    """A duration ago, or a date or time, of UTC unless it says otherwise."""
    return _moment(text, -1)


def end(text: str) -> datetime | None:
    """A duration from now, a date or time of UTC, or `never`."""
    return None if text == _NEVER else _moment(text, 1)


def _moment(text: str, direction: int) -> datetime:
    if _DURATION.fullmatch(text):
        try:
            return datetime.now(UTC) + direction * duration(text)
        except OverflowError:
            raise ArgumentTypeError(f"{text} is too long") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is neither a duration such as 7d nor a date or time such as 2026-11-01 or 2026-11-01T12:30"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _limit(text: str, read: Callable[[str], Decimal | int], example: str) -> Limit:
    if text == _UNLIMITED:
        return -1
    if text == _DEFAULT:
        return None
    try:
        bound = read(text)
    except (ValueError, InvalidOperation):
        bound = Decimal(-1)
    if bound < 0:
        raise ArgumentTypeError(f"{text!r} is neither a bound such as {example} nor {_UNLIMITED} nor {_DEFAULT}")
    return bound


def count(text: str) -> Limit:
    return _limit(text, int, "600")


def budget(text: str) -> Limit:
    return _limit(text, _money, "5.00")


def _money(text: str) -> Decimal:
    amount = Decimal(text)
    to_nanos(amount)
    return amount


LIMITS: Mapping[str, tuple[str, Callable[[str], Limit], str]] = {
    "rpm": ("requests_per_minute", count, "requests a minute"),
    "tpm": ("tokens_per_minute", count, "prompt and output tokens a minute"),
    "concurrent": ("concurrent_requests", count, "requests that wait or run"),
    "queued": ("queued_requests", count, "requests that wait"),
    "day-budget": ("day_budget", budget, "money for a day of UTC"),
    "month-budget": ("month_budget", budget, "money for a month of UTC"),
}
"""By the names that people write: the field, how it is read, and what it bounds."""


def model_limits(text: str) -> tuple[str, dict[str, Limit]]:
    """`MODEL:tpm=5000,rpm=60`, or `MODEL:default` for no limits of its own."""
    model, colon, bounds = text.rpartition(":")
    if not (model and colon):
        raise ArgumentTypeError(f"{text!r} is not MODEL:LIMIT=N,... such as smollm2:tpm=5000,rpm=60")
    if bounds == _DEFAULT:
        return model, {field: None for field, _, _ in LIMITS.values()}
    limits: dict[str, Limit] = {}
    for bound in bounds.split(","):
        name, _, value = bound.partition("=")
        if name not in LIMITS:
            raise ArgumentTypeError(f"{name!r} is no limit; there are {', '.join(LIMITS)}")
        field, read, _ = LIMITS[name]
        limits[field] = read(value)
    return model, limits


def scopes(text: str) -> list[ScopeName]:
    return _names(text, get_args(ScopeName))


def dimensions(text: str) -> list[UsageDimensionName]:
    return _names(text, get_args(UsageDimensionName))


def models(text: str) -> tuple[str, ...]:
    """Names with commas between them; `all`."""
    return () if text == "all" else tuple(name for name in text.split(",") if name)


def _names(text: str, known: tuple[_Name, ...]) -> list[_Name]:
    given = [name for name in text.split(",") if name]
    for name in given:
        if name not in known:
            raise ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return [each for name in given for each in known if each == name]
