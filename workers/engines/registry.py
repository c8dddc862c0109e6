"""Engines by name. One is imported only when it is asked for: each brings its own dependencies."""

from collections.abc import Callable, Mapping

from precision.profile import Precision
from workers.engine import Engine

Options = Mapping[str, str | int | float]


class EngineOptionsError(Exception):
    """An engine was given options that it cannot use; the message names them."""


def make_engine(name: str, precision: Precision, options: Options) -> Engine:
    """An engine that is not started yet.

    Raises:
        EngineOptionsError: an option is not known, or its value is no good.
        ImportError: the engine's packages are not installed.
    """
    try:
        return _ENGINES[name](precision, options)
    except (TypeError, ValueError) as error:
        raise EngineOptionsError(f"engine {name}: {error}") from error


def _scripted(precision: Precision, options: Options) -> Engine:
    from workers.engines.scripted import ScriptedEngine, ScriptedOptions  # noqa: PLC0415

    return ScriptedEngine(ScriptedOptions(precision=precision, **options))  # type: ignore[arg-type]  # checked at run time


def _reference(precision: Precision, options: Options) -> Engine:
    from workers.engines.reference import ReferenceEngine  # noqa: PLC0415

    profiles = {Precision.FP4: "nvfp4", Precision.FP8: "fp8"}
    if precision not in profiles:
        raise ValueError(f"it computes in FP4 or FP8, not in {precision.name}")
    return ReferenceEngine(profile=profiles[precision], **options)  # type: ignore[arg-type]  # checked at run time


_ENGINES: Mapping[str, Callable[[Precision, Options], Engine]] = {"scripted": _scripted, "reference": _reference}
