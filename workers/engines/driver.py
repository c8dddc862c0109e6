"""What an adapter of a token engine brings: orders in, steps of token ids out. `hosted.HostedEngine` does the rest."""

import hashlib
import importlib
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Protocol

from precision.decision import PriorityClass
from workers.engine import FinishReason, Load, Sampling, TokenLogprobs

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class EngineMissing(Exception):
    """The engine's package is not installed, or too old; the message says what to install."""


class OrderRefused(Exception):
    """The engine cannot run an order because of what the client asked for.

    `field` is as in `workers.engine.JobRejected`; the description is ours, never the engine's own text.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


@dataclass(frozen=True, slots=True)
class Order:
    """A generation as an engine gets it. `prompt` holds the tokens of the prompt and of what was generated before."""

    id: str
    prompt: tuple[int, ...]
    max_tokens: int
    place: int  # which token of the reply comes first, from 0
    ends: frozenset[int]  # tokens that end it; empty: only the limit does
    sampling: Sampling
    guided: tuple[str, str] | None
    priority: PriorityClass
    trace: Mapping[str, str]  # W3C headers


@dataclass(frozen=True, slots=True)
class Step:
    """New tokens. `ended` is set on the last one."""

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    ended: FinishReason | None = None
    cached: int = 0  # tokens of the order's prompt that a prefix cache had


@dataclass(frozen=True, slots=True)
class Started:
    """What an engine says of itself once it is up."""

    version: str
    context_tokens: int  # 0: it does not say


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """What the operator says about an engine."""

    model: str  # folder of the checkpoint
    slots: int
    context_tokens: int  # 0: what the model and the engine allow
    lora_name: str = ""
    lora_path: str = ""
    engine_args: Mapping[str, Json] = field(default_factory=dict[str, Json])  # handed to the engine as they are


class Driver(Protocol):
    """See the module's docstring. An error that is none of those named is a failure of that one order."""

    async def start(self, lost: Callable[[str], None]) -> Started:
        """Loads the model. `lost` may be called from the event loop's thread when the engine dies later.

        Raises:
            EngineMissing: its package is not installed.
        """
        ...

    def generate(self, order: Order) -> AsyncGenerator[Step]:
        """Closing it stops the engine's work on the order.

        Raises:
            OrderRefused: because of what the client asked for.
            workers.engine.EngineDead: the engine is lost.
        """
        ...

    async def health(self) -> None:
        """Raises workers.engine.EngineDead."""
        ...

    def load(self) -> Load | None:
        """As last heard; None when the engine says nothing."""
        ...

    async def close(self) -> None:
        """Frees everything."""
        ...


def imported(module: str, name: str) -> Any:
    """A name of an engine's package, which is in no environment that is checked for types."""
    return getattr(importlib.import_module(module), name)


def require_version(package: str, floor: str, why: str) -> str:
    """The installed version of an engine's package.

    Raises:
        EngineMissing: it is not installed, or older than the floor.
    """
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise EngineMissing(
            f"{package} is not installed: it is in no lock of this project, because each host needs its own build; "
            f"install {package}>={floor} into the worker's environment (docs/engines.md)"
        ) from None
    if _numbers(found) < _numbers(floor):
        raise EngineMissing(f"{package} {found} is too old ({why}): install {package}>={floor}")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "0.26.0rc1" is (0, 26, 0)."""
    numbers: list[int] = []
    for part in version.split("+", maxsplit=1)[0].split("."):
        if (digits := re.match(r"\d+", part)) is None:
            break
        numbers.append(int(digits.group()))
    return tuple(numbers)


def seed_at(seed: int, place: int) -> int:
    """A seed for an engine that starts its generator anew with each order: the request's own for a reply from its
    beginning, and for one that goes on at a later place another one, so that no random number is used twice. 63 bits.
    """
    if place == 0:
        return seed & 0x7FFF_FFFF_FFFF_FFFF
    digest = hashlib.blake2b(f"{seed}:{place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
