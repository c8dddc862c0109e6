"""The options that all GPU engines take, checked: a bad one stops the start and names itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from precision.profile import ComputePath
from workers.engines.driver import DriverOptions, Json

Options = Mapping[str, Json]


class EngineOptionsError(Exception):
    """An engine was given options that it cannot use; the message names them."""


@dataclass(frozen=True, slots=True)
class HostedOptions:
    """What the operator says about an engine, and about how it is used."""

    driver: DriverOptions
    compute_path: ComputePath | None = None  # how the pool is said to multiply; None: as it comes
    guided: bool = True
    until_limit: bool = False


_KNOWN = (
    "model",
    "slots",
    "context_tokens",
    "lora_name",
    "lora_path",
    "engine_args",
    "compute_path",
    "guided",
    "ignore_end",
)


def driver_options(options: Options) -> HostedOptions:
    """Reads the options of an engine.

    Raises:
        ValueError: one is missing, unknown, or of another kind than it should be.
    """
    if unknown := sorted(set(options) - set(_KNOWN)):
        raise ValueError(f"unknown option {', '.join(unknown)}; known are {', '.join(_KNOWN)}")
    args = options.get("engine_args") or {}
    if not isinstance(args, dict):
        raise ValueError("engine_args: want a mapping of the engine's own arguments")
    model = text(options, "model")
    if not model:
        raise ValueError("model: say where the checkpoint is: a folder on this host")
    lora_name, lora_path = text(options, "lora_name"), text(options, "lora_path")
    if bool(lora_name) != bool(lora_path):
        raise ValueError("lora_name and lora_path go together")
    return HostedOptions(
        driver=DriverOptions(
            model=model,
            slots=number(options, "slots", 64, least=1),
            context_tokens=number(options, "context_tokens", 0, least=0),
            lora_name=lora_name,
            lora_path=lora_path,
            engine_args=args,
        ),
        compute_path=path_of(options),
        guided=flag(options, "guided", default=True),
        until_limit=flag(options, "ignore_end", default=False),
    )


def text(options: Options, name: str, default: str = "") -> str:
    value = options.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"{name}: want a text, got {value!r}")
    return value


def number(options: Options, name: str, default: int, *, least: int) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: want a whole number of at least {least}, got {value!r}")
    return value


def flag(options: Options, name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"{name}: want true or false, got {value!r}")
    return value


def path_of(options: Options) -> ComputePath | None:
    said = text(options, "compute_path")
    try:
        return ComputePath(said) if said else None
    except ValueError:
        known = ", ".join(path.value for path in ComputePath)
        raise ValueError(f"compute_path: want one of {known}, got {said!r}") from None
