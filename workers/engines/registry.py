"""Engines by name. One is imported only when it is asked for: each brings its own dependencies."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from precision.profile import Precision
from workers.engine import Engine
from workers.engines.options import EngineOptionsError, Options, driver_options

__all__ = ["EngineOptionsError", "Options", "make_engine"]


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


def _sglang(precision: Precision, options: Options) -> Engine:
    from workers.engines.hosting import hosted  # noqa: PLC0415
    from workers.engines.sglang import SglangDriver, objection  # noqa: PLC0415

    chosen = driver_options(options)
    if chosen.driver.engine_args.get("grammar_backend") == "none":
        chosen = replace(chosen, guided=False)
    return hosted("sglang", SglangDriver(chosen.driver), chosen, precision, objection)


def _vllm(precision: Precision, options: Options) -> Engine:
    from workers.engines.hosting import hosted  # noqa: PLC0415
    from workers.engines.vllm import VllmDriver  # noqa: PLC0415

    chosen = driver_options(options)
    return hosted("vllm", VllmDriver(chosen.driver), chosen, precision)


def _tensorrt_llm(precision: Precision, options: Options) -> Engine:
    from workers.engines.hosting import hosted  # noqa: PLC0415
    from workers.engines.tensorrt_llm import TensorRtLlmDriver  # noqa: PLC0415

    chosen = driver_options(options)
    return hosted("tensorrt_llm", TensorRtLlmDriver(chosen.driver), chosen, precision)


def _openai_http(precision: Precision, options: Options) -> Engine:
    from workers.engines.openai_http import make  # noqa: PLC0415

    return make(precision, options)


_ENGINES: Mapping[str, Callable[[Precision, Options], Engine]] = {
    "scripted": _scripted,
    "reference": _reference,
    "sglang": _sglang,
    "vllm": _vllm,
    "tensorrt_llm": _tensorrt_llm,
    "openai_http": _openai_http,
}
